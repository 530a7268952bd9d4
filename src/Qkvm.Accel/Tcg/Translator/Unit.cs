using Iced.Intel;
using Qkvm.Accel.Tcg.Interpreter;

namespace Qkvm.Accel.Tcg.Translator;

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

/// <summary>What emission plans for one block: its instructions, the flags' liveness, the groups of accesses.</summary>
sealed unsafe partial class Unit
{
    public const int MaxSteps = 48, PageSize = 4096, MaxSpan = 512;
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
    public Mode Mode { get; private set; } = null!;
    int _available, _limit;
    uint _ripBase;

    /// <param name="page">A copy of the guest's page, to work on.</param>
    public Unit(Cpu cpu, byte* page)
    {
        _cpu = cpu;
        _page = page;
    }

    /// <summary>The plan as text: treatment, flags that somebody may still read, checks of memory and what they stand for.</summary>
    public string Describe()
    {
        var text = new System.Text.StringBuilder();
        for (int i = 0; i < Count; i++)
        {
            ref Step step = ref Steps[i];
            for (int g = 0; g < GroupCount; g++)
                if (Groups[g].Position == i)
                    text.Append($"      check {(Groups[g].IsWrite ? "write" : "read")} of {Groups[g].Count}{(Groups[g].Roams ? ", roams" : "")}\n");
            text.Append($" {step.Offset:x3}  {step.Treatment,-14} {step.X.Code,-24} live {(RflagsBits)step.LiveAfter}\n");
        }
        return text.ToString();
    }

    /// <summary>Decodes from a place in the page and plans.</summary>
    /// <param name="ripBase">Where in CS the page begins, if that is fixed.</param>
    /// <param name="careful">No groups, no hoisting: each access is checked just before it happens.</param>
    /// <param name="available">Bytes in the page; more than its size, to plan the one instruction that goes on in the next.</param>
    public void Plan(Mode mode, uint ripBase, int offset, bool careful, int limit = MaxSteps, int available = PageSize)
    {
        Mode = mode;
        (_available, _limit, _ripBase) = (available, limit, ripBase);
        _decoder = _decoders[mode.CodeSize >> 2] ??= Decoder.Create(mode.CodeSize * 8, _reader, _cpu.DecoderOptions);
        (Count, AccessCount, GroupCount, EndsAtCrossing) = (0, 0, 0, false);
        (From, To) = (offset, offset);
        Decode(offset, limit);
        FindLiveFlags();
        IsLoop = !careful && limit > 1 && Mode.Is64 && Count > 0 && Steps[Count - 1] is { Treatment: Treatment.JumpIf or Treatment.Jump } last
            && last.Target == Steps[0].Offset && Steps[0].LiveBefore == 0;
        PlanAccesses(careful);
    }

