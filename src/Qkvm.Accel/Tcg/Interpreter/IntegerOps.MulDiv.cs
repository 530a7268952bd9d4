using Iced.Intel;

namespace Qkvm.Accel.Tcg;
using unsafe Handler = delegate*<Cpu, Insn*, void>;

// SAFETY: an Insn lies in its arena until its block has ended; what its operands point at is the vCPU's own state, or
// RAM that was looked up for the access.
/// <summary>MUL IMUL DIV IDIV. Intel SDM vol. 2. Multiplications leave SF, ZF and PF of the low half, which are
/// undefined; divisions leave all flags as they were.</summary>
static unsafe partial class IntegerOps
{
    static void Mul<T>(Cpu cpu, Insn* i) where T : unmanaged
    {
        ulong b = Width.Zero(Operand<T>(cpu, i, 0)), a = Width.Zero(cpu.GetReg<T>(0)), low, high;
        if (sizeof(T) == 8) high = Math.BigMul(a, b, out low);
        else (low, high) = (a * b, a * b >> (Width.Bits<T>() & 63));
        SetProduct<T>(cpu, low, high);
        LazyFlags.Result<T>(cpu.State, low, high != 0, high != 0);
    }

    static void ImulWide<T>(Cpu cpu, Insn* i) where T : unmanaged
    {
        long b = (long)Width.Signed<T>(Width.Zero(Operand<T>(cpu, i, 0))),
            a = (long)Width.Signed<T>(Width.Zero(cpu.GetReg<T>(0)));
        ulong low, high;
        bool overflow;
        if (sizeof(T) == 8)
        {
            high = (ulong)Math.BigMul(a, b, out long signedLow);
            low = (ulong)signedLow;
            overflow = high != (ulong)(signedLow >> 63);
        }
        else
        {
            low = (ulong)(a * b);
            high = low >> (Width.Bits<T>() & 63);
            overflow = Width.Signed<T>(low) != low;
        }
        SetProduct<T>(cpu, low, high);
        LazyFlags.Result<T>(cpu.State, low, overflow, overflow);
    }

    static void SetProduct<T>(Cpu cpu, ulong low, ulong high) where T : unmanaged
    {
        if (sizeof(T) == 1)
        {
            cpu.SetReg(0, (ushort)low);
            return;
        }
        cpu.SetReg(0, Width.Narrow<T>(low));
        cpu.SetReg(2, Width.Narrow<T>(high));
    }

    static void ImulReg<T>(Cpu cpu, Insn* i) where T : unmanaged =>
        Imul<T>(cpu, i, Width.Zero(cpu.GetReg<T>(i->Reg0)), Width.Zero(Operand<T>(cpu, i, 1)));

    static void ImulImm<T>(Cpu cpu, Insn* i) where T
        : unmanaged => Imul<T>(cpu, i, Width.Zero(Operand<T>(cpu, i, 1)), i->Immediate);

    static void Imul<T>(Cpu cpu, Insn* i, ulong first, ulong second) where T : unmanaged
    {
        long a = (long)Width.Signed<T>(first), b = (long)Width.Signed<T>(second), product = a * b;
        bool overflow = sizeof(T) == 8
            ? Math.BigMul(a, b, out _) != product >> 63
            : Width.Signed<T>((ulong)product) != (ulong)product;
        cpu.SetReg(i->Reg0, Width.Narrow<T>((ulong)product));
        LazyFlags.Result<T>(cpu.State, (ulong)product, overflow, overflow);
    }

    static void Div<T>(Cpu cpu, Insn* i) where T : unmanaged
    {
        ulong divisor = Width.Zero(Operand<T>(cpu, i, 0)), quotient, remainder;
        ulong low = Width.Zero(cpu.GetReg<T>(0)), high = sizeof(T) == 1 ? cpu.Rax >> 8 & 0xFF
            : Width.Zero(cpu.GetReg<T>(2));
        if (divisor == 0 || high >= divisor) throw cpu.Fault(Vector.DivideError);
        if (sizeof(T) < 8)
        {
            ulong dividend = high << (Width.Bits<T>() & 63) | low;
            (quotient, remainder) = sizeof(T) == 4 && dividend > uint.MaxValue
                ? Math.DivRem(dividend, divisor) : Math.DivRem((uint)dividend, (uint)divisor);
        }
        else if (high == 0) (quotient, remainder) = Math.DivRem(low, divisor);
        else quotient = HostCode.Divide(high, low, divisor, out remainder);
        SetQuotient<T>(cpu, quotient, remainder);
    }

