using Qkvm.Host;

namespace Qkvm.Accel.Tcg;

// SAFETY: an Insn lies in its arena until its block has ended; what its operands point at is the vCPU's own state, or
// RAM that was looked up for the access.
/// <summary>NOP and ENDBR, flag instructions, XLAT, SALC, RDRAND and RDSEED, CLZERO.</summary>
static unsafe partial class IntegerOps
{
    static void Nop(Cpu cpu, Insn* i) { }

    static void Clc(Cpu cpu, Insn* i) => cpu.SetCarry(false);
    static void Stc(Cpu cpu, Insn* i) => cpu.SetCarry(true);
    static void Cmc(Cpu cpu, Insn* i) => cpu.SetCarry(!cpu.Carry);
    static void Cld(Cpu cpu, Insn* i) => cpu.State->RflagsSystem &= ~Rflags.Df;
    static void Std(Cpu cpu, Insn* i) => cpu.State->RflagsSystem |= Rflags.Df;

    static void Lahf(Cpu cpu, Insn* i) => cpu.SetReg(16, (byte)(cpu.ArithmeticFlags | 2));

    /// <summary>All but OF.</summary>
    static void Sahf(Cpu cpu, Insn* i) => cpu.ArithmeticFlags = cpu.GetReg<byte>(16) | (cpu.Overflow ? Rflags.Of : 0);

    static void Xlat(Cpu cpu, Insn* i)
    {
        ulong offset = cpu.Rbx + (byte)cpu.Rax;
        if (i->AddressSize != 8) offset = i->AddressSize == 4 ? (uint)offset : (ushort)offset;
        cpu.SetReg(0, cpu.Read<byte>(i->Segment, offset));
    }

    static void Salc(Cpu cpu, Insn* i) => cpu.SetReg(0, (byte)(cpu.Carry ? 0xFF : 0));

    /// <summary>RDRAND and RDSEED: the host's random numbers; CF says that there was one, the other flags are
    /// clear.</summary>
    static void Random<T>(Cpu cpu, Insn* i) where T : unmanaged
    {
        T value;
        bool ready = Libc.getrandom(&value, (nuint)sizeof(T), 0) == sizeof(T);
        cpu.SetReg(i->Reg0, ready ? value : default);
        cpu.ArithmeticFlags = ready ? Rflags.Cf : 0;
    }

    /// <summary>The cache line of 64 bytes that RAX points into. AMD64 APM vol. 3.</summary>
    static void Clzero(Cpu cpu, Insn* i)
    {
        ulong line = cpu.GetSized(0, i->AddressSize) & ~63UL;
        cpu.Write<CacheLine>(i->Segment, line, default);
    }

    struct CacheLine
    {
        public fixed ulong Words[8];
    }
}
