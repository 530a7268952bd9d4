using Iced.Intel;

namespace Qkvm.Accel.Tcg;

// Control, debug and model-specific registers, TLB and caches, HLT.
// SAFETY: an Insn lies in its arena until its block has ended; what its operands point at is the vCPU's own state, or
// RAM that was looked up for the access.
static unsafe partial class SystemOps
{
    static bool SelectControl(Code code, Insn* i)
    {
        switch (code)
        {
            case Code.Mov_r32_cr: return Set(i, &MovFromCr, 4);
            case Code.Mov_r64_cr: return Set(i, &MovFromCr, 8);
            case Code.Mov_cr_r32: return End(i, &MovToCr, 4);
            case Code.Mov_cr_r64: return End(i, &MovToCr, 8);
            case Code.Mov_r32_dr: return Set(i, &MovFromDr, 4);
            case Code.Mov_r64_dr: return Set(i, &MovFromDr, 8);
            case Code.Mov_dr_r32: return End(i, &MovToDr, 4);
            case Code.Mov_dr_r64: return End(i, &MovToDr, 8);
            case Code.Smsw_rm16: return Set(i, &Smsw, 2);
            case Code.Smsw_r32m16: return Set(i, &Smsw, 4);
            case Code.Smsw_r64m16: return Set(i, &Smsw, 8);
            case Code.Lmsw_rm16 or Code.Lmsw_r32m16 or Code.Lmsw_r64m16: return End(i, &Lmsw, 2);
            case Code.Clts: return End(i, &Clts);
            case Code.Rdmsr: return Set(i, &Rdmsr, 4);
            case Code.Wrmsr: return End(i, &Wrmsr, 4);
            case Code.Xgetbv: return Set(i, &Xgetbv, 4);
            case Code.Xsetbv: return End(i, &Xsetbv, 4);
            case Code.Rdpkru: return Set(i, &Rdpkru, 4);
            case Code.Wrpkru: return End(i, &Wrpkru, 4);
            case Code.Invlpg_m: return End(i, &Invlpg);
            case Code.Invpcid_r32_m128 or Code.Invpcid_r64_m128: return End(i, &Invpcid);
            case Code.Invd or Code.Wbinvd or Code.Wbnoinvd: return Set(i, &EmptyCaches, 0);
            case Code.Hlt: return End(i, &Hlt);
            default: return false;
        }
    }

    static void CheckPrivileged(Cpu cpu)
    {
        if (cpu.Cpl != 0) throw cpu.Gp();
    }

    /// <summary>Nothing to do beyond the check: there are none.</summary>
    static void EmptyCaches(Cpu cpu, Insn* i)
    {
        CheckPrivileged(cpu);
        cpu.Leaves(i, i->Code == Code.Invd ? SvmExit.Invd : SvmExit.Wbinvd);
    }

    static void MovFromCr(Cpu cpu, Insn* i)
    {
        CheckPrivileged(cpu);
        if (cpu.Leaves(i, SvmExit.ReadCr0 + i->Reg1, cpu.RegisterInfo(i->Reg0, isControl: true))) return;
        SetGpr(cpu, i->Reg0, i->OperandSize, cpu.ReadCr(i->Reg1));
    }

    static void MovToCr(Cpu cpu, Insn* i)
    {
        CheckPrivileged(cpu);
        ulong info = cpu.RegisterInfo(i->Reg1, isControl: true);
        if (i->Reg0 == 0 ? cpu.LeavesForCr0(i, Operand(cpu, i), info)
            : cpu.Leaves(i, SvmExit.WriteCr0 + i->Reg0, info)) return;
        cpu.WriteCr(i->Reg0, Operand(cpu, i));
    }

    static void MovFromDr(Cpu cpu, Insn* i)
    {
        int number = cpu.CheckDebugRegister(i->Reg1);
        if (cpu.Leaves(i, SvmExit.ReadDr0 + i->Reg1, cpu.RegisterInfo(i->Reg0, isControl: false))) return;
        SetGpr(cpu, i->Reg0, i->OperandSize, cpu.State->Dr[number]);
    }

    static void MovToDr(Cpu cpu, Insn* i)
    {
        cpu.CheckDebugRegister(i->Reg0);
        if (cpu.Leaves(i, SvmExit.WriteDr0 + i->Reg0, cpu.RegisterInfo(i->Reg1, isControl: false))) return;
        cpu.WriteDr(i->Reg0, Operand(cpu, i));
    }

    static ulong Operand(Cpu cpu, Insn* i)
    {
        ulong value = cpu.State->Gpr[i->Reg1];
        return i->OperandSize == 8 ? value : (uint)value;
    }

    /// <summary>Memory takes 16 bits, a register as many of CR0 as it has.</summary>
    static void Smsw(Cpu cpu, Insn* i)
    {
        CheckUserMode(cpu);
        if (cpu.Leaves(i, SvmExit.ReadCr0)) return;
        if (i->HasMemory) cpu.Store(i, (ushort)cpu.State->Cr0);
        else SetGpr(cpu, i->Reg0, i->OperandSize, cpu.State->Cr0);
    }

