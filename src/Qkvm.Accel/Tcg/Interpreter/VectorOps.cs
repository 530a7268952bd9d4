using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Iced.Intel;
using Qkvm.Accel.Tcg.Thunks;

namespace Qkvm.Accel.Tcg;
using unsafe Handler = delegate*<Cpu, Insn*, void>;

// SAFETY: an Insn lies in its arena until its block has ended; what its operands point at is the vCPU's own state, or
// RAM that was looked up for the access.
/// <summary>Instructions on x87, MMX and vector registers: which handler runs one. Moves and the commonest integer
/// operations are C#; whatever else computes is run by the host itself, through a thunk.</summary>
static unsafe partial class VectorOps
{
    static readonly ThunkCache s_thunks = new();

    // push rdi; ldmxcsr [rsp]; pop rdi; ret
    static readonly nint s_setHostMxcsr = (nint)s_thunks.Add([0x57, 0x0F, 0xAE, 0x14, 0x24, 0x5F, 0xC3]);

    /// <summary>False: not of this group.</summary>
    public static bool TrySelect(in Instruction x, Insn* i)
    {
        if (x.Encoding is not (EncodingKind.Legacy or EncodingKind.VEX or EncodingKind.EVEX
            or EncodingKind.D3NOW)) return false;
        if (IsEvex(x))
        {
            i->Run = SelectEvex(x, i);
            return true;
        }
        Handler run = SelectState(x, i);
        if (run == null) run = SelectMove(x, i);
        if (run == null) run = SelectElements(x, i);
        if (run == null) run = SelectSse4a(x);
        if (run == null) run = SelectThreeDNow(x);
        if (run == null && x.Encoding == EncodingKind.D3NOW) return false;
        if (run == null && IsX87(x.Code)) run = SelectX87(x, i);
        if (run == null && UsesVectors(x)) run = SelectInteger(x);
        if (run == null && UsesVectors(x)) run = SelectThunk(x, i);
        if (run == null) return false;
        i->Run = run;
        return true;
    }

    static bool IsX87(Code code)
    {
        foreach (CpuidFeature feature in code.CpuidFeatures())
            if (feature is CpuidFeature.FPU or CpuidFeature.FPU287 or CpuidFeature.FPU387) return true;
        return false;
    }

    static bool UsesVectors(in Instruction x)
    {
        for (int i = 0; i < x.OpCount; i++)
            if (x.GetOpKind(i) == OpKind.Register && IsVector(x.GetOpRegister(i))) return true;
        // From memory to a general register.
        return x.Mnemonic is Mnemonic.Cvtss2si or Mnemonic.Cvttss2si or Mnemonic.Cvtsd2si or Mnemonic.Cvttsd2si
            or Mnemonic.Vcvtss2si or Mnemonic.Vcvttss2si or Mnemonic.Vcvtsd2si or Mnemonic.Vcvttsd2si;
    }

    static bool IsVector(Register register) => register.IsXMM() || register.IsYMM() || register.IsMM();

    /// <summary>The vector registers of a guest, as their XMM halves.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    static Vector128<byte>* Low(CpuState* state, int number) =>
        (Vector128<byte>*)(state->Xsave.Bytes + XsaveArea.Xmm0) + number;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    static Vector128<byte>* High(CpuState* state, int number) =>
        (Vector128<byte>*)(state->Xsave.Bytes + XsaveArea.YmmHigh0) + number;

    /// <summary>Writes an XMM or YMM register as the family does.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    static void Put<TFamily, T>(CpuState* state, int number, T value) where TFamily : struct, IVectorFamily where T
        : unmanaged
    {
        if (sizeof(T) == 32)
        {
            Vector256<byte> wide = Unsafe.BitCast<T, Vector256<byte>>(value);
            *Low(state, number) = wide.GetLower();
            *High(state, number) = wide.GetUpper();
            *Highest(state, number) = default;
            return;
        }
        *Low(state, number) = Unsafe.BitCast<T, Vector128<byte>>(value);
        if (!TFamily.ClearsUpper) return;
        *High(state, number) = default;
        *Highest(state, number) = default;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    static T Get<T>(CpuState* state, int number) where T : unmanaged =>
        sizeof(T) == 32
            ? Unsafe.BitCast<Vector256<byte>, T>(Vector256.Create(*Low(state, number), *High(state, number)))
            : Unsafe.BitCast<Vector128<byte>, T>(*Low(state, number));

    /// <summary>Size of the first vector register operand.</summary>
    static int VectorSize(in Instruction x)
    {
        for (int i = 0; i < x.OpCount; i++)
            if (x.GetOpKind(i) == OpKind.Register && IsVector(x.GetOpRegister(i))) return x.GetOpRegister(i).GetSize();
        return 0;
    }

    static void Undefined(Cpu cpu, Insn* i) => throw cpu.Ud();
}
