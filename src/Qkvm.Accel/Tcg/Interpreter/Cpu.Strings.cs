using System.Runtime.CompilerServices;
using Flag = Qkvm.Accel.Tcg.Rflags;

namespace Qkvm.Accel.Tcg;

// SAFETY: a hit's host address is within the page of RAM that the TLB's entry holds, which the machine keeps as long as
// its vCPUs.
/// <summary>Services of the string instructions: index registers of the address size, and how far one may go at
/// once.</summary>
public sealed unsafe partial class Cpu
{
    /// <summary>DF is clear.</summary>
    internal bool GoesUp => (State->RflagsSystem & Flag.Df) == 0;

    /// <summary>A repeated instruction stops after the element or chunk at hand and runs again: somebody calls, code
    /// that may be its own was written, or each iteration traps.</summary>
    internal bool ShouldPause => _attention != 0 || _leave != 0 || (State->RflagsSystem & Flag.Tf) != 0;

    /// <summary>Moves SI, DI or the like by a signed number of bytes.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal void Advance(byte register, int addressSize, long bytes) =>
        SetSized(register, addressSize, State->Gpr[register] + (ulong)bytes);

    /// <summary>How many whole elements from here lie in one page, the segment and the address size: 0 if the first
    /// does not.
    /// Faults as the first element's access would by segmentation.</summary>
    internal int Run<T>(int segment, ulong offset, ulong count, int addressSize, bool write, out ulong linear) where T
        : unmanaged
    {
        linear = Linear(segment, offset, sizeof(T), write);
        ulong bytes = PageSize - (linear & PageMask);
        if (addressSize != 8) bytes = Math.Min(bytes, (1UL << addressSize * 8) - offset);
        if (!_is64Bit)
        {
            ref Segment descriptor = ref State->Segment(segment);
            if ((descriptor.Access & (Segment.Code | Segment.ExpandDown)) == Segment.ExpandDown) return 0;
            bytes = Math.Min(bytes, descriptor.Limit - offset + 1);
        }
        if ((State->RflagsSystem & Flag.Tf) != 0) count = Math.Min(count, 1);
        return (int)Math.Min(count, bytes / (ulong)sizeof(T));
    }

    /// <summary>As <see cref="Run"/>, downwards, the element at the offset included.</summary>
    internal int RunDown<T>(int segment, ulong offset, ulong count, int addressSize, bool write, out ulong linear)
        where T : unmanaged
    {
        linear = Linear(segment, offset, sizeof(T), write);
        ulong inside = linear & PageMask, size = (ulong)sizeof(T);
        if (inside + size > PageSize) return 0;
        if (addressSize != 8) inside = Math.Min(inside, offset);
        if (!_is64Bit && (State->Segment(segment).Access & (Segment.Code | Segment.ExpandDown)) == Segment.ExpandDown)
            return 0;
        if ((State->RflagsSystem & Flag.Tf) != 0) count = Math.Min(count, 1);
        return (int)Math.Min(count, inside / size + 1);
    }
}
