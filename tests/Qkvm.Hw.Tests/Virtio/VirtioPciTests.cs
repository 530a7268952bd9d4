using Qkvm.Core.Devices;
using Qkvm.Core.Irq;
using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Core.State;
using Qkvm.Core.Virtio;
using Qkvm.Hw.Virtio;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Virtio;

public sealed class VirtioPciTests : IDisposable
{
    readonly PciBench _bench = new();

    public void Dispose() => _bench.Dispose();

    static VirtioRng Rng(PciBench bench) => new("rng", bench.Clock, long.MaxValue, 1, bytes => bytes.Fill(0x5A));

    [Fact]
    public void A_transitional_function_has_the_old_id_revision_0_and_the_virtio_id_as_subsystem()
    {
        var guest = new VirtioGuest(_bench, Rng(_bench));
        Assert.Equal(0x10051AF4u, _bench.Bus.ReadConfig(guest.Function.DevFn, 0, 4));
        Assert.Equal(0u, _bench.Bus.ReadConfig(guest.Function.DevFn, 8, 1));
        Assert.Equal(0x00041AF4u, _bench.Bus.ReadConfig(guest.Function.DevFn, 0x2C, 4));
    }

    [Fact]
    public void A_modern_function_has_the_new_id_and_revision_1_and_no_ports()
    {
        var function =
            _bench.Plug(new VirtioPci("virtio", Rng(_bench), new VirtioPciOptions(0x00FF00, 2, Legacy: false)), 4);
        Assert.Equal(0x10441AF4u, _bench.Bus.ReadConfig(function.DevFn, 0, 4));
        Assert.Equal(1u, _bench.Bus.ReadConfig(function.DevFn, 8, 1));
        Assert.Null(function.BarRegions[0]);
    }

    [Fact]
    public void Neither_interface_is_a_mistake_of_the_user() =>
        Assert.Throws<ConfigurationException>(() =>
            new VirtioPci("virtio", Rng(_bench), new VirtioPciOptions(0, 0, Legacy: false, Modern: false)));

    [Fact]
    public void The_capabilities_lead_to_all_five_structures()
    {
        var guest = new VirtioGuest(_bench, Rng(_bench));
        var found = new SortedDictionary<uint, (uint Bar, uint Offset)>();
        uint at = _bench.Bus.ReadConfig(guest.Function.DevFn, 0x34, 1);
        for (; at != 0; at = Byte(at + 1))
            if (Byte(at) == 9)
                found[Byte(at + 3)] = (Byte(at + 4), _bench.Bus.ReadConfig(guest.Function.DevFn, (int)at + 8, 4));
        Assert.Equal([1u, 2u, 3u, 4u, 5u], found.Keys);
        Assert.Equal((4u, 0x3000u), found[2]);
        Assert.Equal((4u, 0x1000u), found[3]);
        Assert.Equal((4u, 0x2000u), found[4]);

        uint Byte(uint offset) => _bench.Bus.ReadConfig(guest.Function.DevFn, (int)offset, 1);
    }

    [Fact]
    public void The_window_in_configuration_space_reaches_the_common_structure()
    {
        var guest = new VirtioGuest(_bench, Rng(_bench));
        int devFn = guest.Function.DevFn, at = (int)_bench.Bus.ReadConfig(devFn, 0x34, 1);
        while (_bench.Bus.ReadConfig(devFn, at, 1) != 9 || _bench.Bus.ReadConfig(devFn, at + 3, 1) != 5)
            at = (int)_bench.Bus.ReadConfig(devFn, at + 1, 1);
        _bench.Bus.WriteConfig(devFn, at + 4, 1, 4);
        _bench.Bus.WriteConfig(devFn, at + 8, 4, 0x14);
        _bench.Bus.WriteConfig(devFn, at + 12, 4, 1);
        _bench.Bus.WriteConfig(devFn, at + 16, 1, 3);
        Assert.Equal(3, guest.Status);
        Assert.Equal(3u, _bench.Bus.ReadConfig(devFn, at + 16, 1));
    }

    [Fact]
    public void Queues_interrupt_by_their_vectors()
    {
        var guest = new VirtioGuest(_bench, Rng(_bench));
        guest.Start(vectors: true);
        guest.Request(0, (0x20000, -16));
        Assert.Equal([(0xFEE00000UL, 1u)], _bench.Messages);
        Assert.False(_bench.Inta);
        Assert.Equal(0x5A, _bench.Memory.Bytes(0x20000 + 15, 1)[0]);
    }

