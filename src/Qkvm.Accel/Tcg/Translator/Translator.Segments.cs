using Iced.Intel;
using static Qkvm.Accel.Tcg.Translator.Emitter;

namespace Qkvm.Accel.Tcg.Translator;

// Code with a base or a limit, limits of data, stacks and counters of 16 bits, segment registers that are but bases.
// SAFETY: what is emitted goes into room that was asked for (LargestBlock) and accesses the vCPU's own region, or RAM
// after a check.
sealed unsafe partial class Translator
{
    const int Less = 0xC;

    /// <summary>The linear address of the start of the block's page; of blocks whose place in CS is fixed.</summary>
    uint LinearPage => _block->RipBase + _mode.CodeBase;

    /// <summary>R10: the linear address of a place in the block's page; keeps flags.</summary>
    void LoadLinear(int offset)
    {
        if (_mode.IsSegmented)
        {
            _e.MoveImmediate(R10, LinearPage + (uint)offset);
            return;
        }
        _e.LoadFrom(R10, &_jit->RipBase);
        _e.Op(_mode.Is64, Lea, R10, R10, None, 0, offset);
    }

    /// <summary>R10: the linear address at which a group begins, once its offsets are known to lie in the
    /// segment.</summary>
    bool EmitBounded(ref Group group, int position)
    {
        EmitGroupOffset(group, position);
        ref Access pattern = ref group.Pattern;
        if (pattern.BitIndex >= 0 && pattern.IsShort)
        {
            // Where the sum wraps at 4 GiB, the host's instruction would not.
            _e.Move32(R11, R10);
            _e.Op(true, CompareLoad, R11, R10);
            ExitIf(NotEqual, InterpretRecord(_unit.Steps[position].Offset));
        }
        Bound bound = _mode.BoundOf(pattern.FaultSegment);
        int span = (int)(group.High - group.Low);
        // Accesses that are truncated one by one lie together only if none wraps.
        bool mayWrap = pattern.IsWord && group.Count > 1;
        if (bound == Bound.Word ? span > 1 || !pattern.IsWord : mayWrap)
        {
            if (NewLimitRecord(group, position) is var record && record == null) return false;
            _e.Arithmetic(true, Compare, R10, 0x10000 - span);
            ExitIf(Above, record);
        }
        if (bound == Bound.Limit)
        {
            if (NewLimitRecord(group, position) is var record && record == null) return false;
            _e.Op(false, Load, R11, &((Segment*)&_state->Es)[pattern.FaultSegment].Limit);
            _e.Op(true, SubLoad, R11, R10);
            _e.Arithmetic(true, Compare, R11, span - 1);
            ExitIf(Less, record);
        }
        AddBase(pattern);
        return true;
    }

    ExitRecord* NewLimitRecord(in Group group, int position)
    {
        ExitRecord* record = NewRecord(ExitKind.Limit, _unit.Steps[position].Offset);
        if (record != null) record->IsSimple = IsSimple(group);
        return record;
    }

    /// <summary>Near indirect jumps, calls and returns where targets have a limit and a base.</summary>
    bool EmitIndirectSegmented(int i)
    {
        ref Step step = ref _unit.Steps[i];
        bool returns = step.Treatment == Treatment.Return;
        int size = returns ? Unit.OperandSize(step.X) : Unit.BranchSize(step.X);
        ExitRecord* fault = InterpretRecord(step.Offset);
        if (fault == null) return false;
        if (returns || step.Access >= 0)
        {
            Place place = Locate(returns ? step.StackAccess : step.Access, i, false);
            Word(size, Load, R10, place);
        }
        else LoadGuest(R10, Unit.GuestNumber(step.X.Op0Register));
        if (size == 2) _e.MoveZeroExtended16(R10, R10);
        else _e.Move32(R10, R10);
        FreeFlagsKeepingR10();
        if (size == 2 ? _mode.CodeLimit < ushort.MaxValue : _mode.CodeLimit < uint.MaxValue)
        {
            _e.Arithmetic(false, Compare, R10, (int)_mode.CodeLimit);
            ExitIf(Above, fault);
        }
        if (returns) MoveStack(size + (step.X.OpCount > 0 ? step.X.Immediate16 : 0));
        else if (step.Treatment == Treatment.CallIndirect)
        {
            _e.StoreTo(&_jit->Saved1, R10);
            PushReturn(i);
            _e.LoadFrom(R10, &_jit->Saved1);
        }
        if (_mode.CodeBase != 0) _e.Op(false, Lea, R10, R10, None, 0, (int)_mode.CodeBase);
        return EmitIndirect(_mode);
    }

