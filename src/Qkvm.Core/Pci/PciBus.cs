using Qkvm.Core.Devices;
using Qkvm.Core.Irq;
using Qkvm.Core.Memory;

namespace Qkvm.Core.Pci;

/// <summary>A PCI bus: 32 slots of 8 functions, and the four interrupt wires they share.</summary>
/// <param name="memorySpace">Where memory BARs appear: addresses of the region are bus addresses.</param>
/// <param name="routeInterrupt">(slot, pin 0..3) to the router's input 0..3.</param>
/// <param name="interruptInputs">The router's inputs PIRQ A to D; driven with the OR of all functions.</param>
public sealed partial class PciBus(string id, MemoryRegion memorySpace, MemoryRegion ioSpace, AddressSpace dmaTarget,
    IMsiTarget msi,
    Func<int, int, int> routeInterrupt, Action<bool>[] interruptInputs) : IBusWires
{
    public const int Functions = 256, Slots = 32;

    readonly PciDevice?[] _devices = new PciDevice?[Functions];
    readonly bool[] _raised = new bool[Functions];
    readonly bool[] _disabled = new bool[Functions];
    readonly int[] _counts = new int[interruptInputs.Length];

    public string Id { get; } = id;
    public MemoryRegion MemorySpace { get; } = memorySpace;
    public MemoryRegion IoSpace { get; } = ioSpace;
    public IMsiTarget Msi { get; } = msi;

    public IEnumerable<PciDevice> Devices => _devices.Where(d => d != null)!;

    public PciDevice? this[int devFn] => _devices[devFn];

    /// <summary>Plugs a function at slot &lt;&lt; 3 | function, or at the first free slot from 1 on for -1.</summary>
    public void Plug(PciDevice device, int devFn = -1)
    {
        if (devFn < 0) devFn = FreeSlot(device.Name) << 3;
        if (_devices[devFn] is { } other)
            throw new ConfigurationException($"{device.Name}: PCI: slot {devFn >> 3:x} function {devFn & 7} on {Id} " +
                $"is taken by {other.Name}; give another addr=");
        if ((devFn & 7) != 0 && _devices[devFn & ~7] is { IsMultifunction: false } first)
            throw new ConfigurationException($"{device.Name}: PCI: function {devFn & 7} needs multifunction=on at " +
                $"{first.Name} in slot {devFn >> 3:x}");
        _devices[devFn] = device;
        int pin = Math.Max(0, device.Config[PciConfig.InterruptPin] - 1);
        int input = routeInterrupt(devFn >> 3, pin);
        device.Plug(this, devFn, new Dma(dmaTarget) { Enabled = false },
            new IrqLine($"{device.Name}.intx", level => Drive(devFn, input, level, _disabled[devFn])));
    }

    public void Unplug(PciDevice device)
    {
        device.Reset();
        _devices[device.DevFn] = null;
    }

    /// <summary>Configuration cycles; all ones where no function answers.</summary>
    public uint ReadConfig(int devFn, int offset, int size) =>
        _devices[devFn] is { } device && offset + size <= PciConfig.Size ? device.ReadConfig(offset, size)
            : uint.MaxValue >> (32 - size * 8);

    public void WriteConfig(int devFn, int offset, int size, uint value)
    {
        if (_devices[devFn] is { } device && offset + size <= PciConfig.Size) device.WriteConfig(offset, size, value);
    }

    internal void SetInterruptDisable(PciDevice device, bool disabled)
    {
        if (_disabled[device.DevFn] == disabled) return;
        _disabled[device.DevFn] = disabled;
        Drive(device.DevFn, InputOf(device), device.IntX.Level, disabled);
    }

    /// <summary>After loading: takes over a level without an edge; the router's own state was saved by
    /// itself.</summary>
    internal void Restore(PciDevice device, bool level)
    {
        bool disabled = (device.Config.Get16(PciConfig.Command) & PciConfig.InterruptDisable) != 0;
        _disabled[device.DevFn] = disabled;
        int input = InputOf(device);
        bool raised = level && !disabled;
        if (_raised[device.DevFn] == raised) return;
        _raised[device.DevFn] = raised;
        _counts[input] += raised ? 1 : -1;
    }

    int InputOf(PciDevice device) =>
        routeInterrupt(device.DevFn >> 3, Math.Max(0, device.Config[PciConfig.InterruptPin] - 1));

    void Drive(int devFn, int input, bool level, bool disabled)
    {
        if (_devices[devFn] is { } device)
        {
            ushort status = device.Config.Get16(PciConfig.Status);
            device.Config.Set16(PciConfig.Status,
                (ushort)(level ? status | PciConfig.StatusInterrupt : status & ~PciConfig.StatusInterrupt));
        }
        bool raised = level && !disabled;
        if (_raised[devFn] == raised) return;
        _raised[devFn] = raised;
        _counts[input] += raised ? 1 : -1;
        interruptInputs[input](_counts[input] > 0);
    }

    int FreeSlot(string name)
    {
        for (int slot = 1; slot < Slots; slot++)
            if (IsFree(slot)) return slot;
        throw new ConfigurationException($"{name}: PCI: no slot is free on {Id}");
    }
}