    [Fact]
    public void Without_vectors_INTA_rises_and_reading_the_ISR_lowers_it()
    {
        var guest = new VirtioGuest(_bench, Rng(_bench));
        guest.Start();
        guest.Request(0, (0x20000, -16));
        Assert.True(_bench.Inta);
        Assert.Equal(1, guest.Isr);
        Assert.False(_bench.Inta);
        Assert.Equal(0, guest.Isr);
    }

    [Fact]
    public void A_vector_that_does_not_exist_reads_back_as_none()
    {
        var guest = new VirtioGuest(_bench, Rng(_bench));
        guest.Common(0x10, 2, 400);
        Assert.Equal(0xFFFFu, guest.Common(0x10, 2));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(3)]
    [InlineData(16)]
    [InlineData(0x8000)]
    public void An_impossible_queue_size_is_ignored(ushort size)
    {
        var guest = new VirtioGuest(_bench, Rng(_bench));
        guest.Common(0x18, 2, size);
        Assert.Equal(8u, guest.Common(0x18, 2));
    }

    [Fact]
    public void A_queue_that_does_not_exist_has_size_0()
    {
        var guest = new VirtioGuest(_bench, Rng(_bench));
        guest.Common(0x16, 2, 1);
        Assert.Equal(0u, guest.Common(0x18, 2));
        guest.Notify(1);                                           // and kicking it does nothing
        Assert.Equal(0, guest.Status & VirtioStatus.NeedsReset);
    }

    [Fact]
    public void A_queue_enabled_before_its_addresses_breaks_only_the_device()
    {
        var guest = new VirtioGuest(_bench, Rng(_bench));
        guest.Start();
        guest.Status = 0;
        guest.Status = 3;
        guest.Common(8, 4, 1);
        guest.Common(12, 4, 1);
        guest.Status = 11;
        guest.Common(0x30, 8, TestMemory.HoleAddress);
        guest.Common(0x1C, 2, 1);
        guest.Status = 15;
        guest.Notify(0);
        Assert.Equal(VirtioStatus.NeedsReset, guest.Status & VirtioStatus.NeedsReset);
    }

    [Fact]
    public void The_legacy_interface_serves_a_driver_that_knows_no_other()
    {
        var guest = new VirtioGuest(_bench, Rng(_bench));
        Qkvm.Core.Memory.AddressSpace ports = _bench.Memory.Ports;
        const ulong Base = VirtioGuest.Ports;
        ports.Write(Base + 18, 1, 0);
        ports.Write(Base + 18, 1, 3);
        ports.Write(Base + 4, 4, ports.Read(Base, 4));
        ports.Write(Base + 14, 2, 0);
        int size = (int)ports.Read(Base + 12, 2);
        var queue = new GuestQueue(_bench.Memory.Space, 0x100000, size);
        ports.Write(Base + 8, 4, 0x100);
        Assert.Equal(0x100u, ports.Read(Base + 8, 4));
        ports.Write(Base + 18, 1, 7);
        queue.Add((0x20000, -4));
        ports.Write(Base + 16, 2, 0);

        Assert.Equal((0u, 4u), queue.TakeUsed());
        Assert.Equal(1u, ports.Read(Base + 19, 1));
        Assert.Equal(7u, ports.Read(Base + 18, 1));
    }

    [Fact]
    public void A_legacy_driver_gets_bus_mastering_with_DRIVER_OK()
    {
        var guest = new VirtioGuest(_bench, Rng(_bench));
        _bench.Bus.WriteConfig(guest.Function.DevFn, PciConfig.Command, 2, PciConfig.IoSpace);
        Assert.False(guest.Function.Dma.Enabled);
        _bench.Memory.Ports.Write(VirtioGuest.Ports + 18, 1, 7);
        Assert.True(guest.Function.Dma.Enabled);
    }

