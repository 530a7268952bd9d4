using Iced.Intel;

namespace Qkvm.Accel.Tcg;

// Descriptor tables and selectors.
// SAFETY: an Insn lies in its arena until its block has ended; what its operands point at is the vCPU's own state, or
// RAM that was looked up for the access.
static unsafe partial class SystemOps
{
    static bool SelectTables(Code code, Insn* i)
    {
        switch (code)
        {
            case Code.Sgdt_m1632_16 or Code.Sgdt_m1632: return Set(i, &Sgdt, 4);
            case Code.Sgdt_m1664: return Set(i, &Sgdt, 8);
            case Code.Sidt_m1632_16 or Code.Sidt_m1632: return Set(i, &Sidt, 4);
            case Code.Sidt_m1664: return Set(i, &Sidt, 8);
            case Code.Lgdt_m1632_16: return End(i, &Lgdt, 2);
            case Code.Lgdt_m1632: return End(i, &Lgdt, 4);
            case Code.Lgdt_m1664: return End(i, &Lgdt, 8);
            case Code.Lidt_m1632_16: return End(i, &Lidt, 2);
            case Code.Lidt_m1632: return End(i, &Lidt, 4);
            case Code.Lidt_m1664: return End(i, &Lidt, 8);
            case Code.Sldt_rm16: return Set(i, &Sldt, 2);
            case Code.Sldt_r32m16: return Set(i, &Sldt, 4);
            case Code.Sldt_r64m16: return Set(i, &Sldt, 8);
            case Code.Str_rm16: return Set(i, &Str, 2);
            case Code.Str_r32m16: return Set(i, &Str, 4);
            case Code.Str_r64m16: return Set(i, &Str, 8);
            case Code.Lldt_rm16 or Code.Lldt_r32m16 or Code.Lldt_r64m16: return End(i, &Lldt, 2);
            case Code.Ltr_rm16 or Code.Ltr_r32m16 or Code.Ltr_r64m16: return End(i, &Ltr, 2);
            case Code.Lar_r16_rm16: return Set(i, &Lar, 2);
            case Code.Lar_r32_r32m16: return Set(i, &Lar, 4);
            case Code.Lar_r64_r64m16: return Set(i, &Lar, 8);
            case Code.Lsl_r16_rm16: return Set(i, &Lsl, 2);
            case Code.Lsl_r32_r32m16: return Set(i, &Lsl, 4);
            case Code.Lsl_r64_r64m16: return Set(i, &Lsl, 8);
            case Code.Verr_rm16 or Code.Verr_r32m16 or Code.Verr_r64m16: return Set(i, &Verr, 2);
            case Code.Verw_rm16 or Code.Verw_r32m16 or Code.Verw_r64m16: return Set(i, &Verw, 2);
            case Code.Arpl_rm16_r16 or Code.Arpl_r32m16_r32: return Set(i, &Arpl, 2);
            default: return false;
        }
    }

    static void CheckUserMode(Cpu cpu)
    {
        if (cpu.Cpl != 0 && (cpu.State->Cr4 & Cr4.Umip) != 0) throw cpu.Gp();
    }

    /// <summary>LLDT, LTR, LAR and others that only protected mode knows.</summary>
    static void CheckProtected(Cpu cpu)
    {
        if (!cpu.IsProtected || cpu.IsVirtual8086) throw cpu.Ud();
    }

    static void Sgdt(Cpu cpu, Insn* i) => StoreTable(cpu, i, cpu.State->GdtrLimit, cpu.State->GdtrBase);
    static void Sidt(Cpu cpu, Insn* i) => StoreTable(cpu, i, cpu.State->IdtrLimit, cpu.State->IdtrBase);

    static void StoreTable(Cpu cpu, Insn* i, uint limit, ulong start)
    {
        CheckUserMode(cpu);
        bool isIdtr = i->Code.Mnemonic() == Mnemonic.Sidt;
        if (cpu.Leaves(i, isIdtr ? SvmExit.ReadIdtr : SvmExit.ReadGdtr)) return;
        cpu.StorePseudoDescriptor(i, (ushort)limit, start);
    }

    static void Lgdt(Cpu cpu, Insn* i)
    {
        if (LeavesForTable(cpu, i, SvmExit.WriteGdtr)) return;
        (cpu.State->GdtrLimit, cpu.State->GdtrBase) = LoadTable(cpu, i);
    }

    static void Lidt(Cpu cpu, Insn* i)
    {
        if (LeavesForTable(cpu, i, SvmExit.WriteIdtr)) return;
        (cpu.State->IdtrLimit, cpu.State->IdtrBase) = LoadTable(cpu, i);
    }