    /// <summary>PE can be set but not cleared.</summary>
    static void Lmsw(Cpu cpu, Insn* i)
    {
        const ulong status = Cr0.Pe | Cr0.Mp | Cr0.Em | Cr0.Ts;
        CheckPrivileged(cpu);
        ulong value = LoadWord(cpu, i, i->Reg0) & status, old = cpu.State->Cr0;
        value = old & ~status | value | old & Cr0.Pe;
        if (!cpu.LeavesForCr0(i, value, 0)) cpu.SetCr0(value);
    }

    static void Clts(Cpu cpu, Insn* i)
    {
        CheckPrivileged(cpu);
        if (!cpu.Leaves(i, SvmExit.WriteCr0)) cpu.SetCr0(cpu.State->Cr0 & ~Cr0.Ts);
    }

    static void Rdmsr(Cpu cpu, Insn* i)
    {
        CheckPrivileged(cpu);
        if (cpu.LeavesForMsr(i, (uint)cpu.Rcx, write: false)) return;
        if (!cpu.ReadMsr((uint)cpu.Rcx, out ulong value)) throw cpu.Gp();
        SetPair(cpu, value);
    }

    static void Wrmsr(Cpu cpu, Insn* i)
    {
        CheckPrivileged(cpu);
        if (cpu.LeavesForMsr(i, (uint)cpu.Rcx, write: true)) return;
        if (!cpu.WriteMsr((uint)cpu.Rcx, Pair(cpu))) throw cpu.Gp();
    }

    /// <summary>EDX:EAX.</summary>
    static ulong Pair(Cpu cpu) => cpu.Rdx << 32 | (uint)cpu.Rax;

    static void SetPair(Cpu cpu, ulong value) => (cpu.Rax, cpu.Rdx) = ((uint)value, value >> 32);

    static void CheckXsaveEnabled(Cpu cpu)
    {
        if ((cpu.State->Cr4 & Cr4.Osxsave) == 0) throw cpu.Ud();
    }

    static void Xgetbv(Cpu cpu, Insn* i)
    {
        CheckXsaveEnabled(cpu);
        if ((uint)cpu.Rcx == 0) SetPair(cpu, cpu.State->Xcr0);
        else if ((uint)cpu.Rcx == 1 && cpu.HasXinuse) SetPair(cpu, cpu.State->Xcr0 & VectorOps.ComponentsInUse(cpu));
        else throw cpu.Gp();
    }

    static void Xsetbv(Cpu cpu, Insn* i)
    {
        CheckXsaveEnabled(cpu);
        CheckPrivileged(cpu);
        if (cpu.Leaves(i, SvmExit.Xsetbv)) return;
        if ((uint)cpu.Rcx != 0) throw cpu.Gp();
        cpu.SetXcr0(Pair(cpu));
    }

    static void CheckProtectionKeys(Cpu cpu)
    {
        if ((cpu.State->Cr4 & Cr4.Pke) == 0) throw cpu.Ud();
        if ((uint)cpu.Rcx != 0) throw cpu.Gp();
    }

    static void Rdpkru(Cpu cpu, Insn* i)
    {
        CheckProtectionKeys(cpu);
        SetPair(cpu, cpu.State->Pkru);
    }

    static void Wrpkru(Cpu cpu, Insn* i)
    {
        CheckProtectionKeys(cpu);
        if ((uint)cpu.Rdx != 0) throw cpu.Gp();
        cpu.SetPkru((uint)cpu.Rax);
    }

    static void Invlpg(Cpu cpu, Insn* i)
    {
        CheckPrivileged(cpu);
        ulong linear = cpu.EffectiveOffset(i);
        if (!cpu.Is64Bit || i->Segment >= Seg.Fs) linear += cpu.State->Segment(i->Segment).Base;
        if (!cpu.Is64Bit) linear = (uint)linear;
        if (cpu.Leaves(i, SvmExit.Invlpg, cpu.AssistInfo(linear))) return;
        if (cpu.IsCanonical(linear)) cpu.FlushTlbPage(linear);
    }

    static void Invpcid(Cpu cpu, Insn* i)
    {
        if (!cpu.HasInvpcid) throw cpu.Ud();
        CheckPrivileged(cpu);
        if (cpu.Leaves(i, SvmExit.Invpcid)) return;
        UInt128 descriptor = cpu.Load<UInt128>(i);
        var (context, linear) = ((ulong)descriptor, (ulong)(descriptor >> 64));
        ulong type = cpu.Is64Bit ? cpu.State->Gpr[i->Reg0] : (uint)cpu.State->Gpr[i->Reg0];
        if (type > 3 || context > 0xFFF) throw cpu.Gp();
        if (type < 2 && (cpu.State->Cr4 & Cr4.Pcide) == 0 && context != 0) throw cpu.Gp();
        if (type == 0 && !cpu.IsCanonicalBase(linear)) throw cpu.Gp();
        switch (type)
        {
            case 0: cpu.FlushTlbPage(linear); break;
            case 1: cpu.FlushTlbContext((ushort)context); break;
            case 2: cpu.FlushTlb(global: true); break;
            default: cpu.FlushTlbContexts(); break;
        }
    }

    static void Hlt(Cpu cpu, Insn* i)
    {
        CheckPrivileged(cpu);
        if (!cpu.Leaves(i, SvmExit.Hlt)) cpu.State->Halted = 1;
    }
}
