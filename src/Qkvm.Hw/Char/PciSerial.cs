using Qkvm.Core.Char;
using Qkvm.Core.Devices;
using Qkvm.Core.Irq;
using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Core.State;
using Qkvm.Core.Time;

namespace Qkvm.Hw.Char;

/// <summary>One, two or four <see cref="Uart16550A"/> on a PCI card, which share its interrupt. Spec: QEMU's
/// docs/specs/pci-serial: ports of 8 bytes in BAR 0, one after the other.</summary>
public sealed class PciSerial : PciDevice
{
    public static readonly DeviceModel Single = new("pci-serial", BusKind.Pci,
        [
            Property.Chardev(), Interface, Property.Number("baudbase", 115200), Property.Bool("wakeup", false),
        ],
        static (properties, site) => new PciSerial(Single!, 0x0002, properties, site, ["chardev"]))
        { Category = DeviceCategory.Input, Description = "a serial port on a PCI card" };

    public static readonly DeviceModel Double = new("pci-serial-2x", BusKind.Pci, [.. Chardevs(2), Interface],
        static (properties, site) => new PciSerial(Double!, 0x0003, properties, site, Names(2)))
        { Category = DeviceCategory.Input, Description = "two serial ports on a PCI card" };

    public static readonly DeviceModel Quadruple = new("pci-serial-4x", BusKind.Pci, [.. Chardevs(4), Interface],
        static (properties, site) => new PciSerial(Quadruple!, 0x0004, properties, site, Names(4)))
        { Category = DeviceCategory.Input, Description = "four serial ports on a PCI card" };

    const ushort RedHat = 0x1B36;
    const uint SerialClass = 0x070000;
    const ulong Ports = 8;

    readonly Uart16550A[] _uarts;
    readonly IrqLine[] _irqs;

    PciSerial(DeviceModel model, ushort deviceId, Properties properties, DeviceSite site, string[] chardevs)
        : this(model.Name, deviceId, (byte)properties.Number("prog_if"), site.Clock,
            [.. chardevs.Select(name => properties.Text(name) is { } id ? site.Chardev(id) : null)]) { }

    /// <param name="programming">The programming interface of the class code: 2 is a 16550's.</param>
    /// <param name="backends">One for each port; null: nothing is connected.</param>
    public PciSerial(string name, ushort deviceId, byte programming, IVirtualClock clock, ICharBackend?[] backends)
        : base(new PciIdentity(RedHat, deviceId, SerialClass | programming), name)
    {
        _irqs = [.. backends.Select((_, i) => new IrqLine($"{name}.{i}", _ => Update()))];
        _uarts = [.. backends.Select((backend, i) => new Uart16550A($"{name}.{i}", clock, _irqs[i], backend))];
        MemoryRegion ports = MemoryRegion.Container(name, Ports * (ulong)_uarts.Length);
        for (int i = 0; i < _uarts.Length; i++)
            ports.Map(Ports * (ulong)i, MemoryRegion.Io(_uarts[i].Name, Ports, _uarts[i], AccessSizes.Bytes));
        Bar(0, ports, BarKind.Io);
    }

    static Property Interface => Property.Number("prog_if", 2, max: 0xFF, help: "programming interface, 2 for 16550");

    static string[] Names(int ports) => [.. Enumerable.Range(1, ports).Select(i => $"chardev{i}")];
    static IEnumerable<Property> Chardevs(int ports) => Names(ports).Select(name => Property.Chardev(name));

    void Update() => IntX.Set(Array.Exists(_irqs, static irq => irq.Level));

    protected override void ResetDevice()
    {
        foreach (Uart16550A uart in _uarts) uart.Reset();
    }

    protected override void ExchangeDevice(StateStream state)
    {
        for (int i = 0; i < _uarts.Length; i++) _uarts[i].Exchange(state.Group("uart", i));
    }
}
