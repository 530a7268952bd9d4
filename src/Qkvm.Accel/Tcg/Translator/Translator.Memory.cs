using static Qkvm.Accel.Tcg.Translator.Emitter;

namespace Qkvm.Accel.Tcg.Translator;

// Checks and addresses. A check is "lea r10, address; sub r10, tag; cmp r10, 1000h - size; ja miss"; the access itself
// adds the addend of the same slot and changes no flags.
// SAFETY: what is emitted goes into room that was asked for (LargestBlock) and accesses the vCPU's own region, or RAM
// after a check.
sealed unsafe partial class Translator
{
    const int PageSize = Unit.PageSize;

    /// <summary>Where a memory operand is, for an instruction to use at once.</summary>
    struct Place
    {
        public int Base, Index, Shift, Displacement;
    }

    ulong* SegmentBase(int segment) => &((Segment*)&_state->Es)[segment].Base;

    byte IsSimple(in Group group) => (byte)(group.Count != 1 || group.Position != group.First || group.IsInvariant ? 0
        : _unit.Steps[group.First].Treatment == Treatment.PushAll || group.Pattern.IsMasked
        ? ExitRecord.FaultsInside : 1);

    bool EmitCheck(int number, int position)
    {
        ref Group group = ref _unit.Groups[number];
        ref Step step = ref _unit.Steps[position];
        FreeFlags(step.LiveBefore);
        ExitRecord* record = NewRecord(ExitKind.Miss, step.Offset);
        if (record == null) return false;
        group.Slot = record->Slot;
        int span = (int)(group.High - group.Low);
        record->Limit = (ushort)(PageSize - span);
        record->Host = _e.Here;
        record->IsWrite = (byte)(group.IsWrite ? 1 : 0);
        record->IsSimple = IsSimple(group);
        group.Roams = _cpu.Roams(_block->Host - _block->Offset + step.Offset);
        if (!EmitBounded(ref group, position)) return false;
        if (group.Roams) EmitProbe(group, PageSize - span);
        else
        {
            _e.Op(true, SubLoad, R10, &group.Slot->Tag);
            _e.Arithmetic(true, Compare, R10, PageSize - span);
        }
        _stubs.Add(new Stub { Kind = StubKind.Miss, Hole = _e.JumpIf(Above), Record = record, Group = number,
            Target = position });
        if (group.Roams) EmitProbed(group);
        _checked = group.Roams ? -1 : number;
        if (group.MustAlign)
        {
            _e.Bytes([0x41, 0xF6, 0xC2, (byte)(group.Pattern.Size - 1)]);       // test r10b, size - 1
            _stubs.Add(new Stub { Kind = StubKind.Exit, Hole = _e.JumpIf(NotEqual),
                Record = InterpretRecord(step.Offset) });
        }
        return true;
    }

    /// <summary>R10: the offset in the page of the TLB entry that R11 leads to; compared with the last one that
    /// fits.</summary>
    void EmitProbe(in Group group, int last)
    {
        _e.Move(R11, R10);
        _e.Shift(true, Shr, R11, 7);
        _e.Arithmetic(false, And, R11, (TlbSet.Size - 1) * sizeof(TlbEntry));
        _e.Op(true, AddLoad, R11, &_jit->Tlb);
        _e.Op(true, SubLoad, R10, R11, None, 0, group.IsWrite ? WriteTagAt : ReadTagAt);
        _e.Arithmetic(true, Compare, R10, last);
    }

    /// <summary>The addend goes to the slot and stays in R11; R10 remains the offset in the page.</summary>
    void EmitProbed(in Group group)
    {
        if (group.MustAlign) _e.StoreTo(&_jit->Saved2, R10);
        _e.Op(true, Load, R10, R11, None, 0, group.IsWrite ? WriteTagAt : ReadTagAt);
        _e.Op(true, Load, R11, R11, None, 0, HostAt);
        _e.Op(true, SubLoad, R11, R10);
        _e.StoreTo(&group.Slot->Addend, R11);
        if (group.MustAlign) _e.LoadFrom(R10, &_jit->Saved2);
        _addend = group.Slot;
    }

