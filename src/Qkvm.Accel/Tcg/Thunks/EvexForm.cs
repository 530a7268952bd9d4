using Iced.Intel;

namespace Qkvm.Accel.Tcg.Thunks;

// SAFETY: forms live as long as the program; a thunk is given a vCPU's own state, which outlives the call.
/// <summary>Where a thunk of an AVX-512 instruction finds what it works on: one place for each operand, one for
/// memory.</summary>
static class EvexFrame
{
    public const int Slot = 64, Memory = 4 * Slot, Mask = 5 * Slot, Mxcsr = Mask + sizeof(ulong), Size = 6 * Slot;
}

/// <summary>Which bytes of a memory operand a masked instruction touches: only those may fault.</summary>
enum EvexAccess : byte
{
    /// <summary>There is no memory operand.</summary>
    None,
    /// <summary>All, whatever the mask says.</summary>
    Whole,
    /// <summary>Element n if bit n of the mask is set.</summary>
    Elements,
    /// <summary>Element n if any bit of the mask is set whose element of the result it becomes.</summary>
    Repeated,
    /// <summary>The first so many as bits of the mask are set.</summary>
    Packed,
}

/// <summary>How the operand is kept in its slot.</summary>
enum EvexOperand : byte
{
    None, Vector, Mask, MaskPair, General,
}

/// <summary>What the interpreter knows of one form of AVX-512 instruction. In unmanaged memory, for good.</summary>
unsafe struct EvexForm
{
    /// <summary>ulong f(frame); returns flags as <see cref="Thunk"/>'s do.</summary>
    public delegate* unmanaged[SuppressGCTransition]<byte*, ulong> Run;
    public ThunkTraits Traits;
    public EvexAccess Access;

    /// <summary>Bytes of the memory operand, and of one of its elements.</summary>
    public byte MemorySize, Element;

    /// <summary>How many bits of the mask count for <see cref="EvexAccess.Repeated"/>.</summary>
    public byte MaskBits;

    /// <summary>The operand must be aligned: its size - 1, or 0.</summary>
    public byte AlignmentMask;
    public fixed byte Kinds[4];
    public fixed byte Written[4];

    /// <summary>Bytes of the memory operand that are read or written under a mask, a bit each.</summary>
    public readonly ulong ActiveBytes(ulong mask, bool forFaults)
    {
        int count = MemorySize / Element;
        switch (Access)
        {
            case EvexAccess.Whole when forFaults || mask == ulong.MaxValue: return Ones(MemorySize);
            case EvexAccess.Packed: return Ones(System.Numerics.BitOperations.PopCount(mask & Ones(count)) * Element);
            case EvexAccess.Repeated:
                ulong folded = 0;
                for (int bit = 0; bit < MaskBits; bit += count)
                    folded |= mask >> bit & Ones(Math.Min(count, MaskBits - bit));
                mask = folded;
                break;
        }
        if (Element == 1) return mask & Ones(count);
        ulong bytes = 0, element = Ones(Element);
        for (int n = 0; n < count; n++)
            if ((mask >> n & 1) != 0) bytes |= element << n * Element;
        return bytes;
    }

    static ulong Ones(int count) => count >= 64 ? ulong.MaxValue : (1UL << count) - 1;

    /// <summary>By the classes of exceptions in Intel SDM vol. 2, section 2.8: those with "NF" do not suppress
    /// faults.</summary>
    public static EvexAccess AccessOf(in Instruction x)
    {
        bool hasMemory = false;
        for (int i = 0; i < x.OpCount; i++) hasMemory |= x.GetOpKind(i) == OpKind.Memory;
        if (!hasMemory) return EvexAccess.None;
        if (!x.HasOpMask) return EvexAccess.Whole;
        string name = x.Mnemonic.ToString();
        if (name.StartsWith("Vpcompress", StringComparison.Ordinal)
            || name.StartsWith("Vcompress", StringComparison.Ordinal)
            || name.StartsWith("Vpexpand", StringComparison.Ordinal)
            || name.StartsWith("Vexpand", StringComparison.Ordinal)) return EvexAccess.Packed;
        if (Array.IndexOf(s_whole, x.Mnemonic) >= 0 || Array.IndexOf(s_wholeCounts, x.Mnemonic) >= 0
            && x.Op2Kind == OpKind.Memory) return EvexAccess.Whole;
        return x.IsBroadcast || IsRepetition(name) ? EvexAccess.Repeated : EvexAccess.Elements;
    }

