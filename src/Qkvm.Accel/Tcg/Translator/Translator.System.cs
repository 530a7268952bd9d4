using Iced.Intel;
using static Qkvm.Accel.Tcg.Translator.Emitter;

namespace Qkvm.Accel.Tcg.Translator;

// Privileged instructions that kernels run often. Whatever is out of the ordinary goes to the interpreter.
// SAFETY: what is emitted goes into room that was asked for (LargestBlock) and accesses the vCPU's own region, or RAM
// after a check.
sealed unsafe partial class Translator
{
    const int If = (int)Rflags.If, Ac = (int)Rflags.Ac, Tf = (int)Rflags.Tf, Rf = (int)Rflags.Rf,
        Arithmetic = (int)Rflags.Arithmetic, Df = (int)Rflags.Df;

    bool EmitSystem(int i)
    {
        ref Step step = ref _unit.Steps[i];
        switch (step.Treatment)
        {
            case Treatment.ClearInterrupt:
                FreeFlags(step.LiveBefore);
                _e.Arithmetic32(And, &_state->RflagsSystem, ~If);
                return true;
            case Treatment.SetInterrupt:
                return EmitSetInterrupt(step);
            case Treatment.PushFlags:
                EmitPushFlags(i);
                return true;
            case Treatment.SwapGs:
                LoadScratch(R11, &_state->KernelGsBase);
                _e.LoadFrom(R10, &_state->Gs.Base);
                _e.StoreTo(&_state->Gs.Base, R11);
                _e.StoreTo(&_state->KernelGsBase, R10);
                _addend = null;
                return true;
            case Treatment.ReadSegment:
                EmitReadSegment(i);
                return true;
            case Treatment.Pause: return EmitPause(step);
            case Treatment.ReadTsc: return EmitReadTsc(step);
            case Treatment.Base: return EmitBase(step);
            case Treatment.SystemCall: return EmitSystemCall(step);
            case Treatment.SystemReturn: return EmitSystemReturn(step);
            case Treatment.SetDirection: return EmitSetDirection(step);
            default: return EmitSetAc(step);
        }
    }

    /// <summary>The host's own, so that locks change hands; and now and then the host's scheduler is asked.</summary>
    bool EmitPause(in Step step)
    {
        ExitRecord* record = NewRecord(ExitKind.Yield, step.Offset);
        if (record == null) return false;
        FreeFlags(step.LiveBefore);
        _e.Bytes([0xF3, 0x90]);                                     // pause
        _e.Arithmetic32(Sub, &_jit->PausesLeft, 1);
        ExitIf(Sign, record);
        record->Host = _e.Here;
        _addend = null;
        return true;
    }

    /// <summary>The next instruction is in the same block, where nothing looks for interrupts: that is STI's
    /// shadow.</summary>
    bool EmitSetInterrupt(in Step step)
    {
        ExitRecord* waits = InterpretRecord(step.Offset);
        if (waits == null) return false;
        FreeFlags(step.LiveBefore);
        _e.CompareByte(&_jit->InterruptWaits, 0);
        ExitIf(NotEqual, waits);
        _e.Arithmetic32(Or, &_state->RflagsSystem, If);
        return true;
    }

    /// <summary>R10: RFLAGS. The arithmetic flags must be saved. Changes R11.</summary>
    void EmitAllFlags()
    {
        _e.Op(false, Load, R11, &_jit->Flags);
        _e.Move32(R10, R11);
        _e.Arithmetic(false, And, R11, 1);
        _e.Shift(false, Shl, R11, 11);
        _e.Shift(false, Shr, R10, 8);
        _e.Arithmetic(false, And, R10, Arithmetic & 0xFF);
        _e.Op(false, OrLoad, R10, R11);
        _e.Op(false, OrLoad, R10, &_state->RflagsSystem);
        _addend = null;
    }

    /// <summary>The arithmetic flags become those of R10, which changes, as R11 does.</summary>
    void EmitSetFlags()
    {
        _e.Move32(R11, R10);
        _e.Shift(false, Shr, R11, 11);
        _e.Arithmetic(false, And, R11, 1);
        _e.Arithmetic(false, And, R10, Arithmetic & 0xFF);
        _e.Shift(false, Shl, R10, 8);
        _e.Op(false, OrLoad, R10, R11);
        _e.Op(false, Store, R10, &_jit->Flags);
        _flagsSaved = true;
        _addend = null;
    }

