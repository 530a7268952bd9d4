using Qkvm.Core.Devices;
using Qkvm.Core.Irq;
using Qkvm.Core.Logging;
using Qkvm.Core.Memory;

namespace Qkvm.Core.Pci;

/// <summary>A PCI bus: 32 slots of 8 functions, and the four interrupt wires they share.</summary>
public sealed partial class PciBus : IBusWires
{
    public const int Functions = 256, Slots = 32;

    const int Wires = 4;

    readonly PciDevice?[] _devices = new PciDevice?[Functions];
    readonly bool[] _raised = new bool[Functions];
    readonly int[] _counts;                                        // functions that pull each wire
    readonly int _number;                                          // of a root
    readonly AddressSpace _dmaTarget;
    readonly Func<int, int, int> _routeInterrupt;
    readonly Action<bool>[] _interruptInputs;                      // of a root; a bridge's wires are its own bus's

    /// <summary>The bus of a host bridge.</summary>
    /// <param name="memorySpace">Where memory BARs appear: addresses of the region are bus addresses.</param>
    /// <param name="routeInterrupt">(slot, pin 0..3) to the router's input.</param>
    /// <param name="interruptInputs">The router's inputs, PIRQ A and so on; driven with the OR of all
    /// functions.</param>
    public PciBus(string id, MemoryRegion memorySpace, MemoryRegion ioSpace, AddressSpace dmaTarget, IMsiTarget msi,
        Func<int, int, int> routeInterrupt, Action<bool>[] interruptInputs)
    {
        (Id, MemorySpace, IoSpace, _dmaTarget, Msi) = (id, memorySpace, ioSpace, dmaTarget, msi);
        (_routeInterrupt, _interruptInputs) = (routeInterrupt, interruptInputs);
        _counts = new int[interruptInputs.Length];
        FirstSlot = 1;                                             // the host bridge has the first
    }

    /// <summary>The bus behind a bridge. Its wires are the bridge's pins: INTA# of slot 0, INTB# of slot 3 and so on
    /// are INTA# of the bridge. PCI-to-PCI Bridge Architecture 1.2, section 9.1.</summary>
    internal PciBus(string id, PciBus parent, PciBridge bridge)
    {
        (Id, Bridge, _dmaTarget, Msi, Log) = (id, bridge, parent._dmaTarget, parent.Msi, parent.Log);
        MemorySpace = MemoryRegion.Container($"{id}-memory", parent.MemorySpace.Size);
        IoSpace = MemoryRegion.Container($"{id}-io", parent.IoSpace.Size);
        (_routeInterrupt, _interruptInputs) = (static (slot, pin) => (slot + pin) % Wires, []);
        _counts = new int[Wires];
    }

    /// <summary>The bus of an expander bridge: its slots share spaces and interrupts with those of the root that the
    /// bridge sits on, and are routed as they are.</summary>
    internal PciBus(string id, PciBus parent, PciExpanderBridge expander, int number)
    {
        (Id, Expander, _number, _dmaTarget, Msi, Log) = (id, expander, number, parent._dmaTarget, parent.Msi,
            parent.Log);
        (MemorySpace, IoSpace) = (parent.MemorySpace, parent.IoSpace);
        (_routeInterrupt, _interruptInputs) = (parent._routeInterrupt, parent._interruptInputs);
        _counts = parent._counts;
    }

    public string Id { get; }
    public MemoryRegion MemorySpace { get; }
    public MemoryRegion IoSpace { get; }
    public IMsiTarget Msi { get; }

    /// <summary>Hears of configuration cycles where it wants them; null: nobody.</summary>
    public MachineLog? Log { get; init; }

    /// <summary>The bridge that this bus is behind; null of a root.</summary>
    public PciBridge? Bridge { get; }

    /// <summary>What brings this root; null of the first and of what is behind bridges.</summary>
    public PciExpanderBridge? Expander { get; }

