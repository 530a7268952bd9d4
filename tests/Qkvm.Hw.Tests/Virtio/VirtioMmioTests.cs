using Qkvm.Core.Devices;
using Qkvm.Core.Irq;
using Qkvm.Core.State;
using Qkvm.Core.Virtio;
using Qkvm.Hw.Virtio;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Virtio;

/// <summary>A driver by Virtio 1.2, section 4.2, whose register offsets are restated here.</summary>
public sealed class VirtioMmioTests : IDisposable
{
    const ulong Base = 0xFEB0_0000;
    const ulong RingFeatures = 1UL << 27 | 1UL << 28 | 1UL << 29;
    const ulong QueueAt = 0x10_0000;

    readonly PciBench _bench = new();
    bool _irq;

    public void Dispose() => _bench.Dispose();

    ulong this[ulong offset]
    {
        get => _bench.Memory.Space.Read(Base + offset, 4);
        set => _bench.Memory.Space.Write(Base + offset, 4, value);
    }

    VirtioMmio Transport(bool legacy, bool plugged = true)
    {
        var transport = new VirtioMmio(7, _bench.Memory.Space, Base, new IrqLine("irq", level => _irq = level), legacy);
        if (plugged) transport.Plug(Rng());
        return transport;
    }

    VirtioBusDevice Rng() => new(new VirtioRng("rng", _bench.Clock, long.MaxValue, 1, bytes => bytes.Fill(0x5A)),
        RingFeatures | 1UL << 34);

    ulong Offered
    {
        get
        {
            this[0x14] = 0;
            ulong low = this[0x10];
            this[0x14] = 1;
            return low | this[0x10] << 32;
        }
    }

    /// <summary>Sections 3.1.1 and 4.2.3.2, version 2.</summary>
    GuestQueue StartModern()
    {
        this[0x70] = 0;
        this[0x70] = 3;
        ulong features = Offered & ~(1UL << 34);
        this[0x24] = 0;
        this[0x20] = (uint)features;
        this[0x24] = 1;
        this[0x20] = features >> 32;
        this[0x70] = 11;
        Assert.Equal(11u, this[0x70]);
        this[0x30] = 0;
        Assert.Equal(0u, this[0x44]);
        var queue = new GuestQueue(_bench.Memory.Space, QueueAt, (int)this[0x34]);
        this[0x38] = (ulong)queue.Size;
        this[0x80] = queue.Descriptors;
        this[0x84] = 0;
        this[0x90] = queue.Available;
        this[0x94] = 0;
        this[0xA0] = queue.Used;
        this[0xA4] = 0;
        this[0x44] = 1;
        this[0x70] = 15;
        return queue;
    }

    /// <summary>Section 4.2.4, "Legacy interface", version 1.</summary>
    GuestQueue StartLegacy()
    {
        this[0x28] = 4096;
        this[0x70] = 0;
        this[0x70] = 3;
        this[0x14] = 0;
        this[0x24] = 0;
        this[0x20] = this[0x10] & ~(1UL << 29);
        this[0x30] = 0;
        Assert.Equal(0u, this[0x40]);
        var queue = new GuestQueue(_bench.Memory.Space, QueueAt, (int)this[0x34]);
        this[0x38] = (ulong)queue.Size;
        this[0x3C] = 4096;
        this[0x40] = QueueAt >> 12;
        Assert.Equal(QueueAt >> 12, this[0x40]);
        this[0x70] = 7;
        return queue;
    }

    void AskForEntropy(GuestQueue queue)
    {
        queue.Add((0x20_0000, -16));
        this[0x50] = 0;
    }

    [Theory]
    [InlineData(true, 1u)]
    [InlineData(false, 2u)]
    public void It_tells_its_magic_version_device_and_vendor(bool legacy, uint version)
    {
        Transport(legacy);
        Assert.Equal(0x74726976u, this[0]);
        Assert.Equal(version, this[4]);
        Assert.Equal(4u, this[8]);
        Assert.Equal(0x554D4551u, this[0xC]);
    }

    [Fact]
    public void Without_a_device_its_id_is_0_and_writes_go_nowhere()
    {
        Transport(legacy: false, plugged: false);
        this[0x70] = 1;
        Assert.Equal(0x74726976u, this[0]);
        Assert.Equal(2u, this[4]);
        Assert.Equal(0u, this[8]);
        Assert.Equal(0u, this[0x70]);
    }

    [Fact]
    public void Version_1_and_packed_rings_are_not_for_legacy_drivers()
    {
        Transport(legacy: true);
        Assert.Equal(RingFeatures, Offered);
    }

