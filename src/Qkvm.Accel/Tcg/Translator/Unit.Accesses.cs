using Iced.Intel;

namespace Qkvm.Accel.Tcg.Translator;

// Memory accesses: what each is, and which share a check.
// SAFETY: reads the copy of the guest's page, of two pages' size, at offsets that decoding has checked.
sealed unsafe partial class Unit
{
    void PlanAccesses(bool careful)
    {
        Span<int> lastWrite = stackalloc int[Access.None + 1 + Seg.Count];
        lastWrite.Fill(-1);
        int delta = 0, lastExit = -1;
        for (int i = 0; i < Count; i++)
        {
            ref Step step = ref Steps[i];
            step.StackDelta = delta;
            if (step.Treatment is not (Treatment.Interpret or Treatment.Nop or Treatment.Lea))
                AddAccesses(i, ref step, lastWrite, lastExit, delta, careful);
            if (step.Treatment is Treatment.JumpIf or Treatment.JumpIfCxZero or Treatment.Loop) lastExit = i;
            if (WrittenSegment(step) is { } segment) lastWrite[Access.None + 1 + segment] = i;
            // SP wraps where ESP does not.
            if (StackChange(step) is { } change && Mode.StackSize != 2)
            {
                delta += change;
                if (step.Treatment == Treatment.Pop && GuestNumber(step.X.Op0Register) is var popped and not Rsp)
                    lastWrite[popped] = i;
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

    /// <summary>Which groups of a loop may be checked before it: their address stays, and stores among them happen in
    /// any case.</summary>
    void FindInvariants(ReadOnlySpan<int> lastWrite)
    {
        int firstExit = 0;
        while (firstExit < Count
            && Steps[firstExit].Treatment
            is not (Treatment.JumpIf or Treatment.JumpIfCxZero or Treatment.Loop)) firstExit++;
        for (int g = 0; g < GroupCount; g++)
        {
            ref Group group = ref Groups[g];
            ref Access pattern = ref group.Pattern;
            bool changes = IsWritten(pattern.Base, lastWrite) || IsWritten(pattern.Index, lastWrite)
                || pattern.BitIndex >= 0
                || pattern.Segment >= 0 && lastWrite[Access.None + 1 + pattern.Segment] >= 0;
            group.IsInvariant = !changes && !(group.IsWrite && group.First > firstExit)
                && Steps[group.First].Treatment is not (Treatment.PushAll or Treatment.PopAll);
        }
    }

    static bool IsWritten(int register, ReadOnlySpan<int> lastWrite) => register < 16 && lastWrite[register] >= 0;

    /// <summary>By how much RSP moves, if that is all that happens to it, and little enough for the sum over a
    /// block.</summary>
    int? StackChange(in Step step)
    {
        switch (step.Treatment)
        {
            case Treatment.Pop or Treatment.PopMemory or Treatment.PopSegment: return OperandSize(step.X);
            case Treatment.Return: return null;
            case var other when Pushes(other): return -OperandSize(step.X);
        }
        ref readonly Instruction x = ref step.X;
        if (x.OpCount == 0 || x.Op0Kind != OpKind.Register
            || x.Op0Register != (Mode.Is64 ? Register.RSP : Register.ESP)) return null;
        if (x.Mnemonic is not (Mnemonic.Add or Mnemonic.Sub)
            || x.Op1Kind
            is not (OpKind.Immediate8to32 or OpKind.Immediate8to64 or OpKind.Immediate32 or OpKind.Immediate32to64))
            return null;
        var change = (int)x.GetImmediate(1);
        return change is < -MostStackChange or > MostStackChange ? null : x.Mnemonic == Mnemonic.Add ? change : -change;
    }

    /// <summary>General registers changed, by number.</summary>
    internal static int Written(in Step step)
    {
        int written = step.Info.ImplicitWrites;
        ref readonly Instruction x = ref step.X;
        for (int i = 0; i < x.OpCount && i < step.Info.Writes.Length; i++)
            if (step.Info.Writes[i] && x.GetOpKind(i) == OpKind.Register && x.GetOpRegister(i).IsGPR())
                written |= 1 << GuestNumber(x.GetOpRegister(i));
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
            if (step.X.GetOpKind(i) == OpKind.Register && step.X.GetOpRegister(i).IsGPR()
                && GuestNumber(step.X.GetOpRegister(i)) == Rsp) return true;
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
            if (access.Base == Rsp)
                access.Displacement += delta + (step.Treatment == Treatment.PopMemory ? OperandSize(step.X) : 0);
            step.Access = Add(access, i, lastWrite, lastExit, careful);
        }
        if (step.Treatment != Treatment.PopMemory && UsesStack(step.Treatment))
            AddStackAccess(i, ref step, lastWrite, lastExit, delta, careful);
    }

    Access Operand(in Step step)
    {
        ref readonly Instruction x = ref step.X;
        int segment = SegmentOf(x), size = Math.Max(x.MemorySize.GetSize(), 1);
        var access = new Access
        {
            Base = Access.None, Index = Access.None, Segment = Mode.HasBase(segment) ? segment
                : -1, FaultSegment = (byte)segment, Size = size,
            Displacement = AddressSize(x) switch { 2 => (short)x.MemoryDisplacement64, 4 => (int)x.MemoryDisplacement64,
                _ => (long)x.MemoryDisplacement64 }, IsWrite = step.Info.StoresMemory, BitIndex = -1,
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
            if (x.MemoryIndex != Register.None)
                (access.Index, access.Shift) =
                    (x.MemoryIndex.GetNumber(), System.Numerics.BitOperations.Log2((uint)x.MemoryIndexScale));
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
                Position = position, First = step, Pattern = access, Low = access.Displacement,
                    High = access.Displacement + access.Size,
                IsWrite = access.IsWrite, MustAlign = access.MustAlign, Count = 1,
            };
        }
        Accesses[AccessCount] = access;
        return AccessCount++;
    }

    int FindGroup(in Access access, int defined, int lastExit)
    {
        if (access.BitIndex >= 0) return -1;
        // Offsets wrap at 4 GiB, linear addresses do not: what lies together by its offsets may be far apart.
        if (Mode.Is64 && access.IsShort && access.Segment >= 0) return -1;
        for (int g = GroupCount - 1; g >= 0 && g >= GroupCount - 6; g--)
        {
            ref Group group = ref Groups[g];
            ref Access pattern = ref group.Pattern;
            if (pattern.Base != access.Base || pattern.Index != access.Index || pattern.Shift != access.Shift
                || pattern.Segment != access.Segment
                || pattern.IsShort != access.IsShort || pattern.IsWord != access.IsWord || !SharesBound(pattern, access)
                || !SharesAlignment(group, access) || pattern.BitIndex >= 0 || group.Position < defined) continue;
            if (access.IsWrite && !group.IsWrite && group.Position <= lastExit) continue;
            // Relative to the group, since absolute addresses may be further apart than a long tells.
            long distance = access.Displacement - group.Low;
            if (distance is < -MaxSpan or > MaxSpan) continue;
            long before = Math.Min(0, distance), after = Math.Max(group.High - group.Low, distance + access.Size);
            if (after - before > MaxSpan) continue;
            (group.Low, group.High) = (group.Low + before, group.Low + after);
            group.IsWrite |= access.IsWrite;
            group.Count++;
            return g;
        }
        return -1;
    }

    /// <summary>What must be aligned is so together or not at all.</summary>
    static bool SharesAlignment(in Group group, in Access access) => !group.MustAlign && !access.MustAlign
        || group.MustAlign && (access.Displacement - group.Low) % group.Pattern.Size == 0
        && (!access.MustAlign || access.Size == group.Pattern.Size);
}
