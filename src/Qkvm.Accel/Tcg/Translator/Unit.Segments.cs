using Iced.Intel;

namespace Qkvm.Accel.Tcg.Translator;

// What depends on sizes of operands, addresses and stack, and on segments.
// SAFETY: reads the copy of the guest's page, of two pages' size, at offsets that decoding has checked.
sealed unsafe partial class Unit
{
    static bool Pushes(Treatment treatment) =>
        treatment is Treatment.Push or Treatment.PushFlags or Treatment.PushImmediate or Treatment.PushMemory
        or Treatment.PushSegment or Treatment.Call or Treatment.CallIndirect;

    static bool UsesStack(Treatment treatment) => Pushes(treatment)
        || treatment is Treatment.Pop or Treatment.PopMemory or Treatment.PopSegment
        or Treatment.Leave or Treatment.Return or Treatment.PushAll or Treatment.PopAll;

    /// <summary>Bytes of one element that an instruction pushes or pops.</summary>
    internal static int OperandSize(in Instruction x) => x.Code switch
    {
        Code.Leavew or Code.Retnw or Code.Retnw_imm16 or Code.Pushaw or Code.Popaw => 2,
        Code.Leaved or Code.Retnd or Code.Retnd_imm16 or Code.Pushad or Code.Popad => 4,
        Code.Leaveq or Code.Retnq or Code.Retnq_imm16 => 8,
        _ => Math.Abs(x.StackPointerIncrement),
    };

    /// <summary>Bytes of the instruction pointer that a near jump or call sets.</summary>
    internal static int BranchSize(in Instruction x) => x.Op0Kind switch
    {
        OpKind.NearBranch16 => 2,
        OpKind.NearBranch32 => 4,
        OpKind.NearBranch64 => 8,
        OpKind.Register => x.Op0Register.GetSize(),
        _ => x.MemorySize.GetSize(),
    };

    /// <summary>Bytes of RCX that LOOP and JCXZ look at.</summary>
    internal static int CounterSize(in Instruction x) => x.Code switch
    {
        Code.Jecxz_rel8_16 or Code.Jecxz_rel8_32 or Code.Jecxz_rel8_64 or Code.Loop_rel8_16_ECX or Code.Loop_rel8_32_ECX
            or Code.Loop_rel8_64_ECX
            or Code.Loope_rel8_16_ECX or Code.Loope_rel8_32_ECX or Code.Loope_rel8_64_ECX or Code.Loopne_rel8_16_ECX
            or Code.Loopne_rel8_32_ECX
            or Code.Loopne_rel8_64_ECX => 4,
        Code.Jrcxz_rel8_16 or Code.Jrcxz_rel8_64 or Code.Loop_rel8_16_RCX or Code.Loop_rel8_64_RCX
            or Code.Loope_rel8_16_RCX or Code.Loope_rel8_64_RCX
            or Code.Loopne_rel8_16_RCX or Code.Loopne_rel8_64_RCX => 8,
        _ => 2,
    };

    /// <summary>Where a direct jump leads, relative to the page. IP wraps at its size.</summary>
    int TargetOf(in Instruction x)
    {
        if (Mode.Is64) return (int)(long)x.NearBranchTarget;
        if (!Mode.IsSegmented && x.Op0Kind == OpKind.NearBranch32) return (int)x.NearBranch32;
        bool isWord = x.Op0Kind == OpKind.NearBranch16;
        uint next = _ripBase + (uint)x.NextIP;
        uint target = isWord ? (ushort)(next + (uint)(x.NearBranch16 - (ushort)x.NextIP))
            : next + (x.NearBranch32 - (uint)x.NextIP);
        return (int)(target - _ripBase);
    }

    /// <summary>A byte of the page lies beyond the limit of CS.</summary>
    bool IsBeyondLimit(int offset) => Mode.IsSegmented && _ripBase + (uint)offset > Mode.CodeLimit;