    /// <summary>LOOPcc, and LOOP and JCXZ that count in CX. No flags change.</summary>
    bool EmitCounterOrFlag(in Step step)
    {
        int size = Unit.CounterSize(step.X);
        bool isLoop = step.Treatment == Treatment.Loop, saved = _flagsSaved;
        if (isLoop) Advance(Rcx, size, -1);
        if (size == 2)
        {
            _e.Move(R10, Rcx);
            _e.MoveZeroExtended16(Rcx, Rcx);
        }
        if (size == 4) _e.Byte(0x67);
        byte* zero = _e.JumpIfRcxZero();
        uint counts = _e.Jump();
        _e.Land(zero);
        if (size == 2) _e.Move(Rcx, R10);
        uint on = 0, differs = 0;
        if (isLoop) on = _e.Jump();
        else if (!EmitDirect(step.Target, step.LiveAtTarget, step.Target <= step.Offset)) return false;
        _flagsSaved = saved;
        _e.PatchHere(counts);
        if (size == 2) _e.Move(Rcx, R10);
        if (!isLoop) return true;
        if (step.X.IsLoopcc) differs = _e.JumpIf(step.X.Mnemonic == Mnemonic.Loope ? NotEqual : Equal);
        if (!EmitDirect(step.Target, step.LiveAtTarget, step.Target <= step.Offset)) return false;
        _e.PatchHere(on);
        if (differs != 0) _e.PatchHere(differs);
        _flagsSaved = saved;
        return true;
    }

    /// <summary>DIV and IDIV by 8 and 16 bits. Cases that fault, or might, go to the interpreter.</summary>
    void EmitDivideSmall(int i)
    {
        ref Step step = ref _unit.Steps[i];
        bool isByte = step.X.Code is Code.Div_rm8 or Code.Idiv_rm8,
            isSigned = step.X.Code is Code.Idiv_rm8 or Code.Idiv_rm16;
        FreeFlags(step.LiveBefore);
        ExitRecord* slow = InterpretRecord(step.Offset);
        // R11: the divisor, extended.
        if (step.Access >= 0)
        {
            Place place = Locate(step.Access, i, false);
            Element(isByte ? 1 : 2, 0x8A, R11, place);
        }
        else
        {
            Register register = step.X.Op0Register;
            LoadGuest(R11, Unit.GuestNumber(register));
            if (register is >= Register.AH and <= Register.BH) _e.Shift(false, Shr, R11, 8);
        }
        _addend = null;
        byte extend = (byte)((isSigned ? 0xBE : 0xB6) + (isByte ? 0 : 1));
        _e.Bytes([0x45, 0x0F, extend, 0xDB]);                       // movsx or movzx r11d, r11b or r11w
        if (isSigned)
        {
            // The dividend must be the sign-extended accumulator, the divisor neither 0 nor -1.
            _e.Bytes([0x44, 0x0F, extend, 0xD0]);                   // movsx r10d, al or ax
            if (!isByte) _e.Shift(false, Sar, R10, 31);
            _e.Op(false, XorLoad, R10, isByte ? Rax : Rdx);
            _e.Byte(0x66);
            _e.Op(false, 0x85, R10, R10);                           // test r10w, r10w
            ExitIf(NotEqual, slow);
            _e.Op(false, Lea, R10, R11, None, 0, 1);
            _e.Arithmetic(false, Compare, R10, 1);
            ExitIf(BelowOrEqual, slow);
        }
        else
        {
            _e.Move32(R10, isByte ? Rax : Rdx);
            if (isByte) _e.Shift(false, Shr, R10, 8);
            _e.Bytes([0x45, 0x0F, extend, 0xD2]);                   // movzx r10d, r10b or r10w
            _e.Op(false, CompareLoad, R10, R11);
            ExitIf(AboveOrEqual, slow);
        }
        if (!isByte) _e.Byte(0x66);
        _e.Op(false, (byte)(isByte ? 0xF6 : 0xF7), isSigned ? 7 : 6, R11);
    }

