using Iced.Intel;

namespace Qkvm.Accel.Tcg;

// MOV, PUSH and POP of segment registers, LDS to LGS, FS and GS bases.
// SAFETY: an Insn lies in its arena until its block has ended; what its operands point at is the vCPU's own state, or
// RAM that was looked up for the access.
static unsafe partial class SystemOps
{
    static bool SelectSegments(Code code, Insn* i)
    {
        switch (code)
        {
            case Code.Mov_rm16_Sreg: return Set(i, &MovFromSegment, 2);
            case Code.Mov_r32m16_Sreg: return Set(i, &MovFromSegment, 4);
            case Code.Mov_r64m16_Sreg: return Set(i, &MovFromSegment, 8);
            case Code.Mov_Sreg_rm16:
            case Code.Mov_Sreg_r32m16:
            case Code.Mov_Sreg_r64m16:
                return i->Reg0 switch { Seg.Cs => Set(i, &Undefined, 2), Seg.Ss => End(i, &MovToStack, 2),
                    _ => Set(i, &MovToSegment, 2) };

            case Code.Pushw_ES or Code.Pushw_CS or Code.Pushw_SS or Code.Pushw_DS or Code.Pushw_FS or Code.Pushw_GS:
                return Set(i, &PushSegment, 2);
            case Code.Pushd_ES or Code.Pushd_CS or Code.Pushd_SS or Code.Pushd_DS or Code.Pushd_FS or Code.Pushd_GS:
                return Set(i, &PushSegment, 4);
            case Code.Pushq_FS or Code.Pushq_GS: return Set(i, &PushSegment, 8);

            case Code.Popw_SS: return End(i, &PopStack, 2);
            case Code.Popd_SS: return End(i, &PopStack, 4);
            case Code.Popw_ES or Code.Popw_DS or Code.Popw_FS or Code.Popw_GS: return Set(i, &PopSegment, 2);
            case Code.Popd_ES or Code.Popd_DS or Code.Popd_FS or Code.Popd_GS: return Set(i, &PopSegment, 4);
            case Code.Popq_FS or Code.Popq_GS: return Set(i, &PopSegment, 8);

            case Code.Les_r16_m1616: return LoadPointer(i, Seg.Es, 2);
            case Code.Les_r32_m1632: return LoadPointer(i, Seg.Es, 4);
            case Code.Lds_r16_m1616: return LoadPointer(i, Seg.Ds, 2);
            case Code.Lds_r32_m1632: return LoadPointer(i, Seg.Ds, 4);
            case Code.Lss_r16_m1616: return LoadPointer(i, Seg.Ss, 2);
            case Code.Lss_r32_m1632: return LoadPointer(i, Seg.Ss, 4);
            case Code.Lss_r64_m1664: return LoadPointer(i, Seg.Ss, 8);
            case Code.Lfs_r16_m1616: return LoadPointer(i, Seg.Fs, 2);
            case Code.Lfs_r32_m1632: return LoadPointer(i, Seg.Fs, 4);
            case Code.Lfs_r64_m1664: return LoadPointer(i, Seg.Fs, 8);
            case Code.Lgs_r16_m1616: return LoadPointer(i, Seg.Gs, 2);
            case Code.Lgs_r32_m1632: return LoadPointer(i, Seg.Gs, 4);
            case Code.Lgs_r64_m1664: return LoadPointer(i, Seg.Gs, 8);

            case Code.Swapgs: return Set(i, &Swapgs, 8);
            case Code.Rdfsbase_r32: return Base(i, &ReadBase, Seg.Fs, 4);
            case Code.Rdfsbase_r64: return Base(i, &ReadBase, Seg.Fs, 8);
            case Code.Rdgsbase_r32: return Base(i, &ReadBase, Seg.Gs, 4);
            case Code.Rdgsbase_r64: return Base(i, &ReadBase, Seg.Gs, 8);
            case Code.Wrfsbase_r32: return Base(i, &WriteBase, Seg.Fs, 4);
            case Code.Wrfsbase_r64: return Base(i, &WriteBase, Seg.Fs, 8);
            case Code.Wrgsbase_r32: return Base(i, &WriteBase, Seg.Gs, 4);
            case Code.Wrgsbase_r64: return Base(i, &WriteBase, Seg.Gs, 8);
            default: return false;
        }
    }

