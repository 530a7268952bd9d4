using System.Runtime.InteropServices;

namespace Qkvm.Accel.Tcg;

// SAFETY: lies in the vCPU's own region, freed after its thread has ended; its places are named by offsets within it.
/// <summary>A segment register with its hidden part. Intel SDM vol. 3, section 3.4.3.</summary>
public struct Segment
{
    public ulong Base;

    /// <summary>The last valid offset, granularity applied; for expand-down segments the first invalid one.</summary>
    public uint Limit;

    /// <summary>Descriptor bits 40 to 55: type 3..0, S 4, DPL 6..5, P 7, AVL 12, L 13, D/B 14, G 15. 0: unusable
    /// (null).</summary>
    public ushort Access;
    public ushort Selector;

    public const ushort Accessed = 1, Writable = 2, ExpandDown = 4, Code = 8, System = 0x10, Present = 0x80,
        Long = 0x2000, Big = 0x4000;
}

/// <summary>Register numbers of <see cref="CpuState"/>: as instructions encode them.</summary>
public static class Seg
{
    public const int Es = 0, Cs = 1, Ss = 2, Ds = 3, Fs = 4, Gs = 5, Count = 6;
}

/// <summary>Everything architectural of one vCPU, at fixed offsets in unmanaged memory: the interpreter, emitted thunks
/// and the translator all work on it. Allocated 64-byte aligned, zeroed.</summary>
/// <remarks>Arithmetic flags live in the lazy fields; <c>Cpu.ArithmeticFlags</c> reads and sets them.</remarks>
[StructLayout(LayoutKind.Sequential)]
public unsafe struct CpuState
{
    /// <summary>RAX RCX RDX RBX RSP RBP RSI RDI R8 … R15.</summary>
    public fixed ulong Gpr[16];

    /// <summary>The instruction that runs, until it is done; then the next.</summary>
    public ulong Rip;

    /// <summary>Always 0, and number 17 of the registers: what <see cref="Insn.None"/> reads.</summary>
    public ulong Zero;

    /// <summary>All but CF PF AF ZF SF OF, which are kept lazily; bit 1 is always set.</summary>
    public ulong RflagsSystem;

    // The last flag setter, in a form all widths share. ZF: result is 0. SF: bit 63 of result ^ patch. PF: low byte of
    // result ^ patch has even parity. CF: bit 63 of carries, OF: bit 63 ^ bit 62, AF: bit 3; other bits mean nothing.

    /// <summary>Sign-extended from the operation's width.</summary>
    public ulong FlagsResult;

    /// <summary>The vector of carries (borrows) out of each bit, shifted up so that the operand's top bit is bit 63;
    /// bit 3 as it was.</summary>
    public ulong FlagsCarries;

    /// <summary>Not 0 only where ZF contradicts SF or PF, as POPF may want.</summary>
    public ulong FlagsPatch;

    /// <summary>ES CS SS DS FS GS.</summary>
    public Segment Es, Cs, Ss, Ds, Fs, Gs;
    public Segment Ldtr, Tr;
    public ulong GdtrBase, IdtrBase;
    public uint GdtrLimit, IdtrLimit;
    public ulong Cr0, Cr2, Cr3, Cr4, Xcr0;
    public fixed ulong Dr[8];

    // Model-specific registers that instructions and paging look at; the rest is in Msrs.
    public ulong Efer, Star, LStar, CStar, FMask, KernelGsBase, SysenterCs, SysenterEsp, SysenterEip, TscAux, Pat,
        MiscEnable, Xss, Pkrs;
    public ulong TscOffset, TscAdjust;
    public uint Pkru;

    /// <summary>0..3.</summary>
    public int Cpl;

    /// <summary>Where this processor's system management memory begins.</summary>
    public uint SmBase;

    /// <summary>Interrupts are held off for one instruction: 0, or why.</summary>
    public byte InterruptShadow;
    public const byte StiShadow = 1, StackShadow = 2;
    public byte Halted;
    public byte WaitForSipi;
    public byte NmiBlocked;
    public byte NmiPending;
    public byte InitPending;
    public byte SipiPending;
    public byte SipiVector;
    public byte SmiPending;

    /// <summary>In system management mode.</summary>
    public byte Smm;

    /// <summary>NMIs were blocked when it was entered, and are so again afterwards.</summary>
    public byte BlocksNmiAfterSmm;
    public byte A20Masked;

    /// <summary>Aligns what follows to 64 bytes, as FXRSTOR and XRSTOR want it.</summary>
    public fixed byte Padding[56];

    /// <summary>x87, MXCSR, vector and mask registers in the standard format of XSAVE, components where Intel's
    /// processors have them.</summary>
    public XsaveArea Xsave;

    /// <summary>A memory operand on its way. Not architectural.</summary>
    public fixed byte VectorScratch[64];

    /// <summary>Operands of an AVX-512 instruction while it runs: <see cref="Thunks.EvexFrame"/>. Not
    /// architectural.</summary>
    public fixed byte EvexOperands[Thunks.EvexFrame.Size];

    public ref Segment Segment(int index) =>
        ref ((Segment*)System.Runtime.CompilerServices.Unsafe.AsPointer(ref Es))[index];
}

/// <summary>Intel SDM vol. 1, section 13.4.</summary>
[StructLayout(LayoutKind.Sequential, Size = 2688)]
public unsafe struct XsaveArea
{
    public const int Fcw = 0, Fsw = 2, Ftw = 4, Mxcsr = 24, MxcsrMask = 28, St0 = 32, Xmm0 = 160, Header = 512,
        YmmHigh0 = 576, Opmask0 = 1088, ZmmHigh0 = 1152, Zmm16 = 1664;
    public fixed byte Bytes[2688];
}
