using Iced.Intel;

namespace Qkvm.Accel.Tcg;
using unsafe Handler = delegate*<Cpu, Insn*, void>;

// SAFETY: an Insn lies in its arena until its block has ended; what its operands point at is the vCPU's own state, or
// RAM that was looked up for the access.
/// <summary>XCHG XADD CMPXCHG CMPXCHG8B CMPXCHG16B. XCHG with memory is locked with or without the prefix; the others
/// are done atomically only under LOCK, but the eight- and sixteen-byte ones always.</summary>
static unsafe partial class IntegerOps
{
    static void XchgReg<T>(Cpu cpu, Insn* i) where T : unmanaged
    {
        T a = cpu.GetReg<T>(i->Reg0), b = cpu.GetReg<T>(i->Reg1);
        cpu.SetReg(i->Reg0, b);
        cpu.SetReg(i->Reg1, a);
    }

    static void XchgMem<T>(Cpu cpu, Insn* i) where T : unmanaged
    {
        byte register = i->MemoryOperand == 0 ? i->Reg1 : i->Reg0;
        var atomic = new AtomicCell<T>(cpu, i);
        T old = atomic.Exchange(cpu.GetReg<T>(register));
        atomic.Release();
        cpu.SetReg(register, old);
    }

    /// <summary>The sum is the destination even where both operands are one register.</summary>
    static void XaddReg<T>(Cpu cpu, Insn* i) where T : unmanaged
    {
        T a = cpu.GetReg<T>(i->Reg0);
        ulong sum = Add.Apply<T>(cpu.State, Width.Zero(a), Width.Zero(cpu.GetReg<T>(i->Reg1)));
        cpu.SetReg(i->Reg1, a);
        cpu.SetReg(i->Reg0, Width.Narrow<T>(sum));
    }

    static void XaddMem<T>(Cpu cpu, Insn* i) where T : unmanaged
    {
        ulong b = Width.Zero(cpu.GetReg<T>(i->Reg1));
        T old = cpu.LoadForWrite<T>(i, out byte* host, out ulong linear);
        cpu.StoreBack(i, host, linear, Width.Narrow<T>(Add.Apply<T>(cpu.State, Width.Zero(old), b)));
        cpu.SetReg(i->Reg1, old);
    }

    static void XaddLocked<T>(Cpu cpu, Insn* i) where T : unmanaged
    {
        ulong b = Width.Zero(cpu.GetReg<T>(i->Reg1));
        var atomic = new AtomicCell<T>(cpu, i);
        T old;
        do old = atomic.Read();
        while (!atomic.TryReplace(old, Width.Narrow<T>(Add.Apply<T>(cpu.State, Width.Zero(old), b))));
        atomic.Release();
        cpu.SetReg(i->Reg1, old);
    }

    static void CmpxchgReg<T>(Cpu cpu, Insn* i) where T : unmanaged
    {
        ulong old = Width.Zero(cpu.GetReg<T>(i->Reg0));
        T source = cpu.GetReg<T>(i->Reg1);
        if (Sub.Apply<T>(cpu.State, Width.Zero(cpu.GetReg<T>(0)), old) == 0) cpu.SetReg(i->Reg0, source);
        else cpu.SetReg(0, Width.Narrow<T>(old));
    }

    /// <summary>The destination is written either way.</summary>
    static void CmpxchgMem<T>(Cpu cpu, Insn* i) where T : unmanaged
    {
        T old = cpu.LoadForWrite<T>(i, out byte* host, out ulong linear);
        bool equal = Width.Zero(cpu.GetReg<T>(0)) == Width.Zero(old);
        cpu.StoreBack(i, host, linear, equal ? cpu.GetReg<T>(i->Reg1) : old);
        Sub.Apply<T>(cpu.State, Width.Zero(cpu.GetReg<T>(0)), Width.Zero(old));
        if (!equal) cpu.SetReg(0, old);
    }

