using Iced.Intel;
using static Qkvm.Accel.Tcg.Translator.Emitter;

namespace Qkvm.Accel.Tcg.Translator;

// String instructions. Repeated ones go from page to page: both operands are looked up in the TLB, the host repeats the
// instruction as far as they stay in their pages, the registers say what is left. Sites of those meet another page each
// time, so they have no slots.
// SAFETY: what is emitted goes into room that was asked for (LargestBlock) and accesses the vCPU's own region, or RAM
// after a check.
sealed unsafe partial class Translator
{
    void EmitString(int i)
    {
        ref Step step = ref _unit.Steps[i];
        var form = new StringForm(step.X);
        switch (form.Kind)
        {
            case StringKind.Move:
                Element(form.Size, 0x8A, R10, Locate(step.Access, i, false));
                Element(form.Size, 0x88, R10, Locate(step.StackAccess, i, true));
                break;
            case StringKind.Store: Element(form.Size, 0x88, Rax, Locate(step.StackAccess, i, false)); break;
            case StringKind.Load: Element(form.Size, 0x8A, Rax, Locate(step.Access, i, false)); break;
            case StringKind.Compare:
                Element(form.Size, 0x8A, R10, Locate(step.Access, i, false));
                Element(form.Size, 0x3A, R10, Locate(step.StackAccess, i, true));
                break;
            default: Element(form.Size, 0x3A, Rax, Locate(step.StackAccess, i, false)); break;
        }
        int distance = _mode.GoesDown ? -form.Size : form.Size;
        if (form.HasSource) Advance(Rsi, form.AddressSize, distance);
        if (form.HasDestination) Advance(Rdi, form.AddressSize, distance);
    }

    /// <summary>An operation on a register and a place; the opcode is that of bytes.</summary>
    void Element(int size, byte opcode, int register, in Place place)
    {
        if (size == 2) _e.Byte(0x66);
        _e.Op(size == 8, (byte)(size == 1 ? opcode : opcode + 1), register, place.Base, place.Index, place.Shift,
            place.Displacement);
    }

    void Advance(int register, int addressSize, int distance)
    {
        if (addressSize == 2) _e.Byte(0x66);
        _e.Op(addressSize == 8, Lea, register, register, None, 0, distance);
    }

    bool EmitRepeatedString(int i)
    {
        ref Step step = ref _unit.Steps[i];
        var form = new StringForm(step.X);
        int scratch = form.HasSource ? Rax : R11, shift = System.Numerics.BitOperations.Log2((uint)form.Size);
        ExitRecord* poll = NewRecord(ExitKind.Poll, step.Offset);
        if (poll == null) return false;
        FreeFlags(step.LiveBefore);
        uint top = _e.Here;
        TestCount(form.AddressSize);
        uint zero = _e.JumpIf(Equal);
        if (form.HasSource)
        {
            if (!EmitStringProbe(i, form, Rsi)) return false;
            _e.StoreTo(&_jit->StringSource, R10);
        }
        if (!EmitStringProbe(i, form, Rdi)) return false;
        if (form.HasSource)
        {
            _e.StoreTo(&_jit->StringRax, Rax);
            _e.LoadFrom(R11, &_jit->StringSource);
        }
        _e.StoreTo(&_jit->StringRcx, Rcx);
        EmitRoom(form);
        if (!EmitStringBounds(i, form, scratch)) return false;
        if (shift != 0) _e.Shift(false, Shr, Rcx, shift);
        LoadCount(scratch, form.AddressSize);
        _e.Op(true, CompareLoad, Rcx, scratch);
        _e.MoveIf(Above, Rcx, scratch);
        _e.Op(true, SubLoad, scratch, Rcx);
        _e.StoreTo(&_jit->StringRest, scratch);
        // From the guest's addresses to the host's; RAX and R11 lead back.
        if (form.HasSource)
        {
            _e.Move(Rax, Rsi);
            _e.Op(true, SubLoad, Rax, R11);
            _e.Move(Rsi, R11);
        }
        _e.Move(R11, Rdi);
        _e.Op(true, SubLoad, R11, R10);
        _e.Move(Rdi, R10);
        _e.Byte(form.Compares && !form.WhileEqual ? 0xF2 : 0xF3);
        if (form.Size == 2) _e.Byte(0x66);
        if (form.Size == 8) _e.Byte(0x48);
        _e.Byte(s_stringOpcodes[(int)form.Kind] | (form.Size == 1 ? 0 : 1));
        // LEA keeps the flags of a comparison.
        if (form.HasSource) _e.Op(form.AddressSize != 4, Lea, Rsi, Rsi, Rax, 0, 0);
        _e.Op(form.AddressSize != 4, Lea, Rdi, Rdi, R11, 0, 0);
        if (form.HasSource) _e.LoadFrom(Rax, &_jit->StringRax);
        if (form.Compares) EmitComparisonEnd(form, poll, top, zero);
        else
        {
            LoadRest(form.AddressSize);
            TestCount(form.AddressSize);
            _stubs.Add(new Stub { Kind = StubKind.StringAgain, Hole = _e.JumpIf(NotEqual), Record = poll,
                Target = (int)top });
            _e.PatchHere(zero);
        }
        _addend = null;
        return true;
    }

