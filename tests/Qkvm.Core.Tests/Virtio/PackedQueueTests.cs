using Qkvm.Core.Memory;
using Qkvm.Core.State;
using Qkvm.Core.Virtio;
using Qkvm.Testing;

namespace Qkvm.Core.Tests.Virtio;

/// <summary>The packed virtqueue against a driver that keeps the rules of Virtio 1.2, section 2.8, and one that breaks
/// them.</summary>
public sealed class PackedQueueTests : IDisposable
{
    const int Size = 7;                                            // no power of two: 2.8 wants none
    const ulong Ring = 0x10000, Data = 0x20000, Table = 0x30000;
    const int Given = PackedGuestQueue.Available;                  // in the first round
    const ulong Packed = VirtioFeatures.Version1 | VirtioFeatures.RingPacked | VirtioFeatures.IndirectDescriptors;

    readonly TestMemory _memory = new();
    readonly QueueTransport _transport;
    readonly ChainCollector _device = new();
    readonly VirtioControl _control;
    PackedGuestQueue _driver;

    public PackedQueueTests()
    {
        _transport = new QueueTransport(new Dma(_memory.Space));
        _control = new VirtioControl(_device, _transport, Packed | VirtioFeatures.EventIndex);
        _driver = new PackedGuestQueue(_memory.Space, Ring, Size);
    }

    public void Dispose() => _memory.Dispose();

    Virtqueue Queue => _control.Queues[0];

    void Start(ulong features = Packed)
    {
        _control.WriteStatus(VirtioStatus.Acknowledge | VirtioStatus.Driver, legacy: false);
        _control.WriteFeatures(features);
        _control.WriteStatus(VirtioStatus.Acknowledge | VirtioStatus.Driver | VirtioStatus.FeaturesOk, legacy: false);
        QueueSetup setup = Queue.Setup;
        (setup.Size, setup.Descriptors, setup.DriverArea, setup.DeviceArea) =
            (Size, _driver.Descriptors, _driver.DriverEvent, _driver.DeviceEvent);
        setup.Enabled = true;
        _control.WriteStatus(0x0F, legacy: false);
        Assert.True(_control.IsStarted);
    }

    void Kick() => _control.Kick(0, legacy: false);

    void Serve()
    {
        _driver.Add((Data, 1));
        Kick();
    }

    [Fact]
    public void A_chain_gives_its_readable_bytes_then_its_writable_ones_and_its_id_comes_back()
    {
        Start();
        _memory.Space.Write(Data, [1, 2, 3, 4, 5]);
        ushort id = _driver.Add((Data, 2), (Data + 2, 3), (Data + 0x100, -4), (Data + 0x200, -4));

        Assert.True(Queue.TryPop(out DescriptorChain? chain));
        var bytes = new byte[5];
        chain.Readable.CopyTo(bytes);
        Assert.Equal([1, 2, 3, 4, 5], bytes);
        chain.Writable.CopyFrom([10, 11, 12, 13, 14, 15, 16, 17]);
        Assert.False(Queue.TryPop(out _));
        Queue.Push(chain, 8);

        Assert.Equal((id, 8u), _driver.TakeUsed());
        Assert.Equal([10, 11, 12, 13], _memory.Bytes(Data + 0x100, 4));
        Assert.Equal([14, 15, 16, 17], _memory.Bytes(Data + 0x200, 4));
        Assert.False(_control.IsBroken);
    }

    [Fact]
    public void An_indirect_table_is_used_whole_whatever_its_other_flags()
    {
        Start();
        _driver.DescriptorAt(Table, Data, 1, 0, PackedGuestQueue.Indirect);
        _driver.DescriptorAt(Table + 16, Data + 8, 4, 0, PackedGuestQueue.Write);
        _driver.Give(0xFFFF, (Table, 32, PackedGuestQueue.Indirect));

        Assert.True(Queue.TryPop(out DescriptorChain? chain));
        Assert.Equal((1u, 4u), (chain.ReadableLength, chain.WritableLength));
        Queue.Push(chain, 2);
        Assert.Equal(((ushort)0xFFFF, 2u), _driver.TakeUsed());
    }

    [Fact]
    public void Wrap_counters_turn_at_the_rings_end_in_the_middle_of_chains()
    {
        Start();
        for (int i = 0; i < 1000; i++)
        {
            ushort id = i % 2 == 0 ? _driver.Add((Data, 1), (Data, -3)) : _driver.Add((Data, 1), (Data, 2), (Data, 3));
            Assert.Equal(1, Queue.Available);
            Assert.True(Queue.TryPop(out DescriptorChain? chain));
            Assert.False(Queue.TryPop(out _));
            Queue.Push(chain, 0);
            Assert.Equal((id, 0u), _driver.TakeUsed());
            Assert.Null(_driver.TakeUsed());
        }
        Assert.False(_control.IsBroken);
    }

