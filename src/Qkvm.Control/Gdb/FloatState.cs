using System.Buffers.Binary;
using Qkvm.Core.Accel;

namespace Qkvm.Control.Gdb;

/// <summary>The x87's control registers as GDB numbers them, from the XSAVE area. Intel SDM vol. 1, sections 8.1 and
/// 10.5.1.</summary>
static class FloatState
{
    // Bits of XSTATE_BV
    public const byte X87 = 1, Sse = 2, Avx = 4;

    const int Opcode = 6, Ip = 8, IpSegment = 12, Data = 16, DataSegment = 20, ComponentsInUse = 512;
    const int Valid = 0, Zero = 1, Special = 2, Empty = 3;         // a register's two bits of the tag word

    public static readonly GdbRegister[] Control =
    [
        Word("fctrl", CpuRegisters.Fcw, 2), Word("fstat", CpuRegisters.Fsw, 2),
        new("ftag", 32, "int", GdbRegisters.Core, static (r, data) => GdbRegisters.Put(data, Tags(r.Xsave)),
            static (r, data) =>
            {
                r.Xsave[CpuRegisters.Ftw] = Abridged(GdbRegisters.Take(data));
                return Use(r, X87);
            }) { Group = "float" },
        Word("fiseg", IpSegment, 2), Word("fioff", Ip, 4), Word("foseg", DataSegment, 2), Word("fooff", Data, 4),
        Word("fop", Opcode, 2),
    ];

    /// <summary>The component is no longer in its initial state.</summary>
    public static bool Use(CpuRegisters registers, byte component)
    {
        if (registers.Xsave.Length > ComponentsInUse) registers.Xsave[ComponentsInUse] |= component;
        return true;
    }

    static GdbRegister Word(string name, int at, int size) => new(name, 32, "int", GdbRegisters.Core,
        (r, data) =>
        {
            data.Clear();
            r.Xsave.AsSpan(at, size).CopyTo(data);
        },
        (r, data) =>
        {
            data.AsSpan(0, size).CopyTo(r.Xsave.AsSpan(at));
            return Use(r, X87);
        }) { Group = "float" };

    /// <summary>The whole tag word, by registers' physical numbers: XSAVE keeps only which are empty.</summary>
    static ulong Tags(byte[] xsave)
    {
        int top = xsave[CpuRegisters.Fsw + 1] >> 3 & 7, tags = 0;
        for (int i = 0; i < 8; i++)
        {
            int tag = (xsave[CpuRegisters.Ftw] >> i & 1) == 0 ? Empty
                : TagOf(xsave.AsSpan(CpuRegisters.St0 + (i - top & 7) * 16, 10));
            tags |= tag << i * 2;
        }
        return (ulong)tags;
    }

    static int TagOf(ReadOnlySpan<byte> value)
    {
        ulong significand = BinaryPrimitives.ReadUInt64LittleEndian(value);
        int exponent = BinaryPrimitives.ReadUInt16LittleEndian(value[8..]) & 0x7FFF;
        if (exponent == 0 && significand == 0) return Zero;
        return exponent is 0 or 0x7FFF || (long)significand >= 0 ? Special : Valid;
    }

    static byte Abridged(ulong tags)
    {
        int kept = 0;
        for (int i = 0; i < 8; i++)
            if ((tags >> i * 2 & 3) != Empty) kept |= 1 << i;
        return (byte)kept;
    }
}
