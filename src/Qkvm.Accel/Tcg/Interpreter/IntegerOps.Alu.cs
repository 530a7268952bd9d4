using System.Runtime.CompilerServices;
using Iced.Intel;

namespace Qkvm.Accel.Tcg;
using unsafe Handler = delegate*<Cpu, Insn*, void>;

// SAFETY: an Insn lies in its arena until its block has ended; what its operands point at is the vCPU's own state, or
// RAM that was looked up for the access.
/// <summary>An operation of two operands that sets all arithmetic flags; the result counts only if it writes.</summary>
interface IAlu
{
    static abstract bool Writes { get; }
    static abstract unsafe ulong Apply<T>(CpuState* s, ulong a, ulong b) where T : unmanaged;
}

/// <summary>An operation of one operand.</summary>
interface IUnary
{
    static abstract unsafe ulong Apply<T>(CpuState* s, ulong a) where T : unmanaged;
}

/// <summary>ADD OR ADC SBB AND SUB XOR CMP TEST, INC DEC NEG NOT.</summary>
static unsafe partial class IntegerOps
{
    readonly struct Add : IAlu
    {
        public static bool Writes => true;
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static ulong Apply<T>(CpuState* s, ulong a, ulong b) where T : unmanaged
        {
            ulong result = a + b;
            LazyFlags.Sum<T>(s, a, b, result);
            return result;
        }
    }

    readonly struct Adc : IAlu
    {
        public static bool Writes => true;
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static ulong Apply<T>(CpuState* s, ulong a, ulong b) where T : unmanaged
        {
            ulong result = a + b + (s->FlagsCarries >> 63);
            LazyFlags.Sum<T>(s, a, b, result);
            return result;
        }
    }

    readonly struct Sub : IAlu
    {
        public static bool Writes => true;
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static ulong Apply<T>(CpuState* s, ulong a, ulong b) where T : unmanaged
        {
            ulong result = a - b;
            LazyFlags.Difference<T>(s, a, b, result);
            return result;
        }
    }

    readonly struct Sbb : IAlu
    {
        public static bool Writes => true;
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static ulong Apply<T>(CpuState* s, ulong a, ulong b) where T : unmanaged
        {
            ulong result = a - b - (s->FlagsCarries >> 63);
            LazyFlags.Difference<T>(s, a, b, result);
            return result;
        }
    }

    readonly struct Cmp : IAlu
    {
        public static bool Writes => false;
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static ulong Apply<T>(CpuState* s, ulong a, ulong b) where T : unmanaged => Sub.Apply<T>(s, a, b);
    }

    readonly struct And : IAlu
    {
        public static bool Writes => true;
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static ulong Apply<T>(CpuState* s, ulong a, ulong b) where T : unmanaged
        {
            ulong result = a & b;
            LazyFlags.Logic<T>(s, result);
            return result;
        }
    }

    readonly struct Test : IAlu
    {
        public static bool Writes => false;
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static ulong Apply<T>(CpuState* s, ulong a, ulong b) where T : unmanaged => And.Apply<T>(s, a, b);
    }

    readonly struct Or : IAlu
    {
        public static bool Writes => true;
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static ulong Apply<T>(CpuState* s, ulong a, ulong b) where T : unmanaged
        {
            ulong result = a | b;
            LazyFlags.Logic<T>(s, result);
            return result;
        }
    }

    readonly struct Xor : IAlu
    {
        public static bool Writes => true;
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static ulong Apply<T>(CpuState* s, ulong a, ulong b) where T : unmanaged
        {
            ulong result = a ^ b;
            LazyFlags.Logic<T>(s, result);
            return result;
        }
    }