    static bool LoadPointer(Insn* i, int segment, int size)
    {
        i->Extra = (ulong)segment;
        return segment == Seg.Ss ? End(i, &LoadFarPointer, size) : Set(i, &LoadFarPointer, size);
    }

    static bool Base(Insn* i, delegate*<Cpu, Insn*, void> run, int segment, int size)
    {
        i->Extra = (ulong)segment;
        return Set(i, run, size);
    }

    static void MovFromSegment(Cpu cpu, Insn* i) => StoreWord(cpu, i, cpu.State->Segment(i->Reg1).Selector);

    static void MovToSegment(Cpu cpu, Insn* i)
    {
        if (i->Reg0 > Seg.Gs) throw cpu.Ud();
        cpu.LoadSegment(i->Reg0, LoadWord(cpu, i, i->Reg1));
    }

    /// <summary>Interrupts and traps wait for the instruction that loads the stack pointer.</summary>
    static void MovToStack(Cpu cpu, Insn* i)
    {
        cpu.LoadSegment(Seg.Ss, LoadWord(cpu, i, i->Reg1));
        cpu.State->InterruptShadow = CpuState.StackShadow;
    }

    static void PushSegment(Cpu cpu, Insn* i) => cpu.PushSized(cpu.State->Segment(i->Reg0).Selector, i->OperandSize);

    static void PopSegment(Cpu cpu, Insn* i) => cpu.PopSegment(i->Reg0, i->OperandSize);

    static void PopStack(Cpu cpu, Insn* i)
    {
        cpu.PopSegment(Seg.Ss, i->OperandSize);
        cpu.State->InterruptShadow = CpuState.StackShadow;
    }

    static void LoadFarPointer(Cpu cpu, Insn* i)
    {
        ulong offset = cpu.LoadFarPointer(i, out ushort selector);
        cpu.LoadSegment((int)i->Extra, selector);
        SetGpr(cpu, i->Reg0, i->OperandSize, offset);
    }

    static void Swapgs(Cpu cpu, Insn* i)
    {
        if (!cpu.Is64Bit) throw cpu.Ud();
        if (cpu.Cpl != 0) throw cpu.Gp();
        (cpu.State->Gs.Base, cpu.State->KernelGsBase) = (cpu.State->KernelGsBase, cpu.State->Gs.Base);
    }

    static void ReadBase(Cpu cpu, Insn* i)
    {
        CheckBase(cpu);
        SetGpr(cpu, i->Reg0, i->OperandSize, cpu.State->Segment((int)i->Extra).Base);
    }

    static void WriteBase(Cpu cpu, Insn* i)
    {
        CheckBase(cpu);
        ulong value = i->OperandSize == 4 ? (uint)cpu.State->Gpr[i->Reg0] : cpu.State->Gpr[i->Reg0];
        if (!cpu.IsCanonicalBase(value)) throw cpu.Gp();
        cpu.State->Segment((int)i->Extra).Base = value;
    }

    static void CheckBase(Cpu cpu)
    {
        if (!cpu.Is64Bit || (cpu.State->Cr4 & Cr4.Fsgsbase) == 0) throw cpu.Ud();
    }
}

public sealed unsafe partial class Cpu
{
    internal void PushSized(ulong value, int size)
    {
        PushFrame frame = PushFrame.Current(this, 0);
        frame.Push(value, size);
        frame.Commit();
    }

    /// <summary>POP of a segment register: RSP moves only when the load was permitted.</summary>
    internal void PopSegment(int segment, int size)
    {
        var frame = new PopFrame(this);
        ulong mask = frame.Mask;
        var selector = (ushort)ReadSized(Seg.Ss, frame.Sp, size);
        frame.Skip((uint)size);
        LoadSegment(segment, selector);
        SetStackPointer(frame.Sp, mask);
    }

    /// <summary>A far pointer in memory: offset of the operand size, then selector.</summary>
    internal ulong LoadFarPointer(Insn* i, out ushort selector)
    {
        ulong at = EffectiveOffset(i), mask = i->AddressSize == 8 ? ulong.MaxValue : i->AddressSize == 4 ? uint.MaxValue
            : 0xFFFF;
        ulong offset = ReadSized(i->Segment, at, i->OperandSize);
        selector = Read<ushort>(i->Segment, at + i->OperandSize & mask);
        return offset;
    }
}
