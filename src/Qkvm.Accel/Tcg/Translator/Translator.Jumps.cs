using Iced.Intel;
using static Qkvm.Accel.Tcg.Translator.Emitter;

namespace Qkvm.Accel.Tcg.Translator;

// Jumps, calls and returns; links between blocks.
// SAFETY: what is emitted goes into room that was asked for (LargestBlock) and accesses the vCPU's own region, or RAM
// after a check.
sealed unsafe partial class Translator
{
    bool EmitJump(int i)
    {
        ref Step step = ref _unit.Steps[i];
        if (_mode.IsSegmented && step.Treatment is Treatment.CallIndirect or Treatment.JumpIndirect or Treatment.Return)
            return EmitIndirectSegmented(i);
        switch (step.Treatment)
        {
            case Treatment.Jump when _unit.IsLoop: return EmitLoop(step, -1);
            case Treatment.Jump: return EmitDirect(step.Target, step.LiveAfter, step.Target <= step.Offset);
            case Treatment.JumpIf: return EmitJumpIf(step, (int)step.X.ConditionCode - (int)ConditionCode.o);
            case Treatment.JumpIfCxZero or Treatment.Loop: return EmitCounter(step);
            case Treatment.Call:
                PushReturn(i);
                FlushStack();
                return EmitDirect(step.Target, step.LiveAfter, step.Target <= step.Offset);
            case Treatment.CallIndirect:
                LoadTarget(i);
                _e.StoreTo(&_jit->Saved1, R10);
                PushReturn(i);
                _e.LoadFrom(R10, &_jit->Saved1);
                return EmitIndirect(_mode, i, Unit.OperandSize(step.X));
            case Treatment.JumpIndirect:
                LoadTarget(i);
                return EmitIndirect(_mode, i);
            default:
                Word(_mode.CodeSize, Load, R10, Locate(step.StackAccess, i, false));
                int popped = _mode.CodeSize + (step.X.OpCount > 0 ? step.X.Immediate16 : 0);
                MoveStack(popped);
                return EmitIndirect(_mode, i, -popped);
        }
    }

    void LoadTarget(int i)
    {
        ref Step step = ref _unit.Steps[i];
        if (step.Access >= 0) Word(_mode.CodeSize, Load, R10, Locate(step.Access, i, false));
        else LoadGuest(R10, Unit.GuestNumber(step.X.Op0Register));
    }

    void PushReturn(int i)
    {
        ref Step step = ref _unit.Steps[i];
        int word = Unit.OperandSize(step.X);
        if (_mode.IsSegmented) StoreImmediate(i, (int)_block->RipBase + step.Next);
        else
        {
            LoadLinear(step.Next);
            Word(word, Store, R10, Locate(step.StackAccess, i, true));
        }
        MoveStack(-word);
    }

    /// <summary>To a place in this page or another, with these flags alive there.</summary>
    bool EmitDirect(int target, byte live, bool polls = false)
    {
        bool isLocal = target is >= 0 and < PageSize;
        bool keepsFlags = !isLocal && !_flagsSaved && live != 0 && _mode.Is64;
        // Addresses of 32 bits wrap: there a few jumps forward go round as well.
        polls |= !isLocal && !_mode.Is64;
        if (keepsFlags) live = 0;
        if (polls || !isLocal) FreeFlags(live);
        if (polls && !keepsFlags)
        {
            ExitRecord* poll = NewRecord(ExitKind.Poll, target);
            if (poll == null) return false;
            _e.Arithmetic32(Compare, &_jit->Attention, 0);
            _stubs.Add(new Stub { Kind = StubKind.Exit, Hole = _e.JumpIf(NotEqual), Record = poll, SaveFlags = false });
        }
        if (!isLocal)
        {
            ExitRecord* cross = NewRecord(ExitKind.CrossPage, target);
            if (cross == null) return false;
            if (keepsFlags) EmitCrossKeepingFlags(cross, polls);
            else EmitCross(cross, saveFlags: false);
            return true;
        }
        ExitRecord* record = NewRecord(ExitKind.Direct, target);
        if (record == null) return false;
        record->FlagsInMemory = (byte)(_flagsSaved ? 1 : 0);
        record->Host = _e.Jump();
        _stubs.Add(new Stub { Kind = StubKind.Exit, Hole = record->Host, Record = record, SaveFlags = !_flagsSaved });
        return true;
    }

    /// <summary>Holds while the slot's tag is the linear page it was linked for. Flags are free, unless they are to be
    /// saved here.</summary>
    void EmitCross(ExitRecord* record, bool saveFlags)
    {
        if (saveFlags) _e.SaveFlags(&_jit->Flags);
        record->FlagsInMemory = 1;
        LoadLinear(record->Offset & -PageSize);
        _e.Op(true, CompareLoad, R10, &record->Slot->Tag);
        _stubs.Add(new Stub { Kind = StubKind.MissCross, Hole = _e.JumpIf(NotEqual), Record = record });
        if (_mode.CodeBase != 0) _e.MoveImmediate(R10, _block->RipBase + (uint)(record->Offset & -PageSize));
        // anew: the next block need not wait for this one's base
        else _e.LoadFrom(R10, &record->Slot->Tag);
        _e.StoreTo(&_jit->RipBase, R10);
        record->Host = _e.Jump();
    }

