using Qkvm.Core.Memory;
using Qkvm.Core.State;
using Qkvm.Core.Virtio;
using Qkvm.Testing;

namespace Qkvm.Core.Tests.Virtio;

/// <summary>The split virtqueue against a driver that keeps the rules of Virtio 1.2, section 2.7, and one that breaks
/// them.</summary>
public sealed class SplitQueueTests : IDisposable
{
    const int Size = 8;
    const ulong Ring = 0x10000, Data = 0x20000, Table = 0x30000;
    const ulong Modern = VirtioFeatures.Version1 | VirtioFeatures.IndirectDescriptors;

    readonly TestMemory _memory = new();
    readonly QueueTransport _transport;
    readonly ChainCollector _device = new();
    readonly VirtioControl _control;
    readonly GuestQueue _driver;

    public SplitQueueTests()
    {
        _transport = new QueueTransport(new Dma(_memory.Space));
        _control = new VirtioControl(_device, _transport,
            VirtioFeatures.Version1 | VirtioFeatures.IndirectDescriptors | VirtioFeatures.EventIndex);
        _driver = new GuestQueue(_memory.Space, Ring, Size);
    }

    public void Dispose() => _memory.Dispose();

    Virtqueue Queue => _control.Queues[0];

    void Start(ulong features = Modern)
    {
        _control.WriteStatus(VirtioStatus.Acknowledge | VirtioStatus.Driver, legacy: false);
        _control.WriteFeatures(features);
        _control.WriteStatus(VirtioStatus.Acknowledge | VirtioStatus.Driver | VirtioStatus.FeaturesOk, legacy: false);
        QueueSetup setup = Queue.Setup;
        (setup.Size, setup.Descriptors, setup.DriverArea, setup.DeviceArea) =
            (Size, _driver.Descriptors, _driver.Available, _driver.Used);
        setup.Enabled = true;
        _control.WriteStatus(0x0F, legacy: false);
        Assert.True(_control.IsStarted);
    }

    void Kick() => _control.Kick(0, legacy: false);

    [Fact]
    public void A_chain_gives_its_readable_bytes_then_its_writable_ones()
    {
        Start();
        _memory.Space.Write(Data, [1, 2, 3, 4, 5]);
        ushort head = _driver.Add((Data, 2), (Data + 2, 3), (Data + 0x100, -4), (Data + 0x200, -4));

        Assert.True(Queue.TryPop(out DescriptorChain? chain));
        var bytes = new byte[5];
        chain.Readable.CopyTo(bytes);
        Assert.Equal([1, 2, 3, 4, 5], bytes);
        chain.Writable.CopyFrom([10, 11, 12, 13, 14, 15, 16, 17]);
        Queue.Push(chain, 8);

        Assert.Equal(((uint)head, 8u), _driver.TakeUsed());
        Assert.Equal([10, 11, 12, 13], _memory.Bytes(Data + 0x100, 4));
        Assert.Equal([14, 15, 16, 17], _memory.Bytes(Data + 0x200, 4));
        Assert.False(Queue.TryPop(out _));
        Assert.False(_control.IsBroken);
    }

    [Fact]
    public void An_indirect_table_gives_the_same_chain()
    {
        Start();
        _memory.Space.Write(Data, [9]);
        _driver.DescriptorAt(Table, Data, 1, GuestQueue.Next, 2);
        _driver.DescriptorAt(Table + 32, Data + 8, 4, GuestQueue.Write);
        _driver.Descriptor(3, Table, 48, GuestQueue.Indirect);
        _driver.Offer(3);

        Assert.True(Queue.TryPop(out DescriptorChain? chain));
        Assert.Equal((1u, 4u), (chain.ReadableLength, chain.WritableLength));
    }

    [Fact]
    public void Indices_wrap_around_the_ring_and_at_65536()
    {
        Start();
        for (int i = 0; i < 70000; i++)
        {
            _driver.Add((Data, 1));
            Assert.True(Queue.TryPop(out DescriptorChain? chain));
            Queue.Push(chain, 0);
        }
        Assert.Equal(70000 % 65536, _driver.UsedIndex);
        Assert.False(_control.IsBroken);
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
        Assert.Equal(0, _driver.UsedIndex);
        Queue.Flush();
        Assert.Equal(2, _driver.UsedIndex);
    }

    [Fact]
    public void An_unpopped_chain_is_popped_again()
    {
        Start();
        ushort head = _driver.Add((Data, 5));
        Queue.TryPop(out DescriptorChain? chain);
        Queue.Unpop(chain!);
        Assert.True(Queue.TryPop(out chain));
        Queue.Push(chain, 0);
        Assert.Equal(head, (ushort)_driver.TakeUsed()!.Value.Id);
    }

    [Fact]
    public void A_driver_that_wants_no_interrupt_gets_none()
    {
        Start();
        _driver.AvailableFlags = 1;
        Serve();
        Assert.Equal(0, _transport.QueueInterrupts);
        _driver.AvailableFlags = 0;
        Serve();
        Assert.Equal(1, _transport.QueueInterrupts);
    }