    void EmitPushFlags(int i)
    {
        ref Step step = ref _unit.Steps[i];
        FreeFlags(OpInfo.AllFlags);
        EmitAllFlags();
        _e.Arithmetic(false, And, R10, ~(Rf | (int)Rflags.Vm));
        int word = Unit.OperandSize(step.X);
        Word(word, Store, R10, Locate(step.StackAccess, i, keepR10: true));
        MoveStack(-word);
    }

    void EmitReadSegment(int i)
    {
        ref Step step = ref _unit.Steps[i];
        int segment = Unit.NumberOfSegment(step.X.Op1Register);
        if (step.Access >= 0 || step.X.Code == Code.Mov_rm16_Sreg)
        {
            _e.MoveZeroExtended16(R10, &((Segment*)&_state->Es)[segment].Selector);
            if (step.Access >= 0) Word(2, Store, R10, Locate(step.Access, i, true));
            else SetWord(Unit.GuestNumber(step.X.Op0Register));
            return;
        }
        int guest = Unit.GuestNumber(step.X.Op0Register), to = Host(guest) is var host and not None ? host : R10;
        _e.MoveZeroExtended16(to, &((Segment*)&_state->Es)[segment].Selector);
        if (to == R10) _e.StoreTo(Home(guest), R10);
    }

    /// <summary>In 64-bit mode, as <see cref="Cpu.SystemCall"/>.</summary>
    bool EmitSystemCall(in Step step)
    {
        Mode? kernel = _cpu.TryModeOf(_mode.Bits & ~(Cpu.ModeUser | Cpu.ModeMiddle | Cpu.ModeAc | Cpu.ModeDown));
        if (kernel == null) return false;
        FreeFlags(OpInfo.AllFlags);
        EmitAllFlags();
        _e.Arithmetic(false, And, R10, ~Rf);
        _e.StoreTo(Home(11), R10);
        _e.LoadFrom(Rcx, &_jit->RipBase);
        _e.Op(true, Lea, Rcx, Rcx, None, 0, step.Next);
        _e.Op(false, Load, R11, &_state->FMask);
        _e.Arithmetic(false, Or, R11, Rf);
        _e.Not32(R11);
        _e.Op(false, AndStore, R11, &_state->RflagsSystem);
        _e.Op(false, AndLoad, R10, R11);
        EmitSetFlags();
        _e.Op(false, Load, R11, (byte*)&_state->Star + 4);
        _e.Arithmetic(false, And, R11, 0xFFFC);
        EmitFlatSegments(0, Cpu.FlatAccess | Segment.Code | Segment.Long, Cpu.FlatAccess | Segment.Big, 8);
        _e.Store32(&_state->Cpl, 0);
        EmitChangeMode(&_jit->SupervisorTlb, &_jit->SupervisorFetchTlb);
        _e.LoadFrom(R10, &_state->LStar);
        // A kernel that keeps AC or DF runs in another mode.
        ExitRecord* keeps = NewRecord(ExitKind.Indirect, 0);
        if (keeps == null) return false;
        _e.Test32(&_state->RflagsSystem, Ac | Df);
        ExitIf(NotEqual, keeps);
        return EmitIndirect(kernel);
    }

