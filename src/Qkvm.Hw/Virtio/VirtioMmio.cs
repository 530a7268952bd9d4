using System.Numerics;
using Qkvm.Core.Devices;
using Qkvm.Core.Irq;
using Qkvm.Core.Logging;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Core.State;
using Qkvm.Core.Virtio;

namespace Qkvm.Hw.Virtio;

/// <summary>Virtio over memory: registers for one device, which the bus <see cref="Bus"/> takes. Virtio 1.2, section
/// 4.2; names are those of tables 4.1 and 4.2.</summary>
/// <remarks>Deviations: no queue reset, no shared memory. As with QEMU, SHMLen says so with all ones.</remarks>
public sealed partial class VirtioMmio : IDevice, IRegisterBank, IBusWires, IVirtioTransport
{
    public const string Driver = "virtio-mmio", ForceLegacy = "force-legacy";
    public const uint RegionSize = 0x200;

    const byte UsedBuffer = 1, ConfigurationChange = 2;            // InterruptStatus
    const uint DefaultAlign = 4096;

    /// <summary>A register is read and written whole; the device's structure in any way.</summary>
    static readonly AccessSizes Sizes = new(1, 8, 1, 4);

    readonly bool _legacy;
    readonly AddressSpace _memory;
    readonly MachineLock? _lock;
    readonly IrqLine _irq;
    readonly ulong _address;
    MemoryRegion _region;
    VirtioBusDevice? _plugged;
    byte _interruptStatus;
    uint _deviceFeaturesSel, _driverFeaturesSel, _queueSel, _queueAlign;
    int _guestPageShift;
    ulong _driverFeatures;

    /// <param name="number">Of the bus.</param>
    /// <param name="address">Where the registers are.</param>
    /// <param name="machineLock">The machine's, where there is one: drivers do not wait for a reset, so that it waits
    /// for them without it.</param>
    public VirtioMmio(int number, AddressSpace memory, ulong address, IrqLine irq, bool legacy,
        MachineLock? machineLock = null)
    {
        (_memory, _address, _irq, _legacy, _lock) = (memory, address, irq, legacy, machineLock);
        Dma = new Dma(memory);
        Bus = new QBus($"virtio-mmio-bus.{number}", BusKind.VirtioMmio, this);
        _memory.Root.Map(_address, _region = MemoryRegion.Io(Driver, RegionSize, this, Sizes));
        Reset();
    }

    public string Name => Driver;
    public QBus Bus { get; }
    public Dma Dma { get; }
    public string PathName => $"{Driver}@{_address:x16}";

    /// <summary>The device on the bus, or null.</summary>
    public VirtioDevice? Device => _plugged?.Device;

    bool IBusWires.IsFull => _plugged != null;
    string IBusWires.PathOf(IDevice device) => "";
    MachineLog? IVirtioTransport.Log => _memory.Log;

    void IBusWires.Plug(IDevice device, Properties properties, DeviceSite site)
    {
        if (_plugged != null) throw properties.Error($"bus '{Bus.Name}' has a device already; leave bus= out");
        Plug((VirtioBusDevice)device);
        site.OnLeave(() => Remap(null));
    }

    public void Plug(VirtioBusDevice device)
    {
        ulong ring = _legacy ? device.RingFeatures & ~VirtioFeatures.RingPacked
            : device.RingFeatures | VirtioFeatures.Version1;
        _ = new VirtioControl(device.Device, this, ring);
        device.Transport = this;
        Remap(device);
    }

    public void Reset()
    {
        Device?.Control.Reset();
        ClearQueues();
        (_deviceFeaturesSel, _driverFeaturesSel, _queueSel, _guestPageShift) = (0, 0, 0, 0);
    }

    public void Exchange(StateStream state)
    {
        bool level = _irq.Level;
        state.Field("irq", ref level);
        state.Field("interrupt-status", ref _interruptStatus);
        state.Field("device-features-sel", ref _deviceFeaturesSel);
        state.Field("driver-features-sel", ref _driverFeaturesSel);
        state.Field("driver-features", ref _driverFeatures);
        state.Field("queue-sel", ref _queueSel);
        state.Field("queue-align", ref _queueAlign);
        state.Field("guest-page-shift", ref _guestPageShift);
        if (_guestPageShift is < 0 or > 31 || !BitOperations.IsPow2(_queueAlign))
            throw new InvalidStateException($"{Driver}: page shift {_guestPageShift}, alignment {_queueAlign}");
        if (state.IsLoading) _irq.Restore(level);
    }

    void IVirtioTransport.InterruptQueue(Virtqueue queue) => Interrupt(UsedBuffer);
    void IVirtioTransport.InterruptConfig() => Interrupt(ConfigurationChange);

    void Interrupt(byte cause)
    {
        _interruptStatus |= cause;
        _irq.Set(true);
    }

    void Acknowledge(byte causes)
    {
        _interruptStatus &= (byte)~causes;
        _irq.Set(_interruptStatus != 0);
    }

    void ClearQueues()
    {
        (_interruptStatus, _driverFeatures, _queueAlign) = (0, 0, DefaultAlign);
        _irq.Set(false);
    }

    /// <summary>The region anew: what rings in it belongs to the device.</summary>
    void Remap(VirtioBusDevice? device)
    {
        _memory.Root.Unmap(_region);
        _plugged = device;
        _region = MemoryRegion.Io(Driver, RegionSize, this, Sizes);
        _region.Doorbells = device == null ? null : Doorbells(device.Device);
        _memory.Root.Map(_address, _region);
    }

    static DoorbellPlace[]? Doorbells(VirtioDevice device)
    {
        var places = new List<DoorbellPlace>();
        for (int i = 0; i < device.QueueSizes.Count; i++)
            if (device.QueueOf(i) is { } moved) places.Add(new DoorbellPlace(QueueNotify, (ulong)i, moved.Doorbell));
        return places.Count > 0 ? [.. places] : null;
    }
}
