using System.Buffers.Binary;
using Qkvm.Core.Accel;

namespace Qkvm.Control.Gdb;

/// <summary>All registers, in the order of GDB's numbers for them, which is QEMU's: what gdb and lldb know of an
/// x86-64, then the upper halves of YMM registers. Whatever mode the processor is in, the description is this
/// one.</summary>
static class GdbRegisters
{
    public const string Core = "org.gnu.gdb.i386.core", Sse = "org.gnu.gdb.i386.sse", Avx = "org.gnu.gdb.i386.avx",
        Bases = "org.gnu.gdb.i386.segments", System = "qkvm.i386.system";

    /// <summary>RAX RBX RCX RDX RSI RDI RBP RSP R8 … R15, by the processor's numbers.</summary>
    static readonly int[] s_general = [0, 3, 1, 2, 6, 7, 5, 4, 8, 9, 10, 11, 12, 13, 14, 15];
    static readonly string[] s_generalNames = ["rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp"];
    static readonly (string Name, int Number)[] s_segments =
    [
        ("cs", CpuRegisters.Cs), ("ss", CpuRegisters.Ss), ("ds", CpuRegisters.Ds), ("es", CpuRegisters.Es),
        ("fs", CpuRegisters.Fs), ("gs", CpuRegisters.Gs),
    ];

    const uint KernelGsBase = 0xC0000102;
    const ulong WritableFlags = 0x3F7FD5, FixedFlags = 2;

    public static readonly GdbRegister[] All =
    [
        .. s_general.Select((number, i) => Number(i < 8 ? s_generalNames[i] : $"r{i}", 64,
            i is 6 or 7 ? "data_ptr" : "int64", Core, r => Narrowed(r, r.General[number]),
            (r, value) => r.General[number] = Narrowed(r, value))),
        Number("rip", 64, "code_ptr", Core, r => Narrowed(r, r.Rip), (r, value) => r.Rip = Narrowed(r, value)),
        Number("eflags", 32, "x64_eflags", Core, r => r.Rflags,
            (r, value) => r.Rflags = value & WritableFlags | FixedFlags),
        .. s_segments.Select(s => new GdbRegister(s.Name, 32, "int32", Core,
            (r, data) => BinaryPrimitives.WriteUInt32LittleEndian(data, r.Segments[s.Number].Selector),
            (r, data) => SegmentLoad.TrySelect(r, s.Number, BinaryPrimitives.ReadUInt32LittleEndian(data)))),
        Number("fs_base", 64, "int64", Bases, r => r.Segments[CpuRegisters.Fs].Base,
            (r, value) => r.Segments[CpuRegisters.Fs].Base = value),
        Number("gs_base", 64, "int64", Bases, r => r.Segments[CpuRegisters.Gs].Base,
            (r, value) => r.Segments[CpuRegisters.Gs].Base = value),
        Number("k_gs_base", 64, "int64", System, r => r.Msrs.GetValueOrDefault(KernelGsBase),
            (r, value) => r.Msrs[KernelGsBase] = value),
        Number("cr0", 64, "x64_cr0", System, r => r.Cr0, (r, value) => r.Cr0 = value),
        Number("cr2", 64, "int64", System, r => r.Cr2, (r, value) => r.Cr2 = value),
        Number("cr3", 64, "int64", System, r => r.Cr3, (r, value) => r.Cr3 = value),
        Number("cr4", 64, "x64_cr4", System, r => r.Cr4, (r, value) => r.Cr4 = value),
        Number("cr8", 64, "int64", System, r => r.Cr8, (r, value) => r.Cr8 = value),
        Number("efer", 64, "x64_efer", System, r => r.Efer, (r, value) => r.Efer = value),
        .. Enumerable.Range(0, 8).Select(i => Kept($"st{i}", 80, "i387_ext", Core, CpuRegisters.St0 + i * 16,
            FloatState.X87)),
        .. FloatState.Control,
        .. Enumerable.Range(0, 16).Select(i => Kept($"xmm{i}", 128, "vec128", Sse, CpuRegisters.Xmm0 + i * 16,
            FloatState.Sse)),
        Kept("mxcsr", 32, "x64_mxcsr", Sse, CpuRegisters.Mxcsr, FloatState.Sse) with { Group = "vector" },
        .. Enumerable.Range(0, 16).Select(i => Kept($"ymm{i}h", 128, "uint128", Avx, CpuRegisters.YmmHigh0 + i * 16,
            FloatState.Avx)),
    ];

    /// <summary>All one after the other: packet g.</summary>
    public static byte[] ReadAll(CpuRegisters registers)
    {
        var data = new byte[All.Sum(register => register.Size)];
        int at = 0;
        foreach (GdbRegister register in All)
        {
            register.Get(registers, data.AsSpan(at, register.Size));
            at += register.Size;
        }
        return data;
    }

    /// <summary>As many as there are bytes for: packet G. False: one of them cannot be so.</summary>
    public static bool WriteAll(CpuRegisters registers, byte[] data)
    {
        int at = 0;
        foreach (GdbRegister register in All)
        {
            if (at + register.Size > data.Length) break;
            if (!register.Set(registers, data[at..(at + register.Size)])) return false;
            at += register.Size;
        }
        return true;
    }

    /// <summary>Outside 64-bit mode there are 32 bits.</summary>
    static ulong Narrowed(CpuRegisters r, ulong value) => r.Is64Bit ? value : (uint)value;

    static GdbRegister Number(string name, int bits, string type, string feature, Func<CpuRegisters, ulong> get,
        Action<CpuRegisters, ulong> set) => new(name, bits, type, feature,
            (r, data) => Put(data, get(r)),
            (r, data) =>
            {
                set(r, Take(data));
                return true;
            });

    /// <summary>A part of the XSAVE area.</summary>
    static GdbRegister Kept(string name, int bits, string type, string feature, int at, byte component) =>
        new(name, bits, type, feature,
            (r, data) =>
            {
                if (at + data.Length <= r.Xsave.Length) r.Xsave.AsSpan(at, data.Length).CopyTo(data);
                else data.Clear();
            },
            (r, data) =>
            {
                if (at + data.Length > r.Xsave.Length) return data.All(b => b == 0);
                data.CopyTo(r.Xsave.AsSpan(at));
                return FloatState.Use(r, component);
            });

    internal static void Put(Span<byte> data, ulong value)
    {
        for (int i = 0; i < data.Length; i++) data[i] = i < 8 ? (byte)(value >> i * 8) : (byte)0;
    }

    internal static ulong Take(byte[] data)
    {
        ulong value = 0;
        for (int i = 0; i < Math.Min(data.Length, 8); i++) value |= (ulong)data[i] << i * 8;
        return value;
    }
}
