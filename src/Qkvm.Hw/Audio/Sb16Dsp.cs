using Qkvm.Core.Audio;
using Qkvm.Core.State;

namespace Qkvm.Hw.Audio;

/// <summary>The digital sound processor of a Sound Blaster: bytes of commands come, bytes of answers go. Spec:
/// Creative, Sound Blaster Series Hardware Programming Guide, chapter 6 ("DSP commands").</summary>
sealed class Sb16Dsp(Sb16 card, ushort version)
{
    const byte Ready = 0xAA;
    const int MostArguments = 3, MostAnswers = 64;
    const int DefaultRate = 11025;
    static ReadOnlySpan<byte> Copyright => "COPYRIGHT (C) CREATIVE TECHNOLOGY LTD, 1992.\0"u8;

    readonly byte[] _arguments = new byte[MostArguments];
    readonly ByteQueue _answers = new(MostAnswers);
    byte _command, _given, _test;
    byte _last;                                                    // answer, which is read again where there is none
    int _rate = DefaultRate, _blockSize;
    bool _isSpeakerOn;

    public bool HasAnswer => _answers.Count > 0;

    public byte Read()
    {
        if (_answers.Count > 0) _last = _answers.Pop();
        return _last;
    }

    public void Reset()
    {
        _answers.Clear();
        Array.Clear(_arguments);
        _command = _given = _test = _last = 0;
        (_rate, _blockSize, _isSpeakerOn) = (DefaultRate, 0, false);
    }

    /// <summary>Resets by the Reset port, and says so.</summary>
    public void Wake()
    {
        Reset();
        card.Halt();
        Answer(Ready);
    }

    public void Write(byte value)
    {
        if (_command == 0) _command = value;
        else _arguments[_given++] = value;
        if (_given < ArgumentsOf(_command)) return;
        byte command = _command;
        _command = _given = 0;
        Execute(command);
    }

    public void Exchange(StateStream state)
    {
        state.Block("arguments", _arguments);
        _answers.Exchange(state, "answers");
        state.Field("command", ref _command);
        state.Field("given", ref _given);
        state.Field("test", ref _test);
        state.Field("last", ref _last);
        state.Field("rate", ref _rate, 0, 1_000_000);
        state.Field("block-size", ref _blockSize, 0, 0x10000);
        state.Field("speaker", ref _isSpeakerOn);
        if (_given >= MostArguments || _given > 0 && _given >= ArgumentsOf(_command))
            throw state.Refuse("given", "the command would have been executed");
    }

    static int ArgumentsOf(byte command) => command switch
    {
        >= 0xB0 and <= 0xCF => 3,
        0x0E or 0x14 or 0x16 or 0x17 or 0x24 or 0x41 or 0x42 or 0x48 or 0x74 or 0x75 or 0x76 or 0x77 or 0x80 => 2,
        0x04 or 0x0F or 0x10 or 0x38 or 0x40 or 0xE0 or 0xE2 or 0xE4 or 0xF9 => 1,
        _ => 0,
    };

    void Execute(byte command)
    {
        int word = _arguments[0] | _arguments[1] << 8;
        switch (command)
        {
            case >= 0xB0 and <= 0xCF: StartNew(command); break;
            case 0x14 or 0x24: StartOld(word + 1, command == 0x24, repeats: false); break;
            case 0x1C or 0x2C: StartOld(_blockSize, command == 0x2C, repeats: true); break;
            case 0x90 or 0x98: StartOld(_blockSize, command == 0x98, repeats: true); break;
            case 0x91 or 0x99: StartOld(_blockSize, command == 0x99, repeats: false); break;
            case 0x40: _rate = 1_000_000 / (256 - _arguments[0]) / (card.IsStereo ? 2 : 1); break;
            case 0x41 or 0x42: _rate = _arguments[0] << 8 | _arguments[1]; break;
            case 0x48: _blockSize = word + 1; break;
            case 0xD0 or 0xD4: card.Pause(isWide: false, isPaused: command == 0xD0); break;
            case 0xD5 or 0xD6: card.Pause(isWide: true, isPaused: command == 0xD5); break;
            case 0xD9 or 0xDA: card.EndAfterBlock(isWide: command == 0xD9); break;
            case 0xD1 or 0xD3: _isSpeakerOn = command == 0xD1; break;
            case 0xD8: Answer(_isSpeakerOn ? (byte)0xFF : (byte)0); break;
            case 0xE0: Answer((byte)~_arguments[0]); break;
            case 0xE1:
                Answer((byte)(version >> 8));
                Answer((byte)version);
                break;
            case 0xE3:
                foreach (byte letter in Copyright) Answer(letter);
                break;
            case 0xE4: _test = _arguments[0]; break;
            case 0xE8: Answer(_test); break;
            case 0xF2 or 0xF3: card.Raise(isWide: command == 0xF3); break;
        }
    }

    /// <summary>"Bxh", "Cxh": program 16-bit and 8-bit DMA mode digitized sound I/O.</summary>
    void StartNew(byte command)
    {
        const byte ToHost = 0x08, AutoInit = 0x04, Stereo = 0x20, Signed = 0x10, Narrow = 0xC0;
        byte mode = _arguments[0];
        bool isWide = command < Narrow;
        int samples = (_arguments[1] | _arguments[2] << 8) + 1;
        SampleType type = isWide ? (mode & Signed) != 0 ? SampleType.S16 : SampleType.U16
            : (mode & Signed) != 0 ? SampleType.S8 : SampleType.U8;
        card.Start(new Sb16.Block(isWide ? samples * 2 : samples, _rate, type, (mode & Stereo) != 0 ? 2 : 1,
            (command & ToHost) != 0, (command & AutoInit) != 0));
    }

    /// <summary>8 bits, unsigned.</summary>
    void StartOld(int size, bool isInput, bool repeats)
    {
        if (size > 0) card.Start(new Sb16.Block(size, _rate, SampleType.U8, card.IsStereo ? 2 : 1, isInput, repeats));
    }

    /// <summary>One that nobody reads before there are too many is lost.</summary>
    void Answer(byte value) => _answers.TryPush(value);
}
