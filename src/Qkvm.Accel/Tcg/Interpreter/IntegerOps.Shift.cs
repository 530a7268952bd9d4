using System.Runtime.CompilerServices;
using Iced.Intel;

namespace Qkvm.Accel.Tcg;
using unsafe Handler = delegate*<Cpu, Insn*, void>;

// SAFETY: an Insn lies in its arena until its block has ended; what its operands point at is the vCPU's own state, or
// RAM that was looked up for the access.
/// <summary>A shift or rotate by a count that is masked already and not 0.</summary>
interface IShift
{
    static abstract unsafe ulong Apply<T>(CpuState* s, ulong a, int count) where T : unmanaged;
}

/// <summary>SHL SHR SAR ROL ROR RCL RCR SHLD SHRD. Intel SDM vol. 2. OF for counts other than 1, which is undefined, is
/// computed by the rule for 1 from the last step; AF is cleared.</summary>
static unsafe partial class IntegerOps
{
    readonly struct Shl : IShift
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static ulong Apply<T>(CpuState* s, ulong a, int count) where T : unmanaged
        {
            ulong result = a << count;
            ulong carry = sizeof(T) == 8 ? a >> (64 - count) & 1 : result >> (Width.Bits<T>() & 63) & 1;
            SetShift<T>(s, result, carry, Width.Signed<T>(result) >> 63 ^ carry);
            return result;
        }
    }

    readonly struct Shr : IShift
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static ulong Apply<T>(CpuState* s, ulong a, int count) where T : unmanaged
        {
            ulong before = a >> (count - 1), result = before >> 1;
            SetShift<T>(s, result, before & 1, Width.Signed<T>(before) >> 63);
            return result;
        }
    }

    readonly struct Sar : IShift
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static ulong Apply<T>(CpuState* s, ulong a, int count) where T : unmanaged
        {
            long before = (long)Width.Signed<T>(a) >> (count - 1);
            SetShift<T>(s, (ulong)(before >> 1), (ulong)before & 1, 0);
            return (ulong)(before >> 1);
        }
    }

    readonly struct Rol : IShift
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static ulong Apply<T>(CpuState* s, ulong a, int count) where T : unmanaged
        {
            int by = count & (Width.Bits<T>() - 1);
            ulong result = sizeof(T) == 8 ? ulong.RotateLeft(a, by)
                : Width.Cut<T>(a << by | a >> (Width.Bits<T>() - by));
            LazyFlags.KeepOthers(s, result << 63 | Width.ToTop<T>(result) >> 1 & LazyFlags.OverflowBit);
            return result;
        }
    }

    readonly struct Ror : IShift
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static ulong Apply<T>(CpuState* s, ulong a, int count) where T : unmanaged
        {
            int by = count & (Width.Bits<T>() - 1);
            ulong result = sizeof(T) == 8 ? ulong.RotateRight(a, by)
                : Width.Cut<T>(a >> by | a << (Width.Bits<T>() - by));
            LazyFlags.KeepOthers(s, Width.ToTop<T>(result) & (LazyFlags.CarryBit | LazyFlags.OverflowBit));
            return result;
        }
    }

    readonly struct Rcl : IShift
    {
        public static ulong Apply<T>(CpuState* s, ulong a, int count) where T : unmanaged
        {
            int by = sizeof(T) >= 4 ? count : count % (Width.Bits<T>() + 1);
            if (by == 0) return a;
            ulong carry = s->FlagsCarries >> 63, result;
            if (sizeof(T) == 8)
            {
                result = a << by | carry << (by - 1) | (by > 1 ? a >> (65 - by) : 0);
                carry = a >> (64 - by) & 1;
            }
            else
            {
                ulong whole = carry << Width.Bits<T>() | a;
                result = whole << by | whole >> (Width.Bits<T>() + 1 - by);
                carry = result >> Width.Bits<T>() & 1;
            }
            LazyFlags.KeepOthers(s, LazyFlags.Carries(carry, Width.Signed<T>(result) >> 63 ^ carry));
            return result;
        }
    }

    readonly struct Rcr : IShift
    {
        public static ulong Apply<T>(CpuState* s, ulong a, int count) where T : unmanaged
        {
            int by = sizeof(T) >= 4 ? count : count % (Width.Bits<T>() + 1);
            if (by == 0) return a;
            ulong carry = s->FlagsCarries >> 63, result;
            if (sizeof(T) == 8)
            {
                result = a >> by | carry << (64 - by) | (by > 1 ? a << (65 - by) : 0);
                carry = a >> (by - 1) & 1;
            }
            else
            {
                ulong whole = carry << Width.Bits<T>() | a;
                result = whole >> by | whole << (Width.Bits<T>() + 1 - by);
                carry = result >> Width.Bits<T>() & 1;
            }
            ulong top = Width.ToTop<T>(result);
            LazyFlags.KeepOthers(s, LazyFlags.Carries(carry, (top ^ top << 1) >> 63));
            return result;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    static void SetShift<T>(CpuState* s, ulong result, ulong carry, ulong overflow) where T : unmanaged
    {
        s->FlagsResult = Width.Signed<T>(result);
        s->FlagsCarries = LazyFlags.Carries(carry, overflow);
        s->FlagsPatch = 0;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    static int CountMask<T>() where T : unmanaged => sizeof(T) == 8 ? 63 : 31;

    static void ShiftRegImm<TOp, T>(Cpu cpu, Insn* i) where TOp : struct, IShift where T : unmanaged =>
        cpu.SetReg(i->Reg0,
            Width.Narrow<T>(TOp.Apply<T>(cpu.State, Width.Zero(cpu.GetReg<T>(i->Reg0)), (int)i->Immediate)));

    static void ShiftRegCl<TOp, T>(Cpu cpu, Insn* i) where TOp : struct, IShift where T : unmanaged
    {
        int count = (int)cpu.Rcx & CountMask<T>();
        ulong value = Width.Zero(cpu.GetReg<T>(i->Reg0));
        cpu.SetReg(i->Reg0, Width.Narrow<T>(count == 0 ? value : TOp.Apply<T>(cpu.State, value, count)));
    }

    static void ShiftMemImm<TOp, T>(Cpu cpu, Insn* i) where TOp : struct, IShift where T : unmanaged =>
        ShiftMem<TOp, T>(cpu, i, (int)i->Immediate);

    static void ShiftMemCl<TOp, T>(Cpu cpu, Insn* i) where TOp : struct, IShift where T : unmanaged =>
        ShiftMem<TOp, T>(cpu, i, (int)cpu.Rcx & CountMask<T>());

    static void ShiftMem<TOp, T>(Cpu cpu, Insn* i, int count) where TOp : struct, IShift where T : unmanaged
    {
        ulong a = Width.Zero(cpu.LoadForWrite<T>(i, out byte* host, out ulong linear));
        cpu.StoreBack(i, host, linear, Width.Narrow<T>(count == 0 ? a : TOp.Apply<T>(cpu.State, a, count)));
    }

    /// <summary>A shift by an immediate 0 (masked): the destination is written, the flags are not.</summary>
    static void ShiftRegNone<T>(Cpu cpu, Insn* i) where T : unmanaged => cpu.SetReg(i->Reg0, cpu.GetReg<T>(i->Reg0));

    readonly struct Shld : IDoubleShift
    {
        public static ulong Apply<T>(CpuState* s, ulong a, ulong b, int count) where T : unmanaged
        {
            ulong result, carry;
            if (sizeof(T) == 2)
            {
                // Counts above 16 are undefined; AMD's processors shift the source in once more, Intel's the
                // destination.
                ulong whole = a << 32 | b << 16 | b;
                result = whole << count >> 32 & 0xFFFF;
                carry = whole >> (48 - count) & 1;
            }
            else
            {
                result = Width.Cut<T>(a << count | b >> (Width.Bits<T>() - count));
                carry = a >> (Width.Bits<T>() - count) & 1;
            }
            SetShift<T>(s, result, carry, (Width.Signed<T>(result) ^ Width.Signed<T>(a)) >> 63);
            return result;
        }
    }

    readonly struct Shrd : IDoubleShift
    {
        public static ulong Apply<T>(CpuState* s, ulong a, ulong b, int count) where T : unmanaged
        {
            ulong result, carry;
            if (sizeof(T) == 2)
            {
                ulong whole = b << 32 | b << 16 | a;
                result = whole >> count & 0xFFFF;
                carry = whole >> (count - 1) & 1;
            }
            else
            {
                result = Width.Cut<T>(a >> count | b << (Width.Bits<T>() - count));
                carry = a >> (count - 1) & 1;
            }
            SetShift<T>(s, result, carry, (Width.ToTop<T>(result) ^ Width.ToTop<T>(result) << 1) >> 63);
            return result;
        }
    }

    interface IDoubleShift
    {
        static abstract ulong Apply<T>(CpuState* s, ulong a, ulong b, int count) where T : unmanaged;
    }

    /// <summary>The count is the immediate, or CL where the third operand is a register.</summary>
    static int DoubleCount<T>(Cpu cpu, Insn* i) where T : unmanaged =>
        (int)(i->Reg2 != Insn.NoRegister ? cpu.Rcx : i->Immediate) & CountMask<T>();

    static void DoubleReg<TOp, T>(Cpu cpu, Insn* i) where TOp : struct, IDoubleShift where T : unmanaged
    {
        int count = DoubleCount<T>(cpu, i);
        ulong a = Width.Zero(cpu.GetReg<T>(i->Reg0)), b = Width.Zero(cpu.GetReg<T>(i->Reg1));
        cpu.SetReg(i->Reg0, Width.Narrow<T>(count == 0 ? a : TOp.Apply<T>(cpu.State, a, b, count)));
    }

    static void DoubleMem<TOp, T>(Cpu cpu, Insn* i) where TOp : struct, IDoubleShift where T : unmanaged
    {
        int count = DoubleCount<T>(cpu, i);
        ulong a = Width.Zero(cpu.LoadForWrite<T>(i, out byte* host, out ulong linear)),
            b = Width.Zero(cpu.GetReg<T>(i->Reg1));
        cpu.StoreBack(i, host, linear, Width.Narrow<T>(count == 0 ? a : TOp.Apply<T>(cpu.State, a, b, count)));
    }

    static Handler SelectShift<TOp>(in Instruction x, Insn* i) where TOp : struct, IShift => Size(in x) switch
    {
        1 => ShiftForm<TOp, byte>(in x, i),
        2 => ShiftForm<TOp, ushort>(in x, i),
        4 => ShiftForm<TOp, uint>(in x, i),
        _ => ShiftForm<TOp, ulong>(in x, i),
    };

    static Handler ShiftForm<TOp, T>(in Instruction x, Insn* i) where TOp : struct, IShift where T : unmanaged
    {
        bool memory = x.Op0Kind == OpKind.Memory;
        if (!IsImmediate(x.Op1Kind)) return memory ? &ShiftMemCl<TOp, T> : &ShiftRegCl<TOp, T>;
        i->Immediate = x.GetImmediate(1) & (ulong)CountMask<T>();
        if (memory) return &ShiftMemImm<TOp, T>;
        return i->Immediate == 0 ? &ShiftRegNone<T> : &ShiftRegImm<TOp, T>;
    }

    static Handler SelectDouble<TOp>(in Instruction x) where TOp : struct, IDoubleShift
    {
        bool memory = x.Op0Kind == OpKind.Memory;
        return Size(in x) switch
        {
            2 => memory ? &DoubleMem<TOp, ushort> : &DoubleReg<TOp, ushort>,
            4 => memory ? &DoubleMem<TOp, uint> : &DoubleReg<TOp, uint>,
            _ => memory ? &DoubleMem<TOp, ulong> : &DoubleReg<TOp, ulong>,
        };
    }
}