    static readonly byte[] s_stringOpcodes = [0xA4, 0xAA, 0xAC, 0xA6, 0xAE];

    /// <summary>The host has stopped at an element that decides, or at the end of the chunk, whose last element did
    /// not; its flags hold.</summary>
    void EmitComparisonEnd(in StringForm form, ExitRecord* poll, uint top, uint zero)
    {
        uint decided = _e.JumpIf(form.WhileEqual ? NotEqual : Equal);
        _e.LoadFrom(Rcx, &_jit->StringRest);
        byte* atEnd = _e.JumpIfRcxZero();
        if (form.AddressSize == 2) LoadRest(2);
        _stubs.Add(new Stub { Kind = StubKind.StringAgain, Hole = _e.Jump(), Record = poll, Target = (int)top });
        _e.Land(atEnd);
        _e.PatchHere(decided);
        _e.LoadFrom(R11, &_jit->StringRest);
        _e.Op(true, Lea, Rcx, Rcx, R11, 0, 0);
        if (form.AddressSize == 2)
        {
            _e.StoreTo(&_jit->StringRest, Rcx);
            LoadRest(2);
        }
        // Where there was nothing to compare, flags stay.
        if (_flagsSaved) _stubs.Add(new Stub { Kind = StubKind.StringZero, Hole = zero, Target = (int)_e.Here });
        else _e.PatchHere(zero);
        _flagsSaved = false;
    }

    /// <summary>RCX: bytes that both operands have in their pages, whose host addresses are in R10 and, of the source,
    /// R11.</summary>
    void EmitRoom(in StringForm form)
    {
        _e.Move32(Rcx, R10);
        _e.Arithmetic(false, And, Rcx, PageSize - 1);
        if (form.HasSource)
        {
            _e.Move32(Rax, R11);
            _e.Arithmetic(false, And, Rax, PageSize - 1);
            _e.Op(false, CompareLoad, Rcx, Rax);
            _e.MoveIf(Below, Rcx, Rax);
        }
        _e.Negate32(Rcx);
        _e.Arithmetic(false, Add, Rcx, PageSize);
    }

    /// <summary>No chunk reaches the last byte of a segment, nor makes SI or DI wrap: what is left then is the
    /// interpreter's.</summary>
    bool EmitStringBounds(int i, in StringForm form, int scratch)
    {
        bool isWord = form.AddressSize == 2;
        Bound source = form.HasSource ? _mode.BoundOf(form.Segment) : Bound.None, destination = _mode.BoundOf(Seg.Es);
        if (!isWord && source == Bound.None && destination == Bound.None) return true;
        ExitRecord* record = InterpretRecord(_unit.Steps[i].Offset);
        if (record == null) return false;
        if (form.HasSource) EmitStringBound(form, Rsi, form.Segment, scratch, record);
        EmitStringBound(form, Rdi, Seg.Es, scratch, record);
        _e.Arithmetic(false, Compare, Rcx, form.Size);
        _stubs.Add(new Stub { Kind = StubKind.StringBound, Hole = _e.JumpIf(Below), Record = record, Group = scratch });
        return true;
    }

