using Iced.Intel;
using static Qkvm.Accel.Tcg.Translator.Emitter;

namespace Qkvm.Accel.Tcg.Translator;

// Instructions that the host runs as they are, but for the names of their registers.
// SAFETY: what is emitted goes into room that was asked for (LargestBlock) and accesses the vCPU's own region, or RAM
// after a check.
sealed unsafe partial class Translator
{
    /// <summary>The general registers of an instruction, by the fields of its encoding.</summary>
    struct Operands()
    {
        /// <summary>Host registers for ModRM.reg and ModRM.rm.</summary>
        public int Reg, Rm;

        /// <summary>Guest registers that live in memory; None where the field names another.</summary>
        public int RegHome = None, RmHome = None, VvvvHome = None;

        public bool RegIsWritten, RmIsWritten, RegIsRead = true;
        public int RmSize;

        /// <summary>AH, CH, DH or BH as 0 to 3; None.</summary>
        public int High = None;
    }

    /// <summary>The instruction with its registers renamed; one that this cannot express goes to the
    /// interpreter.</summary>
    bool EmitNative(int i)
    {
        ref Step step = ref _unit.Steps[i];
        Form form = FormOf(step);
        Operands operands = OperandsOf(step, ref form);
        bool hasMemory = step.Access >= 0;
        if (operands.High != None && hasMemory) return EmitHighByte(i, ref form, operands.High);
        if (operands.High != None && (operands.Reg == HostRsp || operands.Rm == HostRsp
            || operands.RegHome != None || operands.RmHome != None)) return EmitInterpretOne(i);
        if (VvvvIsWritten(step.X) && (operands.RegHome != None || operands.VvvvHome != None))
        {
            if (step.X.Mnemonic == Mnemonic.Mulx) EmitMulx(i, ref form, operands);
            else EmitLowestBit(i, ref form, operands);
            return true;
        }
        if (operands.VvvvHome != None && (hasMemory || operands.RmHome != None && operands.RmHome != operands.RegHome))
            return EmitInterpretOne(i);
        if (operands.VvvvHome != None) LoadGuest(form.Vvvv = R11, operands.VvvvHome);
        if (operands.RegHome != None)
        {
            if (operands.RegIsRead || !hasMemory && operands.RegHome == operands.RmHome)
                _e.LoadFrom(R10, Home(operands.RegHome));
            operands.Reg = R10;
        }
        if (hasMemory) EmitWithMemory(i, ref form, operands);
        else EmitOnRegisters(step, ref form, operands);
        if (operands.RegHome != None && operands.RegIsWritten) _e.StoreTo(Home(operands.RegHome), R10);
        return true;
    }

    /// <summary>The encoding, as 64-bit code has it.</summary>
    Form FormOf(in Step step)
    {
        OpInfo info = step.Info;
        Form form = Form.Parse(_page + step.Offset, step.X.Length, _mode.CodeSize, info.HasModRm);
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
        if (step.X.Mnemonic is Mnemonic.Bsf or Mnemonic.Bsr) form.Repeat = 0;
        return form;
    }

    /// <summary>Where its registers are; VEX.vvvv is renamed at once.</summary>
    static Operands OperandsOf(in Step step, ref Form form)
    {
        ref readonly Instruction x = ref step.X;
        OpInfo info = step.Info;
        var operands = new Operands { Reg = form.Reg, Rm = form.Rm };
        for (int k = 0; k < x.OpCount && k < 5; k++)
        {
            if (x.GetOpKind(k) != OpKind.Register) continue;
            Register register = x.GetOpRegister(k);
            if (!register.IsGPR() || info.Fields[k] == OpField.None) continue;
            int guest = Unit.GuestNumber(register), host = Host(guest);
            bool isHigh = register is >= Register.AH and <= Register.BH;
            if (isHigh) operands.High = guest;
            switch (info.Fields[k])
            {
                case OpField.Reg when host == None:
                    (operands.RegHome, operands.RegIsWritten) = (guest, info.Writes[k]);
                    operands.RegIsRead = info.ReadsOperand[k] || register.GetSize() < 4 || IsConditional(x);
                    break;
                case OpField.Reg when !isHigh:
                    operands.Reg = host;
                    break;
                case OpField.Rm or OpField.Opcode when host == None:
                    (operands.RmHome, operands.RmIsWritten) = (guest, info.Writes[k]);
                    operands.RmSize = register.GetSize();
                    break;
                case OpField.Rm or OpField.Opcode when !isHigh:
                    operands.Rm = host;
                    break;
                case OpField.Vvvv when host == None:
                    operands.VvvvHome = guest;
                    break;
                case OpField.Vvvv:
                    form.Vvvv = host;
                    break;
            }
        }
        return operands;
    }