    void Decode(int offset, int limit)
    {
        while (Count < limit)
        {
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
            if (step.Treatment is Treatment.Jump or Treatment.JumpIf or Treatment.Call or Treatment.JumpIfCxZero or Treatment.Loop)
                step.Target = TargetOf(step.X);
            offset = step.Following = step.Next;
            Count++;
            if (step.Treatment == Treatment.Jump && Count < limit / 2 && Mode.CodeSize > 2 && step.Target >= offset && step.Target < PageSize
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

    static bool Ends(in Step step) => step.Treatment is Treatment.Interpret or Treatment.Jump or Treatment.JumpIndirect or Treatment.Call
        or Treatment.CallIndirect or Treatment.Return
        || step.Treatment is Treatment.SystemCall or Treatment.SystemReturn or Treatment.SetAc or Treatment.SetDirection
        || step.Treatment is Treatment.JumpIf or Treatment.JumpIfCxZero or Treatment.Loop && step.Target <= step.Offset;

    /// <summary>The form's treatment, unless mode or operands forbid it.</summary>
    Treatment Treat(in Step step)
    {
        ref readonly Instruction x = ref step.X;
        Treatment treatment = step.Info.Treatment;
        if (x.Code == Code.INVALID || treatment == Treatment.Interpret || !_cpu.IsSupported(x.Code)) return Treatment.Interpret;
        bool hasMemory = HasMemory(x);
        switch (treatment)
        {
            case Treatment.Vector or Treatment.LoadControl when !Mode.Runs(step.Info): return Treatment.Interpret;
            case Treatment.X87 when !Mode.HasX87: return Treatment.Interpret;
            case Treatment.LoadControl when !Mode.HasX87: return Treatment.Interpret;
            case Treatment.Push when hasMemory: treatment = Treatment.PushMemory; break;
            case Treatment.Pop when hasMemory: treatment = Treatment.PopMemory; break;
            case Treatment.BitString when !hasMemory: treatment = Treatment.Native; break;
            case Treatment.LoadSegment or Treatment.PopSegment or Treatment.LoadPointer when !CanLoadSegment(x): return Treatment.Interpret;
            case Treatment.PushFlags when Mode.IsReal && Mode.IsUser: return Treatment.Interpret;
            case Treatment.ClearInterrupt or Treatment.SetInterrupt when Mode.IsUser: return Treatment.Interpret;
            case Treatment.SetInterrupt when IsLast(step): return Treatment.Interpret;
            case Treatment.SwapGs when !Mode.Is64 || Mode.IsUser: return Treatment.Interpret;
            case Treatment.SystemCall when !Mode.Is64 || !Mode.HasSystemCall: return Treatment.Interpret;
            case Treatment.SystemReturn when !Mode.Is64 || !Mode.HasSystemCall || Mode.IsUser: return Treatment.Interpret;
            case Treatment.Base when !Mode.Is64 || !Mode.HasBases: return Treatment.Interpret;
            case Treatment.SetAc when !Mode.Is64 || Mode.IsUser || !_cpu.HasSmap: return Treatment.Interpret;
            case Treatment.SetDirection: return Mode.GoesDown == (x.Code == Code.Std) ? Treatment.Nop : treatment;
            case Treatment.String: return TreatString(x);
        }
        if (UsesStack(treatment) && !Mode.HasStack) return Treatment.Interpret;
        if (!CanBranch(x, treatment)) return Treatment.Interpret;
        if (x.HasLockPrefix && !hasMemory) return Treatment.Interpret;
        // Real-address and virtual-8086 mode know no VEX prefix.
        if (step.Info.IsVex && Mode.IsReal) return Treatment.Interpret;
        if (hasMemory && treatment is not (Treatment.Nop or Treatment.Lea) && !Mode.CanAccess(SegmentOf(x))) return Treatment.Interpret;
        if (treatment == Treatment.BitString && AddressSize(x) == 2) return Treatment.Interpret;
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
        Register.ES => Seg.Es, Register.CS => Seg.Cs, Register.SS => Seg.Ss, Register.FS => Seg.Fs, Register.GS => Seg.Gs, _ => Seg.Ds,
    };

    int AddressSize(in Instruction x)
    {
        if (x.IsIPRelativeMemoryOperand) return x.MemoryBase == Register.EIP ? 4 : 8;
        if (x.MemoryBase != Register.None) return x.MemoryBase.GetSize();
        if (x.MemoryIndex != Register.None) return x.MemoryIndex.GetSize();
        return x.MemoryDisplSize == 0 ? Mode.CodeSize : x.MemoryDisplSize;
    }

    /// <summary>Backwards: which flags each instruction must leave as it finds them.</summary>
    void FindLiveFlags()
    {
        int live = Count == 0 ? 0 : LiveAtEnd(Steps[Count - 1]);
        for (int i = Count - 1; i >= 0; i--)
        {
            ref Step step = ref Steps[i];
            if (step.Treatment is Treatment.JumpIf or Treatment.JumpIfCxZero or Treatment.Loop)
            {
                step.LiveAtTarget = (byte)LiveAt(step.Target, 2);
                live |= step.LiveAtTarget;
            }
            step.LiveAfter = (byte)live;
            live = step.Treatment is Treatment.Interpret or >= Treatment.SystemCall ? AllFlags : live & ~step.Info.KilledBy(step.X) | step.Info.Reads;
            step.LiveBefore = (byte)live;
        }
    }

    int LiveAtEnd(in Step last) => last.Treatment switch
    {
        Treatment.Jump or Treatment.Call => LiveAt(last.Target, 2),
        Treatment.JumpIndirect or Treatment.CallIndirect or Treatment.Return or Treatment.Interpret or >= Treatment.SystemCall => AllFlags,
        _ => LiveAt(last.Following, 2),
    };

    int LiveAt(int offset, int branches) => LiveAt(offset, branches, stackalloc int[MostBranches + 1]);

    const int MostBranches = 2;

    /// <summary>Flags that code at a place may read before it sets them.</summary>
    /// <param name="branches">How many conditional jumps are looked behind.</param>
    /// <param name="begun">Where those looks began: what leads back there is a loop, which by itself reads no more.</param>
    int LiveAt(int offset, int branches, Span<int> begun)
    {
        const int reach = 8;
        int read = 0, killed = 0;
        begun[branches] = offset;
        for (int i = 0; i < reach; i++)
        {
            if (offset is < 0 or >= PageSize || !TryDecode(offset, out Instruction x)) break;
            OpInfo info = OpInfo.Of(x);
            if (info.Treatment is Treatment.Interpret or >= Treatment.SystemCall || x.Code == Code.INVALID || !_cpu.IsSupported(x.Code)) break;
            read |= info.Reads & ~killed;
            killed |= info.KilledBy(x);
            if ((read | killed) == AllFlags) return read;
            offset += x.Length;
            if (x.FlowControl == FlowControl.Next) continue;
            if (!CanBranch(x, info.Treatment)) break;
            if (x.FlowControl == FlowControl.ConditionalBranch)
            {
                int target = TargetOf(x);
                bool isLoop = begun[branches..].Contains(target);
                if (branches == 0 && !isLoop) break;
                int taken = isLoop ? 0 : LiveAt(target, branches - 1, begun);
                if (branches == 0) continue;
                return read | ~killed & (taken | LiveAt(offset, branches - 1, begun)) & AllFlags;
            }
            if (x.FlowControl != FlowControl.UnconditionalBranch) break;
            offset = TargetOf(x);
        }
        return read | ~killed & AllFlags;
    }

    void PlanAccesses(bool careful)
    {
        Span<int> lastWrite = stackalloc int[Access.None + 1 + Seg.Count];
        lastWrite.Fill(-1);
        int delta = 0, lastExit = -1;
        for (int i = 0; i < Count; i++)
        {
            ref Step step = ref Steps[i];
            step.StackDelta = delta;
            if (step.Treatment is not (Treatment.Interpret or Treatment.Nop or Treatment.Lea)) AddAccesses(i, ref step, lastWrite, lastExit, delta, careful);
            if (step.Treatment is Treatment.JumpIf or Treatment.JumpIfCxZero or Treatment.Loop) lastExit = i;
            if (WrittenSegment(step) is { } segment) lastWrite[Access.None + 1 + segment] = i;
            // SP wraps where ESP does not.
            if (StackChange(step) is { } change && Mode.StackSize != 2)
            {
                delta += change;
                if (step.Treatment == Treatment.Pop && GuestNumber(step.X.Op0Register) is var popped and not Rsp) lastWrite[popped] = i;
                else if (step.Treatment == Treatment.Pop) (lastWrite[Rsp], delta) = (i, 0);
                continue;
            }
            int written = Written(step);
            for (int r = 0; r < 16; r++)
                if ((written >> r & 1) != 0) lastWrite[r] = i;
            if ((written >> Rsp & 1) != 0) delta = 0;
        }
        if (!IsLoop) return;
        if (delta != 0) lastWrite[Rsp] = Count;
        FindInvariants(lastWrite);
    }

    /// <summary>Which groups of a loop may be checked before it: their address stays, and stores among them happen in any case.</summary>
    void FindInvariants(ReadOnlySpan<int> lastWrite)
    {
        int firstExit = 0;
        while (firstExit < Count && Steps[firstExit].Treatment is not (Treatment.JumpIf or Treatment.JumpIfCxZero or Treatment.Loop)) firstExit++;
        for (int g = 0; g < GroupCount; g++)
        {
            ref Group group = ref Groups[g];
            ref Access pattern = ref group.Pattern;
            bool changes = IsWritten(pattern.Base, lastWrite) || IsWritten(pattern.Index, lastWrite) || pattern.BitIndex >= 0
                || pattern.Segment >= 0 && lastWrite[Access.None + 1 + pattern.Segment] >= 0;
            group.IsInvariant = !changes && !(group.IsWrite && group.First > firstExit) && Steps[group.First].Treatment is not (Treatment.PushAll or Treatment.PopAll);
        }
    }

    static bool IsWritten(int register, ReadOnlySpan<int> lastWrite) => register < 16 && lastWrite[register] >= 0;

    /// <summary>By how much RSP moves, if that is all that happens to it.</summary>
    int? StackChange(in Step step)
    {
        switch (step.Treatment)
        {
            case Treatment.Pop or Treatment.PopMemory or Treatment.PopSegment: return OperandSize(step.X);
            case Treatment.Return: return null;
            case var other when Pushes(other): return -OperandSize(step.X);
        }
        ref readonly Instruction x = ref step.X;
        if (x.OpCount == 0 || x.Op0Kind != OpKind.Register || x.Op0Register != (Mode.Is64 ? Register.RSP : Register.ESP)) return null;
        if (x.Mnemonic is Mnemonic.Add or Mnemonic.Sub && x.Op1Kind is OpKind.Immediate8to32 or OpKind.Immediate8to64 or OpKind.Immediate32 or OpKind.Immediate32to64)
            return x.Mnemonic == Mnemonic.Add ? (int)x.GetImmediate(1) : -(int)x.GetImmediate(1);
        return null;
    }

    /// <summary>General registers changed, by number.</summary>
    static int Written(in Step step)
    {
        int written = step.Info.ImplicitWrites;
        ref readonly Instruction x = ref step.X;
        for (int i = 0; i < x.OpCount && i < step.Info.Writes.Length; i++)
            if (step.Info.Writes[i] && x.GetOpKind(i) == OpKind.Register && x.GetOpRegister(i).IsGPR()) written |= 1 << GuestNumber(x.GetOpRegister(i));
        if (UsesStack(step.Treatment)) written |= 1 << Rsp;
        if (step.Treatment == Treatment.PopAll) written |= 0xFF;
        if (step.Treatment == Treatment.Leave) written |= 1 << 5;
        if (step.Treatment == Treatment.Loop) written |= 2;
        if (step.Treatment is Treatment.String or Treatment.RepeatedString) written |= WrittenByString(x);
        return written;
    }

    /// <summary>RSP or a part of it is an operand.</summary>
    public bool NamesStack(in Step step)
    {
        for (int i = 0; i < step.X.OpCount; i++)
            if (step.X.GetOpKind(i) == OpKind.Register && step.X.GetOpRegister(i).IsGPR() && GuestNumber(step.X.GetOpRegister(i)) == Rsp) return true;
        return false;
    }

    /// <summary>The operand of LEA.</summary>
    public Access Address(in Step step) => Operand(step);

    /// <summary>The block ends with this step.</summary>
    public void CutAfter(int step)
    {
        Count = step + 1;
        Steps[step].Treatment = Treatment.Interpret;
    }

    /// <summary>0 to 15; AH to BH count as the registers they are part of.</summary>
    public static int GuestNumber(Register register)
    {
        if (!register.IsGPR8()) return register.GetNumber();
        int number = register - Register.AL;                       // AL CL DL BL AH CH DH BH SPL BPL SIL DIL R8L …
        return number < 4 ? number : number < 8 ? number - 4 : number - 4;
    }

    void AddAccesses(int i, ref Step step, Span<int> lastWrite, int lastExit, int delta, bool careful)
    {
        if (step.Treatment == Treatment.String) AddStringAccesses(i, ref step, lastWrite, lastExit, careful);
        // POP reads before it writes.
        if (step.Treatment == Treatment.PopMemory) AddStackAccess(i, ref step, lastWrite, lastExit, delta, careful);
        if (HasMemory(step.X))
        {
            Access access = Operand(step);
            // The operand of POP is addressed with RSP already moved.
            if (access.Base == Rsp) access.Displacement += delta + (step.Treatment == Treatment.PopMemory ? OperandSize(step.X) : 0);
            step.Access = Add(access, i, lastWrite, lastExit, careful);
        }
        if (step.Treatment != Treatment.PopMemory && UsesStack(step.Treatment)) AddStackAccess(i, ref step, lastWrite, lastExit, delta, careful);
    }

    Access Operand(in Step step)
    {
        ref readonly Instruction x = ref step.X;
        int segment = SegmentOf(x), size = Math.Max(x.MemorySize.GetSize(), 1);
        var access = new Access
        {
            Base = Access.None, Index = Access.None, Segment = Mode.HasBase(segment) ? segment : -1, FaultSegment = (byte)segment, Size = size,
            Displacement = AddressSize(x) switch { 2 => (short)x.MemoryDisplacement64, 4 => (int)x.MemoryDisplacement64, _ => (long)x.MemoryDisplacement64 }, IsWrite = step.Info.StoresMemory, BitIndex = -1,
            MustAlign = step.Info.MustAlign && size is 16 or 32 or 64,
            IsMasked = x.HasOpMask && Thunks.EvexForm.AccessOf(x) != Thunks.EvexAccess.Whole,
            IsShort = AddressSize(x) == 4, IsWord = AddressSize(x) == 2,
        };
        if (x.IsIPRelativeMemoryOperand)
        {
            access.Base = Access.Rip;
            access.Displacement = (long)x.IPRelativeMemoryAddress;
        }
        else
        {
            if (x.MemoryBase != Register.None) access.Base = x.MemoryBase.GetNumber();
            if (x.MemoryIndex != Register.None) (access.Index, access.Shift) = (x.MemoryIndex.GetNumber(), System.Numerics.BitOperations.Log2((uint)x.MemoryIndexScale));
        }
        if (step.Treatment == Treatment.BitString) access.BitIndex = GuestNumber(x.Op1Register);
        return access;
    }

    int Add(Access access, int step, Span<int> lastWrite, int lastExit, bool careful)
    {
        int defined = 0;
        if (access.Base < 16) defined = lastWrite[access.Base] + 1;
        if (access.Index < 16) defined = Math.Max(defined, lastWrite[access.Index] + 1);
        if (access.BitIndex >= 0) defined = Math.Max(defined, lastWrite[access.BitIndex] + 1);
        if (access.Segment >= 0) defined = Math.Max(defined, lastWrite[Access.None + 1 + access.Segment] + 1);
        access.Group = careful ? -1 : FindGroup(access, defined, lastExit);
        if (access.Group < 0)
        {
            int position = step;
            if (!careful && Steps[step].LiveBefore != 0)
            {
                int earliest = access.IsWrite ? Math.Max(defined, lastExit + 1) : defined;
                for (int p = step - 1; p >= earliest; p--)
                    if (Steps[p].LiveBefore == 0)
                    {
                        position = p;
                        break;
                    }
            }
            access.Group = GroupCount;
            Groups[GroupCount++] = new Group
            {
                Position = position, First = step, Pattern = access, Low = access.Displacement, High = access.Displacement + access.Size,
                IsWrite = access.IsWrite, MustAlign = access.MustAlign, Count = 1,
            };
        }
        Accesses[AccessCount] = access;
        return AccessCount++;
    }

    int FindGroup(in Access access, int defined, int lastExit)
    {
        if (access.BitIndex >= 0) return -1;
        for (int g = GroupCount - 1; g >= 0 && g >= GroupCount - 6; g--)
        {
            ref Group group = ref Groups[g];
            ref Access pattern = ref group.Pattern;
            if (pattern.Base != access.Base || pattern.Index != access.Index || pattern.Shift != access.Shift || pattern.Segment != access.Segment
                || pattern.IsShort != access.IsShort || pattern.IsWord != access.IsWord || !SharesBound(pattern, access) || !SharesAlignment(group, access) || pattern.BitIndex >= 0 || group.Position < defined) continue;
            if (access.IsWrite && !group.IsWrite && group.Position <= lastExit) continue;
            long low = Math.Min(group.Low, access.Displacement), high = Math.Max(group.High, access.Displacement + access.Size);
            if (high - low > MaxSpan) continue;
            (group.Low, group.High) = (low, high);
            group.IsWrite |= access.IsWrite;
            group.Count++;
            return g;
        }
        return -1;
    }

    /// <summary>What must be aligned is so together or not at all.</summary>
    static bool SharesAlignment(in Group group, in Access access) => !group.MustAlign && !access.MustAlign
        || group.MustAlign && (access.Displacement - group.Low) % group.Pattern.Size == 0 && (!access.MustAlign || access.Size == group.Pattern.Size);

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
