using Iced.Intel;
using Qkvm.Accel.Tcg.Interpreter;
using static Qkvm.Accel.Tcg.Translator.Emitter;

namespace Qkvm.Accel.Tcg.Translator;

// Instructions that do not jump.
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

    /// <summary>The instruction with its registers renamed; one that this cannot express goes to the
    /// interpreter.</summary>
    bool EmitNative(int i)
    {
        ref Step step = ref _unit.Steps[i];
        ref readonly Instruction x = ref step.X;
        OpInfo info = step.Info;
        Form form = Form.Parse(_page + step.Offset, x.Length, _mode.CodeSize, info.HasModRm);
        if (_mode.CodeSize == 2 && info.OperandSize != 0) form.OperandPrefix = info.OperandSize == 16;
        if (step.Treatment == Treatment.MoveOffset)
        {
            // A0h to A3h have no form that takes a register for the address: 8Ah, 8Bh, 88h, 89h do.
            form.Opcode = form.Opcode switch { 0xA0 => 0x8A, 0xA1 => 0x8B, 0xA2 => 0x88, _ => 0x89 };
            (form.HasModRm, form.Reg) = (true, Rax);
            form.Immediate = default;
        }
        else if (!_mode.Is64 && !info.HasModRm && form.Map == 0 && form.Opcode is >= 0x40 and < 0x50)
            // INC and DEC, whose bytes are prefixes now
            (form.Reg, form.Opcode, form.HasModRm) = (form.Opcode >> 3 & 1, 0xFF, true);
        // Outside 64-bit code VEX.W says nothing of general registers.
        if (!_mode.Is64 && (form.IsVex || form.IsEvex) && (step.Treatment == Treatment.Native || info.IgnoresWide))
            form.Wide = false;
        // Where the guest has no BMI or ABM, a prefix must not make TZCNT or LZCNT of BSF and BSR.
        if (x.Mnemonic is Mnemonic.Bsf or Mnemonic.Bsr) form.Repeat = 0;
        int reg = form.Reg, rm = form.Rm, high = None;
        int regHome = None, rmHome = None, vvvvHome = None;        // guest registers that live in memory
        bool regWritten = false, rmWritten = false, regLoaded = true;
        int rmSize = 0;
        for (int k = 0; k < x.OpCount && k < 5; k++)
        {
            if (x.GetOpKind(k) != OpKind.Register) continue;
            Register register = x.GetOpRegister(k);
            if (!register.IsGPR() || info.Fields[k] == OpField.None) continue;
            int guest = Unit.GuestNumber(register), host = Host(guest);
            bool isHigh = register is >= Register.AH and <= Register.BH;
            if (isHigh) high = guest;
            switch (info.Fields[k])
            {
                case OpField.Reg:
                    if (host == None)
                        (regHome, regWritten, regLoaded) =
                            (guest, info.Writes[k], info.ReadsOperand[k] || register.GetSize() < 4 || IsConditional(x));
                    else if (!isHigh) reg = host;
                    break;
                case OpField.Rm or OpField.Opcode:
                    if (host == None) (rmHome, rmWritten, rmSize) = (guest, info.Writes[k], register.GetSize());
                    else if (!isHigh) rm = host;
                    break;
                case OpField.Vvvv:
                    if (host == None) vvvvHome = guest;
                    else form.Vvvv = host;
                    break;
            }
        }
        bool hasMemory = step.Access >= 0;
        if (high != None && hasMemory) return EmitHighByte(i, ref form, high);
        if (high != None && (reg == HostRsp || rm == HostRsp || regHome != None || rmHome != None))
            return EmitInterpretOne(i);
        if (VvvvIsWritten(x) && (regHome != None || vvvvHome != None))
        {
            if (x.Mnemonic == Mnemonic.Mulx) EmitMulx(i, ref form, reg, regHome, vvvvHome, rm, rmHome);
            else EmitLowestBit(i, ref form, vvvvHome, rm, rmHome);
            return true;
        }
        if (vvvvHome != None)
        {
            if (hasMemory) return EmitInterpretOne(i);
            LoadGuest(R11, vvvvHome);
            form.Vvvv = R11;
        }
        if (hasMemory)
        {
            if (regHome != None)
            {
                if (regLoaded) _e.LoadFrom(R10, Home(regHome));
                reg = R10;
            }
            Place place = Locate(step.Access, i, keepR10: regHome != None);
            form.EmitMemory(_e, reg, place.Base, place.Index, place.Shift, place.Displacement);
        }
        else
        {
            if (regHome != None)
            {
                if (regLoaded || regHome == rmHome) _e.LoadFrom(R10, Home(regHome));
                reg = R10;
            }
            bool inMemory = rmHome != None && form.HasModRm && info.TakesMemory && !form.IsVex
                && step.Treatment == Treatment.Native
                && regHome != rmHome && (!rmWritten || rmSize == 8);
            if (inMemory) form.EmitAbsolute(_e, reg, Home(rmHome));
            else
            {
                if (rmHome != None)
                {
                    if (regHome == rmHome) rm = R10;
                    else
                    {
                        if (vvvvHome != None) return EmitInterpretOne(i);
                        LoadGuest(R11, rmHome);
                        rm = R11;
                    }
                }
                form.EmitRegisters(_e, reg, rm);
                if (rmHome != None && rmWritten && rm == R11) _e.StoreTo(Home(rmHome), R11);
                if (rmHome != None && rmWritten && rm == R10) _e.StoreTo(Home(rmHome), R10);
            }
            if (vvvvHome != None || rmHome != None && !inMemory) _addend = null;
        }
        if (regHome != None && regWritten) _e.StoreTo(Home(regHome), R10);
        return true;
    }

    /// <summary>Operations that may leave their destination as it is.</summary>
    static bool IsConditional(in Instruction x) => x.Code.ConditionCode() != ConditionCode.None
        || x.Mnemonic is Mnemonic.Bsf or Mnemonic.Bsr or Mnemonic.Shld or Mnemonic.Shrd;

    static bool VvvvIsWritten(in Instruction x) =>
        x.Mnemonic is Mnemonic.Mulx or Mnemonic.Blsi or Mnemonic.Blsmsk or Mnemonic.Blsr;

    /// <summary>MULX with results that live in memory. Where both are the same register, it is the high half that
    /// stays.</summary>
    void EmitMulx(int i, ref Form form, int high, int highHome, int lowHome, int source, int sourceHome)
    {
        ref Step step = ref _unit.Steps[i];
        if (step.Access >= 0)
        {
            Place place = Locate(step.Access, i, keepR10: false);
            _e.Op(form.Wide, Load, source = R10, place.Base, place.Index, place.Shift, place.Displacement);
        }
        else if (sourceHome != None) LoadGuest(source = R10, sourceHome);
        if (lowHome != None) form.Vvvv = R10;
        if (highHome != None)
        {
            high = R11;
            _addend = null;
        }
        form.EmitRegisters(_e, high, source);
        if (lowHome != None) _e.StoreTo(Home(lowHome), R10);
        if (highHome != None) _e.StoreTo(Home(highHome), R11);
    }

    /// <summary>BLSI, BLSMSK and BLSR with a result that lives in memory.</summary>
    void EmitLowestBit(int i, ref Form form, int home, int source, int sourceHome)
    {
        ref Step step = ref _unit.Steps[i];
        form.Vvvv = R10;
        if (step.Access >= 0)
        {
            Place place = Locate(step.Access, i, keepR10: false);
            form.EmitMemory(_e, form.Reg, place.Base, place.Index, place.Shift, place.Displacement);
        }
        else
        {
            if (sourceHome != None) LoadGuest(source = R10, sourceHome);
            form.EmitRegisters(_e, form.Reg, source);
        }
        _e.StoreTo(Home(home), R10);
    }

    /// <summary>AH to BH with a memory operand whose address needs a REX prefix: the register's two bytes change places
    /// around it.</summary>
    bool EmitHighByte(int i, ref Form form, int guest)
    {
        ref Step step = ref _unit.Steps[i];
        if (step.X.Mnemonic is Mnemonic.Cmpxchg || form.HadRex) return EmitInterpretOne(i);
        Place place = Locate(step.Access, i, keepR10: false);
        if (place.Base != R10 || place.Index != R11 || place.Shift != 0)
        {
            _e.Op(true, Lea, R10, place.Base, place.Index, place.Shift, place.Displacement);
            place = new Place { Base = R10, Index = None };
        }
        ReadOnlySpan<byte> exchange = [0x86, (byte)(0xC0 | guest << 3 | guest + 4)];        // xchg ah, al
        _e.Bytes(exchange);
        form.EmitMemory(_e, guest, place.Base, place.Index, place.Shift, place.Displacement);
        _e.Bytes(exchange);
        return true;
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