    /// <summary>Likewise, with nothing that changes a flag.</summary>
    void EmitCrossKeepingFlags(ExitRecord* record, bool polls)
    {
        _e.StoreTo(&_jit->Saved1, Rcx);
        _e.LoadFrom(Rcx, &_jit->RipBase);
        _e.LoadFrom(R10, &record->Slot->Tag);
        _e.Not(R10);
        _e.Op(true, Lea, Rcx, Rcx, R10, 0, (record->Offset & -PageSize) + 1);
        byte* same = _e.JumpIfRcxZero();
        _stubs.Add(new Stub { Kind = StubKind.MissCrossKeepingFlags, Hole = _e.Jump(), Record = record });
        _e.Land(same);
        if (polls)
        {
            _e.Op(false, Load, Rcx, &_jit->Attention);
            byte* quiet = _e.JumpIfRcxZero();
            _stubs.Add(new Stub { Kind = StubKind.Return, Hole = _e.Jump(), Record = record });
            _e.Land(quiet);
        }
        _e.Not(R10);
        _e.StoreTo(&_jit->RipBase, R10);
        _e.LoadFrom(Rcx, &_jit->Saved1);
        record->Host = _e.Jump();
    }

    /// <summary>The block's only instruction goes on in the next page, which must be the one that it was translated
    /// from.</summary>
    bool EmitSecondPage(int offset)
    {
        ExitRecord* record = NewRecord(ExitKind.SecondPage, offset);
        if (record == null) return false;
        FreeFlags(_unit.Steps[0].LiveBefore);
        record->HostPage = _block->SecondPage;
        LoadLinear(PageSize);
        _e.Op(true, CompareLoad, R10, &record->Slot->Tag);
        _stubs.Add(new Stub { Kind = StubKind.SecondPage, Hole = _e.JumpIf(NotEqual), Record = record });
        record->Host = _e.Here;
        record->Target = _e.Here;
        return true;
    }

    bool EmitJumpIf(in Step step, int condition) =>
        step.Target > step.Offset && (_mode.Is64 || step.Target < PageSize) ? EmitSideExit(step, condition)
            : EmitBackward(step, condition);

    bool EmitSideExit(in Step step, int condition)
    {
        bool isLocal = step.Target is >= 0 and < PageSize;
        ExitRecord* record = NewRecord(isLocal ? ExitKind.Direct : ExitKind.CrossPage, step.Target);
        if (record == null) return false;
        uint hole = _e.JumpIf(condition);
        if (isLocal)
        {
            record->FlagsInMemory = (byte)(_flagsSaved ? 1 : 0);
            record->Host = hole;
            _stubs.Add(new Stub { Kind = StubKind.Exit, Hole = hole, Record = record, SaveFlags = !_flagsSaved });
        }
        else _stubs.Add(new Stub { Kind = StubKind.Cross, Hole = hole, Record = record, SaveFlags = !_flagsSaved });
        return true;
    }

    /// <summary>The way there polls.</summary>
    bool EmitBackward(in Step step, int condition)
    {
        if (_unit.IsLoop) return EmitLoop(step, condition);
        uint leaves = _e.JumpIf(condition ^ 1);
        bool saved = _flagsSaved;
        if (!EmitDirect(step.Target, step.LiveAtTarget, polls: true)) return false;
        _flagsSaved = saved;
        _e.PatchHere(leaves);
        return true;
    }

    /// <summary>Back to the loop's start in this block.</summary>
    /// <param name="condition">-1: always.</param>
    bool EmitLoop(in Step step, int condition)
    {
        ExitRecord* poll = NewRecord(ExitKind.Poll, step.Target);
        if (poll == null) return false;
        uint leaves = condition < 0 ? 0 : _e.JumpIf(condition ^ 1);
        _e.Arithmetic32(Compare, &_jit->Attention, 0);
        _e.Patch(_e.JumpIf(Equal), _loop);
        _stubs.Add(new Stub { Kind = StubKind.Exit, Hole = _e.Jump(), Record = poll, SaveFlags = false });
        if (condition >= 0) _e.PatchHere(leaves);
        return true;
    }

    /// <summary>JRCXZ and LOOP, which read and change no flags.</summary>
    bool EmitCounter(in Step step)
    {
        int size = Unit.CounterSize(step.X);
        if (size == 2 || step.X.IsLoopcc) return EmitCounterOrFlag(step);
        if (step.Treatment == Treatment.Loop) _e.Op(size == 8, Lea, Rcx, Rcx, None, 0, -1);
        bool saved = _flagsSaved;
        if (size == 4) _e.Byte(0x67);
        byte* zero = _e.JumpIfRcxZero();
        uint other = _e.Jump();
        _e.Land(zero);
        bool isLoop = step.Treatment == Treatment.Loop;
        if (isLoop)
        {
            // RCX is 0: on. Otherwise: back.
            uint on = _e.Jump();
            _e.PatchHere(other);
            if (!EmitDirect(step.Target, step.LiveAtTarget, step.Target <= step.Offset)) return false;
            _e.PatchHere(on);
        }
        else
        {
            if (!EmitDirect(step.Target, step.LiveAtTarget, step.Target <= step.Offset)) return false;
            _e.PatchHere(other);
        }
        _flagsSaved = saved;
        return true;
    }