    public static bool IsRepetition(string name) =>
        name.StartsWith("Vbroadcast", StringComparison.Ordinal)
            || name.StartsWith("Vpbroadcast", StringComparison.Ordinal);

    /// <summary>Elements of the result come from anywhere in the operand.</summary>
    static readonly Mnemonic[] s_whole =
    [
        Mnemonic.Valignd, Mnemonic.Valignq, Mnemonic.Vcvtne2ps2bf16, Mnemonic.Vdbpsadbw, Mnemonic.Vextractf32x4,
            Mnemonic.Vextractf32x8,
        Mnemonic.Vextractf64x2, Mnemonic.Vextractf64x4, Mnemonic.Vextracti32x4, Mnemonic.Vextracti32x8,
            Mnemonic.Vextracti64x2, Mnemonic.Vextracti64x4,
        Mnemonic.Vgf2p8affineinvqb, Mnemonic.Vgf2p8affineqb, Mnemonic.Vinsertf32x4, Mnemonic.Vinsertf32x8,
            Mnemonic.Vinsertf64x2, Mnemonic.Vinsertf64x4,
        Mnemonic.Vinserti32x4, Mnemonic.Vinserti32x8, Mnemonic.Vinserti64x2, Mnemonic.Vinserti64x4, Mnemonic.Vmovddup,
            Mnemonic.Vmovshdup,
        Mnemonic.Vmovsldup, Mnemonic.Vpackssdw, Mnemonic.Vpacksswb, Mnemonic.Vpackusdw, Mnemonic.Vpackuswb,
            Mnemonic.Vpalignr, Mnemonic.Vpconflictd,
        Mnemonic.Vpconflictq, Mnemonic.Vpermb, Mnemonic.Vpermd, Mnemonic.Vpermi2b, Mnemonic.Vpermi2d,
            Mnemonic.Vpermi2pd, Mnemonic.Vpermi2ps,
        Mnemonic.Vpermi2q, Mnemonic.Vpermi2w, Mnemonic.Vpermilpd, Mnemonic.Vpermilps, Mnemonic.Vpermpd,
            Mnemonic.Vpermps, Mnemonic.Vpermq,
        Mnemonic.Vpermt2b, Mnemonic.Vpermt2d, Mnemonic.Vpermt2pd, Mnemonic.Vpermt2ps, Mnemonic.Vpermt2q,
            Mnemonic.Vpermt2w, Mnemonic.Vpermw,
        Mnemonic.Vpmaddubsw, Mnemonic.Vpmaddwd, Mnemonic.Vpmultishiftqb, Mnemonic.Vpshufb, Mnemonic.Vpshufd,
            Mnemonic.Vpshufhw, Mnemonic.Vpshuflw,
        Mnemonic.Vpunpckhbw, Mnemonic.Vpunpckhdq, Mnemonic.Vpunpckhqdq, Mnemonic.Vpunpckhwd, Mnemonic.Vpunpcklbw,
            Mnemonic.Vpunpckldq,
        Mnemonic.Vpunpcklqdq, Mnemonic.Vpunpcklwd, Mnemonic.Vshuff32x4, Mnemonic.Vshuff64x2, Mnemonic.Vshufi32x4,
            Mnemonic.Vshufi64x2,
        Mnemonic.Vshufpd, Mnemonic.Vshufps, Mnemonic.Vunpckhpd, Mnemonic.Vunpckhps, Mnemonic.Vunpcklpd,
            Mnemonic.Vunpcklps,
    ];

    /// <summary>Where memory holds the count of a shift; not where it holds what is shifted.</summary>
    static readonly Mnemonic[] s_wholeCounts =
    [
        Mnemonic.Vpslld, Mnemonic.Vpsllq, Mnemonic.Vpsllw, Mnemonic.Vpsrad, Mnemonic.Vpsraq, Mnemonic.Vpsraw,
            Mnemonic.Vpsrld, Mnemonic.Vpsrlq,
        Mnemonic.Vpsrlw,
    ];
}