    static void CmpxchgLocked<T>(Cpu cpu, Insn* i) where T : unmanaged
    {
        ulong expected = Width.Zero(cpu.GetReg<T>(0));
        T source = cpu.GetReg<T>(i->Reg1), old;
        var atomic = new AtomicCell<T>(cpu, i);
        bool equal;
        do
        {
            old = atomic.Read();
            equal = Width.Zero(old) == expected;
        }
        while (equal && !atomic.TryReplace(old, source));
        atomic.Release();
        Sub.Apply<T>(cpu.State, expected, Width.Zero(old));
        if (!equal) cpu.SetReg(0, old);
    }

    static void Cmpxchg8b(Cpu cpu, Insn* i)
    {
        ulong expected = cpu.Rdx << 32 | (uint)cpu.Rax, desired = cpu.Rcx << 32 | (uint)cpu.Rbx, old;
        var atomic = new AtomicCell<ulong>(cpu, i);
        do old = atomic.Read();
        while (old == expected && !atomic.TryReplace(old, desired));
        atomic.Release();
        if (old != expected)
        {
            cpu.Rax = (uint)old;
            cpu.Rdx = old >> 32;
        }
        cpu.SetZero(old == expected);
    }

    static void Cmpxchg16b(Cpu cpu, Insn* i)
    {
        ulong linear = cpu.LinearForWrite(i, 16);
        if ((linear & 15) != 0) throw cpu.Gp();
        byte* host = cpu.LockableHost(linear, 16, i->Segment);
        ulong* expected = stackalloc ulong[] { cpu.Rax, cpu.Rdx }, desired = stackalloc ulong[] { cpu.Rbx, cpu.Rcx };
        bool equal;
        if (host != null) equal = HostCode.CompareExchange16(host, expected, desired);
        else
        {
            ulong low = cpu.ReadLinear<ulong>(linear), high = cpu.ReadLinear<ulong>(linear + 8);
            equal = low == expected[0] && high == expected[1];
            cpu.WriteLinear(linear, equal ? desired[0] : low);
            cpu.WriteLinear(linear + 8, equal ? desired[1] : high);
            (expected[0], expected[1]) = (low, high);
        }
        if (!equal) (cpu.Rax, cpu.Rdx) = (expected[0], expected[1]);
        cpu.SetZero(equal);
    }

    static Handler SelectXchg(in Instruction x)
    {
        bool memory = x.Op0Kind == OpKind.Memory || x.Op1Kind == OpKind.Memory;
        return Size(in x) switch
        {
            1 => memory ? &XchgMem<byte> : &XchgReg<byte>,
            2 => memory ? &XchgMem<ushort> : &XchgReg<ushort>,
            4 => memory ? &XchgMem<uint> : &XchgReg<uint>,
            _ => memory ? &XchgMem<ulong> : &XchgReg<ulong>,
        };
    }

    static Handler SelectXadd(in Instruction x) => Size(in x) switch
    {
        1 => XaddForm<byte>(in x),
        2 => XaddForm<ushort>(in x),
        4 => XaddForm<uint>(in x),
        _ => XaddForm<ulong>(in x),
    };

    static Handler XaddForm<T>(in Instruction x) where T : unmanaged =>
        x.Op0Kind != OpKind.Memory ? &XaddReg<T> : x.HasLockPrefix ? &XaddLocked<T> : &XaddMem<T>;

    static Handler SelectCmpxchg(in Instruction x) => Size(in x) switch
    {
        1 => CmpxchgForm<byte>(in x),
        2 => CmpxchgForm<ushort>(in x),
        4 => CmpxchgForm<uint>(in x),
        _ => CmpxchgForm<ulong>(in x),
    };

    static Handler CmpxchgForm<T>(in Instruction x) where T : unmanaged =>
        x.Op0Kind != OpKind.Memory ? &CmpxchgReg<T> : x.HasLockPrefix ? &CmpxchgLocked<T> : &CmpxchgMem<T>;
}
