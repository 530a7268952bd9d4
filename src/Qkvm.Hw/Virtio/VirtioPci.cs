using System.Numerics;
using Qkvm.Core.Devices;
using Qkvm.Core.Logging;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Core.State;
using Qkvm.Core.Virtio;

namespace Qkvm.Hw.Virtio;

/// <summary>How a virtio function shows itself.</summary>
/// <param name="Vectors">MSI-X vectors; 0 for none, INTx then.</param>
public sealed record VirtioPciOptions(uint ClassCode, int Vectors, bool Legacy = true, bool Modern = true,
    bool IndirectDescriptors = true, bool EventIndex = true, bool Packed = false)
{
    /// <summary>It is a VGA card, too, which has BAR 0 and the first page of the structures' BAR.</summary>
    public IVgaPart? Vga { get; init; }

    /// <summary>Behind a PCI Express port: with that capability, and 4 KiB of configuration space.</summary>
    public bool IsExpress { get; init; }

    /// <summary>iommu_platform=: memory is what an IOMMU makes of it, and drivers must know.</summary>
    public bool AccessesPlatform { get; init; }

    /// <summary>ats=: Address Translation Services.</summary>
    public bool HasAts { get; init; }

    /// <summary>The machine's, where there is one: legacy drivers do not wait for a reset, so that it waits for them
    /// without it.</summary>
    public MachineLock? Lock { get; init; }
}

/// <summary>What a virtio function is beside virtio.</summary>
public interface IVgaPart
{
    MemoryRegion Framebuffer { get; }

    /// <summary>Registers, a page.</summary>
    MemoryRegion Page { get; }

    void Reset();
    void Exchange(StateStream state);
}

/// <summary>Virtio over PCI: modern, legacy, or both (transitional). Virtio 1.2, section 4.1.</summary>
/// <remarks>BAR 0 holds the legacy registers in I/O space, BAR 1 the MSI-X table, BAR 4 the modern structures, as QEMU
/// lays them out; of one that is a VGA card, too, they are in BARs 4 and 2. Deviations: there the structures stand 16
/// KiB behind the registers of VGA, in QEMU 4 KiB; no queue reset, no notification data, no shared memory.</remarks>
public sealed class VirtioPci : PciDevice, IVirtioTransport, IDevice
{
    const ushort RedHat = 0x1AF4, ModernBase = 0x1040;
    const int MsiXBar = 1, ModernBar = 4, VgaMsiXBar = 4, VgaModernBar = 2;
    const uint PendingBits = 0x800, BesideVga = 0x4000;
    const byte VendorCapability = 0x09;

    // struct virtio_pci_cap, 4.1.4, and the types of its cfg_type
    const int CapLength = 2, CapType = 3, CapBar = 4, CapOffset = 8, CapSize = 12, CapData = 16;
    const byte CommonType = 1, NotifyType = 2, IsrType = 3, DeviceType = 4, ConfigAccessType = 5;

    const byte QueueInterrupt = 1, ConfigInterrupt = 2;            // ISR status, 4.1.4.5

    readonly VirtioPciOptions _options;
    readonly VirtioPciModern? _modern;
    readonly PciExpress? _express;
    readonly int _configAccess, _modernBar = ModernBar, _msiXBar = MsiXBar;
    readonly uint _structuresAt;                                   // in their BAR
    byte _isr;
    ushort _configVector = QueueSetup.NoVector;
    ushort _legacySelect;

