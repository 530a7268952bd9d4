using System.Runtime.CompilerServices;

namespace Qkvm.Accel.Tcg;

// SAFETY: a hit's host address is within the page of RAM that the TLB's entry holds, which the machine keeps as long as
// its vCPUs.
/// <summary>Guest memory for instruction handlers: the paths that hit the TLB, inlined into each handler. What misses
/// is in Cpu.MemorySlow.</summary>
public sealed unsafe partial class Cpu
{
    const ulong PageMask = 0xFFF;
    const int PageSize = 4096;

    // The set that belongs to the current privilege, and the one of the processor's own accesses.
    TlbEntry* _tlb, _systemTlb;

    /// <summary>The offset of the memory operand in its segment, truncated to the address size.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public ulong EffectiveOffset(Insn* i)
    {
        ulong* gpr = State->Gpr;
        ulong offset = gpr[i->Base] + (gpr[i->Index] << i->Shift) + (ulong)i->Displacement;
        return i->AddressSize == 8 ? offset : i->AddressSize == 4 ? (uint)offset : (ushort)offset;
    }

    /// <summary>The linear address of the memory operand. In 64-bit mode only FS and GS have a base, and whether the
    /// address is canonical shows when it misses the TLB.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    ulong OperandLinear(Insn* i, int size, bool write)
    {
        if (i->AddressSize != 8) return Linear(i->Segment, EffectiveOffset(i), size, write);
        CpuState* state = State;
        ulong* gpr = state->Gpr;
        ulong linear = gpr[i->Base] + (gpr[i->Index] << i->Shift) + (ulong)i->Displacement;
        if (i->Segment >= Seg.Fs) linear += i->Segment == Seg.Fs ? state->Fs.Base : state->Gs.Base;
        return (_untagsLower | _untagsUpper) == 0 ? linear : Untag(linear);
    }

    /// <summary>The memory operand of the instruction; at most 64 bytes.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public T Load<T>(Insn* i) where T : unmanaged
    {
        ulong linear = OperandLinear(i, sizeof(T), write: false);
        TlbEntry* entry = Entry(_tlb, linear);
        ulong inside = linear - entry->ReadTag;
        return inside <= (ulong)(PageSize - sizeof(T)) ? *(T*)(entry->Host + inside)
            : ReadMissed<T>(linear, i->Segment, CurrentSet);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Store<T>(Insn* i, T value) where T : unmanaged
    {
        ulong linear = OperandLinear(i, sizeof(T), write: true);
        TlbEntry* entry = Entry(_tlb, linear);
        ulong inside = linear - entry->WriteTag;
        if (inside <= (ulong)(PageSize - sizeof(T))) *(T*)(entry->Host + inside) = value;
        else WriteMissed(linear, value, i->Segment, CurrentSet);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public T Read<T>(int segment, ulong offset) where T : unmanaged
    {
        ulong linear = Linear(segment, offset, sizeof(T), write: false);
        TlbEntry* entry = Entry(_tlb, linear);
        ulong inside = linear - entry->ReadTag;
        return inside <= (ulong)(PageSize - sizeof(T)) ? *(T*)(entry->Host + inside)
            : ReadMissed<T>(linear, segment, CurrentSet);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Write<T>(int segment, ulong offset, T value) where T : unmanaged
    {
        ulong linear = Linear(segment, offset, sizeof(T), write: true);
        TlbEntry* entry = Entry(_tlb, linear);
        ulong inside = linear - entry->WriteTag;
        if (inside <= (ulong)(PageSize - sizeof(T))) *(T*)(entry->Host + inside) = value;
        else WriteMissed(linear, value, segment, CurrentSet);
    }

    /// <summary>At the current privilege.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public T ReadLinear<T>(ulong linear) where T : unmanaged
    {
        TlbEntry* entry = Entry(_tlb, linear);
        ulong inside = linear - entry->ReadTag;
        return inside <= (ulong)(PageSize - sizeof(T)) ? *(T*)(entry->Host + inside)
            : ReadMissed<T>(linear, Seg.Ds, CurrentSet);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void WriteLinear<T>(ulong linear, T value) where T : unmanaged
    {
        TlbEntry* entry = Entry(_tlb, linear);
        ulong inside = linear - entry->WriteTag;
        if (inside <= (ulong)(PageSize - sizeof(T))) *(T*)(entry->Host + inside) = value;
        else WriteMissed(linear, value, Seg.Ds, CurrentSet);
    }

    /// <summary>The processor's own accesses to descriptor tables, task states and inner stacks: as supervisor, at any
    /// CPL.</summary>
    public T ReadSystem<T>(ulong linear) where T : unmanaged
    {
        TlbEntry* entry = Entry(_systemTlb, linear);
        ulong inside = linear - entry->ReadTag;
        return inside <= (ulong)(PageSize - sizeof(T)) ? *(T*)(entry->Host + inside)
            : ReadMissed<T>(linear, Seg.Ds, TlbSet.Supervisor);
    }

    public void WriteSystem<T>(ulong linear, T value) where T : unmanaged
    {
        TlbEntry* entry = Entry(_systemTlb, linear);
        ulong inside = linear - entry->WriteTag;
        if (inside <= (ulong)(PageSize - sizeof(T))) *(T*)(entry->Host + inside) = value;
        else WriteMissed(linear, value, Seg.Ds, TlbSet.Supervisor);
    }

    /// <summary>Segment checks of Intel SDM vol. 3, sections 5.3 and 5.5 (limit, type; 64-bit: canonical), then the
    /// base is added.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public ulong Linear(int segment, ulong offset, int size, bool write)
    {
        if (!_is64Bit) return LinearSegmented(segment, offset, size, write);
        if (segment >= Seg.Fs) offset += State->Segment(segment).Base;
        if (IsCanonical(offset) && IsCanonical(offset + (ulong)(size - 1))) return offset;
        return LinearUntagged(segment, offset, size);
    }

    /// <summary>Bits 63 to 47 (56 with five levels) are equal.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool IsCanonical(ulong linear) => (ulong)((long)(linear << _canonicalShift) >> _canonicalShift) == linear;

    /// <summary>A base that a register takes: by the width that the processor supports, whatever is in use. Intel SDM
    /// vol. 1, section 3.3.7.1.</summary>
    internal bool IsCanonicalBase(ulong linear) => (ulong)((long)(linear << _baseShift) >> _baseShift) == linear;

    readonly int _baseShift;

    /// <summary>In a set for data.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static TlbEntry* Entry(TlbEntry* set, ulong linear) =>
        (TlbEntry*)((byte*)set + (linear >> 7 & (TlbSet.Size - 1) * 32));

    /// <summary>In any set.</summary>
    internal static TlbEntry* Entry(TlbEntry* entries, int set, ulong linear) =>
        entries + TlbSet.Start(set)
            + (linear >> 12 & (ulong)((TlbSet.IsFetch(set) ? TlbSet.FetchSize : TlbSet.Size) - 1));
}