    /// <summary>Jumps of sizes that occur, to where they do not fault.</summary>
    bool CanBranch(in Instruction x, Treatment treatment)
    {
        switch (treatment)
        {
            case Treatment.Jump or Treatment.JumpIf or Treatment.JumpIfCxZero or Treatment.Loop or Treatment.Call:
                // From far within a page one of 2 GiB goes further than places are counted.
                if (Mode.Is64 && (long)x.NearBranchTarget is < int.MinValue or > int.MaxValue) return false;
                if (!Mode.IsSegmented) return BranchSize(x) == Mode.CodeSize;
                return _ripBase + (uint)TargetOf(x) <= Mode.CodeLimit;
            case Treatment.JumpIndirect or Treatment.CallIndirect:
                return Mode.IsSegmented || BranchSize(x) == Mode.CodeSize;
            case Treatment.Return:
                return Mode.IsSegmented || OperandSize(x) == Mode.CodeSize;
            default:
                return true;
        }
    }

    /// <summary>ES, DS, FS or GS, whose limit and rights stay as they are.</summary>
    bool CanLoadSegment(in Instruction x) => Mode.IsReal && LoadedSegment(x) is var segment
        && segment is not (Seg.Cs or Seg.Ss) && segment < Seg.Count
        && Mode.CanAccess(segment);

    /// <summary>Of an instruction that loads one; <see cref="Seg.Count"/> if there is none of that number.</summary>
    internal static int LoadedSegment(in Instruction x)
    {
        switch (x.Code)
        {
            case Code.Les_r16_m1616 or Code.Les_r32_m1632: return Seg.Es;
            case Code.Lds_r16_m1616 or Code.Lds_r32_m1632: return Seg.Ds;
            case Code.Lfs_r16_m1616 or Code.Lfs_r32_m1632: return Seg.Fs;
            case Code.Lgs_r16_m1616 or Code.Lgs_r32_m1632: return Seg.Gs;
            default: return NumberOfSegment(x.Op0Register);
        }
    }

    internal static int NumberOfSegment(Register register) => register switch
    {
        Register.ES => Seg.Es, Register.CS => Seg.Cs, Register.SS => Seg.Ss, Register.DS => Seg.Ds, Register.FS =>
            Seg.Fs, Register.GS => Seg.Gs,
        _ => Seg.Count,
    };

    /// <summary>The segment register whose base a step changes.</summary>
    /// <summary>Of RDFSBASE and its like.</summary>
    public static int SegmentOfBase(Mnemonic mnemonic) => mnemonic is Mnemonic.Rdfsbase or Mnemonic.Wrfsbase ? Seg.Fs
        : Seg.Gs;

    static int? WrittenSegment(in Step step) => step.Treatment switch
    {
        Treatment.LoadSegment or Treatment.PopSegment or Treatment.LoadPointer => LoadedSegment(step.X),
        Treatment.SwapGs => Seg.Gs,
        Treatment.Base => SegmentOfBase(step.X.Mnemonic),
        _ => null,
    };

    void AddStackAccess(int i, ref Step step, Span<int> lastWrite, int lastExit, int delta, bool careful)
    {
        int size = OperandSize(step.X);
        var stack = new Access
        {
            Base = Rsp, Index = Access.None, Segment = !Mode.Is64 && Mode.HasBase(Seg.Ss) ? Seg.Ss
                : -1, FaultSegment = Seg.Ss, Size = size, BitIndex = -1,
            IsShort = Mode.StackSize == 4, IsWord = Mode.StackSize == 2, Displacement = delta,
        };
        switch (step.Treatment)
        {
            case Treatment.Leave:
                (stack.Base, stack.Displacement) = (5, 0);
                break;
            case Treatment.PushAll:
                (stack.Displacement, stack.Size, stack.IsWrite) = (delta - 8 * size, 8 * size, true);
                break;
            case Treatment.PopAll:
                stack.Size = 8 * size;
                break;
            case var treatment when Pushes(treatment):
                (stack.Displacement, stack.IsWrite) = (delta - size, true);
                break;
        }
        step.StackAccess = Add(stack, i, lastWrite, lastExit, careful);
    }

    /// <summary>One check of the limit does for both.</summary>
    bool SharesBound(in Access one, in Access other)
    {
        if (one.FaultSegment == other.FaultSegment) return true;
        Bound bound = Mode.BoundOf(one.FaultSegment);
        return bound != Bound.Limit && bound == Mode.BoundOf(other.FaultSegment);
    }
}