    /// <summary>R10: the linear address at which a group begins, seen from a step. Changes R11 and flags.</summary>
    void EmitLinear(in Group group, int position)
    {
        EmitGroupOffset(group, position);
        AddBase(group.Pattern);
    }

    void AddBase(in Access access)
    {
        if (access.Segment >= 0) _e.Op(_mode.Is64, AddLoad, R10, SegmentBase(access.Segment));
        _addend = null;
    }

    void EmitGroupOffset(in Group group, int position)
    {
        Access pattern = group.Pattern;
        long displacement = group.Low - (pattern.Base == GuestRsp ? _unit.Steps[position].StackDelta : 0);
        EmitOffset(pattern, displacement);
        if (pattern.BitIndex >= 0)
        {
            int shift = pattern.Size switch { 2 => 4, 4 => 5, _ => 6 }, scale = shift - 3;
            bool wide = pattern.Size == 8;
            LoadGuest(R11, pattern.BitIndex);
            if (pattern.Size == 2) _e.Bytes([0x4D, 0x0F, 0xBF, 0xDB]);          // movsx r11, r11w
            else if (!wide) _e.Bytes([0x4D, 0x63, 0xDB]);                       // movsxd r11, r11d
            _e.Shift(true, Sar, R11, shift);
            _e.Op(true, Lea, R10, R10, R11, scale, 0);
            _addend = null;
        }
    }

    /// <summary>R10: the offset of a memory operand; keeps flags.</summary>
    void EmitOffset(in Access access, long displacement)
    {
        int start = access.Base switch
        {
            Access.None => None,
            Access.Rip => LoadScratch(R10, &_jit->RipBase),
            _ => Host(access.Base) is var host and not None ? host : LoadScratch(R10, Home(access.Base)),
        };
        int index = access.Index == Access.None ? None : Host(access.Index) is var register and not None ? register
            : LoadScratch(R11, Home(access.Index));
        if (start == None && index == None)
        {
            _e.MoveImmediate(R10, access.IsWord ? (ushort)displacement : access.IsShort ? (uint)displacement
                : (ulong)displacement);
            return;
        }
        EmitSum(!access.IsShort, R10, start, index, access.Shift, displacement);
        if (access.IsWord) _e.MoveZeroExtended16(R10, R10);
    }

    /// <summary>LEA with a displacement that may take 33 bits: one relative to RIP, or to RSP at another place in the
    /// block.</summary>
    void EmitSum(bool wide, int to, int start, int index, int shift, long displacement)
    {
        int first = (int)Math.Clamp(displacement, int.MinValue, int.MaxValue);
        _e.Op(wide, Lea, to, start, index, shift, first);
        if (displacement != first) _e.Op(wide, Lea, to, to, None, 0, (int)(displacement - first));
    }

    int LoadScratch(int scratch, ulong* from)
    {
        if (scratch == R11) _addend = null;
        else _checked = -1;
        _e.LoadFrom(scratch, from);
        return scratch;
    }

    /// <summary>A guest register's 64 bits.</summary>
    void LoadGuest(int to, int guest)
    {
        if (to == R11) _addend = null;
        else _checked = -1;
        if (Host(guest) is var host and not None) _e.Move(to, host);
        else _e.LoadFrom(to, Home(guest));
    }

    void LoadAddend(Slot* slot)
    {
        if (_addend == slot) return;
        _e.LoadFrom(R11, &slot->Addend);
        _addend = slot;
    }

