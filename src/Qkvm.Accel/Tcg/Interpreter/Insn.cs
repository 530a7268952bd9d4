using Iced.Intel;

namespace Qkvm.Accel.Tcg;

// SAFETY: lies in its block's arena until the cache is emptied, which happens between blocks alone.
/// <summary>A decoded instruction as the interpreter runs it; in unmanaged memory, many to a block.</summary>
public unsafe struct Insn
{
    public const byte NoRegister = 0xFF;

    /// <summary>Executes it. RIP points at this instruction on entry; the handler leaves it there, unless it jumps
    /// through
    /// <c>Cpu.Jump*</c>: the loop adds <see cref="Length"/> afterwards. May throw <see cref="GuestFault"/> before any
    /// change.</summary>
    public delegate*<Cpu, Insn*, void> Run;

    /// <summary>Sign- or zero-extended as the instruction wants it; near branches: the displacement.</summary>
    public ulong Immediate;

    /// <summary>Second immediate (ENTER, far pointers' selector), or a group's own datum: a thunk's address or
    /// index.</summary>
    public ulong Extra;
    /// <summary>Sign-extended; for RIP-relative operands counted from the start of the instruction.</summary>
    public long Displacement;
    public Code Code;

    /// <summary>Bytes, 1 to 15.</summary>
    public byte Length;

    /// <summary>Operand size in bytes: 1, 2, 4, 8.</summary>
    public byte OperandSize;

    /// <summary>Address size in bytes: 2, 4, 8.</summary>
    public byte AddressSize;

    /// <summary>Register operands: GPR number; high-byte registers are 16 + (0..3) for AH CH DH BH; segment, control,
    /// debug and vector registers their own number. Op0 is the destination's, in Intel's operand order.</summary>
    public byte Reg0, Reg1, Reg2;

    // The memory operand: [Segment: Base + Index << Shift + Displacement]. Base and Index are numbers for CpuState.Gpr,
    // where Rip (RIP-relative) and None (absent, always zero) follow the sixteen, so that no address needs a branch.
    public const byte Rip = 16, None = 17;
    public byte Base, Index, Shift, Segment;

    /// <summary>Which operand is the memory one: 0, 1, 2, or NoRegister.</summary>
    public byte MemoryOperand;
    public InsnFlags Flags;

    public readonly bool HasMemory => MemoryOperand != NoRegister;
}

[Flags]
public enum InsnFlags : byte
{
    None = 0,
    Lock = 1,
    Rep = 2,
    Repne = 4,
    /// <summary>Ends a block: jumps, or changes mode, mapping, interrupt state or code.</summary>
    EndsBlock = 8,
    /// <summary>Set by the decoder: privilege, mode, mapping or interrupt state may differ afterwards, and the loop
    /// looks again.</summary>
    System = 16,
    /// <summary>Touches x87, MMX or vector registers.</summary>
    Vectors = 32,
    /// <summary>A far call with REX.W whose pointer has 32 bits all the same.</summary>
    RexW = 64,
}
