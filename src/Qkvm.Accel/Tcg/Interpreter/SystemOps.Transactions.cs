using Iced.Intel;

namespace Qkvm.Accel.Tcg;

// Restricted transactional memory that never begins: every XBEGIN aborts at once, which the architecture allows, and
// software has its other way for that. Intel SDM vol. 1, section 16.3.5; vol. 2, XBEGIN, XABORT, XEND, XTEST. The
// prefixes of hardware lock elision have no effect anywhere. And MOVDIR64B.
// SAFETY: an Insn lies in its arena until its block has ended; what its operands point at is the vCPU's own state, or
// RAM that was looked up for the access.
static unsafe partial class SystemOps
{
    static bool SelectTransactions(Code code, Insn* i)
    {
        switch (code)
        {
            case Code.Xbegin_rel16: return End(i, &BeginWord, 2);
            case Code.Xbegin_rel32: return End(i, &Begin, 4);
            case Code.Xend: return End(i, &EndTransaction);
            case Code.Xabort_imm8: return End(i, &Nothing);
            case Code.Xtest: return Set(i, &TestTransaction, 0);
            case Code.Movdir64b_r16_m512 or Code.Movdir64b_r32_m512 or Code.Movdir64b_r64_m512:
                return Set(i, &MoveLine, 0);
            default: return false;
        }
    }

    /// <summary>EAX says why: no bit, no reason; not even that another try may do.</summary>
    static void Begin(Cpu cpu, Insn* i)
    {
        ulong target = cpu.State->Rip + i->Length + i->Immediate;
        cpu.JumpTo(cpu.Is64Bit ? target : (uint)target);
        cpu.Rax = 0;
    }

    /// <summary>The distance has 16 bits, and so has the target, but in 64-bit mode.</summary>
    static void BeginWord(Cpu cpu, Insn* i)
    {
        ulong target = cpu.State->Rip + i->Length + i->Immediate;
        cpu.JumpTo(cpu.Is64Bit ? target : (ushort)target);
        cpu.Rax = 0;
    }

    static void EndTransaction(Cpu cpu, Insn* i) => throw cpu.Gp();

    /// <summary>ZF: not in a transaction.</summary>
    static void TestTransaction(Cpu cpu, Insn* i) => cpu.ArithmeticFlags = Rflags.Zf;

    /// <summary>64 bytes to an aligned place that ES:register names.</summary>
    static void MoveLine(Cpu cpu, Insn* i)
    {
        const int size = 64;
        byte* line = stackalloc byte[size];
        ulong at = cpu.State->Gpr[i->Reg0];
        at = i->AddressSize == 8 ? at : i->AddressSize == 4 ? (uint)at : (ushort)at;
        ulong to = cpu.Linear(Seg.Es, at, size, write: true), from = cpu.VectorLinear(i, size, write: false);
        if ((to & size - 1) != 0) throw cpu.Gp();
        cpu.ReadBytes(from, new Span<byte>(line, size));
        cpu.WriteBytes(to, new ReadOnlySpan<byte>(line, size));
    }
}
