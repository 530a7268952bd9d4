using System.Buffers.Binary;
using System.Diagnostics.CodeAnalysis;
using Qkvm.Core.State;

namespace Qkvm.Core.Virtio;

/// <summary>Packed virtqueue: one ring, in which the device overwrites what the driver gave. Virtio 1.2, section 2.8;
/// names are its.</summary>
/// <remarks>Buffer ids are the driver's own affair: they go back as they came. Deviation: QEMU leaves the WRITE flag of
/// used descriptors clear, which section 2.8.4 gives a meaning.</remarks>
public sealed class PackedQueue(QueueSetup setup, VirtioControl control) : RingQueue(setup, control)
{
    const int AvailableBit = 7, UsedBit = 15;                      // of descriptor flags, 2.8.1
    const ulong LengthField = 8;                                   // then the buffer id and the flags
    const int IdShift = 32, FlagsShift = 48;

    // struct pvirtq_event_suppress, 2.8.14: an offset, the wrap counter above it, flags
    const uint SuppressionSize = 4;
    const int WrapBit = 15, SuppressionFlags = 16;
    const uint Enable = 0, Disable = 1, AtDescriptor = 2;

    const int Everything = ushort.MaxValue;

    ushort _next, _used;                                           // places of the next descriptor to take, to return
    bool _nextWrap = true, _usedWrap = true;                       // wrap counters, 2.8.1
    ushort _unsignalled = Everything;                              // places used since the last Signal
    int _ahead;                                                    // not migrated: chains counted from _next on
    Place _aheadEnd = new(0, true);                                // not migrated: where they end
    Place? _held;                                                  // not migrated: the first filled one, until Flush
    ulong _heldElement;                                            // not migrated: as _held
    int _inUse;                                                    // not migrated: nothing is in flight while saving

    /// <summary>A place of the ring, and the driver's wrap counter there.</summary>
    readonly record struct Place(int Index, bool Wrap)
    {
        public Place Plus(int slots, int size)
        {
            int index = Index + slots;
            return index < size ? new Place(index, Wrap) : new Place(index - size, !Wrap);
        }

        public Place Minus(int slots, int size)
        {
            int index = Index - slots;
            return index >= 0 ? new Place(index, Wrap) : new Place(index + size, !Wrap);
        }
    }

    Place Next
    {
        get => new(_next, _nextWrap);
        set => (_next, _nextWrap) = ((ushort)value.Index, value.Wrap);
    }

    public override uint Position => (uint)(_next | (_nextWrap ? 1 << WrapBit : 0)
        | (_used | (_usedWrap ? 1 << WrapBit : 0)) << 16);

    public override uint? PositionAfterLoss => null;                  // the ring does not hold it

    public override QueueProgress Progress => new(_inUse, _used, _next, 0, false);

    public override int Available
    {
        get
        {
            if (!IsUsable()) return 0;
            _ahead += Walk(ref _aheadEnd, Size - _ahead);
            return _ahead;
        }
    }

    public override bool TryPop([NotNullWhen(true)] out DescriptorChain? chain)
    {
        chain = null;
        if (!IsUsable() || !IsAvailable(Next, ElementAt(_next))) return false;
        DescriptorChain taken = NewChain();
        if (Collect(taken) is { } complaint)
        {
            Release(taken);
            return Fail(complaint);
        }
        Next = Next.Plus(taken.Slots, Size);
        _inUse += taken.Slots;
        if (_ahead > 0) _ahead--;
        if (_ahead == 0) _aheadEnd = Next;
        chain = taken;
        return true;
    }

    public override void Unpop(DescriptorChain chain)
    {
        Next = Next.Minus(chain.Slots, Size);
        _ahead++;
        GiveBack(chain);
    }

    public override void Fill(DescriptorChain chain, uint written)
    {
        chain.MarkWritten(Dma, written);
        uint flags = _usedWrap ? 1u << AvailableBit | 1u << UsedBit : 0;
        if (written > 0) flags |= WriteFlag;
        ulong element = written | (ulong)chain.Id << IdShift | (ulong)flags << FlagsShift;
        var place = new Place(_used, _usedWrap);
        // The driver looks at one after the other, so that holding back the first holds back all.
        if (_held == null) (_held, _heldElement) = (place, element);
        else WriteElement(place, element);
        place = place.Plus(chain.Slots, Size);
        (_used, _usedWrap) = ((ushort)place.Index, place.Wrap);
        _unsignalled = (ushort)Math.Min(Everything, _unsignalled + chain.Slots);
        GiveBack(chain);
    }

    public override void Flush()
    {
        if (_held is not { } place) return;
        _held = null;
        WriteElement(place, _heldElement);
    }

    public override void DisableKicks()
    {
        if (IsUsable()) Dma.Write(Setup.DeviceArea, (int)SuppressionSize, Disable << SuppressionFlags);
    }

    public override bool EnableKicks(int except = 0)
    {
        if (!IsUsable()) return false;
        Place seen = Next;
        if (Walk(ref seen, except) < except) return false;         // they are gone: a driver that lies
        uint wish = HasEventIndex
            ? (uint)(seen.Index | (seen.Wrap ? 1 << WrapBit : 0)) | AtDescriptor << SuppressionFlags
            : Enable << SuppressionFlags;
        Dma.Write(Setup.DeviceArea, (int)SuppressionSize, wish);
        Thread.MemoryBarrier();                                    // our wish before the descriptor is read
        return IsAvailable(seen, ElementAt(seen.Index));
    }