    static bool LeavesForTable(Cpu cpu, Insn* i, uint exit)
    {
        CheckPrivileged(cpu);
        return cpu.Leaves(i, exit);
    }

    static (ushort Limit, ulong Base) LoadTable(Cpu cpu, Insn* i)
    {
        (ushort limit, ulong start) = cpu.LoadPseudoDescriptor(i);
        if (i->OperandSize == 8 && !cpu.IsCanonicalBase(start)) throw cpu.Gp();
        return (limit, i->OperandSize == 2 ? start & 0xFFFFFF : start);
    }

    static void Sldt(Cpu cpu, Insn* i)
    {
        CheckProtected(cpu);
        CheckUserMode(cpu);
        if (!cpu.Leaves(i, SvmExit.ReadLdtr)) StoreWord(cpu, i, cpu.State->Ldtr.Selector);
    }

    static void Str(Cpu cpu, Insn* i)
    {
        CheckProtected(cpu);
        CheckUserMode(cpu);
        if (!cpu.Leaves(i, SvmExit.ReadTr)) StoreWord(cpu, i, cpu.State->Tr.Selector);
    }

    static void Lldt(Cpu cpu, Insn* i)
    {
        CheckProtected(cpu);
        CheckPrivileged(cpu);
        if (!cpu.Leaves(i, SvmExit.WriteLdtr)) cpu.LoadLdt(LoadWord(cpu, i, i->Reg0));
    }

    static void Ltr(Cpu cpu, Insn* i)
    {
        CheckProtected(cpu);
        CheckPrivileged(cpu);
        if (!cpu.Leaves(i, SvmExit.WriteTr)) cpu.LoadTaskRegister(LoadWord(cpu, i, i->Reg0));
    }

    static void Lar(Cpu cpu, Insn* i)
    {
        CheckProtected(cpu);
        bool found = cpu.TryInspect(LoadWord(cpu, i, i->Reg1), false, out Descriptor descriptor);
        if (found) SetGpr(cpu, i->Reg0, i->OperandSize, descriptor.LoadedRights);
        cpu.SetZero(found);
    }

    static void Lsl(Cpu cpu, Insn* i)
    {
        CheckProtected(cpu);
        bool found = cpu.TryInspect(LoadWord(cpu, i, i->Reg1), true, out Descriptor descriptor);
        if (found) SetGpr(cpu, i->Reg0, i->OperandSize, descriptor.Limit);
        cpu.SetZero(found);
    }

    static void Verr(Cpu cpu, Insn* i)
    {
        CheckProtected(cpu);
        cpu.SetZero(cpu.CanAccess(LoadWord(cpu, i, i->Reg0), false));
    }

    static void Verw(Cpu cpu, Insn* i)
    {
        CheckProtected(cpu);
        cpu.SetZero(cpu.CanAccess(LoadWord(cpu, i, i->Reg0), true));
    }

    static void Arpl(Cpu cpu, Insn* i)
    {
        CheckProtected(cpu);
        ushort selector = LoadWord(cpu, i, i->Reg0);
        int rpl = (int)cpu.State->Gpr[i->Reg1] & 3;
        bool raises = (selector & 3) < rpl;
        if (raises) StoreWord(cpu, i, (ushort)(selector & 0xFFFC | rpl));
        cpu.SetZero(raises);
    }
}

public sealed unsafe partial class Cpu
{
    ulong PseudoDescriptorBase(Insn* i, ulong at) =>
        at + 2 & (i->AddressSize == 8 ? ulong.MaxValue : i->AddressSize == 4 ? uint.MaxValue : 0xFFFFUL);

    /// <summary>Limit, then a base of four bytes, or of eight in 64-bit mode.</summary>
    internal (ushort Limit, ulong Base) LoadPseudoDescriptor(Insn* i)
    {
        ulong at = EffectiveOffset(i);
        ushort limit = Read<ushort>(i->Segment, at);
        return (limit, ReadSized(i->Segment, PseudoDescriptorBase(i, at), i->OperandSize == 8 ? 8 : 4));
    }

    internal void StorePseudoDescriptor(Insn* i, ushort limit, ulong start)
    {
        ulong at = EffectiveOffset(i), second = PseudoDescriptorBase(i, at);
        int size = i->OperandSize;
        ProbeWrite(Linear(i->Segment, second, size, true), size);  // all or nothing
        Write(i->Segment, at, limit);
        if (size == 8) Write(i->Segment, second, start);
        else Write(i->Segment, second, (uint)start);
    }
}
