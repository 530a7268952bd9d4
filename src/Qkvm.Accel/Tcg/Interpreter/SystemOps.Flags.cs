using Iced.Intel;
using Flag = Qkvm.Accel.Tcg.Rflags;

namespace Qkvm.Accel.Tcg;

// CLI, STI, PUSHF, POPF, CLAC, STAC.
// SAFETY: an Insn lies in its arena until its block has ended; what its operands point at is the vCPU's own state, or
// RAM that was looked up for the access.
static unsafe partial class SystemOps
{
    static bool SelectFlags(Code code, Insn* i)
    {
        switch (code)
        {
            case Code.Cli: return End(i, &Cli);
            case Code.Sti: return End(i, &Sti);
            case Code.Pushfw: return Set(i, &Pushf, 2);
            case Code.Pushfd: return Set(i, &Pushf, 4);
            case Code.Pushfq: return Set(i, &Pushf, 8);
            case Code.Popfw: return End(i, &Popf, 2);
            case Code.Popfd: return End(i, &Popf, 4);
            case Code.Popfq: return End(i, &Popf, 8);
            case Code.Clac: return End(i, &Clac);
            case Code.Stac: return End(i, &Stac);
            default: return false;
        }
    }

    static void Cli(Cpu cpu, Insn* i)
    {
        if (MayChangeInterrupts(cpu)) cpu.State->RflagsSystem &= ~Flag.If;
        else if (HasVirtualInterrupts(cpu)) cpu.State->RflagsSystem &= ~Flag.Vif;
        else throw cpu.Gp();
    }

    static void Sti(Cpu cpu, Insn* i)
    {
        ulong flags = cpu.State->RflagsSystem;
        if (MayChangeInterrupts(cpu))
        {
            if ((flags & Flag.If) == 0) cpu.State->InterruptShadow = CpuState.StiShadow;
            cpu.State->RflagsSystem |= Flag.If;
        }
        else if (HasVirtualInterrupts(cpu) && (flags & Flag.Vip) == 0) cpu.State->RflagsSystem |= Flag.Vif;
        else throw cpu.Gp();
    }

    /// <summary>In virtual-8086 mode CPL is 3.</summary>
    static bool MayChangeInterrupts(Cpu cpu) => !cpu.IsProtected || cpu.Cpl <= cpu.Iopl;

    /// <summary>VIF stands in for IF. Intel SDM vol. 3, sections 20.3 and 20.4.</summary>
    static bool HasVirtualInterrupts(Cpu cpu) =>
        (cpu.State->Cr4 & (cpu.IsVirtual8086 ? Cr4.Vme : Cr4.Pvi)) != 0 && cpu.Cpl == 3;

    static void Pushf(Cpu cpu, Insn* i)
    {
        if (cpu.Leaves(i, SvmExit.Pushf)) return;
        ulong flags = cpu.AllFlags & ~(Flag.Vm | Flag.Rf);
        if (cpu.IsVirtual8086 && cpu.Iopl < 3)
        {
            if (i->OperandSize != 2 || (cpu.State->Cr4 & Cr4.Vme) == 0) throw cpu.Gp();
            flags = flags & ~Flag.If | Flag.Iopl | ((flags & Flag.Vif) != 0 ? Flag.If : 0);
        }
        cpu.PushSized(flags, i->OperandSize);
    }

    static void Popf(Cpu cpu, Insn* i)
    {
        if (!cpu.Leaves(i, SvmExit.Popf)) cpu.PopFlags(i->OperandSize);
    }

    static void Clac(Cpu cpu, Insn* i) => SetAc(cpu, 0);
    static void Stac(Cpu cpu, Insn* i) => SetAc(cpu, Flag.Ac);

    static void SetAc(Cpu cpu, ulong value)
    {
        if (!cpu.HasSmap || cpu.Cpl != 0) throw cpu.Ud();
        cpu.State->RflagsSystem = cpu.State->RflagsSystem & ~Flag.Ac | value;
        cpu.ModeChanged();
    }
}

public sealed unsafe partial class Cpu
{
    /// <summary>POPF: which flags change depends on mode, CPL and IOPL. Intel SDM vol. 2, POPF, table 4-15.</summary>
    internal void PopFlags(int size)
    {
        var frame = new PopFrame(this);
        ulong flags = frame.Pop(size), mask = ReturnedFlags;
        if (size != 2) mask |= Flag.Ac | Flag.Id;
        if (IsVirtual8086 && Iopl < 3)
        {
            if (size != 2 || (State->Cr4 & Cr4.Vme) == 0) throw Gp();
            CheckVirtualInterruptFlag(flags);
            frame.Commit();
            SetFlags(VirtualFlags(flags), mask | Flag.Vif);
        }
        else
        {
            if (!IsProtected || Cpl <= Iopl) mask |= Flag.If;
            if (Cpl == 0) mask |= Flag.Iopl;
            frame.Commit();
            SetFlags(flags, mask);
            if (size != 2) State->RflagsSystem &= ~Flag.Rf;
        }
        ModeChanged();
    }
}
