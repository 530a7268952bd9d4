using System.Buffers.Binary;
using Qkvm.Core.State;

namespace Qkvm.Hw.Net;

/// <summary>The Microwire EEPROM of an 82540EM, by the bits of EECD and by EERD. Intel 317453, sections 5.3, 5.6 and
/// 13.4.3 to 13.4.4.</summary>
sealed class E1000Eeprom
{
    // EECD
    const uint Clock = 1, Select = 2, DataIn = 4, DataOut = 8, FlashWrite = 0x30, Request = 0x40, Grant = 0x80,
        Present = 0x100;
    const uint Writable = Clock | Select | DataIn | FlashWrite | Request;

    // EERD
    const uint Start = 1, Done = 0x10;

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
    readonly Microwire _chip;
    uint _control;                                                 // EECD's writable bits

    public E1000Eeprom(ReadOnlySpan<byte> mac)
    {
        for (int i = 0; i < 3; i++) _words[i] = BinaryPrimitives.ReadUInt16LittleEndian(mac[(2 * i)..]);
        ushort sum = Checksum;
        for (int i = 0; i < ChecksumWord; i++) sum -= _words[i];
        _words[ChecksumWord] = sum;
        _chip = new Microwire(_words);
    }

    public void Reset()
    {
        _control = 0;
        _chip.Reset();
    }

    public uint ReadControl() => _control | Present | Grant | (_chip.Out ? DataOut : 0);

    public void WriteControl(uint value)
    {
        _control = value & Writable;
        _chip.Set((value & Select) != 0, (value & Clock) != 0, (value & DataIn) != 0);
    }

    /// <summary>EERD: what it reads after the command.</summary>
    public uint Execute(uint command)
    {
        int address = (int)(command >> 8 & 0xFF);
        if ((command & Start) == 0) return command & 0xFF00;
        return command & 0xFF00 | Done | (address < Microwire.Words ? (uint)_words[address] << 16 : 0);
    }

    public void Exchange(StateStream state)
    {
        state.Field("eecd", ref _control);
        _chip.Exchange(state.Group("chip"));
        if ((_control & ~Writable) != 0) throw state.Refuse("eecd", $"{_control:x}");
    }
}
