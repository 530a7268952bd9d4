using Qkvm.Core.State;

namespace Qkvm.Hw.Net;

/// <summary>A serial EEPROM of 64 words of 16 bits, a 93C46, by its pins: a start bit, two bits of opcode and six of
/// address go in, then words come out behind a dummy zero. National Semiconductor NM93C46 data sheet.</summary>
/// <remarks>Deviations: it cannot be written.</remarks>
sealed class Microwire(ushort[] words)
{
    public const int Words = 64;

    const int CommandBits = 9, WordBits = 16, ReadCommand = 0b110;

    int _received, _command;                                       // bits, and what they are
    int _sent;                                                     // bits of words
    bool _clock;

    /// <summary>The output; without a command it is high.</summary>
    public bool Out
    {
        get
        {
            if (!IsReading) return true;
            if (_sent == 0) return false;
            int word = (_command + (_sent - 1) / WordBits) % Words, bit = WordBits - 1 - (_sent - 1) % WordBits;
            return (words[word] >> bit & 1) != 0;
        }
    }

    bool IsReading => _received == CommandBits && _command / Words == ReadCommand;

    public void Reset() => (_received, _command, _sent, _clock) = (0, 0, 0, false);

    public void Set(bool select, bool clock, bool input)
    {
        bool rises = clock && !_clock;
        _clock = clock;
        if (!select) (_received, _command, _sent) = (0, 0, 0);
        else if (rises) Tick(input);
    }

    public void Exchange(StateStream state)
    {
        state.Field("received", ref _received, 0, CommandBits);
        state.Field("command", ref _command, 0, (1 << CommandBits) - 1);
        state.Field("sent", ref _sent, 0, WordBits * Words);
        state.Field("clock", ref _clock);
    }

    void Tick(bool input)
    {
        if (_received < CommandBits)
        {
            if (_received == 0 && !input) return;
            _command = _command << 1 | (input ? 1 : 0);
            _received++;
        }
        else if (IsReading) _sent = _sent % (WordBits * Words) + 1;
    }
}
