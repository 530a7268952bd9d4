using Iced.Intel;
using static Qkvm.Accel.Tcg.Translator.Emitter;

namespace Qkvm.Accel.Tcg.Translator;

// Instructions that do not jump.
// SAFETY: what is emitted goes into room that was asked for (LargestBlock) and accesses the vCPU's own region, or RAM
// after a check.
sealed unsafe partial class Translator
{
    bool EmitStep(int i)
    {
        ref Step step = ref _unit.Steps[i];
        if (step.Treatment != Treatment.RepeatedString) WantFlags(step);
        switch (step.Treatment)
        {
            case Treatment.Native or Treatment.Vector or Treatment.X87 or Treatment.BitString
                or Treatment.MoveOffset: return EmitNative(i);
            case Treatment.Nop: return true;
            case Treatment.Lea: EmitLea(step); return true;
            case Treatment.Push: EmitPush(i); return true;
            case Treatment.PushImmediate: EmitPushImmediate(i); return true;
            case Treatment.PushMemory: EmitPushMemory(i); return true;
            case Treatment.Pop: EmitPop(i); return true;
            case >= Treatment.PopMemory and <= Treatment.LoadPointer: EmitSegmented(i); return true;
            case Treatment.Leave: EmitLeave(i); return true;
            case Treatment.Divide: EmitDivide(i); return true;
            case Treatment.LoadControl: return EmitLoadControl(i);
            case Treatment.String: EmitString(i); return true;
            case Treatment.RepeatedString: return EmitRepeatedString(i);
            case Treatment.Interpret: return EmitInterpret(step.Offset, step.X);
            case >= Treatment.ClearInterrupt: return EmitSystem(i);
            default: return EmitJump(i);
        }
    }

    void EmitLea(in Step step)
    {
        ref readonly Instruction x = ref step.X;
        int guest = Unit.GuestNumber(x.Op0Register), size = x.Op0Register.GetSize(), to = Host(guest);
        Access access = _unit.Address(step);
        int target = to != None && size >= 4 ? to : R10;
        int start = access.Base switch { Access.None => None, Access.Rip => LoadScratch(R10, &_jit->RipBase),
            _ => InRegister(access.Base, R10) };
        int index = access.Index == Access.None ? None : InRegister(access.Index, R11);
        bool wide = size == 8 && !access.IsShort;
        if (access.IsWord)
        {
            EmitOffset(access, access.Displacement);
            if (size >= 4 && target != R10) _e.Move32(target, R10);
        }
        else if (start == None && index == None)
            _e.MoveImmediate(target, wide ? (ulong)access.Displacement : (uint)access.Displacement);
        else EmitSum(wide, target, start, index, access.Shift, access.Displacement);
        if (size == 2)
        {
            if (to != None)
            {
                _e.Byte(0x66);
                _e.Op(false, Load, to, R10);
            }
            else
            {
                _e.Byte(0x66);
                _e.Op(false, Store, R10, Home(guest));
            }
        }
        else if (to == None) _e.StoreTo(Home(guest), R10);
    }

    int InRegister(int guest, int scratch) => Host(guest) is var host and not None ? host
        : LoadScratch(scratch, Home(guest));

    void EmitPush(int i)
    {
        ref Step step = ref _unit.Steps[i];
        int guest = Unit.GuestNumber(step.X.Op0Register), register = InRegister(guest, R10);
        int word = Unit.OperandSize(step.X);
        Word(word, Store, register, Locate(step.StackAccess, i, register == R10));
        MoveStack(-word);
    }

    void EmitPushImmediate(int i)
    {
        ref Step step = ref _unit.Steps[i];
        StoreImmediate(i, (int)step.X.GetImmediate(0));
        MoveStack(-Unit.OperandSize(step.X));
    }

    /// <summary>To the stack.</summary>
    void StoreImmediate(int i, int value)
    {
        ref Step step = ref _unit.Steps[i];
        int word = Unit.OperandSize(step.X);
        Word(word, 0xC7, 0, Locate(step.StackAccess, i, false));
        if (word == 2)
        {
            _e.Byte(value);
            _e.Byte(value >> 8);
        }
        else _e.Int(value);
    }

    void EmitPushMemory(int i)
    {
        ref Step step = ref _unit.Steps[i];
        int word = Unit.OperandSize(step.X);
        Word(word, Load, R10, Locate(step.Access, i, false));
        Word(word, Store, R10, Locate(step.StackAccess, i, true));
        MoveStack(-word);
    }

    void EmitPop(int i)
    {
        ref Step step = ref _unit.Steps[i];
        int guest = Unit.GuestNumber(step.X.Op0Register), to = Host(guest), word = Unit.OperandSize(step.X);
        Place place = Locate(step.StackAccess, i, false);
        if (word == 2)
        {
            // SP itself is written when ESP has moved.
            Word(2, Load, R10, place);
            MoveStack(2);
            SetWord(guest);
            return;
        }
        Word(word, Load, to == None ? R10 : to, place);
        if (to == None) _e.StoreTo(Home(guest), R10);
        if (guest != GuestRsp) MoveStack(word);
    }