    [Fact]
    public void Chains_go_back_in_any_order()
    {
        Start();
        ushort first = _driver.Add((Data, 1), (Data, 1)), second = _driver.Add((Data, -1));
        Queue.TryPop(out DescriptorChain? one);
        Queue.TryPop(out DescriptorChain? two);
        Queue.Push(two!, 1);
        Assert.Equal((second, 1u), _driver.TakeUsed());
        Assert.Null(_driver.TakeUsed());
        Queue.Push(one!, 0);
        Assert.Equal((first, 0u), _driver.TakeUsed());
    }

    [Fact]
    public void Filled_chains_are_seen_at_the_flush_together()
    {
        Start();
        _driver.Add((Data, -1));
        _driver.Add((Data, -1));
        Queue.TryPop(out DescriptorChain? first);
        Queue.TryPop(out DescriptorChain? second);
        Queue.Fill(first!, 1);
        Queue.Fill(second!, 1);
        Assert.Null(_driver.TakeUsed());
        Queue.Flush();
        Assert.NotNull(_driver.TakeUsed());
        Assert.NotNull(_driver.TakeUsed());
    }

    [Fact]
    public void Chains_that_were_put_back_are_counted_and_popped_again()
    {
        Start();
        for (int round = 0; round < 5; round++)                    // past the ring's end
        {
            ushort first = _driver.Add((Data, 5), (Data, 5)), second = _driver.Add((Data, 6));
            Assert.Equal(2, Queue.Available);
            Queue.TryPop(out DescriptorChain? one);
            Queue.TryPop(out DescriptorChain? two);
            Assert.Equal(0, Queue.Available);
            Queue.Unpop(two!);
            Queue.Unpop(one!);
            Assert.Equal(2, Queue.Available);
            Assert.True(Queue.TryPop(out one));
            Assert.Equal(10u, one.ReadableLength);
            Queue.Push(one, 0);
            Assert.True(Queue.TryPop(out two));
            Queue.Push(two, 0);
            Assert.Equal((first, 0u), _driver.TakeUsed());
            Assert.Equal((second, 0u), _driver.TakeUsed());
        }
    }

    [Fact]
    public void A_driver_that_wants_no_interrupt_gets_none()
    {
        Start();
        _driver.Wish(1);
        Serve();
        Assert.Equal(0, _transport.QueueInterrupts);
        _driver.Wish(0);
        Serve();
        Assert.Equal(1, _transport.QueueInterrupts);
    }

    [Theory]
    [InlineData(3, true, 4)]                                       // the place, and how many more until it is used
    [InlineData(6, true, 7)]
    [InlineData(1, false, 9)]                                      // in the next round
    public void With_event_index_the_interrupt_comes_when_the_place_is_used(int place, bool wrap, int chains)
    {
        Start(Packed | VirtioFeatures.EventIndex);
        _driver.Wish(2, 5);
        Serve();                                                   // the first is always told
        Assert.Equal(1, _transport.QueueInterrupts);
        _driver.Wish(2, place, wrap);
        for (int i = 1; i < chains; i++)
        {
            Assert.Equal(1, _transport.QueueInterrupts);
            Serve();
        }
        Assert.Equal(2, _transport.QueueInterrupts);
        Serve();
        Assert.Equal(2, _transport.QueueInterrupts);
    }

    [Fact]
    public void Kicks_are_turned_off_and_on_again()
    {
        Start();
        Queue.DisableKicks();
        Assert.Equal(1, _driver.DeviceWish.Flags);
        _driver.Add((Data, 1));
        Assert.True(Queue.EnableKicks());
        Assert.Equal(0, _driver.DeviceWish.Flags);
    }

    [Fact]
    public void With_event_index_kicks_are_asked_for_at_the_next_chain_or_behind_those_that_wait()
    {
        Start(Packed | VirtioFeatures.EventIndex);
        for (int i = 0; i < 5; i++) Serve();
        Queue.DisableKicks();
        Assert.Equal(1, _driver.DeviceWish.Flags);
        Assert.False(Queue.EnableKicks());
        Assert.Equal((2, 5, true), _driver.DeviceWish);
        _driver.Add((Data, 1), (Data, 1), (Data, 1));
        Assert.True(Queue.EnableKicks());
        Assert.False(Queue.EnableKicks(except: 1));
        Assert.Equal((2, 1, false), _driver.DeviceWish);
    }