    [Fact]
    public void Modern_drivers_are_offered_both()
    {
        Transport(legacy: false);
        Assert.Equal(RingFeatures | 1UL << 32 | 1UL << 34, Offered);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_request_is_served_and_its_interrupt_stays_until_it_is_acknowledged(bool legacy)
    {
        Transport(legacy);
        GuestQueue queue = legacy ? StartLegacy() : StartModern();
        AskForEntropy(queue);
        Assert.Equal((0u, 16u), queue.TakeUsed());
        Assert.Equal(Enumerable.Repeat((byte)0x5A, 16), _bench.Memory.Bytes(0x20_0000, 16));
        Assert.True(_irq);
        Assert.Equal(1u, this[0x60]);
        this[0x64] = 2;
        Assert.True(_irq);
        this[0x64] = 1;
        Assert.False(_irq);
        Assert.Equal(0u, this[0x60]);
    }

    [Fact]
    public void A_reset_forgets_the_queues_and_lowers_the_interrupt_but_keeps_the_page_size()
    {
        Transport(legacy: true);
        AskForEntropy(StartLegacy());
        this[0x70] = 0;
        Assert.False(_irq);
        Assert.Equal(0u, this[0x40]);
        this[0x40] = 5;
        Assert.Equal(5u, this[0x40]);                              // in the pages of before
    }

    [Fact]
    public void A_queue_that_is_ready_does_not_move()
    {
        Transport(legacy: false);
        GuestQueue queue = StartModern();
        this[0x80] = 0xDEAD_0000;
        this[0x38] = 1;
        AskForEntropy(queue);
        Assert.Equal((0u, 16u), queue.TakeUsed());
    }

    [Fact]
    public void Registers_of_the_other_version_and_of_other_widths_do_nothing()
    {
        Transport(legacy: false);
        this[0x28] = 4096;
        this[0x30] = 0;
        this[0x40] = 7;
        Assert.Equal(0u, this[0x40]);
        Assert.Equal(0u, this[0x44]);
        _bench.Memory.Space.Write(Base + 0x70, 1, 1);
        Assert.Equal(0u, this[0x70]);
        Assert.Equal(0u, _bench.Memory.Space.Read(Base + 8, 2));
    }

    [Theory]
    [InlineData(0x30, 0xFFFF_FFFF, 0x34)]
    [InlineData(0x30, 1, 0x44)]
    public void A_queue_that_does_not_exist_reads_as_0(ulong register, ulong value, ulong read)
    {
        Transport(legacy: false);
        this[register] = value;
        this[0x44] = 1;
        this[0x38] = 256;
        Assert.Equal(0u, this[read]);
    }

    [Fact]
    public void There_is_no_shared_memory() => Assert.Equal(uint.MaxValue, Read(0xB0));

    [Theory]
    [InlineData(0)]
    [InlineData(3)]
    [InlineData(1025)]
    public void A_size_that_is_no_power_of_two_or_too_large_is_not_taken(ulong size)
    {
        Transport(legacy: false);
        this[0x30] = 0;
        this[0x38] = size;
        GuestQueue queue = StartModern();
        AskForEntropy(queue);
        Assert.Equal((0u, 16u), queue.TakeUsed());
    }

    [Fact]
    public void The_bus_takes_one_device()
    {
        VirtioMmio transport = Transport(legacy: true, plugged: false);
        IBusWires wires = transport;
        Assert.False(wires.IsFull);
        transport.Plug(Rng());
        Assert.True(wires.IsFull);
        Assert.Equal("virtio-mmio-bus.7", transport.Bus.Name);
        Assert.Equal("virtio-mmio@00000000feb00000", transport.PathName);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_loaded_state_goes_on_where_it_was_saved(bool legacy)
    {
        VirtioMmio transport = Transport(legacy);
        GuestQueue queue = legacy ? StartLegacy() : StartModern();
        AskForEntropy(queue);
        StateNode saved = StateNode.Save(transport.Exchange);
        StateNode device = StateNode.Save(transport.Device!.Control.Exchange);

        using var other = new PciBench();
        other.Memory.Space.Write(0, _bench.Memory.Bytes(0, (int)TestMemory.RamSize));
        bool irq = false;
        var loaded = new VirtioMmio(7, other.Memory.Space, Base, new IrqLine("irq", level => irq = level), legacy);
        loaded.Plug(new VirtioBusDevice(new VirtioRng("rng", other.Clock, long.MaxValue, 1, b => b.Fill(0xA5)),
            RingFeatures | 1UL << 34));
        saved.Load(loaded.Exchange);
        device.Load(loaded.Device!.Control.Exchange);
        Assert.False(irq);                                         // the level is known, no edge is seen
        Assert.Equal(1u, other.Memory.Space.Read(Base + 0x60, 4));
        Assert.Equal(saved.ToString(), StateNode.Save(loaded.Exchange).ToString());
        Assert.Equal(device.ToString(), StateNode.Save(loaded.Device.Control.Exchange).ToString());
        other.Memory.Space.Write(Base + 0x64, 4, 1);
        Assert.Equal(0u, other.Memory.Space.Read(Base + 0x60, 4));
    }

    uint Read(ulong offset)
    {
        Transport(legacy: false);
        return (uint)this[offset];
    }
}