    void EmitStringBound(in StringForm form, int register, int segment, int scratch, ExitRecord* record)
    {
        bool isWord = form.AddressSize == 2;
        Bound bound = _mode.BoundOf(segment);
        if (isWord)
        {
            _e.MoveZeroExtended16(scratch, register);
            _e.Arithmetic(false, Xor, scratch, ushort.MaxValue);
            Least();
        }
        if (bound == Bound.None || isWord && bound == Bound.Word) return;
        uint* limit = &((Segment*)&_state->Es)[segment].Limit;
        if (isWord) _e.MoveZeroExtended16(scratch, register);
        else _e.Move32(scratch, register);
        _e.Op(false, CompareLoad, scratch, limit);
        _stubs.Add(new Stub { Kind = StubKind.StringBound, Hole = _e.JumpIf(Above), Record = record, Group = scratch });
        _e.Negate32(scratch);
        _e.Op(false, AddLoad, scratch, limit);
        Least();

        void Least()
        {
            _e.Op(false, CompareLoad, Rcx, scratch);
            _e.MoveIf(Above, Rcx, scratch);
        }
    }

    /// <summary>R10: the host address of the element that RSI or RDI points to.</summary>
    bool EmitStringProbe(int i, in StringForm form, int register)
    {
        ref Step step = ref _unit.Steps[i];
        ExitRecord* record = NewRecord(ExitKind.StringMiss, step.Offset);
        if (record == null) return false;
        bool writes = register == Rdi && form.Writes;
        record->IsWrite = (byte)(writes ? 1 : 0);
        // Elsewhere a limit may be what it fails.
        record->IsSimple = (byte)(_mode.BoundOf(register == Rsi ? form.Segment : Seg.Es) == Bound.None ? 1 : 0);
        record->Limit = (ushort)(PageSize - form.Size);
        record->Host = _e.Here;
        EmitStringLinear(form, register);
        _e.Move(R11, R10);
        _e.Shift(true, Shr, R11, 7);
        _e.Arithmetic(false, And, R11, (TlbSet.Size - 1) * sizeof(TlbEntry));
        _e.Op(true, AddLoad, R11, &_jit->Tlb);
        _e.Op(true, SubLoad, R10, R11, None, 0, writes ? WriteTagAt : ReadTagAt);
        _e.Arithmetic(true, Compare, R10, PageSize - form.Size);
        _stubs.Add(new Stub { Kind = StubKind.StringMiss, Hole = _e.JumpIf(Above), Record = record, Group = register,
            Target = i });
        _e.Op(true, AddLoad, R10, R11, None, 0, HostAt);
        return true;
    }

    /// <summary>R10: the linear address that RSI or RDI stands for.</summary>
    void EmitStringLinear(in StringForm form, int register)
    {
        if (form.AddressSize == 2) _e.MoveZeroExtended16(R10, register);
        else _e.Op(form.AddressSize == 8, Load, R10, register);
        int segment = register == Rsi ? form.Segment : Seg.Es;
        if (_mode.HasBase(segment)) _e.Op(_mode.Is64, AddLoad, R10, SegmentBase(segment));
    }

    void TestCount(int addressSize)
    {
        if (addressSize == 2) _e.Byte(0x66);
        _e.Op(addressSize == 8, 0x85, Rcx, Rcx);                    // test
    }

    /// <summary>The count that RCX held, without what lies beyond the address size.</summary>
    void LoadCount(int to, int addressSize)
    {
        if (addressSize == 2) _e.MoveZeroExtended16(to, &_jit->StringRcx);
        else _e.Op(addressSize == 8, Load, to, &_jit->StringRcx);
    }

    /// <summary>RCX: what is left; keeps flags.</summary>
    void LoadRest(int addressSize)
    {
        if (addressSize == 2)
        {
            _e.LoadFrom(Rcx, &_jit->StringRcx);
            _e.Byte(0x66);
        }
        _e.Op(addressSize == 8, Load, Rcx, &_jit->StringRest);
    }

    void EmitStringStub(in Stub stub)
    {
        switch (stub.Kind)
        {
            case StubKind.StringMiss:
                EmitStringLinear(new StringForm(_unit.Steps[stub.Target].X), stub.Group);
                EmitExit(stub.Record, _common.ExitSaved);
                break;
            case StubKind.StringAgain:
                _e.Arithmetic32(Compare, &_jit->Attention, 0);
                _e.Patch(_e.JumpIf(Equal), (uint)stub.Target);
                EmitExit(stub.Record, _common.ExitSaved);
                break;
            case StubKind.StringBound:
                if (stub.Group == Rax) _e.LoadFrom(Rax, &_jit->StringRax);
                _e.LoadFrom(Rcx, &_jit->StringRcx);
                EmitExit(stub.Record, _common.ExitSaved);
                break;
            default:
                _e.RestoreFlags(&_jit->Flags);
                _e.Jump((uint)stub.Target);
                break;
        }
    }
}