    public static TheoryData<string> Lies => new(HostileRings.Keys);

    static readonly Dictionary<string, Action<PackedQueueTests>> HostileRings = new()
    {
        ["a chain round the ring without an end"] = t =>
        {
            for (int i = 0; i < Size; i++) t._driver.Descriptor(i, Data, 4, 0, Given | PackedGuestQueue.Next);
        },
        ["an empty indirect table"] = t => t.Offer(Table, 0, PackedGuestQueue.Indirect),
        ["an indirect table of 17 bytes"] = t => t.Offer(Table, 17, PackedGuestQueue.Indirect),
        ["an indirect table longer than the queue"] =
            t => t.Offer(Table, 16 * (ChainCollector.QueueSize + 1), PackedGuestQueue.Indirect),
        ["an indirect table of 4 GiB"] = t => t.Offer(Table, 0xFFFFFFF0, PackedGuestQueue.Indirect),
        ["an indirect descriptor with a successor"] =
            t => t.Offer(Table, 16, PackedGuestQueue.Indirect | PackedGuestQueue.Next),
        ["an indirect descriptor with a predecessor"] = t =>
        {
            t._driver.DescriptorAt(Table, Data, 4, 0, 0);
            t._driver.Descriptor(1, Table, 16, 0, Given | PackedGuestQueue.Indirect);
            t.Offer(Data, 4, PackedGuestQueue.Next);
        },
        ["an indirect table outside RAM"] = t => t.Offer(TestMemory.IoAddress, 16, PackedGuestQueue.Indirect),
        ["an indirect table with a buffer of registers"] = t =>
        {
            t._driver.DescriptorAt(Table, TestMemory.IoAddress, 4, 0, 0);
            t.Offer(Table, 16, PackedGuestQueue.Indirect);
        },
        ["a buffer of 4 GiB"] = t => t.Offer(Data, uint.MaxValue, 0),
        ["a buffer that wraps around"] = t => t.Offer(ulong.MaxValue - 15, 32, 0),
        ["a buffer past the end of RAM"] = t => t.Offer(TestMemory.RamSize - 4, 8, 0),
        ["a writable buffer in ROM"] = t => t.Offer(TestMemory.RomAddress, 8, PackedGuestQueue.Write),
        ["a buffer where nothing is"] = t => t.Offer(TestMemory.HoleAddress, 8, 0),
        ["a buffer of no bytes"] = t => t.Offer(Data, 0, 0),
        ["a readable buffer after a writable one"] = t =>
        {
            t._driver.Descriptor(1, Data, 4, 0, Given);
            t.Offer(Data, 4, PackedGuestQueue.Write | PackedGuestQueue.Next);
        },
        ["a ring in registers"] = t => t.Queue.Setup.Descriptors = TestMemory.IoAddress,
        ["a ring in ROM"] = t => t.Queue.Setup.Descriptors = TestMemory.RomAddress,
        ["a ring where nothing is"] = t => t.Queue.Setup.Descriptors = ulong.MaxValue - 7,
        ["a driver's wish in registers"] = t => t.Queue.Setup.DriverArea = TestMemory.IoAddress,
        ["a device's wish in ROM"] = t => t.Queue.Setup.DeviceArea = TestMemory.RomAddress,
        ["a queue of size 0"] = t => t.Queue.Setup.Size = 0,
        ["more chains than the ring holds"] = t =>
        {
            t._device.Hoards = true;
            for (int i = 0; i <= Size; i++)
            {
                t._driver.Add((Data, 4));
                t.Kick();
            }
        },
        ["a chain into places whose chains are still here"] = t =>
        {
            t._device.Hoards = true;
            t._driver.Add((Data, 4), (Data, 4));
            t.Kick();
            t._driver.Give(9, [.. Enumerable.Repeat((Data, 4u, 0), Size - 1)]);
        },
    };

    [Theory]
    [MemberData(nameof(Lies))]
    public void A_driver_that_lies_stops_the_device_until_it_resets_it(string lie)
    {
        Start();
        HostileRings[lie](this);
        _ = Queue.Available;                                       // counting must survive it, too
        Kick();

        Assert.True(_control.IsBroken);
        Assert.Equal(VirtioStatus.NeedsReset, _control.Status & VirtioStatus.NeedsReset);
        Assert.Equal(1, _transport.ConfigInterrupts);
        Assert.Equal(0, _memory.Registers.Accesses);
        Kick();
        Assert.False(Queue.TryPop(out _));
        Assert.Equal(0, Queue.Available);

        _control.WriteStatus(0, legacy: false);
        _device.Hoards = false;
        _memory.Space.Write(Ring, new byte[16 * Size]);
        _driver = new PackedGuestQueue(_memory.Space, Ring, Size);
        Start();
        ushort id = _driver.Add((Data, 1));
        Kick();
        Assert.Equal((id, 0u), _driver.TakeUsed());
    }

