using System.Buffers.Binary;
using Qkvm.Core.State;

namespace Qkvm.Hw.Net;

/// <summary>The Microwire EEPROM of an 82540EM, by the bits of EECD and by EERD. Intel 317453, sections 5.3, 5.6 and
/// 13.4.3 to 13.4.4.</summary>
/// <remarks>Deviations: it cannot be written.</remarks>
sealed class E1000Eeprom
{
    // EECD
    const uint Clock = 1, Select = 2, DataIn = 4, DataOut = 8, FlashWrite = 0x30, Request = 0x40, Grant = 0x80,
        Present = 0x100;
    const uint Writable = Clock | Select | DataIn | FlashWrite | Request;

    // EERD
    const uint Start = 1, Done = 0x10;

    const int Words = 64, CommandBits = 9, WordBits = 16;          // start bit, two of opcode, six of address
    const int ReadCommand = 0b110, StartBit = 1;
    const int ChecksumWord = 63;
    const ushort Checksum = 0xBABA;

    static readonly ushort[] Contents =
    [
        0, 0, 0, 0, 0xFFFF, 0, 0, 0, 0x3000, 0x1000, 0x6403, 0x100E, 0x8086, 0x100E, 0x8086, 0x3040,
        0x0008, 0x2000, 0x7E14, 0x0048, 0x1000, 0x00D8, 0x0000, 0x2700, 0x6CC9, 0x3150, 0x0722, 0x040B, 0x0984, 0,
        0xC000, 0x0706, 0x1008, 0, 0x0F04, 0x7FFF, 0x4D01, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF,
        0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0x0100, 0x4000, 0x121C, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF,
        0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0,
    ];

    readonly ushort[] _words = [.. Contents];
    uint _control;                                                 // EECD's writable bits
    int _received;                                                 // bits of the command
    int _command, _sent;                                           // bits of words

    public E1000Eeprom(ReadOnlySpan<byte> mac)
    {
        for (int i = 0; i < 3; i++) _words[i] = BinaryPrimitives.ReadUInt16LittleEndian(mac[(2 * i)..]);
        ushort sum = Checksum;
        for (int i = 0; i < ChecksumWord; i++) sum -= _words[i];
        _words[ChecksumWord] = sum;
    }

    public void Reset() => (_control, _received, _command, _sent) = (0, 0, 0, 0);

    public uint ReadControl() => _control | Present | Grant | (IsOutHigh ? DataOut : 0);

    public void WriteControl(uint value)
    {
        value &= Writable;
        uint before = _control;
        _control = value;
        if ((value & Select) == 0) (_received, _command, _sent) = (0, 0, 0);
        else if ((value & ~before & Clock) != 0) Tick((value & DataIn) != 0 ? 1 : 0);
    }

    /// <summary>EERD: what it reads after the command.</summary>
    public uint Execute(uint command)
    {
        int address = (int)(command >> 8 & 0xFF);
        if ((command & Start) == 0) return command & 0xFF00;
        return command & 0xFF00 | Done | (address < Words ? (uint)_words[address] << 16 : 0);
    }

    public void Exchange(StateStream state)
    {
        state.Field("eecd", ref _control);
        state.Field("received", ref _received, 0, CommandBits);
        state.Field("command", ref _command, 0, (1 << CommandBits) - 1);
        state.Field("sent", ref _sent, 0, WordBits * Words);
        if ((_control & ~Writable) != 0) throw state.Refuse("eecd", $"{_control:x}");
    }

    /// <summary>A dummy zero comes before the word; without a command the line is high.</summary>
    bool IsOutHigh
    {
        get
        {
            if (!IsReading) return true;
            if (_sent == 0) return false;
            int word = (_command + (_sent - 1) / WordBits) % Words, bit = WordBits - 1 - (_sent - 1) % WordBits;
            return (_words[word] >> bit & 1) != 0;
        }
    }

    bool IsReading => _received == CommandBits && _command / Words == ReadCommand;

    /// <summary>A rising edge of the clock.</summary>
    void Tick(int bit)
    {
        if (_received < CommandBits)
        {
            if (_received == 0 && bit != StartBit) return;
            _command = _command << 1 | bit;
            _received++;
        }
        else if (IsReading) _sent = _sent % (WordBits * Words) + 1;
    }
}