    readonly struct Inc : IUnary
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static ulong Apply<T>(CpuState* s, ulong a) where T : unmanaged
        {
            ulong result = a + 1;
            Step<T>(s, a, result, result & ~a);
            return result;
        }
    }

    readonly struct Dec : IUnary
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static ulong Apply<T>(CpuState* s, ulong a) where T : unmanaged
        {
            ulong result = a - 1;
            Step<T>(s, a, result, a & ~result);
            return result;
        }
    }

    readonly struct Neg : IUnary
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static ulong Apply<T>(CpuState* s, ulong a) where T : unmanaged => Sub.Apply<T>(s, 0, a);
    }

    readonly struct Not : IUnary
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static ulong Apply<T>(CpuState* s, ulong a) where T : unmanaged => ~a;
    }

    /// <summary>Flags of INC and DEC: CF stays; the top bit of <paramref name="overflow"/> says OF.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    static void Step<T>(CpuState* s, ulong a, ulong result, ulong overflow) where T : unmanaged
    {
        ulong carry = (ulong)((long)s->FlagsCarries >> 63) & (LazyFlags.CarryBit | LazyFlags.OverflowBit);
        ulong top = Width.ToTop<T>(overflow) >> 1 & LazyFlags.OverflowBit;
        s->FlagsResult = Width.Signed<T>(result);
        s->FlagsCarries = (carry ^ top) | (a ^ result) >> 1 & LazyFlags.AdjustBit;
        s->FlagsPatch = 0;
    }

    static void RegReg<TOp, T>(Cpu cpu, Insn* i) where TOp : struct, IAlu where T : unmanaged
    {
        ulong result = TOp.Apply<T>(cpu.State, Width.Zero(cpu.GetReg<T>(i->Reg0)), Width.Zero(cpu.GetReg<T>(i->Reg1)));
        if (TOp.Writes) cpu.SetReg(i->Reg0, Width.Narrow<T>(result));
    }

    static void RegImm<TOp, T>(Cpu cpu, Insn* i) where TOp : struct, IAlu where T : unmanaged
    {
        ulong result = TOp.Apply<T>(cpu.State, Width.Zero(cpu.GetReg<T>(i->Reg0)), i->Immediate);
        if (TOp.Writes) cpu.SetReg(i->Reg0, Width.Narrow<T>(result));
    }

    static void RegMem<TOp, T>(Cpu cpu, Insn* i) where TOp : struct, IAlu where T : unmanaged
    {
        ulong b = Width.Zero(cpu.Load<T>(i));
        ulong result = TOp.Apply<T>(cpu.State, Width.Zero(cpu.GetReg<T>(i->Reg0)), b);
        if (TOp.Writes) cpu.SetReg(i->Reg0, Width.Narrow<T>(result));
    }

    static void MemReg<TOp, T>(Cpu cpu, Insn* i) where TOp : struct, IAlu where T : unmanaged =>
        Mem<TOp, T>(cpu, i, Width.Zero(cpu.GetReg<T>(i->Reg1)));

    static void MemImm<TOp, T>(Cpu cpu, Insn* i) where TOp : struct, IAlu where T : unmanaged =>
        Mem<TOp, T>(cpu, i, i->Immediate);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    static void Mem<TOp, T>(Cpu cpu, Insn* i, ulong b) where TOp : struct, IAlu where T : unmanaged
    {
        if (TOp.Writes)
        {
            ulong a = Width.Zero(cpu.LoadForWrite<T>(i, out byte* host, out ulong linear));
            cpu.StoreBack(i, host, linear, Width.Narrow<T>(TOp.Apply<T>(cpu.State, a, b)));
        }
        else TOp.Apply<T>(cpu.State, Width.Zero(cpu.Load<T>(i)), b);
    }

    static void LockedReg<TOp, T>(Cpu cpu, Insn* i) where TOp : struct, IAlu where T : unmanaged =>
        Locked<TOp, T>(cpu, i, Width.Zero(cpu.GetReg<T>(i->Reg1)));

    static void LockedImm<TOp, T>(Cpu cpu, Insn* i) where TOp : struct, IAlu where T : unmanaged =>
        Locked<TOp, T>(cpu, i, i->Immediate);

    static void Locked<TOp, T>(Cpu cpu, Insn* i, ulong b) where TOp : struct, IAlu where T : unmanaged
    {
        var atomic = new AtomicCell<T>(cpu, i);
        ulong carries = cpu.State->FlagsCarries;
        T old;
        do
        {
            // ADC and SBB: the carry from before, if another CPU came first
            cpu.State->FlagsCarries = carries;
            old = atomic.Read();
        }
        while (!atomic.TryReplace(old, Width.Narrow<T>(TOp.Apply<T>(cpu.State, Width.Zero(old), b))));
        atomic.Release();
    }

    static void UnaryReg<TOp, T>(Cpu cpu, Insn* i) where TOp : struct, IUnary where T : unmanaged =>
        cpu.SetReg(i->Reg0, Width.Narrow<T>(TOp.Apply<T>(cpu.State, Width.Zero(cpu.GetReg<T>(i->Reg0)))));

    static void UnaryMem<TOp, T>(Cpu cpu, Insn* i) where TOp : struct, IUnary where T : unmanaged
    {
        ulong a = Width.Zero(cpu.LoadForWrite<T>(i, out byte* host, out ulong linear));
        cpu.StoreBack(i, host, linear, Width.Narrow<T>(TOp.Apply<T>(cpu.State, a)));
    }

    static void UnaryLocked<TOp, T>(Cpu cpu, Insn* i) where TOp : struct, IUnary where T : unmanaged
    {
        var atomic = new AtomicCell<T>(cpu, i);
        ulong carries = cpu.State->FlagsCarries;
        T old;
        do
        {
            cpu.State->FlagsCarries = carries;
            old = atomic.Read();
        }
        while (!atomic.TryReplace(old, Width.Narrow<T>(TOp.Apply<T>(cpu.State, Width.Zero(old)))));
        atomic.Release();
    }

    static Handler SelectAlu<TOp>(in Instruction x, Insn* i) where TOp : struct, IAlu => Size(in x) switch
    {
        1 => AluForm<TOp, byte>(in x, i),
        2 => AluForm<TOp, ushort>(in x, i),
        4 => AluForm<TOp, uint>(in x, i),
        _ => AluForm<TOp, ulong>(in x, i),
    };

    static Handler AluForm<TOp, T>(in Instruction x, Insn* i) where TOp : struct, IAlu where T : unmanaged
    {
        bool immediate = IsImmediate(x.Op1Kind);
        if (immediate) i->Immediate = Width.Cut<T>(x.GetImmediate(1));
        if (x.Op1Kind == OpKind.Memory) return &RegMem<TOp, T>;
        if (x.Op0Kind != OpKind.Memory) return immediate ? &RegImm<TOp, T> : &RegReg<TOp, T>;
        if (x.HasLockPrefix && TOp.Writes) return immediate ? &LockedImm<TOp, T> : &LockedReg<TOp, T>;
        return immediate ? &MemImm<TOp, T> : &MemReg<TOp, T>;
    }

    static Handler SelectUnary<TOp>(in Instruction x) where TOp : struct, IUnary => Size(in x) switch
    {
        1 => UnaryForm<TOp, byte>(in x),
        2 => UnaryForm<TOp, ushort>(in x),
        4 => UnaryForm<TOp, uint>(in x),
        _ => UnaryForm<TOp, ulong>(in x),
    };

    static Handler UnaryForm<TOp, T>(in Instruction x) where TOp : struct, IUnary where T : unmanaged =>
        x.Op0Kind != OpKind.Memory ? &UnaryReg<TOp, T> : x.HasLockPrefix ? &UnaryLocked<TOp, T> : &UnaryMem<TOp, T>;
}
