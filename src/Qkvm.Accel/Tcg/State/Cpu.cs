using System.Runtime.InteropServices;
using Iced.Intel;

namespace Qkvm.Accel.Tcg;

// SAFETY: State and _jit lie in the vCPU's own region, which is freed after its thread has ended.
/// <summary>One interpreted vCPU: its state and the services that instruction handlers use. Partial, by subject:
/// Cpu.Memory (linear and physical access, TLB), Cpu.Paging, Cpu.Flags, Cpu.Run (decode cache, loop), Cpu.Segments,
/// Cpu.Exceptions, Cpu.Msr …</summary>
public sealed unsafe partial class Cpu
{
    /// <summary>Unmanaged, 64-byte aligned, never moved.</summary>
    public readonly CpuState* State;

    readonly GuestFault _fault = new();

    public ref ulong Rax => ref State->Gpr[0];
    public ref ulong Rcx => ref State->Gpr[1];
    public ref ulong Rdx => ref State->Gpr[2];
    public ref ulong Rbx => ref State->Gpr[3];
    public ref ulong Rsp => ref State->Gpr[4];
    public ref ulong Rbp => ref State->Gpr[5];
    public ref ulong Rsi => ref State->Gpr[6];
    public ref ulong Rdi => ref State->Gpr[7];

    /// <summary>64-bit mode: long mode active and CS.L.</summary>
    public bool Is64Bit => (State->Efer & Efer.Lma) != 0 && (State->Cs.Access & Segment.Long) != 0;
    public bool IsLongMode => (State->Efer & Efer.Lma) != 0;
    public bool IsProtected => (State->Cr0 & Cr0.Pe) != 0;
    public bool IsVirtual8086 => (State->RflagsSystem & Tcg.Rflags.Vm) != 0;
    public int Cpl => State->Cpl;

    /// <summary>The exception to throw: <c>throw Fault(Vector.GeneralProtection, 0)</c>.</summary>
    public GuestFault Fault(int vector, uint? errorCode = null) => _fault.With(vector, errorCode);
    public GuestFault Gp(uint errorCode = 0) => _fault.With(Vector.GeneralProtection, errorCode);
    public GuestFault Ud() => _fault.With(Vector.InvalidOpcode, null);
}

/// <summary>RFLAGS bits.</summary>
public static class Rflags
{
    public const ulong Cf = 1, Pf = 4, Af = 0x10, Zf = 0x40, Sf = 0x80, Tf = 0x100, If = 0x200, Df = 0x400, Of = 0x800,
        Iopl = 0x3000, Nt = 0x4000, Rf = 0x10000, Vm = 0x20000, Ac = 0x40000, Vif = 0x80000, Vip = 0x100000,
        Id = 0x200000, Arithmetic = Cf | Pf | Af | Zf | Sf | Of;
}

public static class Cr0
{
    public const ulong Pe = 1, Mp = 2, Em = 4, Ts = 8, Et = 0x10, Ne = 0x20, Wp = 0x10000, Am = 0x40000,
        Nw = 0x20000000, Cd = 0x40000000, Pg = 0x80000000;
}

public static class Cr4
{
    public const ulong Vme = 1, Pvi = 2, Tsd = 4, De = 8, Pse = 0x10, Pae = 0x20, Mce = 0x40, Pge = 0x80, Pce = 0x100,
        Osfxsr = 0x200, Osxmmexcpt = 0x400, Umip = 0x800, La57 = 0x1000, Vmxe = 0x2000, Fsgsbase = 0x10000,
        Pcide = 0x20000, Osxsave = 0x40000, Smep = 0x100000, Smap = 0x200000, Pke = 0x400000, Cet = 0x800000,
        Pks = 0x1000000, LamSup = 0x10000000;
}

public static class Cr3
{
    /// <summary>Of pointers into the lower half, bits 62 to 57 or 62 to 48 are data.</summary>
    public const ulong LamU57 = 1UL << 61, LamU48 = 1UL << 62;
}

public static class Efer
{
    public const ulong Sce = 1, Lme = 0x100, Lma = 0x400, Nx = 0x800, Svme = 0x1000, Ffxsr = 0x4000, Aibrse = 1 << 21;
}