    public VirtioPci(string name, VirtioDevice device, VirtioPciOptions options)
        : base(IdentityOf(device, options), name, options.IsExpress)
    {
        (Device, _options) = (device, options);
        if (options.Vga is { } vga)
        {
            (_modernBar, _msiXBar, _structuresAt) = (VgaModernBar, VgaMsiXBar, BesideVga);
            Bar(0, vga.Framebuffer, BarKind.Prefetchable32);
        }
        if (options.IsExpress)
        {
            _express = new PciExpress(Config, ExpressKind.Endpoint, ExpressLink.Slowest, resetsFunctions: true);
            PciExpress.AddPowerManagement(Config);
        }
        if (_express != null && options.HasAts) PciExpress.AddAddressTranslation(Config);
        Control = new VirtioControl(device, this, (options.Modern ? VirtioFeatures.Version1 : 0)
            | (options.AccessesPlatform ? VirtioFeatures.AccessPlatform : 0)
            | VirtioFeatures.Of(options.IndirectDescriptors, options.EventIndex, options.Packed && options.Modern));
        if (options.Legacy)
        {
            ulong size = BitOperations.RoundUpToPowerOf2((ulong)(VirtioPciLegacy.MaxHeader + device.ConfigSize));
            MemoryRegion registers = MemoryRegion.Io($"{name}-legacy", size, new VirtioPciLegacy(this),
                AccessSizes.UpToDword);
            registers.Doorbells = Doorbells(queue => VirtioPciLegacy.Doorbell(queue));
            Bar(0, registers, BarKind.Io);
        }
        if (options.Modern)
        {
            _modern = new VirtioPciModern(this);
            var sizes = new AccessSizes(1, 8, 1, 4);
            MemoryRegion structures = MemoryRegion.Io($"{name}-modern", VirtioPciModern.Size, _modern, sizes);
            structures.Doorbells =
                Doorbells(queue => (VirtioPciModern.Notify + VirtioPciModern.NotifyMultiplier * (ulong)queue, null));
            Bar(_modernBar, options.Vga == null ? structures : Beside(options.Vga.Page, structures),
                BarKind.Prefetchable64);
            Capability(CommonType, VirtioPciModern.Common, VirtioPciModern.StructureSize);
            Capability(IsrType, VirtioPciModern.Isr, VirtioPciModern.StructureSize);
            Capability(DeviceType, VirtioPciModern.DeviceConfig, VirtioPciModern.StructureSize);
            int notify = Capability(NotifyType, VirtioPciModern.Notify, VirtioPciModern.StructureSize, extra: 4);
            Config.Define32(notify + CapData, VirtioPciModern.NotifyMultiplier);
            _configAccess = Capability(ConfigAccessType, 0, 0, extra: 4);
            Config.Define(_configAccess + CapBar, 0, 0xFF);
            Config.Define32(_configAccess + CapOffset, 0, uint.MaxValue);
            Config.Define32(_configAccess + CapSize, 0, uint.MaxValue);
            Config.Define32(_configAccess + CapData, 0, uint.MaxValue);
        }
        if (options.Vectors > 0)
        {
            MsiX = new MsiX(this, options.Vectors, _msiXBar, 0, PendingBits);
            MemoryRegion vectors = MemoryRegion.Container($"{name}-msix", 0x1000);
            vectors.Map(0, MsiX.TableRegion);
            vectors.Map(PendingBits, MsiX.PendingRegion);
            Bar(_msiXBar, vectors, BarKind.Memory32);
        }
    }

    public VirtioDevice Device { get; }

    protected override bool BypassesIommu => !_options.AccessesPlatform;

    public override string? InstalledRom => Device.InstalledRom;

    T? IDevice.Facet<T>() where T : class => Device as T ?? this as T;
    public VirtioControl Control { get; }

    /// <summary>The vector of configuration changes; a vector that does not exist reads back as none.</summary>
    internal ushort ConfigVector { get => _configVector; set => _configVector = Existing(value); }

    /// <summary>The legacy interface's "Queue Select".</summary>
    internal ref ushort LegacyQueueSelect => ref _legacySelect;

    internal void SetQueueVector(QueueSetup setup, ushort vector) => setup.Vector = Existing(vector);

    MachineLog? IVirtioTransport.Log => Bus.Log;

    void IVirtioTransport.InterruptQueue(Virtqueue queue) => Interrupt(QueueInterrupt, queue.Setup.Vector);

    bool IVirtioTransport.TryInterruptQueue(Virtqueue queue)
    {
        if (MsiX is not { IsEnabled: true } msiX) return false;
        return queue.Setup.Vector == QueueSetup.NoVector || msiX.TryPost(queue.Setup.Vector);
    }

    void IVirtioTransport.InterruptConfig() => Interrupt(ConfigInterrupt, _configVector);

    /// <summary>Reading the ISR status acknowledges INTx.</summary>
    internal byte TakeIsr()
    {
        byte value = _isr;
        _isr = 0;
        IntX.Set(false);
        return value;
    }

    /// <summary>Status 0: as after power-on, but for configuration space.</summary>
    internal void ResetFunction(bool legacy = false)
    {
        Control.Reset();
        if (legacy) AwaitReset();
        ClearInterrupts();
    }

    internal void WriteStatus(byte value, bool legacy)
    {
        // Legacy drivers were written for devices that needed no Bus Master Enable.
        if (legacy && (value & VirtioStatus.DriverOk) != 0 && !Dma.Enabled)
            Bus.WriteConfig(DevFn, PciConfig.Command, 2, (uint)(Config.Get16(PciConfig.Command) | PciConfig.BusMaster));
        Control.WriteStatus(value, legacy);
        if (value != 0) return;
        if (legacy) AwaitReset();
        ClearInterrupts();
    }

    /// <summary>Section 4.1.4.10 leaves a legacy driver no way to wait for a reset.</summary>
    void AwaitReset()
    {
        if (_options.Lock is { } machine) Control.AwaitReset(machine);
    }