    [Fact]
    public void With_event_index_the_interrupt_comes_when_the_used_index_passes_the_event()
    {
        Start(Modern | VirtioFeatures.EventIndex);
        Serve();                                                   // the first is always told
        Assert.Equal(1, _transport.QueueInterrupts);
        _driver.UsedEvent = 3;                                     // tell when element 3 was used: index 4
        Serve();
        Serve();
        Assert.Equal(1, _transport.QueueInterrupts);
        Serve();
        Assert.Equal(2, _transport.QueueInterrupts);
    }

    [Fact]
    public void Kicks_are_turned_off_by_the_flag_and_on_again()
    {
        Start();
        Queue.DisableKicks();
        Assert.Equal(1, _driver.UsedFlags);
        _driver.Add((Data, 1));
        Assert.True(Queue.EnableKicks());
        Assert.Equal(0, _driver.UsedFlags);
    }

    [Fact]
    public void With_event_index_kicks_are_asked_for_at_the_next_buffer()
    {
        Start(Modern | VirtioFeatures.EventIndex);
        Serve();
        Assert.False(Queue.EnableKicks());
        Assert.Equal(1, _driver.AvailableEvent);
    }

    public static TheoryData<string> Lies => new(HostileRings.Keys);

    static readonly Dictionary<string, Action<SplitQueueTests>> HostileRings = new()
    {
        ["a chain that loops to itself"] = t => t.Offer((Data, 4, GuestQueue.Next, 0)),
        ["a loop of two"] = t =>
            { t._driver.Descriptor(1, Data, 4, GuestQueue.Next, 0); t.Offer((Data, 4, GuestQueue.Next, 1)); },
        ["a successor outside the table"] = t => t.Offer((Data, 4, GuestQueue.Next, Size)),
        ["a successor far outside"] = t => t.Offer((Data, 4, GuestQueue.Next, 0xFFFF)),
        ["a head outside the table"] = t => t._driver.Offer(Size),
        ["an available index that jumps"] = t => t._driver.AvailableIndex = Size + 1,
        ["an available index that goes back"] = t => t._driver.AvailableIndex = 0xFFFF,
        ["an empty indirect table"] = t => t.Offer((Table, 0, GuestQueue.Indirect, 0)),
        ["an indirect table of 17 bytes"] = t => t.Offer((Table, 17, GuestQueue.Indirect, 0)),
        ["an indirect table longer than the queue"]
        = t => t.Offer((Table, 16 * (ChainCollector.QueueSize + 1), GuestQueue.Indirect, 0)),
        ["an indirect table of 4 GiB"] = t => t.Offer((Table, 0xFFFFFFF0, GuestQueue.Indirect, 0)),
        ["an indirect table in an indirect table"] = t =>
        {
            t._driver.DescriptorAt(Table, Table, 16, GuestQueue.Indirect);
            t.Offer((Table, 16, GuestQueue.Indirect, 0));
        },
        ["an indirect descriptor with a successor"]
        = t => t.Offer((Table, 16, GuestQueue.Indirect | GuestQueue.Next, 1)),
        ["an indirect table outside RAM"] = t => t.Offer((TestMemory.IoAddress, 16, GuestQueue.Indirect, 0)),
        ["an indirect chain that loops"] = t =>
        {
            t._driver.DescriptorAt(Table, Data, 4, GuestQueue.Next, 0);
            t.Offer((Table, 16, GuestQueue.Indirect, 0));
        },
        ["an indirect successor outside its table"] = t =>
        {
            t._driver.DescriptorAt(Table, Data, 4, GuestQueue.Next, 1);
            t.Offer((Table, 16, GuestQueue.Indirect, 0));
        },
        ["a buffer of 4 GiB"] = t => t.Offer((Data, uint.MaxValue, 0, 0)),
        ["a buffer that wraps around"] = t => t.Offer((ulong.MaxValue - 15, 32, 0, 0)),
        ["a buffer past the end of RAM"] = t => t.Offer((TestMemory.RamSize - 4, 8, 0, 0)),
        ["a buffer of registers"] = t => t.Offer((TestMemory.IoAddress, 8, GuestQueue.Write, 0)),
        ["a writable buffer in ROM"] = t => t.Offer((TestMemory.RomAddress, 8, GuestQueue.Write, 0)),
        ["a buffer where nothing is"] = t => t.Offer((TestMemory.HoleAddress, 8, 0, 0)),
        ["a buffer of no bytes"] = t => t.Offer((Data, 0, 0, 0)),
        ["a readable buffer after a writable one"] = t =>
        {
            t._driver.Descriptor(1, Data, 4, 0);
            t.Offer((Data, 4, GuestQueue.Write | GuestQueue.Next, 1));
        },
        ["a descriptor table in registers"]
        = t => { t.Queue.Setup.Descriptors = TestMemory.IoAddress; t._driver.Offer(0); },
        ["an available ring in registers"] = t => t.Queue.Setup.DriverArea = TestMemory.IoAddress,
        ["a used ring in ROM"] = t => { t.Queue.Setup.DeviceArea = TestMemory.RomAddress; t._driver.Offer(0); },
        ["rings where nothing is"] = t => t.Queue.Setup.Descriptors = ulong.MaxValue - 7,
        ["a queue size that is no power of two"] = t => { t.Queue.Setup.Size = 7; t._driver.Offer(0); },
        ["a queue of size 0"] = t => { t.Queue.Setup.Size = 0; t._driver.Offer(0); },
        ["the same buffer more often than the queue is long"] = t =>
        {
            t._device.Hoards = true;
            t.Offer((Data, 4, 0, 0));
            for (int i = 0; i < Size; i++) { t.Kick(); t._driver.Offer(0); }
        },
    };