    [Fact]
    public void The_same_id_twice_and_ids_beyond_the_ring_are_the_drivers_affair()
    {
        Start();
        foreach (ushort id in (ushort[])[0xFFFF, 0xFFFF, 8, 0]) _driver.Give(id, (Data, 4, 0));
        Kick();
        Assert.Equal([0xFFFF, 0xFFFF, 8, 0], Enumerable.Range(0, 4).Select(_ => (int)_driver.TakeUsed()!.Value.Id));
        Assert.False(_control.IsBroken);
    }

    [Fact]
    public void Chains_that_vanish_after_they_were_counted_do_no_harm()
    {
        Start(Packed | VirtioFeatures.EventIndex);
        for (int i = 0; i < 3; i++) _driver.Add((Data, 1));
        Assert.Equal(3, Queue.Available);
        for (int i = 0; i < Size; i++) _driver.Descriptor(i, Data, 1, 0, 0);
        Assert.False(Queue.TryPop(out _));
        Assert.False(Queue.EnableKicks(except: 2));
        Assert.False(Queue.EnableKicks());
        Assert.False(_control.IsBroken);
    }

    [Fact]
    public void An_indirect_descriptor_needs_the_feature()
    {
        Start(Packed & ~VirtioFeatures.IndirectDescriptors);
        Offer(Table, 16, PackedGuestQueue.Indirect);
        Kick();
        Assert.True(_control.IsBroken);
    }

    [Fact]
    public void After_a_reset_a_driver_may_choose_split_rings()
    {
        Start();
        Serve();
        _control.WriteStatus(0, legacy: false);
        var split = new GuestQueue(_memory.Space, 0x40000, 8);
        _control.WriteStatus(3, legacy: false);
        _control.WriteFeatures(VirtioFeatures.Version1);
        _control.WriteStatus(11, legacy: false);
        QueueSetup setup = Queue.Setup;
        (setup.Size, setup.Descriptors, setup.DriverArea, setup.DeviceArea) =
            (8, split.Descriptors, split.Available, split.Used);
        setup.Enabled = true;
        _control.WriteStatus(15, legacy: false);
        split.Add((Data, 1));
        Kick();
        Assert.Equal(1, split.UsedIndex);
    }

    [Fact]
    public void The_state_of_a_working_queue_goes_on_in_another_machine()
    {
        Start(Packed | VirtioFeatures.EventIndex);
        for (int i = 0; i < Size + 2; i++)                         // both wrap counters turn
        {
            Serve();
            Assert.NotNull(_driver.TakeUsed());
        }
        StateNode saved = StateNode.Save(_control.Exchange);

        var transport = new QueueTransport(new Dma(_memory.Space));
        var control = new VirtioControl(new ChainCollector(), transport, _control.OfferedFeatures);
        saved.Load(control.Exchange);
        Assert.Equal(saved.ToString(), StateNode.Save(control.Exchange).ToString());
        Assert.Equal(0, transport.QueueInterrupts + transport.ConfigInterrupts);
        ushort id = _driver.Add((Data, 1));
        control.Kick(0, legacy: false);
        Assert.Equal((id, 0u), _driver.TakeUsed());
    }

    [Fact]
    public void A_state_with_a_place_outside_the_ring_is_refused()
    {
        Start();
        var smaller = new VirtioControl(new ChainCollector(), _transport, _control.OfferedFeatures);
        for (int i = 0; i < Size - 1; i++) Serve();
        Queue.Setup.Size = 3;
        StateNode saved = StateNode.Save(_control.Exchange);
        Assert.Throws<InvalidStateException>(() => saved.Load(smaller.Exchange));
    }

    [Fact]
    public void Steady_traffic_allocates_nothing()
    {
        Start();
        for (int i = 0; i < 16; i++) Serve();
        long before = GC.GetAllocatedBytesForCurrentThread();
        var buffers = new (ulong, uint, int)[] { (Data, 1, 0) };
        for (int i = 0; i < 1000; i++)
        {
            _driver.Give(5, buffers);
            Kick();
        }
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 500);   // the array, a dictionary's entry
        Assert.False(_control.IsBroken);
    }

    void Offer(ulong address, uint length, int flags) => _driver.Descriptor(0, address, length, 0, Given | flags);
}
