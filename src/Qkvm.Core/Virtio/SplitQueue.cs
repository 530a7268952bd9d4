using System.Buffers.Binary;
using System.Diagnostics.CodeAnalysis;
using Qkvm.Core.State;

namespace Qkvm.Core.Virtio;

/// <summary>Split virtqueue. Virtio 1.2, section 2.7; names are its.</summary>
public sealed class SplitQueue(QueueSetup setup, VirtioControl control) : RingQueue(setup, control)
{
    const ushort NoInterrupt = 1;                                  // avail flags, 2.7.6
    const ushort NoNotify = 1;                                     // used flags, 2.7.8
    const ulong FlagsField = 0, IndexField = 2, Ring = 4;
    const int UsedElementSize = 8;

    ushort _nextAvailable;
    ushort _usedIndex;

    // not migrated: while others serve alone
    readonly sbyte[] _given = new sbyte[setup.MaxSize];            // by head, how often it was given and not used
    ushort _announced, _seenUsed;
    bool _knowsGiven = true;

    ushort _signalled;                                             // used index at the last Signal
    bool _hasSignalled;
    int _filled;                                                   // not migrated: zero outside a device's call
    int _inUse;                                                    // not migrated: nothing is in flight while saving

    ulong UsedEvent => Setup.DriverArea + Ring + 2 * (ulong)Size;
    ulong AvailableEvent => Setup.DeviceArea + Ring + UsedElementSize * (ulong)Size;

    public override QueueProgress Progress => new(_inUse, _usedIndex, _nextAvailable, _signalled, _hasSignalled);
    public override uint Position => _nextAvailable;

    /// <summary>Where the used ring stands, before chains that were given and not used: these are put there. Null where
    /// too many came and went unseen to know them.</summary>
    public override uint? PositionAfterLoss
    {
        get
        {
            AnnounceGiven();
            var used = (ushort)Dma.Read(Setup.DeviceArea + IndexField, 2);
            if (_announced == used) return used;
            List<int> inFlight = [.. Enumerable.Range(0, Size).Where(head => _given[head] != 0)];
            bool isKnown = _knowsGiven && inFlight.Count == (ushort)(_announced - used)
                && inFlight.TrueForAll(head => _given[head] == 1);
            if (!isKnown) return null;
            for (int i = 0; i < inFlight.Count; i++)
                Dma.Write(Setup.DriverArea + Ring + 2 * ((ulong)(ushort)(used + i) % (ulong)Size), 2,
                    (ulong)inFlight[i]);
            return used;
        }
    }

    public override int Available => IsUsable() ? (ushort)(AvailableIndex() - _nextAvailable) : 0;

    public override bool TryPop([NotNullWhen(true)] out DescriptorChain? chain)
    {
        chain = null;
        if (!IsUsable()) return false;
        ushort waiting = (ushort)(AvailableIndex() - _nextAvailable);
        if (waiting == 0) return false;
        if (waiting > Size) return Fail("the available index jumped");
        if (_inUse >= Size) return Fail("more buffers than the queue holds");
        ushort head = (ushort)Dma.Read(Setup.DriverArea + Ring + 2 * ((ulong)_nextAvailable % (ulong)Size), 2);
        if (head >= Size) return Fail("a head outside the table");

        DescriptorChain taken = NewChain();
        taken.Begin(head);
        if (Collect(head, taken) is { } complaint)
        {
            Release(taken);
            return Fail(complaint);
        }
        _nextAvailable++;
        _inUse++;
        chain = taken;
        return true;
    }

    public override void Unpop(DescriptorChain chain)
    {
        _nextAvailable--;
        GiveBack(chain);
    }

    public override void Fill(DescriptorChain chain, uint written)
    {
        chain.MarkWritten(Dma, written);
        Span<byte> element = stackalloc byte[UsedElementSize];
        BinaryPrimitives.WriteUInt32LittleEndian(element, chain.Id);
        BinaryPrimitives.WriteUInt32LittleEndian(element[4..], written);
        uint slot = (uint)(_usedIndex + _filled++) % (uint)Size;
        Dma.Write(Setup.DeviceArea + Ring + slot * UsedElementSize, element);
        GiveBack(chain);
    }

    public override void Flush()
    {
        if (_filled == 0) return;
        _usedIndex += (ushort)_filled;
        _filled = 0;
        Dma.Write(Setup.DeviceArea + IndexField, 2, _usedIndex);
    }

    public override void DisableKicks()
    {
        if (IsUsable() && !HasEventIndex) Dma.Write(Setup.DeviceArea + FlagsField, 2, NoNotify);
    }

    public override bool EnableKicks(int except = 0)
    {
        if (!IsUsable()) return false;
        ushort seen = (ushort)(_nextAvailable + except);
        if (HasEventIndex) Dma.Write(AvailableEvent, 2, seen);
        else Dma.Write(Setup.DeviceArea + FlagsField, 2, 0);
        Thread.MemoryBarrier();                                    // our wish before avail.idx is read
        return AvailableIndex() != seen;
    }