    /// <summary>Virtio 1.2, chapter 6, VIRTIO_F_ACCESS_PLATFORM.</summary>
    [Theory]
    [InlineData(true)] [InlineData(false)]
    public void An_IOMMU_is_asked_where_the_user_says_so_and_then_drivers_must_know(bool platform)
    {
        _bench.Bus.JoinAll(new Offset());
        VirtioPci function = _bench.Plug(new VirtioPci("virtio", Rng(_bench), new VirtioPciOptions(0x00FF00, 2,
            Legacy: false) { AccessesPlatform = platform }), 4);
        Assert.True(function.Dma.Write(0x1000, 4, 7));
        Assert.Equal(7u, _bench.Memory.Space.Read(platform ? Offset.Distance + 0x1000 : 0x1000, 4));
        function.Control.WriteFeatures(VirtioFeatures.Version1);
        function.Control.WriteStatus(11, legacy: false);
        Assert.Equal(platform ? 3 : 11, function.Control.Status);
        function.Control.WriteFeatures(VirtioFeatures.Version1 | VirtioFeatures.AccessPlatform);
        function.Control.WriteStatus(11, legacy: false);
        Assert.Equal(11, function.Control.Status);
    }

    /// <summary>An IOMMU that knows one distance.</summary>
    sealed class Offset : IPciIommu, IDmaTranslation
    {
        public const ulong Distance = 0x10_0000;

        public IDmaTranslation TranslationOf(PciDevice device) => this;
        public IMsiTarget? MessagesOf(PciDevice device) => null;

        public bool TryTranslate(ulong address, bool write, out ulong translated, out ulong length)
        {
            (translated, length) = (address + Distance, 0x1000);
            return true;
        }
    }

    [Fact]
    public void Reset_makes_the_function_new()
    {
        var used = new VirtioGuest(_bench, Rng(_bench));
        used.Start(vectors: true);
        used.Request(0, (0x20000, -16));
        using var other = new PciBench();
        var fresh = other.Plug(new VirtioPci("virtio", Rng(other), new VirtioPciOptions(0x00FF00, 4)), 3);
        fresh.Reset();
        StateAssert.ResetEqualsNew(used.Function, fresh);
    }

    [Fact]
    public void A_working_function_survives_saving_and_loading_without_an_interrupt()
    {
        var used = new VirtioGuest(_bench, Rng(_bench));
        used.Start();
        used.Request(0, (0x20000, -16));
        using var other = new PciBench();
        var fresh = other.Plug(new VirtioPci("virtio", Rng(other), new VirtioPciOptions(0x00FF00, 4)), 3);
        StateAssert.SurvivesSaveAndLoad(used.Function, fresh);
        Assert.False(other.Inta);
        Assert.True(fresh.IntX.Level);
    }

    [Fact]
    public void Random_accesses_to_every_register_throw_nothing()
    {
        var guest = new VirtioGuest(_bench, Rng(_bench));
        guest.Start();
        var random = new Random(1);
        for (int i = 0; i < 20000; i++)
        {
            int size = 1 << random.Next(4);
            ulong at = (ulong)random.Next(0x4000), value = (ulong)random.NextInt64();
            if (random.Next(2) == 0) _bench.Memory.Space.Read(VirtioGuest.Bar + at, size);
            else _bench.Memory.Space.Write(VirtioGuest.Bar + at, size, value);
            _bench.Memory.Ports.Write(VirtioGuest.Ports + (at & 31), Math.Min(size, 4), value);
            _bench.Memory.Ports.Read(VirtioGuest.Ports + (at & 31), Math.Min(size, 4));
        }
        Assert.True(StateNode.Save(guest.Function.Exchange).Groups.ContainsKey("device"));
    }

    [Theory]
    [InlineData("virtio-blk-pci")]
    [InlineData("virtio-net-pci")]
    [InlineData("virtio-rng-pci")]
    [InlineData("virtio-balloon-pci")]
    public void Each_model_comes_plain_transitional_and_non_transitional(string name)
    {
        DeviceModel[] all = [.. VirtioBlk.Models, .. VirtioNet.Models, .. VirtioRng.Models, .. VirtioBalloon.Models];
        DeviceModel plain = all.Single(m => m.Name == name);
        Assert.Equal([name[..^4]], plain.Aliases);
        Assert.Contains(all, m => m.Name == name + "-transitional");
        Assert.Contains(all, m => m.Name == name + "-non-transitional");
        Assert.Equal(plain.Properties.Length, plain.Properties.DistinctBy(p => p.Name).Count());
    }
}