    /// <summary>The low 16 bits of a guest register become those of R10.</summary>
    void SetWord(int guest)
    {
        _e.Byte(0x66);
        if (Host(guest) is var host and not None) _e.Op(false, Load, host, R10);
        else _e.Op(false, Store, R10, Home(guest));
    }

    void EmitLeave(int i)
    {
        ref Step step = ref _unit.Steps[i];
        int word = Unit.OperandSize(step.X);
        Word(word, Load, R10, Locate(step.StackAccess, i, false));
        if (_mode.StackSize == 2) _e.Byte(0x66);
        _e.Op(_mode.StackSize == 8, Lea, HostRsp, Rbp, None, 0, word);
        if (word == 2) SetWord(5);
        else _e.Move(Rbp, R10);
    }

    /// <summary>Cases that fault, or might, go to the interpreter: no host exception may happen here.</summary>
    void EmitDivide(int i)
    {
        ref Step step = ref _unit.Steps[i];
        if (step.X.Code is Code.Div_rm8 or Code.Idiv_rm8 or Code.Div_rm16 or Code.Idiv_rm16)
        {
            EmitDivideSmall(i);
            return;
        }
        bool wide = step.X.Code is Code.Div_rm64 or Code.Idiv_rm64,
            isSigned = step.X.Code is Code.Idiv_rm32 or Code.Idiv_rm64;
        FreeFlags(step.LiveBefore);
        if (step.Access >= 0)
        {
            Place place = Locate(step.Access, i, false);
            _e.Op(wide, Load, R11, place.Base, place.Index, place.Shift, place.Displacement);
        }
        else LoadGuest(R11, Unit.GuestNumber(step.X.Op0Register));
        _addend = null;
        ExitRecord* slow = InterpretRecord(step.Offset);
        if (isSigned)
        {
            // The dividend must be the sign-extended accumulator, the divisor neither 0 nor -1.
            _e.Op(wide, Load, R10, Rax);
            _e.Shift(wide, Sar, R10, wide ? 63 : 31);
            _e.Op(wide, CompareLoad, R10, Rdx);
            ExitIf(NotEqual, slow);
            _e.Op(wide, Lea, R10, R11, None, 0, 1);
            _e.Arithmetic(wide, Compare, R10, 1);
            ExitIf(BelowOrEqual, slow);
        }
        else
        {
            _e.Op(wide, CompareLoad, Rdx, R11);
            ExitIf(AboveOrEqual, slow);
        }
        _e.Op(wide, 0xF7, isSigned ? 7 : 6, R11);
    }

    void ExitIf(int condition, ExitRecord* record) =>
        _stubs.Add(new Stub { Kind = StubKind.Exit, Hole = _e.JumpIf(condition), Record = record });

    /// <summary>LDMXCSR and FLDCW run here only if they mask all exceptions. They load a copy: another vCPU may change
    /// the operand after it was looked at.</summary>
    bool EmitLoadControl(int i)
    {
        ref Step step = ref _unit.Steps[i];
        bool isX87 = step.X.Code == Code.Fldcw_m2byte;
        FreeFlags(step.LiveBefore);
        Place place = Locate(step.Access, i, false);
        _e.Op(true, Lea, R10, place.Base, place.Index, place.Shift, place.Displacement);
        if (isX87) _e.Bytes([0x45, 0x0F, 0xB7, 0x1A]);              // movzx r11d, word [r10]
        else _e.Op(false, Load, R11, R10, None, 0, 0);
        _e.StoreTo(&_jit->Saved2, R11);
        _addend = null;
        int masks = isX87 ? 0x3F : 0x1F80;
        if (!isX87)
        {
            _e.Bytes([0x41, 0xF7, 0xC3]);                           // test r11d, reserved
            _e.Int(unchecked((int)0xFFFF0000));
            ExitIf(NotEqual, InterpretRecord(step.Offset));
        }
        _e.Arithmetic(false, And, R11, masks);
        _e.Arithmetic(false, Compare, R11, masks);
        ExitIf(NotEqual, InterpretRecord(step.Offset));
        Form form = Form.Parse(_page + step.Offset, step.X.Length, _mode.CodeSize, true);
        form.EmitAbsolute(_e, form.Reg, &_jit->Saved2);
        return true;
    }

    ExitRecord* InterpretRecord(int offset) => NewRecord(ExitKind.Interpret, offset);

    /// <summary>The block ends; the interpreter runs the instruction.</summary>
    bool EmitInterpret(int offset, in Instruction x)
    {
        FlushStack();
        ExitRecord* record = InterpretRecord(offset);
        if (record == null) return false;
        var insn = (Insn*)_region.Allocate(sizeof(Insn), 8);
        if (insn == null) return false;
        _cpu.Translate(x, _page + offset, insn);
        *ExitRecord.InsnOf(record) = insn;
        EmitExit(record, _flagsSaved ? _common.ExitSaved : _common.Exit);
        return true;
    }

    /// <summary>In the middle of a block: what follows is reached by another one.</summary>
    bool EmitInterpretOne(int i)
    {
        _unit.CutAfter(i);
        return EmitInterpret(_unit.Steps[i].Offset, _unit.Steps[i].X);
    }
}