    public override void AnnounceGiven()
    {
        if (!IsUsable()) return;
        var used = (ushort)Dma.Read(Setup.DeviceArea + IndexField, 2);   // first: all of it has been given
        ushort available = AvailableIndex();
        if ((ushort)(available - _announced) > Size || (ushort)(used - _seenUsed) > Size)
            (_announced, _seenUsed, _knowsGiven) = ((ushort)(available - Size), used, false);
        DescriptorChain chain = NewChain();
        for (; _announced != available; _announced++)
        {
            var head = (ushort)Dma.Read(Setup.DriverArea + Ring + 2 * ((ulong)_announced % (ulong)Size), 2);
            if (head >= Size) continue;
            _given[head]++;
            chain.Begin(head);
            if (Collect(head, chain) == null) chain.MarkWritten(Dma, uint.MaxValue);
        }
        Release(chain);
        for (; _seenUsed != used; _seenUsed++)
        {
            ulong element = Setup.DeviceArea + Ring + (ulong)_seenUsed % (ulong)Size * UsedElementSize;
            if (Dma.Read(element, 4) is var id && id < (ulong)Size) _given[id]--;
        }
        if (used != available) return;
        _knowsGiven = true;                                        // nothing is in flight, whatever went before
        Array.Clear(_given);
    }

    internal override void Reset()
    {
        (_nextAvailable, _usedIndex, _signalled, _hasSignalled) = (0, 0, 0, false);
        (_filled, _inUse, _announced, _seenUsed, _knowsGiven) = (0, 0, 0, 0, true);
        Array.Clear(_given);
        Forget();
    }

    internal override void Exchange(StateStream state)
    {
        state.Field("next-available", ref _nextAvailable);
        state.Field("used-index", ref _usedIndex);
        state.Field("signalled", ref _signalled);
        state.Field("has-signalled", ref _hasSignalled);
        if (!state.IsLoading) return;
        (_filled, _inUse) = (0, 0);
        Forget();
    }

    ushort AvailableIndex() => (ushort)Dma.Read(Setup.DriverArea + IndexField, 2);

    protected override string? CheckRings()
    {
        uint size = Setup.Size;
        if (!System.Numerics.BitOperations.IsPow2(size)) return "a size that is no power of two";
        bool inRam = IsRam(Setup.Descriptors, size * DescriptorSize, false)
            && IsRam(Setup.DriverArea, (uint)Ring + size * 2, false)
            && IsRam(Setup.DeviceArea, (uint)Ring + size * UsedElementSize, true);
        return inRam ? null : "a ring outside RAM";
    }

    /// <summary>Follows a chain once, reading each descriptor once; returns what is wrong with it, or null.</summary>
    string? Collect(ushort head, DescriptorChain chain)
    {
        Span<byte> raw = stackalloc byte[DescriptorSize];
        ulong table = Setup.Descriptors;
        uint entries = (uint)Size, index = head;
        bool isIndirect = false;
        for (int budget = Setup.MaxSize; budget > 0; budget--)
        {
            if (!Dma.Read(table + index * DescriptorSize, raw)) return "a descriptor outside RAM";
            ulong address = BinaryPrimitives.ReadUInt64LittleEndian(raw);
            uint length = BinaryPrimitives.ReadUInt32LittleEndian(raw[8..]);
            ushort flags = BinaryPrimitives.ReadUInt16LittleEndian(raw[12..]);
            ushort next = BinaryPrimitives.ReadUInt16LittleEndian(raw[14..]);
            if ((flags & IndirectFlag) != 0)
            {
                if (isIndirect) return "an indirect table inside an indirect table";
                if (CheckIndirect(length, flags) is { } wrong) return wrong;
                (table, entries, index, isIndirect) = (address, length / DescriptorSize, 0, true);
                budget++;                                          // it is no buffer itself; it can happen once
                continue;
            }
            if (chain.Add(Dma, address, length, (flags & WriteFlag) != 0) is { } complaint) return complaint;
            if ((flags & NextFlag) == 0) return null;
            if (next >= entries) return "a successor outside the table";
            index = next;
        }
        return "a chain longer than the queue";
    }

    protected override bool WantsInterrupt()
    {
        if (!HasEventIndex) return (Dma.Read(Setup.DriverArea + FlagsField, 2) & NoInterrupt) == 0;
        ushort usedEvent = (ushort)Dma.Read(UsedEvent, 2), before = _signalled;
        bool first = !_hasSignalled;
        (_signalled, _hasSignalled) = (_usedIndex, true);
        return first || (ushort)(_usedIndex - usedEvent - 1) < (ushort)(_usedIndex - before);   // 2.7.10
    }

    void GiveBack(DescriptorChain chain)
    {
        _inUse--;
        Release(chain);
    }
}