    ExitRecord* NewIndirectRecord(ExitKind kind, int step, int undo)
    {
        ExitRecord* record = NewRecord(kind, step < 0 ? 0 : _unit.Steps[step].Offset);
        if (record != null) (record->IsSimple, record->Host) = ((byte)(step < 0 ? 0 : 1), (uint)undo);
        return record;
    }

    /// <summary>To the linear address in R10, in this mode.</summary>
    /// <param name="step">The jump, to be run again if the target is no address; -1: that has been looked at.</param>
    /// <param name="undo">What to add to RSP for that.</param>
    bool EmitIndirect(Mode mode, int step = -1, int undo = 0)
    {
        FlushStack();
        if (!_flagsSaved && mode.Returns != null) return EmitIndirectKeepingFlags(mode, step, undo);
        FreeFlagsKeepingR10();
        ExitRecord* record = NewIndirectRecord(ExitKind.Indirect, step, undo);
        if (record == null) return false;
        _e.Arithmetic32(Compare, &_jit->Attention, 0);
        _stubs.Add(new Stub { Kind = StubKind.Exit, Hole = _e.JumpIf(NotEqual), Record = record });
        _e.Move32(R11, R10);
        _e.Shift(false, Shr, R11, 12);
        _e.Op(false, XorLoad, R11, R10);
        _e.Arithmetic(false, And, R11, mode.JumpCount - 1);
        _e.Shift(false, Shl, R11, 4);
        _e.Op(true, CompareLoad, R10, R11, None, 0, (int)mode.Jumps);
        _stubs.Add(new Stub { Kind = StubKind.Exit, Hole = _e.JumpIf(NotEqual), Record = record });
        _e.Arithmetic(true, And, R10, -PageSize);
        if (mode.CodeBase != 0) _e.Arithmetic(false, Sub, R10, (int)mode.CodeBase);
        _e.StoreTo(&_jit->RipBase, R10);
        _e.Op(false, 0xFF, 4, R11, None, 0, (int)mode.Jumps + 8);
        _addend = null;
        return true;
    }

    /// <summary>Likewise, with nothing that changes a flag, so that none need be saved: most of the time nobody reads
    /// them again.</summary>
    bool EmitIndirectKeepingFlags(Mode mode, int step, int undo)
    {
        ExitRecord* record = NewIndirectRecord(ExitKind.Return, step, undo);
        if (record == null) return false;
        int table = (int)mode.Returns;
        _e.StoreTo(&_jit->Saved1, Rcx);
        _e.IndexOf13Bits(R11, R10);
        _e.Op(true, Load, Rcx, None, R11, ReturnEntry.IndexShift, table);
        _e.Op(true, Lea, Rcx, Rcx, R10, 0, 0);
        byte* found = _e.JumpIfRcxZero();
        uint leaves = _e.Here;
        _stubs.Add(new Stub { Kind = StubKind.Return, Hole = _e.Jump(), Record = record });
        _e.Land(found);
        _e.Op(false, Load, Rcx, &_jit->Attention);
        byte* quiet = _e.JumpIfRcxZero();
        _e.Jump(leaves);
        _e.Land(quiet);
        _e.LoadFrom(Rcx, &_jit->Saved1);
        _e.Op(false, 0xFF, 4, None, R11, ReturnEntry.IndexShift, table + 2 * sizeof(ulong));
        _addend = null;
        return true;
    }

    /// <summary>Bytes of code of a <see cref="ReturnEntry"/>'s own.</summary>
    public const int ArrivalSize = 32;

    /// <summary>The executable address of so many of those, from the end, since a block may be in work; 0: no room is
    /// left.</summary>
    public uint AllocateArrivals(int count) => _cold.Room < LargestBlock + count * ArrivalSize ? 0
        : _cold.TakeFromEnd(count * ArrivalSize);

    public void EmitArrival(ReturnEntry* entry, uint block)
    {
        _arrival.Start(_region.Writable + ((byte*)entry->Code - _region.Executable),
            _region.Writable + _region.CodeSize, (byte*)entry->Code);
        _arrival.MoveImmediate(R10, entry->Page);
        _arrival.StoreTo(&_jit->RipBase, R10);
        _arrival.Jump(block);
    }

    void FreeFlagsKeepingR10(byte live = OpInfo.AllFlags)
    {
        if (live == 0 || _flagsSaved) return;
        _e.Move(R11, R10);
        _e.SaveFlags(&_jit->Flags);
        _e.Move(R10, R11);
        _flagsSaved = true;
        _addend = null;
    }
}
