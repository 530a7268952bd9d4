namespace Qkvm.Accel.Tcg;

// SAFETY: an Insn lies in its arena until its block has ended; what its operands point at is the vCPU's own state, or
// RAM that was looked up for the access.
/// <summary>DAA DAS AAA AAS AAM AAD, outside 64-bit mode. Intel SDM vol. 2.</summary>
static unsafe partial class IntegerOps
{
    static void Daa(Cpu cpu, Insn* i) => DecimalAdjust(cpu, 1);
    static void Das(Cpu cpu, Insn* i) => DecimalAdjust(cpu, -1);

    static void DecimalAdjust(Cpu cpu, int sign)
    {
        int old = (byte)cpu.Rax, al = old;
        bool adjust = cpu.Adjust, carry = cpu.Carry, carryOut = false;
        if ((old & 0xF) > 9 || adjust)
        {
            al += 6 * sign;
            carryOut = carry || sign < 0 && al < 0;
            adjust = true;
        }
        if (old > 0x99 || carry)
        {
            al += 0x60 * sign;
            carryOut = true;
        }
        cpu.SetReg(0, (byte)al);
        SetDecimal(cpu, (byte)al, carryOut, adjust);
    }

    static void Aaa(Cpu cpu, Insn* i) => AsciiAdjust(cpu, 1);
    static void Aas(Cpu cpu, Insn* i) => AsciiAdjust(cpu, -1);

    static void AsciiAdjust(Cpu cpu, int sign)
    {
        bool adjust = ((int)cpu.Rax & 0xF) > 9 || cpu.Adjust;
        int ax = (ushort)cpu.Rax;
        if (adjust) ax += 0x106 * sign;
        cpu.SetReg(0, (ushort)(ax & 0xFF0F));
        SetDecimal(cpu, (byte)(ax & 0xF), adjust, adjust);
    }

    static void Aam(Cpu cpu, Insn* i)
    {
        uint by = (byte)i->Immediate, al = (byte)cpu.Rax;
        if (by == 0) throw cpu.Fault(Vector.DivideError);
        cpu.SetReg(0, (ushort)(al / by << 8 | al % by));
        LazyFlags.Logic<byte>(cpu.State, al % by);
    }

    static void Aad(Cpu cpu, Insn* i)
    {
        byte al = (byte)((byte)cpu.Rax + (byte)(cpu.Rax >> 8) * (byte)i->Immediate);
        cpu.SetReg(0, (ushort)al);
        LazyFlags.Logic<byte>(cpu.State, al);
    }

    static void SetDecimal(Cpu cpu, byte result, bool carry, bool adjust)
    {
        LazyFlags.Result<byte>(cpu.State, result, carry, false);
        if (adjust) cpu.State->FlagsCarries |= LazyFlags.AdjustBit;
    }
}
