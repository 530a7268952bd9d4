using Iced.Intel;

namespace Qkvm.Accel.Tcg;

// AMD's virtualization. AMD64 APM vol. 3, the instructions' pages.
// SAFETY: an Insn lies in its arena until its block has ended; what its operands point at is the vCPU's own state, or
// RAM that was looked up for the access.
static unsafe partial class SystemOps
{
    static bool SelectSvm(Code code, Insn* i)
    {
        switch (code)
        {
            case Code.Vmrunw or Code.Vmrund or Code.Vmrunq: return EndSvm(i, &Vmrun);
            case Code.Vmloadw or Code.Vmloadd or Code.Vmloadq: return EndSvm(i, &Vmload);
            case Code.Vmsavew or Code.Vmsaved or Code.Vmsaveq: return EndSvm(i, &Vmsave);
            case Code.Invlpgaw or Code.Invlpgad or Code.Invlpgaq: return EndSvm(i, &Invlpga);
            case Code.Stgi: return End(i, &Stgi);
            case Code.Clgi: return End(i, &Clgi);
            case Code.Skinit: return End(i, &Skinit);
            case Code.Vmmcall: return End(i, &Vmmcall);
            default: return false;
        }
    }

    /// <summary>Address in rAX, whose width the form tells.</summary>
    static bool EndSvm(Insn* i, delegate*<Cpu, Insn*, void> run)
    {
        string form = i->Code.ToString();
        i->AddressSize = form[^1] switch { 'w' => 2, 'd' => 4, _ => 8 };
        return End(i, run);
    }

    static void CheckSvm(Cpu cpu)
    {
        if ((cpu.State->Efer & Efer.Svme) == 0 || !cpu.IsProtected || cpu.IsVirtual8086) throw cpu.Ud();
        CheckPrivileged(cpu);
    }

    static ulong AddressInRax(Cpu cpu, Insn* i) => cpu.GetSized(0, i->AddressSize);

    static void Vmrun(Cpu cpu, Insn* i)
    {
        CheckSvm(cpu);
        ulong vmcb = cpu.CheckVmcb(AddressInRax(cpu, i));
        // A guest without this intercept is none: section 15.5.1.
        if (!cpu.Leaves(i, SvmExit.Vmrun)) cpu.RunGuest(vmcb, cpu.NextRip(i));
    }

    static void Vmload(Cpu cpu, Insn* i)
    {
        CheckSvm(cpu);
        if (!cpu.Leaves(i, SvmExit.Vmload)) cpu.LoadHidden(cpu.CheckVmcb(AddressInRax(cpu, i)));
    }

    static void Vmsave(Cpu cpu, Insn* i)
    {
        CheckSvm(cpu);
        if (!cpu.Leaves(i, SvmExit.Vmsave)) cpu.SaveHidden(cpu.CheckVmcb(AddressInRax(cpu, i)));
    }

    static void Invlpga(Cpu cpu, Insn* i)
    {
        CheckSvm(cpu);
        ulong linear = AddressInRax(cpu, i);
        if (cpu.Leaves(i, SvmExit.Invlpga, cpu.AssistInfo(linear))) return;
        if (cpu.IsCanonical(linear)) cpu.FlushTlbPage(linear, (uint)cpu.Rcx);
    }

    static void Stgi(Cpu cpu, Insn* i)
    {
        CheckSvm(cpu);
        if (!cpu.Leaves(i, SvmExit.Stgi)) cpu.HoldInterrupts(false);
    }

    static void Clgi(Cpu cpu, Insn* i)
    {
        CheckSvm(cpu);
        if (!cpu.Leaves(i, SvmExit.Clgi)) cpu.HoldInterrupts(true);
    }

    /// <summary>There is no secure loader (CPUID 8000_0001h, ECX bit 12); a host may make its guest one.</summary>
    static void Skinit(Cpu cpu, Insn* i)
    {
        CheckSvm(cpu);
        if (!cpu.Leaves(i, SvmExit.Skinit)) throw cpu.Ud();
    }

    static void Vmmcall(Cpu cpu, Insn* i)
    {
        if (!cpu.Leaves(i, SvmExit.Vmmcall)) Hypercall(cpu, i);
    }
}
