using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Core.Virtio;
using Qkvm.Hw.Virtio;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Virtio;

/// <summary>A guest's driver for a virtio function, by the registers of Virtio 1.2, section 4.1.4, restated
/// here.</summary>
sealed class VirtioGuest
{
    public const ulong Bar = 0x8_0000_0000, VectorBar = 0xC000_0000, Ports = 0xC000;
    const ulong QueueMemory = 0x100000, QueueSpacing = 0x10000;

    readonly PciBench _bench;

    public VirtioGuest(PciBench bench, VirtioDevice device, VirtioPciOptions? options = null, int slot = 3)
        : this(bench, new VirtioPci("virtio", device, options ?? new VirtioPciOptions(0x00FF00, 4)), slot) { }

    public VirtioGuest(PciBench bench, VirtioPci function, int slot = 3)
    {
        _bench = bench;
        Function = bench.Plug(function, slot);
        PlaceBars();
    }

    public VirtioPci Function { get; }
    AddressSpace Memory => _bench.Memory.Space;

    public List<GuestQueue> Queues { get; } = [];

    /// <summary>In their place where RING_PACKED was negotiated.</summary>
    public List<PackedGuestQueue> Packed { get; } = [];

    public void PlaceBars()
    {
        _bench.Bus.WriteConfig(Function.DevFn, 0x10, 4, (uint)Ports);
        _bench.Bus.WriteConfig(Function.DevFn, 0x14, 4, (uint)VectorBar);
        _bench.Bus.WriteConfig(Function.DevFn, 0x20, 4, unchecked((uint)Bar));
        _bench.Bus.WriteConfig(Function.DevFn, 0x24, 4, (uint)(Bar >> 32));
    }

    public uint Common(uint offset, int size) => (uint)Memory.Read(Bar + offset, size);
    public void Common(uint offset, int size, ulong value) => Memory.Write(Bar + offset, size, value);
    public byte Isr => (byte)Memory.Read(Bar + 0x1000, 1);
    public ulong Config(uint offset, int size) => Memory.Read(Bar + 0x2000 + offset, size);
    public void Config(uint offset, int size, ulong value) => Memory.Write(Bar + 0x2000 + offset, size, value);
    public byte Status { get => (byte)Common(0x14, 1); set => Common(0x14, 1, value); }

    public ulong Offered
    {
        get
        {
            Common(0, 4, 0);
            ulong low = Common(4, 4);
            Common(0, 4, 1);
            return low | (ulong)Common(4, 4) << 32;
        }
    }

    /// <summary>Section 3.1.1: negotiates, sets up all queues, DRIVER_OK.</summary>
    public void Start(ulong features = ulong.MaxValue, bool vectors = false)
    {
        Status = 0;
        Status = 1;
        Status = 3;
        features &= Offered;
        Common(8, 4, 0);
        Common(12, 4, (uint)features);
        Common(8, 4, 1);
        Common(12, 4, features >> 32);
        Status = 11;
        Assert.Equal(11, Status);
        if (vectors) EnableVectors();
        Queues.Clear();
        Packed.Clear();
        int count = (int)Common(0x12, 2);
        for (int i = 0; i < count; i++) SetUpQueue(i, vectors, (features & 1UL << 34) != 0);
        Status = 15;
    }

    public void Notify(int queue) => Memory.Write(Bar + 0x3000 + 4 * (ulong)queue, 2, (ulong)queue);

    /// <summary>Offers a chain and kicks.</summary>
    public void Request(int queue, params (ulong Address, int Length)[] buffers)
    {
        if (Packed.Count > 0) Packed[queue].Add(buffers);
        else Queues[queue].Add(buffers);
        Notify(queue);
    }

    void SetUpQueue(int index, bool vectors, bool packed)
    {
        Common(0x16, 2, (ulong)index);
        int size = (int)Common(0x18, 2);
        var queue = new GuestQueue(Memory, QueueMemory + QueueSpacing * (ulong)index, size);
        for (ulong at = queue.Descriptors; at < queue.Descriptors + QueueSpacing; at += 8) Memory.Write(at, 8, 0);
        var ring = new PackedGuestQueue(Memory, queue.Descriptors, size);
        Common(0x20, 8, queue.Descriptors);
        Common(0x28, 8, packed ? ring.DriverEvent : queue.Available);
        Common(0x30, 8, packed ? ring.DeviceEvent : queue.Used);
        if (vectors) Common(0x1A, 2, (ulong)index + 1);
        Common(0x1C, 2, 1);
        Assert.Equal(1u, Common(0x1C, 2));
        if (packed) Packed.Add(ring);
        else Queues.Add(queue);
    }

    /// <summary>Vector n sends n to FEE00000h; vector 0 is the configuration's.</summary>
    void EnableVectors()
    {
        for (ulong i = 0; i < (ulong)Function.MsiX!.Vectors; i++)
        {
            Memory.Write(VectorBar + 16 * i, 8, 0xFEE00000);
            Memory.Write(VectorBar + 16 * i + 8, 4, i);
            Memory.Write(VectorBar + 16 * i + 12, 4, 0);
        }
        int capability = Function.Config[PciConfig.CapabilityPointer];
        while (Function.Config[capability] != 0x11) capability = Function.Config[capability + 1];
        _bench.Bus.WriteConfig(Function.DevFn, capability + 2, 2, 0x8000);
        Common(0x10, 2, 0);
    }
}