    internal override void Reset()
    {
        (_next, _used, _nextWrap, _usedWrap, _unsignalled) = (0, 0, true, true, Everything);
        Settle();
    }

    internal override void Exchange(StateStream state)
    {
        state.Field("next", ref _next);
        state.Field("next-wrap", ref _nextWrap);
        state.Field("used", ref _used);
        state.Field("used-wrap", ref _usedWrap);
        state.Field("unsignalled", ref _unsignalled);
        if (!state.IsLoading) return;
        if (_next >= Size || _used >= Size)
            throw new InvalidStateException($"virtio queue {Index}: places {_next} and {_used} of {Size}");
        Settle();
    }

    protected override string? CheckRings()
    {
        if (Size == 0) return "a queue of no descriptors";
        bool inRam = IsRam(Setup.Descriptors, (uint)Size * DescriptorSize, true)
            && IsRam(Setup.DriverArea, SuppressionSize, false) && IsRam(Setup.DeviceArea, SuppressionSize, true);
        return inRam ? null : "a ring outside RAM";
    }

    /// <summary>2.8.14, with the arithmetic of 2.7.7.2: whether the driver's event lies among what was used.</summary>
    protected override bool WantsInterrupt()
    {
        uint wish = (uint)Dma.Read(Setup.DriverArea, (int)SuppressionSize);
        int since = _unsignalled;
        _unsignalled = 0;
        uint flags = wish >> SuppressionFlags & 3;
        if (flags != AtDescriptor || !HasEventIndex) return flags != Disable;
        int at = (int)(wish & (1 << WrapBit) - 1);
        if ((wish >> WrapBit & 1) != 0 != _usedWrap) at -= Size;
        return since == Everything || (ushort)(_used - at - 1) < since;
    }

    /// <summary>Follows a chain once, reading each descriptor once; returns what is wrong with it, or null.</summary>
    string? Collect(DescriptorChain chain)
    {
        chain.Begin(0);
        Place place = Next;
        for (int slots = 1; slots <= Size - _inUse; slots++)
        {
            ulong element = ElementAt(place.Index);
            uint length = (uint)element;
            ushort flags = (ushort)(element >> FlagsShift);
            ulong address = Dma.Read(At(place.Index), sizeof(ulong));
            bool isIndirect = (flags & IndirectFlag) != 0;
            if (isIndirect && slots > 1) return "an indirect descriptor with a predecessor";
            string? complaint = !isIndirect ? chain.Add(Dma, address, length, (flags & WriteFlag) != 0)
                : CheckIndirect(length, flags) ?? CollectTable(address, length, chain);
            if (complaint != null) return complaint;
            (chain.Id, chain.Slots) = ((ushort)(element >> IdShift), (ushort)slots);    // 2.8.6: the last has the id
            if ((flags & NextFlag) == 0) return null;
            place = place.Plus(1, Size);
        }
        return "a chain longer than what the queue has left";
    }

    /// <summary>2.8.7: an indirect table is used whole, and knows no flag but WRITE.</summary>
    string? CollectTable(ulong table, uint length, DescriptorChain chain)
    {
        Span<byte> raw = stackalloc byte[DescriptorSize];
        for (ulong at = table; length > 0; at += DescriptorSize, length -= DescriptorSize)
        {
            if (!Dma.Read(at, raw)) return "a descriptor outside RAM";
            ulong element = BinaryPrimitives.ReadUInt64LittleEndian(raw[(int)LengthField..]);
            ulong address = BinaryPrimitives.ReadUInt64LittleEndian(raw);
            bool writable = ((ushort)(element >> FlagsShift) & WriteFlag) != 0;
            if (chain.Add(Dma, address, (uint)element, writable) is { } complaint) return complaint;
        }
        return null;
    }

    /// <summary>Passes over chains that are available, up to a number, and never round the ring.</summary>
    /// <returns>How many.</returns>
    int Walk(ref Place place, int most)
    {
        int chains = 0;
        Place at = place;
        for (int slots = 0; chains < most && slots < Size; slots++)
        {
            ulong element = ElementAt(at.Index);
            // Only a chain's first descriptor is sure to say that it is available.
            if (at == place && !IsAvailable(at, element)) break;
            at = at.Plus(1, Size);
            if (((ushort)(element >> FlagsShift) & NextFlag) != 0) continue;
            place = at;
            chains++;
        }
        return chains;
    }

    static bool IsAvailable(Place place, ulong element)
    {
        uint flags = (uint)(element >> FlagsShift);
        return (flags >> AvailableBit & 1) != 0 == place.Wrap && (flags >> UsedBit & 1) != 0 != place.Wrap;
    }

    ulong At(int index) => Setup.Descriptors + (ulong)index * DescriptorSize;

    /// <summary>Length, id and flags in one read, so that the flags vouch for the others.</summary>
    ulong ElementAt(int index) => Dma.Read(At(index) + LengthField, sizeof(ulong));

    void WriteElement(Place place, ulong element) => Dma.Write(At(place.Index) + LengthField, sizeof(ulong), element);

    void GiveBack(DescriptorChain chain)
    {
        _inUse -= chain.Slots;
        Release(chain);
    }

    void Settle()
    {
        (_ahead, _aheadEnd, _held, _inUse) = (0, Next, null, 0);
        Forget();
    }
}