    [Theory]
    [MemberData(nameof(Lies))]
    public void A_driver_that_lies_stops_the_device_until_it_resets_it(string lie)
    {
        Start();
        HostileRings[lie](this);
        Kick();

        Assert.True(_control.IsBroken);
        Assert.Equal(VirtioStatus.NeedsReset, _control.Status & VirtioStatus.NeedsReset);
        Assert.Equal(1, _transport.ConfigInterrupts);
        Assert.Equal(0, _memory.Registers.Accesses);
        Kick();                                                    // deaf now
        Assert.False(Queue.TryPop(out _));
        Assert.Equal(1, _transport.ConfigInterrupts);

        _control.WriteStatus(0, legacy: false);
        Assert.False(_control.IsBroken);
        Assert.Equal(0, _control.Status);
        _device.Hoards = false;
        _driver.AvailableIndex = 0;
        _memory.Space.Write(_driver.Used, 4, 0);
        Start();
        _driver.Add((Data, 1));
        Kick();
        Assert.Equal(1, _driver.UsedIndex);
    }

    [Fact]
    public void An_indirect_descriptor_needs_the_feature()
    {
        Start(VirtioFeatures.Version1);
        Offer((Table, 16, GuestQueue.Indirect, 0));
        Kick();
        Assert.True(_control.IsBroken);
    }

    [Fact]
    public void A_chain_of_more_than_4_GiB_is_refused_though_its_parts_are_RAM()
    {
        using var huge = new Qkvm.Host.GuestRam("huge", 3UL << 30);
        _memory.Root.Map(1UL << 32, MemoryRegion.OfRam("huge", huge, 0, huge.Size));
        Start();
        _driver.Descriptor(1, 1UL << 32, 3u << 30, 0);
        Offer((1UL << 32, 3u << 30, GuestQueue.Next, 1));
        Kick();
        Assert.True(_control.IsBroken);
    }

    [Fact]
    public void Without_bus_mastering_nothing_is_popped_and_nothing_breaks()
    {
        Start();
        _driver.Add((Data, 1));
        _transport.Dma.Enabled = false;
        Kick();
        Assert.False(_control.IsBroken);
        _transport.Dma.Enabled = true;
        Kick();
        Assert.Equal(1, _driver.UsedIndex);
    }

    [Fact]
    public void Features_that_were_not_offered_are_refused()
    {
        _control.WriteStatus(3, legacy: false);
        _control.WriteFeatures(Modern | 1UL << 50);
        _control.WriteStatus(0x0B, legacy: false);
        Assert.Equal(0, _control.Status & VirtioStatus.FeaturesOk);
        _control.WriteStatus(0x0F, legacy: false);
        Assert.False(_control.IsStarted);
    }

    [Fact]
    public void Features_do_not_change_after_FEATURES_OK()
    {
        Start();
        _control.WriteFeatures(0);
        Assert.Equal(Modern, _control.Features);
    }

    [Fact]
    public void A_reset_stops_the_device()
    {
        Start();
        _control.WriteStatus(0, legacy: false);
        Assert.Equal(1, _device.Stops);
        Assert.False(Queue.Setup.Enabled);
        Kick();
        Assert.Equal(0, _device.Kicks);
    }

    [Fact]
    public void The_state_of_a_working_queue_goes_on_in_another_machine()
    {
        Start(Modern | VirtioFeatures.EventIndex);
        Serve();
        StateNode saved = StateNode.Save(_control.Exchange);

        var device = new ChainCollector();
        var transport = new QueueTransport(new Dma(_memory.Space));
        var control = new VirtioControl(device, transport, _control.OfferedFeatures);
        saved.Load(control.Exchange);
        Assert.Equal(saved.ToString(), StateNode.Save(control.Exchange).ToString());
        Assert.Equal(0, transport.QueueInterrupts + transport.ConfigInterrupts);
        _driver.Add((Data, 1));
        control.Kick(0, legacy: false);
        Assert.Equal(2, _driver.UsedIndex);
    }

    [Fact]
    public void Steady_traffic_allocates_nothing()
    {
        Start();
        for (int i = 0; i < 16; i++) Serve();
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 1000; i++)
        {
            _driver.Offer(0);
            Kick();
        }
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
        Assert.False(_control.IsBroken);
    }

    void Serve()
    {
        _driver.Add((Data, 1));
        Kick();
    }

    void Offer((ulong Address, uint Length, int Flags, ushort Next) first)
    {
        _driver.Descriptor(0, first.Address, first.Length, (ushort)first.Flags, first.Next);
        _driver.Offer(0);
    }
}
