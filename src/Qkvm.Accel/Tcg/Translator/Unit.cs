using Iced.Intel;

namespace Qkvm.Accel.Tcg.Translator;

// SAFETY: reads the copy of the guest's page, of two pages' size, at offsets that decoding has checked.
/// <summary>What emission plans for one block: its instructions, the flags' liveness, the groups of accesses.</summary>
sealed unsafe partial class Unit
{
    public const int MaxSteps = 48, PageSize = 4096, MaxSpan = 512;
    const int MostStackChange = 1 << 20;
    const int Rsp = 4, AllFlags = OpInfo.AllFlags;

    readonly byte* _page;
    readonly PageReader _reader = new();
    readonly Cpu _cpu;
    readonly Decoder[] _decoders = new Decoder[3];
    Decoder _decoder = null!;

    public readonly Step[] Steps = new Step[MaxSteps];
    public readonly Access[] Accesses = new Access[2 * MaxSteps];
    public readonly Group[] Groups = new Group[2 * MaxSteps];
    public int Count, AccessCount, GroupCount;

    /// <summary>The block ends by going back to its start, where no flags are alive.</summary>
    public bool IsLoop;

    /// <summary>The step that crosses into the next page or could not be read: the block ends before it.</summary>
    public bool EndsAtCrossing;

    /// <summary>Bytes that the translation depends on.</summary>
    public int From, To;

    /// <summary>Offsets in the page at which a debugger stops: no block has them inside. Null: none.</summary>
    public HashSet<int>? Stops;

    public bool StopsBefore(int offset) => Stops != null && Stops.Contains(offset);
    public Mode Mode { get; private set; } = null!;
    int _available, _limit;
    uint _ripBase;

    /// <param name="page">A copy of the guest's page, to work on.</param>
    public Unit(Cpu cpu, byte* page)
    {
        _cpu = cpu;
        _page = page;
    }

    /// <summary>The plan as text: treatment, flags that somebody may still read, checks of memory and what they stand
    /// for.</summary>
    public string Describe()
    {
        var text = new System.Text.StringBuilder();
        for (int i = 0; i < Count; i++)
        {
            ref Step step = ref Steps[i];
            for (int g = 0; g < GroupCount; g++)
                if (Groups[g].Position == i)
                    text.Append($"      check {(Groups[g].IsWrite ? "write" : "read")} of " +
                        $"{Groups[g].Count}{(Groups[g].Roams ? ", roams" : "")}\n");
            text.Append($" {step.Offset:x3}  {step.Treatment,-14} {step.X.Code,-24} live " +
                $"{(RflagsBits)step.LiveAfter}\n");
        }
        return text.ToString();
    }

    /// <summary>Decodes from a place in the page and plans.</summary>
    /// <param name="ripBase">Where in CS the page begins, if that is fixed.</param>
    /// <param name="careful">No groups, no hoisting: each access is checked just before it happens.</param>
    /// <param name="available">Bytes in the page; more than its size, to plan the one instruction that goes on in the
    /// next.</param>
    public void Plan(Mode mode, uint ripBase, int offset, bool careful, int limit = MaxSteps, int available = PageSize)
    {
        Mode = mode;
        (_available, _limit, _ripBase) = (available, limit, ripBase);
        _decoder = _decoders[mode.CodeSize >> 2] ??= Decoder.Create(mode.CodeSize * 8, _reader, _cpu.DecoderOptions);
        (Count, AccessCount, GroupCount, EndsAtCrossing) = (0, 0, 0, false);
        (From, To) = (offset, offset);
        Decode(offset, limit);
        FindLiveFlags();
        IsLoop = !careful && limit > 1 && Mode.Is64 && Count > 0
            && Steps[Count - 1] is { Treatment: Treatment.JumpIf or Treatment.Jump } last
            && last.Target == Steps[0].Offset && Steps[0].LiveBefore == 0;
        PlanAccesses(careful);
    }

    void Decode(int offset, int limit)
    {
        while (Count < limit)
        {
            if (Count > 0 && StopsBefore(offset)) return;
            ref Step step = ref Steps[Count];
            if (!TryDecode(offset, out step.X))
            {
                EndsAtCrossing = true;
                return;
            }
            if (IsBeyondLimit(offset + step.X.Length - 1)) return;
            step.Info = OpInfo.Of(step.X);
            step.Offset = offset;
            step.Treatment = Treat(step);
            (step.Access, step.StackAccess) = (-1, -1);
            if (step.Treatment is Treatment.Jump or Treatment.JumpIf or Treatment.Call or Treatment.JumpIfCxZero
                or Treatment.Loop)
                step.Target = TargetOf(step.X);
            offset = step.Following = step.Next;
            Count++;
            if (step.Treatment == Treatment.Jump && Count < limit / 2 && Mode.CodeSize > 2 && step.Target >= offset
                && step.Target < PageSize
                && CanFollow(step.Target))
            {
                step.Treatment = Treatment.Nop;
                offset = step.Following = step.Target;
                continue;
            }
            if (Ends(step) || offset >= PageSize) return;
        }
    }

    /// <summary>An instruction is there that the block can go on with.</summary>
    bool CanFollow(int target) => TryDecode(target, out Instruction x) && !IsBeyondLimit(target + x.Length - 1);

