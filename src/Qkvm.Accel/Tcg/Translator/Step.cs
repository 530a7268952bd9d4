using Iced.Intel;

namespace Qkvm.Accel.Tcg.Translator;

// SAFETY: pointers are to the block's slots and records, which live as long as the block.
/// <summary>One guest instruction of the block in work.</summary>
unsafe struct Step
{
    public Instruction X;
    public OpInfo Info;
    public Treatment Treatment;

    /// <summary>Its place in the page.</summary>
    public int Offset;

    /// <summary>Of direct jumps: the target's place, relative to the page.</summary>
    public int Target;

    /// <summary>Arithmetic flags whose value before it somebody may still read.</summary>
    public byte LiveBefore, LiveAfter;

    /// <summary>Of conditional jumps: those read at the target.</summary>
    public byte LiveAtTarget;

    /// <summary>What pushes and pops since the last other change of RSP have added to it.</summary>
    public int StackDelta;

    /// <summary>Its memory accesses, -1: none. The second is a push.</summary>
    public int Access, StackAccess;
    public readonly int Next => Offset + X.Length;

    /// <summary>The place that the block goes on at: a jump's target where it is followed.</summary>
    public int Following;
}

/// <summary>A memory operand, by guest registers.</summary>
struct Access
{
    /// <summary>A register number, or <see cref="Rip"/>, <see cref="None"/>.</summary>
    public const int Rip = 16, None = 17;
    public int Base, Index, Shift;

    /// <summary>Seg.Fs, Seg.Gs or any that has a base; -1: none is added.</summary>
    public int Segment;

    /// <summary>The architectural segment, for faults.</summary>
    public byte FaultSegment;

    /// <summary>The offset is truncated to 32 bits, to 16.</summary>
    public bool IsShort, IsWord;
    public long Displacement;
    public int Size;
    public bool IsWrite, MustAlign;

    /// <summary>A mask says which bytes there must be: where not all can be accessed, the interpreter looks.</summary>
    public bool IsMasked;

    /// <summary>A bit string: this register's bits above the operand's width choose the element. -1: none.</summary>
    public int BitIndex;
    public int Group;
}

/// <summary>Accesses through the same registers, which one check lets pass.</summary>
unsafe struct Group
{
    /// <summary>The step before which the check stands, and the first access's.</summary>
    public int Position, First;
    public Access Pattern;
    public long Low, High;
    public bool IsWrite, MustAlign;
    public int Count;
    public Slot* Slot;

    /// <summary>Its page changes so often that the check looks into the TLB.</summary>
    public bool Roams;

    /// <summary>Nothing in the loop changes its address: it is checked once, before.</summary>
    public bool IsInvariant;
}