    /// <summary>The host address of an access that has been checked. Uses R11, and R10 unless told to keep it; keeps
    /// flags.</summary>
    Place Locate(int number, int stepNumber, bool keepR10)
    {
        ref Access access = ref _unit.Accesses[number];
        Slot* slot = _unit.Groups[access.Group].Slot;
        long displacement = access.Displacement
            - (access.Base == GuestRsp ? _unit.Steps[stepNumber].StackDelta - _stackMoves : 0);
        int host = access.Base is Access.None or Access.Rip ? None : Host(access.Base);
        int index = access.Index == Access.None ? None : Host(access.Index);
        bool isPlain = host != None && (access.Index == Access.None || index != None) && access.Segment < 0
            && !access.IsShort && !access.IsWord
            && displacement == (int)displacement;
        bool isIndexOnly = access.Base == Access.None && index != None && access.Segment < 0 && !access.IsShort
            && !access.IsWord;
        bool isChecked = _checked == access.Group && !keepR10 && access.BitIndex < 0;
        _checked = -1;
        if (isIndexOnly)
        {
            LoadAddend(slot);
            return new Place { Base = R11, Index = index, Shift = access.Shift, Displacement = (int)displacement };
        }
        if (isChecked && !isPlain)
        {
            _e.LoadFrom(R11, &slot->Page);
            _addend = null;
            return new Place { Base = R10, Index = R11,
                Displacement = (int)(access.Displacement - _unit.Groups[access.Group].Low) };
        }
        if (isPlain)
        {
            LoadAddend(slot);
            if (index == None) return new Place { Base = host, Index = R11, Displacement = (int)displacement };
            int sum = keepR10 ? R11 : R10;
            _e.Op(true, Lea, sum, host, R11, 0, 0);
            if (sum == R11) _addend = null;
            return new Place { Base = sum, Index = index, Shift = access.Shift, Displacement = (int)displacement };
        }
        if (keepR10) _e.StoreTo(&_jit->Saved2, R10);
        EmitOffset(access, displacement);
        if (access.Segment >= 0)
        {
            LoadScratch(R11, SegmentBase(access.Segment));
            _e.Op(_mode.Is64, Lea, R10, R10, R11, 0, 0);
        }
        LoadAddend(slot);
        if (!keepR10) return new Place { Base = R10, Index = R11 };
        _e.Op(true, Lea, R11, R10, R11, 0, 0);
        _addend = null;
        _e.LoadFrom(R10, &_jit->Saved2);
        return new Place { Base = R11, Index = None };
    }

    /// <summary>mov register, [place] of 2, 4 or 8 bytes, or the reverse.</summary>
    void Word(int size, byte opcode, int register, in Place place)
    {
        if (size == 2) _e.Byte(0x66);
        _e.Op(size == 8, opcode, register, place.Base, place.Index, place.Shift, place.Displacement);
    }

    void MoveStack(int change)
    {
        if (_mode.StackSize == 2)
        {
            _e.Byte(0x66);
            _e.Op(false, Lea, HostRsp, HostRsp, None, 0, change);
            return;
        }
        _stackMoves += change;
        if (!_defersStack) FlushStack();
    }

    void EnsureVectors(int i)
    {
        _checked = -1;
        FreeFlags(_unit.Steps[i].LiveBefore);
        bool all = UsesAvx512();
        _e.CompareByte(&_jit->VectorsLoaded, all ? AllLoaded : 0);
        uint skip = _e.JumpIf(all ? Equal : NotEqual);
        _e.Call(all ? _common.LoadAll : _common.LoadVectors);
        _e.PatchHere(skip);
        _addend = null;
    }

    bool EnsureX87(int i)
    {
        _checked = -1;
        FreeFlags(_unit.Steps[i].LiveBefore);
        ExitRecord* record = NewRecord(ExitKind.LoadX87, _unit.Steps[i].Offset);
        if (record == null) return false;
        _e.CompareByte(&_jit->X87Loaded, 0);
        _stubs.Add(new Stub { Kind = StubKind.Exit, Hole = _e.JumpIf(Equal), Record = record });
        record->Host = _e.Here;
        _addend = null;
        return true;
    }
}