    /// <summary>The machine's firmware finds other roots, too.</summary>
    public bool TakesExpanders { get; init; }

    /// <summary>Those on this bus, by their numbers.</summary>
    public IEnumerable<PciExpanderBridge> Expanders =>
        Devices.OfType<PciExpanderBridge>().OrderBy(expander => expander.Root.Number);

    /// <summary>Tells the guest of what comes and goes; null: nobody does.</summary>
    public IPciHotPlug? HotPlug { get; set; }

    /// <summary>Of the host bridge; null: none.</summary>
    public IPciIommu? Iommu
    {
        get => Expander is { } expander ? expander.BypassesIommu ? null : expander.Parent.Iommu : field;
        private set;
    }

    /// <summary>All functions of this root and of the buses behind it, now and later.</summary>
    public void JoinAll(IPciIommu iommu)
    {
        Iommu = iommu;
        foreach (PciDevice device in AllDevices)
            if (device.Bus.Root.Iommu != null) device.Join(iommu);
    }

    /// <summary>This bus, or the one that it is behind in the end.</summary>
    PciBus Root => Bridge?.Bus.Root ?? this;

    /// <summary>Behind a PCI Express port: what sits here is an endpoint.</summary>
    public bool IsExpress => Bridge is { LeadsToExpress: true };

    /// <summary>As the firmware or the guest numbered it; the first root is bus 0.</summary>
    public int Number => Bridge?.SecondaryNumber ?? _number;

    /// <summary>Devices without addr= look for a slot from here on.</summary>
    public int FirstSlot { get; init; }

    /// <summary>Behind this one slot there is none: 32, or 1 of a PCI Express port.</summary>
    public int SlotCount { get; init; } = Slots;

    /// <summary>The bus that configuration cycles for this number reach, from this one on down: a bridge passes on what
    /// is from its secondary to its subordinate bus. PCI-to-PCI Bridge Architecture 1.2, section 3.1.2.1.</summary>
    public PciBus? Find(int number)
    {
        if (number == Number) return this;
        foreach (PciDevice? device in _devices)
            if (device is PciBridge bridge && number >= bridge.SecondaryNumber && number <= bridge.SubordinateNumber)
                return bridge.Secondary.Find(number);
        foreach (PciDevice? device in _devices)
            if (device is PciExpanderBridge expander && expander.Root.Find(number) is { } found) return found;
        return null;
    }

    /// <summary>The functions of this bus and of all behind its bridges, of both kinds.</summary>
    public IEnumerable<PciDevice> AllDevices => Devices.SelectMany(d => d switch
    {
        PciBridge bridge => bridge.Secondary.AllDevices.Prepend(d),
        PciExpanderBridge expander => expander.Root.AllDevices.Prepend(d),
        _ => [d],
    });

    public IEnumerable<PciDevice> Devices => _devices.Where(d => d != null)!;

    public PciDevice? this[int devFn] => _devices[devFn];

    /// <summary>Plugs a function at slot &lt;&lt; 3 | function, or at the first free slot from 1 on for -1.</summary>
    public void Plug(PciDevice device, int devFn = -1)
    {
        if (Expander is { } expander && device is not PciBridge)
            throw new ConfigurationException($"PCI: Only PCI/PCIe bridges can be plugged into {expander.Name}: put "
                + $"one on {Id}, and {device.Name} behind it");
        if (devFn < 0) devFn = FreeSlot(device.Name) << 3;
        if (devFn >> 3 >= SlotCount)
            throw new ConfigurationException($"{device.Name}: PCI: {Id} has slot 0 alone, not slot {devFn >> 3:x}");
        if (_devices[devFn] is { } other)
            throw new ConfigurationException($"PCI: slot {devFn >> 3} function {devFn & 7} not available for "
                + $"{device.Name}, in use by {other.Name},id={other.Id ?? "(null)"}");
        if ((devFn & 7) != 0 && _devices[devFn & ~7] is { IsMultifunction: false } first)
            throw new ConfigurationException($"{device.Name}: PCI: function {devFn & 7} needs multifunction=on at " +
                $"{first.Name} in slot {devFn >> 3:x}");
        _devices[devFn] = device;
        device.Plug(this, devFn, new Dma(_dmaTarget) { Enabled = false },
            new IrqLine($"{device.Name}.intx", _ => Drive(device)));
        if (Root.Iommu is { } iommu) device.Join(iommu);
        Bridge?.OnPlugged(devFn);
        HotPlug?.Inserted(device);
    }