    /// <summary>One for each queue that has its data path on a loop.</summary>
    DoorbellPlace[]? Doorbells(Func<int, (ulong Offset, ulong? Value)> placeOf)
    {
        var places = new List<DoorbellPlace>();
        for (int i = 0; i < Control.Queues.Count; i++)
            if (Device.QueueOf(i) is { } moved)
                places.Add(new DoorbellPlace(placeOf(i).Offset, placeOf(i).Value, moved.Doorbell));
        return places.Count > 0 ? [.. places] : null;
    }

    protected override void ResetDevice()
    {
        ResetFunction();
        _modern?.Reset();
        _options.Vga?.Reset();
        _legacySelect = 0;
    }

    protected override void ExchangeDevice(StateStream state)
    {
        state.Field("isr", ref _isr);
        state.Field("config-vector", ref _configVector);
        state.Field("legacy-queue-select", ref _legacySelect);
        _modern?.Exchange(state.Group("modern"));
        _options.Vga?.Exchange(state.Group("vga"));
        Control.Exchange(state.Group("virtio"));
    }

    /// <summary>The window into the BARs for those who cannot reach them, 4.1.4.9.</summary>
    protected override void OnConfigRead(int offset, int size)
    {
        if (!IsConfigAccess(offset, size, out ulong at, out int width)) return;
        Config.Set32(_configAccess + CapData, (uint)_modern!.Read(at, width));
    }

    protected override void OnConfigWritten(int offset, int size)
    {
        if (_express?.TakeReset() == true) Reset();
        if (!IsConfigAccess(offset, size, out ulong at, out int width)) return;
        uint value = Config.Get32(_configAccess + CapData);
        _modern!.Write(at, width, width == 4 ? value : value & ((1u << (width * 8)) - 1));
    }

    bool IsConfigAccess(int offset, int size, out ulong at, out int width)
    {
        (at, width) = (0, 0);
        if (_configAccess == 0 || offset + size <= _configAccess + CapData || offset >= _configAccess + CapData + 4)
            return false;
        at = Config.Get32(_configAccess + CapOffset) - (ulong)_structuresAt;
        uint length = Config.Get32(_configAccess + CapSize);
        width = (int)(length & 7);
        return Config[_configAccess + CapBar] == _modernBar && length is 1 or 2 or 4
            && at % length == 0 && at < VirtioPciModern.Size;
    }

    void Interrupt(byte cause, ushort vector)
    {
        if (MsiX is { IsEnabled: true } msiX)
        {
            if (vector != QueueSetup.NoVector) msiX.Notify(vector);
            return;
        }
        _isr |= cause;
        IntX.Set(true);
    }

    void ClearInterrupts()
    {
        _isr = 0;
        _configVector = QueueSetup.NoVector;
        IntX.Set(false);
    }

    ushort Existing(ushort vector) => vector < (MsiX?.Vectors ?? 0) ? vector : QueueSetup.NoVector;

    int Capability(byte type, uint offset, uint size, int extra = 0)
    {
        int at = Config.AddCapability(VendorCapability, 16 + extra);
        Config.Define(at + CapLength, (byte)(16 + extra));
        Config.Define(at + CapType, type);
        Config.Define(at + CapBar, (byte)_modernBar);
        Config.Define32(at + CapOffset, offset + _structuresAt);
        Config.Define32(at + CapSize, size);
        return at;
    }

    MemoryRegion Beside(MemoryRegion page, MemoryRegion structures)
    {
        var both = MemoryRegion.Container($"{Name}-bar", BesideVga + VirtioPciModern.Size);
        both.Map(0, page);
        both.Map(BesideVga, structures);
        return both;
    }

    /// <summary>Section 4.1.2: transitional ids below 0x1040 with revision 0, and the virtio id as subsystem
    /// id.</summary>
    static PciIdentity IdentityOf(VirtioDevice device, VirtioPciOptions options)
    {
        if (!options.Legacy && !options.Modern)
            throw new ConfigurationException($"{device.Name}: disable-legacy=on and disable-modern=on leave no " +
                "interface; give one of them alone");
        if (!options.Legacy)
            return new PciIdentity(RedHat, (ushort)(ModernBase + device.DeviceId), options.ClassCode, 1);
        ushort id = device.DeviceId switch { 1 => 0x1000, 2 => 0x1001, 5 => 0x1002, 3 => 0x1003, 8 => 0x1004,
            4 => 0x1005, 9 => 0x1009, _ =>
            throw new ConfigurationException($"{device.Name}: this device has no legacy interface; remove " +
            "disable-legacy=off") };
        return new PciIdentity(RedHat, id, options.ClassCode, 0, RedHat, device.DeviceId);
    }
}
