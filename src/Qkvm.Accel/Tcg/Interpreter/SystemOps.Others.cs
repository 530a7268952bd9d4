using Iced.Intel;

namespace Qkvm.Accel.Tcg;

// CPUID, time stamps, MONITOR, caches, fences, and what raises #UD.
// SAFETY: an Insn lies in its arena until its block has ended; what its operands point at is the vCPU's own state, or
// RAM that was looked up for the access.
static unsafe partial class SystemOps
{
    static bool SelectOthers(Code code, Insn* i)
    {
        switch (code)
        {
            case Code.Cpuid: return Set(i, &CpuId, 4);
            case Code.Rdtsc: return Set(i, &Rdtsc, 4);
            case Code.Rdtscp: return Set(i, &Rdtscp, 4);
            case Code.Rdpid_r32 or Code.Rdpid_r64: return Set(i, &Rdpid, 8);
            case Code.Rdpmc: return Set(i, &Rdpmc, 4);
            case Code.Monitorw or Code.Monitord or Code.Monitorq: return Set(i, &Monitor, 0);
            case Code.Mwait: return End(i, &Mwait);
            case Code.Clflush_m8 or Code.Clflushopt_m8 or Code.Clwb_m8: return Set(i, &TouchLine, 1);
            case Code.Prefetch_m8 or Code.Prefetchw_m8 or Code.Prefetchwt1_m8 or Code.Prefetchnta_m8
                or Code.Prefetcht0_m8
                or Code.Prefetcht1_m8 or Code.Prefetcht2_m8 or Code.Prefetchreserved3_m8 or Code.Prefetchreserved4_m8
                or Code.Prefetchreserved5_m8 or Code.Prefetchreserved6_m8 or Code.Prefetchreserved7_m8
                or Code.Prefetchit0_m8
                or Code.Prefetchit1_m8 or Code.Cldemote_m8:
                return Set(i, &Nothing, 0);
            case Code.Pause: return Set(i, &Pause, 0);
            case Code.Lfence or Code.Lfence_E9 or Code.Lfence_EA or Code.Lfence_EB or Code.Lfence_EC or Code.Lfence_ED
                or Code.Lfence_EE or Code.Lfence_EF or Code.Sfence or Code.Sfence_F9 or Code.Sfence_FA or Code.Sfence_FB
                or Code.Sfence_FC or Code.Sfence_FD or Code.Sfence_FE or Code.Sfence_FF:
                return Set(i, &Nothing, 0);
            case Code.Mfence or Code.Mfence_F1 or Code.Mfence_F2 or Code.Mfence_F3 or Code.Mfence_F4 or Code.Mfence_F5
                or Code.Mfence_F6 or Code.Mfence_F7:
                return Set(i, &Fence, 0);
            case Code.Vmcall: return End(i, &Hypercall);
            case Code.Serialize: return End(i, &Fence);
            case Code.Rsm: return End(i, &Resume);
            case Code.Ud0 or Code.Ud0_r16_rm16 or Code.Ud0_r32_rm32 or Code.Ud0_r64_rm64 or Code.Ud1_r16_rm16
                or Code.Ud1_r32_rm32 or Code.Ud1_r64_rm64 or Code.Ud2
                or Code.Mov_r32_tr or Code.Mov_tr_r32:
                return End(i, &Undefined);
            default: return false;
        }
    }

    static void CpuId(Cpu cpu, Insn* i)
    {
        if (cpu.Leaves(i, SvmExit.Cpuid)) return;
        cpu.Cpuid((uint)cpu.Rax, (uint)cpu.Rcx, out uint eax, out uint ebx, out uint ecx, out uint edx);
        (cpu.Rax, cpu.Rbx, cpu.Rcx, cpu.Rdx) = (eax, ebx, ecx, edx);
    }

    /// <summary>Both vendors' forms do, as KVM makes them; VMMCALL comes here from <see cref="Vmmcall"/>.</summary>
    static void Hypercall(Cpu cpu, Insn* i) => cpu.Hypercall();

    static void Resume(Cpu cpu, Insn* i)
    {
        if (cpu.Leaves(i, SvmExit.Rsm)) return;
        if (cpu.State->Smm == 0) throw cpu.Ud();
        cpu.LeaveSmm();
    }

    static void CheckTimeStamp(Cpu cpu)
    {
        if (cpu.Cpl != 0 && (cpu.State->Cr4 & Cr4.Tsd) != 0) throw cpu.Gp();
    }

    static void Rdtsc(Cpu cpu, Insn* i)
    {
        CheckTimeStamp(cpu);
        if (!cpu.Leaves(i, SvmExit.Rdtsc)) SetPair(cpu, cpu.SeenTsc);
    }

    static void Rdtscp(Cpu cpu, Insn* i)
    {
        if (!cpu.HasRdtscp) throw cpu.Ud();
        CheckTimeStamp(cpu);
        if (cpu.Leaves(i, SvmExit.Rdtscp)) return;
        SetPair(cpu, cpu.SeenTsc);
        cpu.Rcx = (uint)cpu.State->TscAux;
    }

    static void Rdpid(Cpu cpu, Insn* i)
    {
        if (!cpu.HasRdpid) throw cpu.Ud();
        cpu.State->Gpr[i->Reg0] = (uint)cpu.State->TscAux;
    }

    static void Rdpmc(Cpu cpu, Insn* i)
    {
        if (cpu.Cpl != 0 && (cpu.State->Cr4 & Cr4.Pce) == 0) throw cpu.Gp();
        if (cpu.Leaves(i, SvmExit.Rdpmc)) return;
        if (!cpu.ReadCounter((uint)cpu.Rcx, out ulong value)) throw cpu.Gp();
        SetPair(cpu, value);
    }

    static void Monitor(Cpu cpu, Insn* i)
    {
        CheckMonitor(cpu);
        if (cpu.Leaves(i, SvmExit.Monitor)) return;
        if ((uint)cpu.Rcx != 0) throw cpu.Gp();
        cpu.ArmMonitor(i->Segment, i->AddressSize == 8 ? cpu.Rax : i->AddressSize == 4 ? (uint)cpu.Rax
            : (ushort)cpu.Rax);
    }

    static void Mwait(Cpu cpu, Insn* i)
    {
        CheckMonitor(cpu);
        if (cpu.IsMonitoring && cpu.Leaves(i, SvmExit.MwaitArmed) || cpu.Leaves(i, SvmExit.Mwait)) return;
        if ((uint)cpu.Rcx > 1) throw cpu.Gp();
        cpu.WaitForStore(((uint)cpu.Rcx & 1) != 0);
    }

    static void CheckMonitor(Cpu cpu)
    {
        if (!cpu.HasMonitor || cpu.Cpl != 0) throw cpu.Ud();
    }

    /// <summary>Cache line flushes fault like loads.</summary>
    static void TouchLine(Cpu cpu, Insn* i) => cpu.Load<byte>(i);

    static void Fence(Cpu cpu, Insn* i) => Interlocked.MemoryBarrier();

    static void Pause(Cpu cpu, Insn* i)
    {
        if (!cpu.LeavesForPause(i)) Thread.SpinWait(1);
    }
}