    void EmitSegmented(int i)
    {
        ref Step step = ref _unit.Steps[i];
        int word = Unit.OperandSize(step.X);
        switch (step.Treatment)
        {
            case Treatment.PopMemory:
                Word(word, Load, R10, Locate(step.StackAccess, i, false));
                Word(word, Store, R10, Locate(step.Access, i, true));
                MoveStack(word);
                break;
            case Treatment.PushAll: EmitAll(i, Store, 0); break;
            case Treatment.PopAll: EmitAll(i, Load, 8 * word); break;
            case Treatment.PushSegment:
                _e.MoveZeroExtended16(R10, &((Segment*)&_state->Es)[Unit.NumberOfSegment(step.X.Op0Register)].Selector);
                Word(word, Store, R10, Locate(step.StackAccess, i, true));
                MoveStack(-word);
                break;
            case Treatment.PopSegment:
                Word(2, Load, R10, Locate(step.StackAccess, i, false));
                SetBase(Unit.LoadedSegment(step.X));
                MoveStack(word);
                break;
            case Treatment.LoadSegment:
                if (step.Access >= 0) Word(2, Load, R10, Locate(step.Access, i, false));
                else LoadGuest(R10, Unit.GuestNumber(step.X.Op1Register));
                SetBase(Unit.LoadedSegment(step.X));
                break;
            default:
                EmitLoadPointer(i);
                break;
        }
    }

    /// <summary>PUSHA and POPA: RAX lies highest, and ESP is not popped.</summary>
    void EmitAll(int i, byte opcode, int change)
    {
        ref Step step = ref _unit.Steps[i];
        int word = Unit.OperandSize(step.X);
        Place place = Locate(step.StackAccess, i, false);
        _e.Op(true, Lea, R10, place.Base, place.Index, place.Shift, place.Displacement);
        for (int guest = 0; guest < 8; guest++)
            if (guest != GuestRsp || opcode == Store)
                Word(word, opcode, Host(guest),
                    new Place { Base = R10, Index = None, Displacement = (7 - guest) * word });
        MoveStack(change != 0 ? change : -8 * word);
    }

    /// <summary>A segment register becomes the selector in R10, which changes, as R11 and flags do not.</summary>
    void SetBase(int segment)
    {
        Segment* register = (Segment*)&_state->Es + segment;
        _e.MoveZeroExtended16(R10, R10);
        _e.Byte(0x66);
        _e.Op(false, Store, R10, &register->Selector);
        _e.Op(true, Lea, R10, None, R10, 3, 0);
        _e.Op(true, Lea, R10, R10, R10, 0, 0);
        _e.StoreTo(&register->Base, R10);
    }

    /// <summary>LES and its like.</summary>
    void EmitLoadPointer(int i)
    {
        ref Step step = ref _unit.Steps[i];
        int size = step.X.Op0Register.GetSize(), guest = Unit.GuestNumber(step.X.Op0Register), host = Host(guest);
        Place place = Locate(step.Access, i, false);
        _e.Op(true, Lea, R11, place.Base, place.Index, place.Shift, place.Displacement);
        _addend = null;
        var offset = new Place { Base = R11, Index = None };
        Word(2, Load, R10, offset with { Displacement = size });
        SetBase(Unit.LoadedSegment(step.X));
        Word(size, Load, host, offset);
    }
}
