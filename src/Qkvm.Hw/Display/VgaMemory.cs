using Qkvm.Core.Memory;
using Qkvm.Core.State;
using Qkvm.Host;

namespace Qkvm.Hw.Display;

/// <summary>The window at A0000h to BFFFFh: planes, latches, write modes. Spec: as <see cref="VgaRegisters"/>,
/// "Graphics Controller". The four planes lie interleaved in video memory: byte a of plane p at 4a + p; chain-4
/// addresses are its own.</summary>
/// <remarks>Deviations: chain-4 and odd/even addresses are packed (the chip leaves gaps in its planes), and such writes
/// ignore write mode, rotation, logic and bit mask, as QEMU does. A read loads the latches in every mode.</remarks>
public sealed class VgaMemory(VgaRegisters registers, GuestRam ram) : IRegisterBank
{
    public const ulong Window = 0xA0000, WindowSize = 0x20000;

    const byte Chain4 = 8, OddEven = 0x10, ReadCompare = 8;

    uint _latch;

    /// <summary>Offset of the 64 KiB bank that VBE shows in the window.</summary>
    public uint Bank { get; set; }

    /// <summary>A VBE mode of packed pixels: chain-4 with all planes, whatever the sequencer says.</summary>
    public bool IsLinear { get; set; }

    public void Reset()
    {
        _latch = 0;
        Bank = 0;
        IsLinear = false;
    }

    public void Exchange(StateStream state) => state.Field("latch", ref _latch);

    public ulong Read(ulong offset, int size)
    {
        if (!TryPlace((uint)offset, out uint address)) return 0xFF;
        byte[] graphics = registers.Graphics;
        if (IsChained) return Load(address);
        if ((graphics[VgaRegisters.GraphicsMode] & OddEven) != 0) return Load(OddEvenPlace(address));
        _latch = address * 4UL + 4 <= ram.Size ? (uint)ram.Read(address * 4UL, 4) : 0;
        if ((graphics[VgaRegisters.GraphicsMode] & ReadCompare) == 0)
            return (byte)(_latch >> (graphics[VgaRegisters.ReadMapSelect] & 3) * 8);
        uint differs = (_latch ^ Spread(graphics[VgaRegisters.ColorCompare]))
            & Spread(graphics[VgaRegisters.ColorDontCare]);
        differs |= differs >> 16;
        differs |= differs >> 8;
        return (byte)~differs;
    }

    public void Write(ulong offset, int size, ulong value)
    {
        if (!TryPlace((uint)offset, out uint address)) return;
        byte[] graphics = registers.Graphics;
        byte mask = registers.Sequencer[VgaRegisters.MapMask], data = (byte)value;
        if (IsChained)
        {
            if (IsLinear || (mask & 1 << (int)(address & 3)) != 0) Put(address, data);
        }
        else if ((graphics[VgaRegisters.GraphicsMode] & OddEven) != 0)
        {
            uint place = OddEvenPlace(address);
            if ((mask & 1 << (int)(place & 3)) != 0) Put(place, data);
        }
        else WritePlanes(address, data, mask);
    }

    void WritePlanes(uint address, byte data, byte mapMask)
    {
        if (address * 4UL + 4 > ram.Size) return;
        byte[] graphics = registers.Graphics;
        int rotate = graphics[VgaRegisters.DataRotate] & 7;
        byte rotated = (byte)(data >> rotate | data << (8 - rotate));
        byte bitMask = graphics[VgaRegisters.BitMask];
        uint pixels;
        switch (graphics[VgaRegisters.GraphicsMode] & 3)
        {
            case 0:
                uint enabled = Spread(graphics[VgaRegisters.EnableSetReset]);
                pixels = rotated * 0x01010101u & ~enabled | Spread(graphics[VgaRegisters.SetReset]) & enabled;
                break;
            case 1:
                Store(address, _latch, mapMask);
                return;
            case 2: pixels = Spread((byte)(data & 15)); break;
            default:
                bitMask &= rotated;
                pixels = Spread(graphics[VgaRegisters.SetReset]);
                break;
        }
        pixels = (graphics[VgaRegisters.DataRotate] >> 3 & 3) switch
        {
            1 => pixels & _latch,
            2 => pixels | _latch,
            3 => pixels ^ _latch,
            _ => pixels,
        };
        uint bits = bitMask * 0x01010101u;
        Store(address, pixels & bits | _latch & ~bits, mapMask);
    }

    void Store(uint address, uint pixels, byte mapMask)
    {
        uint planes = Spread(mapMask), old = (uint)ram.Read(address * 4UL, 4);
        ram.Write(address * 4UL, 4, old & ~planes | pixels & planes);
    }

    /// <summary>A bit a plane to a byte a plane.</summary>
    static uint Spread(byte planes) =>
        ((planes & 1u) | (planes & 2u) << 7 | (planes & 4u) << 14 | (planes & 8u) << 21) * 0xFF;

    /// <summary>Which part of the window is in use, "Miscellaneous Register"; false where it is not.</summary>
    bool TryPlace(uint offset, out uint address)
    {
        (uint start, uint length) = (registers.Graphics[VgaRegisters.Miscellaneous] >> 2 & 3) switch
        {
            0 => (0u, 0x20000u),
            1 => (0u, 0x10000u),
            2 => (0x10000u, 0x8000u),
            _ => (0x18000u, 0x8000u),
        };
        address = offset - start;
        bool inside = offset >= start && address < length;
        address += Bank;
        return inside;
    }

    uint OddEvenPlace(uint address) =>
        (address & ~1u) << 1 | (uint)(registers.Graphics[VgaRegisters.ReadMapSelect] & 2) | address & 1;

    bool IsChained => IsLinear || (registers.Sequencer[VgaRegisters.MemoryMode] & Chain4) != 0;

    byte Load(uint place)
    {
        if (place >= ram.Size) return 0xFF;
        _latch = (uint)ram.Read(place & ~3u, 4);
        return (byte)(_latch >> (int)(place & 3) * 8);
    }

    void Put(uint place, byte data)
    {
        if (place < ram.Size) ram.Write(place, 1, data);
    }
}
