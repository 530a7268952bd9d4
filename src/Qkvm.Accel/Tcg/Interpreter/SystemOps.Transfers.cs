using Iced.Intel;

namespace Qkvm.Accel.Tcg;

// Far JMP, CALL and RET, INT, IRET, SYSCALL and kin.
// SAFETY: an Insn lies in its arena until its block has ended; what its operands point at is the vCPU's own state, or
// RAM that was looked up for the access.
static unsafe partial class SystemOps
{
    static bool SelectTransfers(Code code, Insn* i)
    {
        switch (code)
        {
            case Code.Jmp_ptr1616: return End(i, &JmpDirect, 2);
            case Code.Jmp_ptr1632: return End(i, &JmpDirect, 4);
            case Code.Jmp_m1616: return End(i, &JmpIndirect, 2);
            case Code.Jmp_m1632: return End(i, &JmpIndirect, 4);
            case Code.Jmp_m1664: return End(i, &JmpIndirect, 8);
            case Code.Call_ptr1616: return End(i, &CallDirect, 2);
            case Code.Call_ptr1632: return End(i, &CallDirect, 4);
            case Code.Call_m1616: return End(i, &CallIndirect, 2);
            case Code.Call_m1632: return End(i, &CallIndirect, 4);
            case Code.Call_m1664: return End(i, &CallIndirect, 8);
            case Code.Retfw: return EndReturn(i, 2, 0);
            case Code.Retfd: return EndReturn(i, 4, 0);
            case Code.Retfq: return EndReturn(i, 8, 0);
            case Code.Retfw_imm16: return EndReturn(i, 2, i->Immediate);
            case Code.Retfd_imm16: return EndReturn(i, 4, i->Immediate);
            case Code.Retfq_imm16: return EndReturn(i, 8, i->Immediate);
            case Code.Iretw: return End(i, &Iret, 2);
            case Code.Iretd: return End(i, &Iret, 4);
            case Code.Iretq: return End(i, &Iret, 8);
            case Code.Int_imm8: return End(i, &Int);
            case Code.Int3: return End(i, &Int3);
            case Code.Int1: return End(i, &Int1);
            case Code.Into: return End(i, &Into);
            case Code.Bound_r16_m1616: return Set(i, &Bound16, 2);
            case Code.Bound_r32_m3232: return Set(i, &Bound32, 4);
            case Code.Syscall: return End(i, &Syscall);
            case Code.Sysretd: return End(i, &Sysret, 4);
            case Code.Sysretq: return End(i, &Sysret, 8);
            case Code.Sysenter: return End(i, &Sysenter);
            case Code.Sysexitd: return End(i, &Sysexit, 4);
            case Code.Sysexitq: return End(i, &Sysexit, 8);
            default: return false;
        }
    }

    static bool EndReturn(Insn* i, int size, ulong release)
    {
        i->Immediate = (ushort)release;
        return End(i, &Retf, size);
    }

    static void JmpDirect(Cpu cpu, Insn* i) => cpu.JumpFar((ushort)i->Extra, i->Immediate, cpu.NextRip(i));

    static void JmpIndirect(Cpu cpu, Insn* i)
    {
        ulong offset = cpu.LoadFarPointer(i, out ushort selector);
        cpu.JumpFar(selector, offset, cpu.NextRip(i));
    }

    static void CallDirect(Cpu cpu, Insn* i) =>
        cpu.CallFar((ushort)i->Extra, i->Immediate, i->OperandSize, cpu.NextRip(i));

    static void CallIndirect(Cpu cpu, Insn* i)
    {
        ulong offset = cpu.LoadFarPointer(i, out ushort selector);
        // AMD's: the pointer has 32 bits, the stack 64
        int pushed = (i->Flags & InsnFlags.RexW) != 0 ? 8 : i->OperandSize;
        cpu.CallFar(selector, offset, pushed, cpu.NextRip(i));
    }

    static void Retf(Cpu cpu, Insn* i) => cpu.ReturnFar(i->OperandSize, (uint)i->Immediate);

    static void Iret(Cpu cpu, Insn* i)
    {
        if (!cpu.Leaves(i, SvmExit.Iret)) cpu.ReturnFromInterrupt(i->OperandSize, cpu.NextRip(i));
    }

    static void Int(Cpu cpu, Insn* i)
    {
        if (cpu.Leaves(i, SvmExit.SoftwareInterrupt, cpu.AssistInfo((byte)i->Immediate))) return;
        if (cpu.IsVirtual8086) cpu.RaiseVirtual8086Interrupt((byte)i->Immediate, cpu.NextRip(i));
        else cpu.RaiseInterrupt((byte)i->Immediate, false, cpu.NextRip(i));
    }

    static void Int3(Cpu cpu, Insn* i) => Trap(cpu, i, Vector.Breakpoint, false);

    static void Int1(Cpu cpu, Insn* i)
    {
        if (!cpu.Leaves(i, SvmExit.Icebp)) Trap(cpu, i, Vector.Debug, true);
    }

    static void Into(Cpu cpu, Insn* i)
    {
        if (cpu.Overflow) Trap(cpu, i, Vector.Overflow, false);
    }

    /// <summary>An exception that an instruction of its own raises.</summary>
    static void Trap(Cpu cpu, Insn* i, int vector, bool privileged)
    {
        if (!cpu.Leaves(i, SvmExit.Exception + (uint)vector)) cpu.RaiseInterrupt(vector, privileged, cpu.NextRip(i));
    }

    static void Bound16(Cpu cpu, Insn* i)
    {
        uint bounds = cpu.Load<uint>(i);
        var index = (short)cpu.State->Gpr[i->Reg0];
        if (index < (short)bounds || index > (short)(bounds >> 16)) throw cpu.Fault(Vector.Bound);
    }

    static void Bound32(Cpu cpu, Insn* i)
    {
        ulong bounds = cpu.Load<ulong>(i);
        var index = (int)cpu.State->Gpr[i->Reg0];
        if (index < (int)bounds || index > (int)(bounds >> 32)) throw cpu.Fault(Vector.Bound);
    }

    static void Syscall(Cpu cpu, Insn* i) => cpu.SystemCall(cpu.NextRip(i));
    static void Sysret(Cpu cpu, Insn* i) => cpu.SystemReturn(i->OperandSize);
    static void Sysenter(Cpu cpu, Insn* i) => cpu.SystemEnter();
    static void Sysexit(Cpu cpu, Insn* i) => cpu.SystemExit(i->OperandSize);
}