    /// <summary>To 64-bit mode, as <see cref="Cpu.SystemReturn"/>.</summary>
    bool EmitSystemReturn(in Step step)
    {
        const int returned = 0x3C7FD7;
        Mode? user = _cpu.TryModeOf(_mode.Bits & ~(Cpu.ModeAc | Cpu.ModeDown) | Cpu.ModeUser);
        ExitRecord* slow = InterpretRecord(step.Offset);
        if (user == null || slow == null) return false;
        FreeFlags(step.LiveBefore);
        EmitIsCanonical(Rcx);
        ExitIf(Above, slow);
        _e.CompareByte(&_jit->InterruptWaits, 0);
        ExitIf(NotEqual, slow);
        _e.Test32(Home(11), Tf | Ac | Df);
        ExitIf(NotEqual, slow);
        _e.LoadFrom(R10, Home(11));
        _e.Move32(R11, R10);
        _e.Arithmetic(false, And, R11, returned & ~Arithmetic);
        _e.Arithmetic(false, Or, R11, 2);
        _e.StoreTo(&_state->RflagsSystem, R11);
        EmitSetFlags();
        _e.MoveZeroExtended16(R11, (byte*)&_state->Star + 6);
        _e.Arithmetic(false, Or, R11, 3);
        EmitFlatSegments(16, Cpu.FlatAccess | Segment.Code | Segment.Long | Cpu.Ring3,
            Cpu.FlatAccess | Segment.Big | Cpu.Ring3, -8);
        _e.Store32(&_state->Cpl, 3);
        EmitChangeMode(&_jit->UserTlb, &_jit->UserFetchTlb);
        _e.Move(R10, Rcx);
        return EmitIndirect(user);
    }

    /// <summary>CS becomes selector R11 + offset, SS what follows it, both flat. Changes R10 and R11.</summary>
    void EmitFlatSegments(int offset, int codeAccess, int stackAccess, int stackOffset)
    {
        const int selectorShift = 48, accessShift = 32;
        _e.Shift(true, Shl, R11, selectorShift);
        _e.MoveImmediate(R10, ((ulong)offset << selectorShift) + ((ulong)codeAccess << accessShift) + uint.MaxValue);
        _e.Op(true, AddLoad, R11, R10);
        _e.StoreTo(&_state->Cs.Limit, R11);
        _e.MoveImmediate(R10, ((ulong)(long)stackOffset << selectorShift)
            + ((ulong)(long)(stackAccess - codeAccess) << accessShift));
        _e.Op(true, AddLoad, R11, R10);
        _e.StoreTo(&_state->Ss.Limit, R11);
        _e.MoveImmediate(R10, 0);
        _e.StoreTo(&_state->Cs.Base, R10);
        _e.StoreTo(&_state->Ss.Base, R10);
        _addend = null;
    }

    /// <summary>Other rights, other blocks: what C# has derived from the mode is made anew when it runs
    /// again.</summary>
    void EmitChangeMode(void** data, void** fetch)
    {
        _e.LoadFrom(R10, data);
        _e.StoreTo(&_jit->Tlb, R10);
        _e.LoadFrom(R10, fetch);
        _e.StoreTo(&_jit->FetchTlb, R10);
        _e.StoreByte(&_jit->ModeStale, 1);
    }

    /// <summary>STD and CLD.</summary>
    bool EmitSetDirection(in Step step)
    {
        bool sets = step.X.Code == Code.Std;
        FreeFlags(OpInfo.AllFlags);
        Mode? other = _cpu.TryModeOf(_mode.Bits ^ Cpu.ModeDown, _mode.CodeBase, _mode.CodeLimit);
        if (other == null) return false;
        _e.Arithmetic32(sets ? Or : And, &_state->RflagsSystem, sets ? Df : ~Df);
        _e.StoreByte(&_jit->ModeStale, 1);
        LoadLinear(step.Next);
        return EmitIndirect(other);
    }

    /// <summary>STAC and CLAC.</summary>
    bool EmitSetAc(in Step step)
    {
        bool sets = step.X.Mnemonic == Mnemonic.Stac;
        FreeFlags(OpInfo.AllFlags);
        if (sets == ((_mode.Bits & Cpu.ModeAc) != 0)) return true;
        Mode? other = _cpu.TryModeOf(_mode.Bits ^ Cpu.ModeAc);
        if (other == null) return false;
        _e.Arithmetic32(sets ? Or : And, &_state->RflagsSystem, sets ? Ac : ~Ac);
        EmitChangeMode(sets ? &_jit->SupervisorAcTlb : &_jit->SupervisorTlb, &_jit->SupervisorFetchTlb);
        _e.LoadFrom(R10, &_jit->RipBase);
        _e.Op(true, Lea, R10, R10, None, 0, step.Next);
        return EmitIndirect(other);
    }
}
