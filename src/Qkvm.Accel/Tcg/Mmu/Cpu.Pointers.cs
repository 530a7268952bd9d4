namespace Qkvm.Accel.Tcg;

// SAFETY: State and _jit lie in the vCPU's own region, which is freed after its thread has ended.
/// <summary>What is asked of addresses beyond translation: data in pointers (linear-address masking, Intel SDM vol. 1,
/// section
/// 3.3.7.1, and vol. 3, section 4.4) and alignment checks (vol. 3, section 6.15, interrupt 17).</summary>
/// <remarks>TLB entries hold untagged addresses; a tagged pointer misses them and is untagged then. Slots of translated
/// code may hold tagged pages. Deviation: operands of 16 bytes and more, and of FSTENV, FSAVE and FXSAVE, are not
/// checked for alignment.</remarks>
public sealed unsafe partial class Cpu
{
    /// <summary>Bits that may be data, whatever the mode.</summary>
    const ulong PointerData = 0x7FFF_0000_0000_0000;

    /// <summary>Of pointers into the lower and the upper half: the highest address bit below the data; 0: there is no
    /// data.</summary>
    int _untagsLower, _untagsUpper;

    (int Lower, int Upper) UntagsOf(ulong cr3, ulong cr4)
    {
        const int of48 = 47, of57 = 56;
        if (!_is64Bit || !HasLam) return (0, 0);
        return ((cr3 & Cr3.LamU57) != 0 ? of57 : (cr3 & Cr3.LamU48) != 0 ? of48 : 0, (cr4 & Cr4.LamSup) == 0 ? 0
            : (cr4 & Cr4.La57) != 0 ? of57 : of48);
    }

    /// <summary>Data in a pointer becomes copies of the highest address bit; bit 63 stays, and must then be equal to
    /// it.</summary>
    internal ulong Untag(ulong linear)
    {
        const ulong half = 1UL << 63;
        int top = (long)linear < 0 ? _untagsUpper : _untagsLower;
        if (top == 0) return linear;
        return (ulong)((long)(linear << 63 - top) >> 63 - top) & ~half | linear & half;
    }

    ulong LinearUntagged(int segment, ulong linear, int size)
    {
        linear = Untag(linear);
        if (!IsCanonical(linear) || !IsCanonical(linear + (ulong)(size - 1))) throw SegmentFault(segment);
        return linear;
    }

    /// <summary>A page fault goes first. Intel SDM vol. 3, tables 6-2 and 6-7.</summary>
    void CheckAlignment(ulong linear, int size, int segment, bool write)
    {
        const int extended = 10, quadword = 8;
        int alignment = size == extended ? quadword : size;
        if (alignment > quadword || (linear & (ulong)(alignment - 1)) == 0) return;
        ulong last = Wrap(linear + (ulong)(size - 1));
        Fill(linear, write, CurrentSet, segment);
        if (((linear ^ last) & ~PageMask) != 0) Fill(last & ~PageMask, write, CurrentSet, segment);
        throw Fault(Vector.AlignmentCheck, 0);
    }
}
