using Iced.Intel;

namespace Qkvm.Accel.Tcg;
using unsafe Handler = delegate*<Cpu, Insn*, void>;

// SAFETY: an Insn lies in its arena until its block has ended; what its operands point at is the vCPU's own state, or
// RAM that was looked up for the access.
/// <summary>PUSH POP PUSHA POPA ENTER LEAVE. Those of RSP's full width have handlers of their own.</summary>
static unsafe partial class IntegerOps
{
    static void Push64Reg(Cpu cpu, Insn* i) => cpu.Push64(cpu.State->Gpr[i->Reg0]);
    static void Push64Imm(Cpu cpu, Insn* i) => cpu.Push64(i->Immediate);
    static void Push64Mem(Cpu cpu, Insn* i) => cpu.Push64(cpu.Load<ulong>(i));

    static void Pop64Reg(Cpu cpu, Insn* i)
    {
        ulong value = cpu.Top64();
        cpu.Rsp += 8;
        cpu.State->Gpr[i->Reg0] = value;
    }

    static void PushReg<T>(Cpu cpu, Insn* i) where T : unmanaged => cpu.Push(cpu.GetReg<T>(i->Reg0));
    static void PushImm<T>(Cpu cpu, Insn* i) where T : unmanaged => cpu.Push(Width.Narrow<T>(i->Immediate));
    static void PushMem<T>(Cpu cpu, Insn* i) where T : unmanaged => cpu.Push(cpu.Load<T>(i));
    static void PopReg<T>(Cpu cpu, Insn* i) where T : unmanaged => cpu.SetReg(i->Reg0, cpu.Pop<T>());

    /// <summary>The address is computed with the stack pointer already moved.</summary>
    static void PopMem<T>(Cpu cpu, Insn* i) where T : unmanaged
    {
        ulong before = cpu.Rsp;
        T value = cpu.Pop<T>();
        try
        {
            cpu.Store(i, value);
        }
        catch (GuestFault)
        {
            cpu.Rsp = before;
            throw;
        }
    }

    /// <summary>From AX to DI, so that a page fault names the first that has no room: Intel SDM vol. 2,
    /// "PUSHA".</summary>
    static void Pusha<T>(Cpu cpu, Insn* i) where T : unmanaged
    {
        for (byte register = 0; register < 8; register++)
            cpu.Poke((ulong)((register + 1) * sizeof(T)), cpu.GetReg<T>(register));
        cpu.StackPointer -= (ulong)(8 * sizeof(T));
    }

    static void Popa<T>(Cpu cpu, Insn* i) where T : unmanaged
    {
        T* values = stackalloc T[8];
        for (int n = 0; n < 8; n++) values[n] = cpu.Peek<T>((ulong)(n * sizeof(T)));
        cpu.Drop((ulong)(8 * sizeof(T)));
        for (byte register = 0; register < 8; register++)
            if (register != 4) cpu.SetReg(register, values[7 - register]);
    }

    /// <summary>Intel SDM vol. 2, "ENTER": frame pointers of the enclosing levels are copied, and the page of the new
    /// top must be writable, before a register changes.</summary>
    static void Enter<T>(Cpu cpu, Insn* i) where T : unmanaged
    {
        ulong mask = cpu.StackMask, sp = cpu.Rsp - (ulong)sizeof(T) & mask;
        int level = (int)i->Extra & 31;
        cpu.Write(Seg.Ss, sp, cpu.GetReg<T>(5));
        ulong frame = cpu.Rsp & ~mask | sp, bp = cpu.Rbp;          // FrameTemp is all of ESP, on 16-bit stacks too
        for (int n = 1; n < level; n++)
        {
            bp -= (ulong)sizeof(T);
            T outer = cpu.Read<T>(Seg.Ss, bp & mask);
            sp = sp - (ulong)sizeof(T) & mask;
            cpu.Write(Seg.Ss, sp, outer);
        }
        if (level > 0)
        {
            sp = sp - (ulong)sizeof(T) & mask;
            cpu.Write(Seg.Ss, sp, Width.Narrow<T>(frame));
        }
        sp = sp - (ushort)i->Immediate & mask;
        cpu.PrepareWrite(cpu.Linear(Seg.Ss, sp, sizeof(T), write: true), sizeof(T), Seg.Ss);
        cpu.SetReg(5, Width.Narrow<T>(frame));
        cpu.StackPointer = sp;
    }

    static void Leave<T>(Cpu cpu, Insn* i) where T : unmanaged
    {
        ulong frame = cpu.Rbp & cpu.StackMask;
        T value = cpu.Read<T>(Seg.Ss, frame);
        cpu.StackPointer = frame + (ulong)sizeof(T);
        cpu.SetReg(5, value);
    }

    static Handler SelectPush(in Instruction x, Insn* i)
    {
        int size = StackSize(in x);
        switch (x.Op0Kind)
        {
            case OpKind.Register:
                if (!x.Op0Register.IsGPR()) return null;
                return size switch { 2 => &PushReg<ushort>, 4 => &PushReg<uint>, _ => &Push64Reg };
            case OpKind.Memory:
                return size switch { 2 => &PushMem<ushort>, 4 => &PushMem<uint>, _ => &Push64Mem };
            default:
                i->Immediate = x.GetImmediate(0);
                return size switch { 2 => &PushImm<ushort>, 4 => &PushImm<uint>, _ => &Push64Imm };
        }
    }

    static Handler SelectPop(in Instruction x)
    {
        int size = StackSize(in x);
        if (x.Op0Kind == OpKind.Memory)
            return size switch { 2 => &PopMem<ushort>, 4 => &PopMem<uint>, _ => &PopMem<ulong> };
        if (!x.Op0Register.IsGPR()) return null;
        return size switch { 2 => &PopReg<ushort>, 4 => &PopReg<uint>, _ => &Pop64Reg };
    }

    static Handler SelectEnter(in Instruction x, Insn* i)
    {
        (i->Immediate, i->Extra) = (x.Immediate16, x.Immediate8_2nd);
        return x.Code switch { Code.Enterw_imm16_imm8 => &Enter<ushort>, Code.Enterd_imm16_imm8 => &Enter<uint>,
            _ => &Enter<ulong> };
    }

    static Handler SelectLeave(in Instruction x) =>
        x.Code switch { Code.Leavew => &Leave<ushort>, Code.Leaved => &Leave<uint>, _ => &Leave<ulong> };

    /// <summary>Bytes one PUSH or POP moves.</summary>
    static int StackSize(in Instruction x) => Math.Abs(x.StackPointerIncrement);
}
