using System.Numerics;

namespace Qkvm.Accel.Tcg;

// SAFETY: State and _jit lie in the vCPU's own region, which is freed after its thread has ended.
/// <summary>What AVX-512 needs beyond AVX: whether it may run, memory operands of which only some bytes exist, and
/// which parts of its state are in use.</summary>
public sealed unsafe partial class Cpu
{
    const ulong Avx512State = 0xE6;

    internal bool HasAvx512 { get; }

    /// <summary>#UD unless protected mode, CR4.OSXSAVE and XCR0 enable all of it, then #NM. Intel SDM vol. 2, section
    /// 2.8.</summary>
    internal void CheckAvx512()
    {
        CpuState* state = State;
        if (!IsProtected || IsVirtual8086 || (state->Cr4 & Cr4.Osxsave) == 0
            || (state->Xcr0 & Avx512State) != Avx512State) throw Ud();
        if ((state->Cr0 & Tcg.Cr0.Ts) != 0) throw Fault(Vector.DeviceNotAvailable);
    }

    /// <summary>The upper 256 bits of one of ZMM0 to 15 are not 0.</summary>
    internal void UsesUppers()
    {
        _jit->UppersInUse = 1;
        SetWidth();
    }

    /// <summary>A mask register or one of ZMM16 to 31 has been written.</summary>
    internal void UsesMasks() => _jit->MasksInUse = 1;

    /// <summary>After the state was written as a whole.</summary>
    internal void FindVectorsInUse()
    {
        if (!HasAvx512) return;
        ReadOnlySpan<byte> area = new(State->Xsave.Bytes, sizeof(XsaveArea));
        _jit->UppersInUse = (byte)(area[XsaveArea.ZmmHigh0..XsaveArea.Zmm16].ContainsAnyExcept((byte)0) ? 1 : 0);
        _jit->MasksInUse = (byte)(area[XsaveArea.Zmm16..].ContainsAnyExcept((byte)0)
            || area[XsaveArea.Opmask0..XsaveArea.ZmmHigh0].ContainsAnyExcept((byte)0) ? 1 : 0);
        SetWidth();
    }

    internal bool MayUseUppers => _jit->UppersInUse != 0;
    internal bool MayUseMasks => _jit->MasksInUse != 0;

    /// <summary>How wide the registers are that translated code loads.</summary>
    void SetWidth() =>
        _jit->Wide = (byte)((State->Cr4 & Cr4.Osxsave) == 0 || (State->Xcr0 & 6) != 6 ? 0 : _jit->UppersInUse == 0
            || (State->Xcr0 & Avx512State) != Avx512State ? 1 : 2);

    /// <summary>The linear address of the memory operand, whose bytes from the first to the last that is touched are
    /// checked against the segment.</summary>
    internal ulong MaskedLinear(Insn* i, ulong touched, bool write)
    {
        if (touched == 0) return 0;
        if (i->AddressSize == 8) return OperandLinear(i, 1, write);
        int first = BitOperations.TrailingZeroCount(touched), last = 63 - BitOperations.LeadingZeroCount(touched);
        ulong offset = EffectiveOffset(i) + (ulong)first;
        offset = i->AddressSize == 4 ? (uint)offset : (ushort)offset;
        return Linear(i->Segment, offset, last - first + 1, write) - (ulong)first;
    }

    /// <summary>Reads the bytes whose bits are set, in ascending order; the others of the buffer are left
    /// alone.</summary>
    internal void ReadMasked(Insn* i, ulong linear, byte* to, ulong bytes, int size)
    {
        if (BitOperations.PopCount(bytes) == size)
        {
            byte* source = VectorSource(i, linear, size);
            Buffer.MemoryCopy(source, to, size, size);
            return;
        }
        for (int at = 0; NextRun(ref bytes, ref at, out int length); at += length)
        {
            ulong from = Wrap(linear + (ulong)at);
            int first = (int)Math.Min((ulong)length, PageSize - (from & PageMask));
            ReadPart(from, to + at, first, CurrentSet, i->Segment);
            if (first < length)
                ReadPart(Wrap(from + (ulong)first), to + at + first, length - first, CurrentSet, i->Segment);
        }
    }

    /// <summary>Throws what a write of these bytes would throw.</summary>
    internal void PrepareMasked(Insn* i, ulong linear, ulong bytes)
    {
        for (int at = 0; NextRun(ref bytes, ref at, out int length); at += length)
            PrepareWrite(Wrap(linear + (ulong)at), length, i->Segment);
    }

    internal void WriteMasked(Insn* i, ulong linear, byte* from, ulong bytes, int size)
    {
        if (BitOperations.PopCount(bytes) == size && VectorTarget(i, linear, size) is var target && target != null)
        {
            Buffer.MemoryCopy(from, target, size, size);
            return;
        }
        for (int at = 0; NextRun(ref bytes, ref at, out int length); at += length)
            WriteVector(Wrap(linear + (ulong)at), from + at, length);
    }

    /// <summary>The next bytes that lie together; bits below <paramref name="at"/> are gone from the mask.</summary>
    static bool NextRun(ref ulong bytes, ref int at, out int length)
    {
        length = 0;
        if (bytes == 0) return false;
        at = BitOperations.TrailingZeroCount(bytes);
        length = BitOperations.TrailingZeroCount(~(bytes >> at));
        bytes = at + length >= 64 ? 0 : bytes & ulong.MaxValue << at + length;
        return true;
    }
}