    static void Idiv<T>(Cpu cpu, Insn* i) where T : unmanaged
    {
        long divisor = (long)Width.Signed<T>(Width.Zero(Operand<T>(cpu, i, 0))), quotient, remainder;
        if (divisor == 0) throw cpu.Fault(Vector.DivideError);
        if (sizeof(T) < 8)
        {
            ulong low = Width.Zero(cpu.GetReg<T>(0)), high = sizeof(T) == 1 ? cpu.Rax >> 8 & 0xFF
                : Width.Zero(cpu.GetReg<T>(2));
            long dividend = (long)(Width.Signed<T>(high) << (Width.Bits<T>() & 63) | low);
            if (divisor == -1 && dividend == long.MinValue) throw cpu.Fault(Vector.DivideError);
            (quotient, remainder) = Math.DivRem(dividend, divisor);
            if ((long)Width.Signed<T>((ulong)quotient) != quotient) throw cpu.Fault(Vector.DivideError);
        }
        else
        {
            long low = (long)cpu.Rax, high = (long)cpu.Rdx;
            if (high == low >> 63 && !(low == long.MinValue && divisor == -1))
                (quotient, remainder) = Math.DivRem(low, divisor);
            else if (!TryDivide(high, (ulong)low, divisor, out quotient, out remainder))
                throw cpu.Fault(Vector.DivideError);
        }
        SetQuotient<T>(cpu, (ulong)quotient, (ulong)remainder);
    }

    /// <summary>128 by 64 bits, by magnitudes.</summary>
    static bool TryDivide(long high, ulong low, long divisor, out long quotient, out long remainder)
    {
        bool negative = high < 0;
        UInt128 dividend = new((ulong)high, low);
        if (negative) dividend = UInt128.Zero - dividend;
        ulong by = divisor < 0 ? (ulong)-divisor : (ulong)divisor, top = (ulong)(dividend >> 64);
        (quotient, remainder) = (0, 0);
        if (top >= by) return false;
        ulong magnitude = HostCode.Divide(top, (ulong)dividend, by, out ulong rest);
        bool quotientNegative = negative != divisor < 0;
        if (magnitude > (ulong)long.MaxValue + (quotientNegative ? 1UL : 0)) return false;
        quotient = quotientNegative ? -(long)magnitude : (long)magnitude;
        remainder = negative ? -(long)rest : (long)rest;
        return true;
    }

    static void SetQuotient<T>(Cpu cpu, ulong quotient, ulong remainder) where T : unmanaged
    {
        if (sizeof(T) == 1)
        {
            cpu.SetReg(0, (ushort)(quotient & 0xFF | remainder << 8));
            return;
        }
        cpu.SetReg(0, Width.Narrow<T>(quotient));
        cpu.SetReg(2, Width.Narrow<T>(remainder));
    }

    static Handler SelectMul(in Instruction x) => Size(in x) switch
    { 1 => &Mul<byte>, 2 => &Mul<ushort>, 4 => &Mul<uint>, _ => &Mul<ulong> };

    static Handler SelectDiv(in Instruction x) => Size(in x) switch
    { 1 => &Div<byte>, 2 => &Div<ushort>, 4 => &Div<uint>, _ => &Div<ulong> };

    static Handler SelectIdiv(in Instruction x) => Size(in x) switch
    { 1 => &Idiv<byte>, 2 => &Idiv<ushort>, 4 => &Idiv<uint>, _ => &Idiv<ulong> };

    static Handler SelectImul(in Instruction x, Insn* i)
    {
        int size = Size(in x);
        switch (x.OpCount)
        {
            case 1: return size switch { 1 => &ImulWide<byte>, 2 => &ImulWide<ushort>, 4 => &ImulWide<uint>,
                _ => &ImulWide<ulong> };
            case 2: return size switch { 2 => &ImulReg<ushort>, 4 => &ImulReg<uint>, _ => &ImulReg<ulong> };
            default:
                i->Immediate = x.GetImmediate(2);
                return size switch { 2 => &ImulImm<ushort>, 4 => &ImulImm<uint>, _ => &ImulImm<ulong> };
        }
    }
}
