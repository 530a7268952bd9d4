using System.Runtime.CompilerServices;

namespace Qkvm.Accel.Tcg;

// SAFETY: a hit's host address is within the page of RAM that the TLB's entry holds, which the machine keeps as long as
// its vCPUs.
/// <summary>Read-modify-write of the memory operand: faults as a write before it reads.</summary>
public sealed unsafe partial class Cpu
{
    /// <summary>The operand's value. <see cref="StoreBack"/> takes <paramref name="host"/> and
    /// <paramref name="linear"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal T LoadForWrite<T>(Insn* i, out byte* host, out ulong linear) where T : unmanaged
    {
        linear = OperandLinear(i, sizeof(T), write: true);
        TlbEntry* entry = Entry(_tlb, linear);
        ulong inside = linear - entry->WriteTag;
        if (inside <= (ulong)(PageSize - sizeof(T)))
        {
            host = entry->Host + inside;
            return *(T*)host;
        }
        host = null;
        return ReadForWrite<T>(linear, i->Segment);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal void StoreBack<T>(Insn* i, byte* host, ulong linear, T value) where T : unmanaged
    {
        if (host != null) *(T*)host = value;
        else WriteMissed(linear, value, i->Segment, CurrentSet);
    }

    /// <summary>The linear address of the memory operand, which a bit string may have moved.</summary>
    internal T ReadForWrite<T>(ulong linear, int segment) where T : unmanaged
    {
        PrepareWrite(linear, sizeof(T), segment);
        return ReadMissed<T>(linear, segment, CurrentSet);
    }

    /// <summary>Throws what a write would throw.</summary>
    internal void PrepareWrite(ulong linear, int size, int segment)
    {
        if (_checksAlignment) CheckAlignment(linear, size, segment, write: true);
        Fill(linear, true, CurrentSet, segment);
        ulong last = Wrap(linear + (ulong)(size - 1));
        if (((linear ^ last) & ~PageMask) != 0) Fill(last & ~PageMask, true, CurrentSet, segment);
    }

    /// <summary>Linear address of the memory operand, checked for a write of this size.</summary>
    internal ulong LinearForWrite(Insn* i, int size) => OperandLinear(i, size, write: true);

    /// <summary>As TryHost for writing, but with the segment that a fault belongs to.</summary>
    internal byte* LockableHost(ulong linear, int size, int segment)
    {
        TlbEntry* entry = Entry(_tlb, linear);
        ulong inside = linear - entry->WriteTag;
        if (inside <= (ulong)(PageSize - size)) return entry->Host + inside;
        PrepareWrite(linear, size, segment);
        return HostOfLinear(linear, size, write: true);
    }
}