    void EmitWithMemory(int i, ref Form form, in Operands operands)
    {
        Place place = Locate(_unit.Steps[i].Access, i, keepR10: operands.RegHome != None);
        form.EmitMemory(_e, operands.Reg, place.Base, place.Index, place.Shift, place.Displacement);
    }

    void EmitOnRegisters(in Step step, ref Form form, in Operands operands)
    {
        int home = operands.RmHome, rm = operands.Rm;
        bool stays = home != None && form.HasModRm && step.Info.TakesMemory && !form.IsVex
            && step.Treatment == Treatment.Native && operands.RegHome != home
            && (!operands.RmIsWritten || operands.RmSize == 8);
        if (stays) form.EmitAbsolute(_e, operands.Reg, Home(home));
        else
        {
            if (home != None && operands.RegHome == home) rm = R10;
            else if (home != None) LoadGuest(rm = R11, home);
            form.EmitRegisters(_e, operands.Reg, rm);
            if (home != None && operands.RmIsWritten) _e.StoreTo(Home(home), rm);
        }
        if (operands.VvvvHome != None || home != None && !stays) _addend = null;
    }

    /// <summary>Operations that may leave their destination as it is.</summary>
    static bool IsConditional(in Instruction x) => x.Code.ConditionCode() != ConditionCode.None
        || x.Mnemonic is Mnemonic.Bsf or Mnemonic.Bsr or Mnemonic.Shld or Mnemonic.Shrd;

    static bool VvvvIsWritten(in Instruction x) =>
        x.Mnemonic is Mnemonic.Mulx or Mnemonic.Blsi or Mnemonic.Blsmsk or Mnemonic.Blsr;

    /// <summary>MULX with results that live in memory. Where both are the same register, it is the high half that
    /// stays.</summary>
    void EmitMulx(int i, ref Form form, in Operands operands)
    {
        ref Step step = ref _unit.Steps[i];
        int source = operands.Rm, high = operands.Reg;
        if (step.Access >= 0)
        {
            Place place = Locate(step.Access, i, keepR10: false);
            _e.Op(form.Wide, Load, source = R10, place.Base, place.Index, place.Shift, place.Displacement);
        }
        else if (operands.RmHome != None) LoadGuest(source = R10, operands.RmHome);
        if (operands.VvvvHome != None) form.Vvvv = R10;
        if (operands.RegHome != None)
        {
            high = R11;
            _addend = null;
        }
        form.EmitRegisters(_e, high, source);
        if (operands.VvvvHome != None) _e.StoreTo(Home(operands.VvvvHome), R10);
        if (operands.RegHome != None) _e.StoreTo(Home(operands.RegHome), R11);
    }

    /// <summary>BLSI, BLSMSK and BLSR with a result that lives in memory.</summary>
    void EmitLowestBit(int i, ref Form form, in Operands operands)
    {
        ref Step step = ref _unit.Steps[i];
        int source = operands.Rm;
        form.Vvvv = R10;
        if (step.Access >= 0)
        {
            Place place = Locate(step.Access, i, keepR10: false);
            form.EmitMemory(_e, form.Reg, place.Base, place.Index, place.Shift, place.Displacement);
        }
        else
        {
            if (operands.RmHome != None) LoadGuest(source = R10, operands.RmHome);
            form.EmitRegisters(_e, form.Reg, source);
        }
        _e.StoreTo(Home(operands.VvvvHome), R10);
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
}