    public void Unplug(PciDevice device)
    {
        device.Reset();
        _devices[device.DevFn] = null;
        Bridge?.OnUnplugged(device.DevFn);
        HotPlug?.Removed(device);
    }

    /// <summary>Configuration cycles; all ones where no function answers.</summary>
    public uint ReadConfig(int devFn, int offset, int size)
    {
        if (_devices[devFn] is not { } device || offset + size > device.Config.Size)
            return uint.MaxValue >> (32 - size * 8);
        uint value = device.ReadConfig(offset, size);
        if (Log is { Events.PciRead: { Enabled: true } read } log)
            log.Write($"{read.Name} {Place(device)} @0x{offset:x} -> 0x{value:x}\n");
        return value;
    }

    public void WriteConfig(int devFn, int offset, int size, uint value)
    {
        if (_devices[devFn] is not { } device || offset + size > device.Config.Size) return;
        if (Log is { Events.PciWrite: { Enabled: true } written } log)
            log.Write($"{written.Name} {Place(device)} @0x{offset:x} <- 0x{value:x}\n");
        device.WriteConfig(offset, size, value);
    }

    string Place(PciDevice device) => $"{device.Name} {Number:x2}:{device.DevFn >> 3:x2}.{device.DevFn & 7:x}";

    /// <summary>Makes a function's pin and Interrupt Status follow its interrupt and its registers. PCI Local Bus 3.0,
    /// sections 6.2.2, 6.2.3 and 6.8.</summary>
    /// <param name="isRestoring">After loading: no edge is seen, as the router's own state was saved by itself.</param>
    internal void Drive(PciDevice device, bool isRestoring = false)
    {
        PciConfig config = device.Config;
        int pin = config[PciConfig.InterruptPin];
        bool pending = device.IntX.Level && pin != 0 && !device.SendsMessages;
        ushort status = config.Get16(PciConfig.Status);
        config.Set16(PciConfig.Status,
            (ushort)(pending ? status | PciConfig.StatusInterrupt : status & ~PciConfig.StatusInterrupt));
        bool raised = pending && (config.Get16(PciConfig.Command) & PciConfig.InterruptDisable) == 0;
        if (_raised[device.DevFn] == raised) return;
        _raised[device.DevFn] = raised;
        Pull(_routeInterrupt(device.DevFn >> 3, pin - 1), raised, isRestoring);
    }

    /// <summary>One more function, or one less, pulls a wire; a bridge passes it on to the bus before it.</summary>
    /// <param name="isRestoring">The router loads its own state.</param>
    void Pull(int input, bool raised, bool isRestoring)
    {
        _counts[input] += raised ? 1 : -1;
        if (_counts[input] != (raised ? 1 : 0)) return;            // others hold it
        if (Bridge is { } bridge)
            bridge.Bus.Pull(bridge.Bus._routeInterrupt(bridge.DevFn >> 3, input), raised, isRestoring);
        else if (!isRestoring) _interruptInputs[input](raised);
    }

    int FreeSlot(string name)
    {
        for (int slot = FirstSlot; slot < SlotCount; slot++)
            if (IsFree(slot)) return slot;
        throw new ConfigurationException($"PCI: no slot/function available for {name}, all in use or reserved");
    }
}