    bool TryDecode(int offset, out Instruction x)
    {
        _reader.Start(_page + offset, Math.Max(_available - offset, 0));
        _decoder.IP = (ulong)offset;
        _decoder.Decode(out x);
        if (_decoder.LastError == DecoderError.NoMoreBytes) return false;
        From = Math.Min(From, offset);
        To = Math.Max(To, offset + x.Length);
        return true;
    }

    static bool Ends(in Step step) =>
        step.Treatment is Treatment.Interpret or Treatment.Jump or Treatment.JumpIndirect or Treatment.Call
        or Treatment.CallIndirect or Treatment.Return
        || step.Treatment is Treatment.SystemCall or Treatment.SystemReturn or Treatment.SetAc or Treatment.SetDirection
        || step.Treatment is Treatment.JumpIf or Treatment.JumpIfCxZero or Treatment.Loop && step.Target <= step.Offset;

    /// <summary>The form's treatment, unless mode or operands forbid it.</summary>
    Treatment Treat(in Step step)
    {
        ref readonly Instruction x = ref step.X;
        Treatment treatment = step.Info.Treatment;
        if (x.Code == Code.INVALID || treatment == Treatment.Interpret || !_cpu.IsSupported(x.Code))
            return Treatment.Interpret;
        bool hasMemory = HasMemory(x);
        switch (treatment)
        {
            case Treatment.Vector or Treatment.LoadControl when !Mode.Runs(step.Info): return Treatment.Interpret;
            case Treatment.X87 when !Mode.HasX87: return Treatment.Interpret;
            case Treatment.LoadControl when !Mode.HasX87: return Treatment.Interpret;
            case Treatment.Push when hasMemory: treatment = Treatment.PushMemory; break;
            case Treatment.Pop when hasMemory: treatment = Treatment.PopMemory; break;
            case Treatment.BitString when !hasMemory: treatment = Treatment.Native; break;
            case Treatment.LoadSegment or Treatment.PopSegment
                or Treatment.LoadPointer when !CanLoadSegment(x): return Treatment.Interpret;
            case Treatment.PushFlags or Treatment.Pause when Mode.HasIntercepts: return Treatment.Interpret;
            case Treatment.PushFlags when Mode.IsReal && Mode.IsUser: return Treatment.Interpret;
            case Treatment.ClearInterrupt or Treatment.SetInterrupt when !Mode.IsInnermost: return Treatment.Interpret;
            case Treatment.SetInterrupt when IsLast(step): return Treatment.Interpret;
            case Treatment.SwapGs when !Mode.Is64 || !Mode.IsInnermost: return Treatment.Interpret;
            case Treatment.SystemCall when !Mode.Is64 || !Mode.HasSystemCall: return Treatment.Interpret;
            case Treatment.SystemReturn when !Mode.Is64 || !Mode.HasSystemCall
                || !Mode.IsInnermost: return Treatment.Interpret;
            case Treatment.Base when !Mode.Is64 || !Mode.HasBases: return Treatment.Interpret;
            case Treatment.SetAc when !Mode.Is64 || !Mode.IsInnermost || !_cpu.HasSmap: return Treatment.Interpret;
            case Treatment.SetDirection: return Mode.GoesDown == (x.Code == Code.Std) ? Treatment.Nop : treatment;
            case Treatment.String: return TreatString(x);
        }
        if (UsesStack(treatment) && !Mode.HasStack) return Treatment.Interpret;
        if (!CanBranch(x, treatment)) return Treatment.Interpret;
        if (x.HasLockPrefix && !hasMemory) return Treatment.Interpret;
        // Real-address and virtual-8086 mode know no VEX prefix.
        if (step.Info.IsVex && Mode.IsReal) return Treatment.Interpret;
        if (hasMemory && treatment is not (Treatment.Nop or Treatment.Lea) && !Mode.CanAccess(SegmentOf(x)))
            return Treatment.Interpret;
        // The host adds the bits' part of the address last, behind whatever wraps.
        if (treatment == Treatment.BitString && (AddressSize(x) == 2 || !Mode.Is64 && Mode.HasBase(SegmentOf(x))))
            return Treatment.Interpret;
        return treatment;
    }

    /// <summary>The block cannot hold another instruction.</summary>
    bool IsLast(in Step step) => Count >= _limit - 1 || step.Next >= PageSize;

    static bool HasMemory(in Instruction x)
    {
        for (int i = 0; i < x.OpCount; i++)
            if (x.GetOpKind(i) == OpKind.Memory) return true;
        return false;
    }

    internal static int SegmentOf(in Instruction x) => x.MemorySegment switch
    {
        Register.ES => Seg.Es, Register.CS => Seg.Cs, Register.SS => Seg.Ss, Register.FS => Seg.Fs, Register.GS =>
            Seg.Gs, _ => Seg.Ds,
    };

    int AddressSize(in Instruction x)
    {
        if (x.IsIPRelativeMemoryOperand) return x.MemoryBase == Register.EIP ? 4 : 8;
        if (x.MemoryBase != Register.None) return x.MemoryBase.GetSize();
        if (x.MemoryIndex != Register.None) return x.MemoryIndex.GetSize();
        return x.MemoryDisplSize == 0 ? Mode.CodeSize : x.MemoryDisplSize;
    }

    sealed class PageReader : CodeReader
    {
        byte* _at, _end;

        public void Start(byte* bytes, int count)
        {
            _at = bytes;
            _end = bytes + count;
        }

        public override int ReadByte() => _at < _end ? *_at++ : -1;
    }
}
