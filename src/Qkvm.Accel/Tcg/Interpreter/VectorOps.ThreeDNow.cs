using Iced.Intel;

namespace Qkvm.Accel.Tcg;
using unsafe Handler = delegate*<Cpu, Insn*, void>;

// 3DNow! and its extensions. AMD, 3DNow! Technology Manual, order 21928; AMD Extensions to the 3DNow! and MMX
// Instruction Sets, order 22466. Numbers are never denormal, results that are too large become the largest one, and
// nothing raises an exception.
// Deviation: reciprocals are exact at once, so that the steps that refine them change nothing.
// SAFETY: an Insn lies in its arena until its block has ended; what its operands point at is the vCPU's own state, or
// RAM that was looked up for the access.
static unsafe partial class VectorOps
{
    static Handler SelectThreeDNow(in Instruction x) =>
        x.Mnemonic == Mnemonic.Femms ? &Emms : x.Encoding == EncodingKind.D3NOW && IsThreeDNow(x.Mnemonic)
            ? &ThreeDNow : null;

    /// <summary>AMD's; two more are Geode's.</summary>
    static bool IsThreeDNow(Mnemonic mnemonic) => mnemonic is not (Mnemonic.Pfrcpv or Mnemonic.Pfrsqrtv);

    static void ThreeDNow(Cpu cpu, Insn* i)
    {
        cpu.CheckMmx();
        byte* registers = cpu.State->Xsave.Bytes + XsaveArea.St0;
        ulong source = i->HasMemory ? cpu.Load<ulong>(i) : 0;
        cpu.EnterMmx();
        if (!i->HasMemory) source = *(ulong*)(registers + i->Reg1 * 16);
        byte* to = registers + i->Reg0 * 16;
        *(ulong*)to = Compute(i->Code.Mnemonic(), *(ulong*)to, source);
        *(ushort*)(to + 8) = ushort.MaxValue;                       // exponent and sign
    }

    static ulong Compute(Mnemonic mnemonic, ulong d, ulong s)
    {
        uint dl = (uint)d, dh = (uint)(d >> 32), sl = (uint)s, sh = (uint)(s >> 32);
        switch (mnemonic)
        {
            case Mnemonic.Pavgusb: return Bytes(d, s);
            case Mnemonic.Pmulhrw: return Words(d, s);
            case Mnemonic.Pswapd: return Pair(sh, sl);
            case Mnemonic.Pfacc: return Pair(Of(F(dl) + F(dh)), Of(F(sl) + F(sh)));
            case Mnemonic.Pfnacc: return Pair(Of(F(dl) - F(dh)), Of(F(sl) - F(sh)));
            case Mnemonic.Pfpnacc: return Pair(Of(F(dl) - F(dh)), Of(F(sl) + F(sh)));
            case Mnemonic.Pfrcp:
                uint reciprocal = Of(1 / F(sl));
                return Pair(reciprocal, reciprocal);
            case Mnemonic.Pfrsqrt:
                uint root = Of(MathF.CopySign(1 / MathF.Sqrt(MathF.Abs(F(sl))), F(sl)));
                return Pair(root, root);
            case Mnemonic.Pfrcpit1 or Mnemonic.Pfrcpit2 or Mnemonic.Pfrsqit1: return s;
            default: return Pair(Lane(mnemonic, dl, sl), Lane(mnemonic, dh, sh));
        }
    }

    static uint Lane(Mnemonic mnemonic, uint d, uint s) => mnemonic switch
    {
        Mnemonic.Pfadd => Of(F(d) + F(s)),
        Mnemonic.Pfsub => Of(F(d) - F(s)),
        Mnemonic.Pfsubr => Of(F(s) - F(d)),
        Mnemonic.Pfmul => Of(F(d) * F(s)),
        Mnemonic.Pfmax => Of(F(s) > F(d) ? F(s) : F(d) == 0 ? 0 : F(d)),
        Mnemonic.Pfmin => Of(F(s) < F(d) ? F(s) : F(d) == 0 ? 0 : F(d)),
        Mnemonic.Pfcmpeq => F(d) == F(s) ? uint.MaxValue : 0,
        Mnemonic.Pfcmpge => F(d) >= F(s) ? uint.MaxValue : 0,
        Mnemonic.Pfcmpgt => F(d) > F(s) ? uint.MaxValue : 0,
        Mnemonic.Pi2fd => BitConverter.SingleToUInt32Bits((int)s),
        Mnemonic.Pi2fw => BitConverter.SingleToUInt32Bits((short)s),
        Mnemonic.Pf2id => (uint)(int)Math.Clamp((double)F(s), int.MinValue, int.MaxValue),
        _ => (uint)(int)Math.Clamp((double)F(s), short.MinValue, short.MaxValue),       // PF2IW
    };

    const float Largest = float.MaxValue;
    const uint Sign = 0x80000000, Exponent = 0x7F800000;

    /// <summary>Denormals are zero.</summary>
    static float F(uint bits) => BitConverter.UInt32BitsToSingle((bits & Exponent) == 0 ? bits & Sign : bits);

    static uint Of(float value)
    {
        uint bits = BitConverter.SingleToUInt32Bits(value);
        if (float.IsInfinity(value)) return BitConverter.SingleToUInt32Bits(MathF.CopySign(Largest, value));
        return (bits & Exponent) == 0 ? bits & Sign : bits;
    }

    static ulong Pair(uint low, uint high) => low | (ulong)high << 32;

    static ulong Bytes(ulong d, ulong s)
    {
        ulong result = 0;
        for (int i = 0; i < 64; i += 8) result |= (ulong)((byte)(d >> i) + (byte)(s >> i) + 1 >> 1) << i;
        return result;
    }

    static ulong Words(ulong d, ulong s)
    {
        ulong result = 0;
        for (int i = 0; i < 64; i += 16)
            result |= (ulong)(ushort)((short)(d >> i) * (short)(s >> i) + 0x8000 >> 16) << i;
        return result;
    }
}
