using Qkvm.Core.Acpi;
using Qkvm.Core.Devices;
using Qkvm.Core.Logging;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;

namespace Qkvm.Hw.Char;

/// <summary>-device isa-serial: a <see cref="Uart16550A"/> at a COM port's place.</summary>
public static class IsaSerial
{
    const int Ports = 8;

    /// <summary>COM ports that there can be.</summary>
    public static int Places => Bases.Length;

    static ReadOnlySpan<ushort> Bases => [0x3F8, 0x2F8, 0x3E8, 0x2E8];
    static ReadOnlySpan<byte> Irqs => [4, 3, 4, 3];

    public static readonly DeviceModel Model = new("isa-serial", BusKind.Isa,
        [
            Property.Chardev(), Property.Automatic("index", max: 3, help: "COM port, 0 to 3"),
            Property.Automatic("iobase", max: 0xFFFF),
            Property.Automatic("irq", max: 15), Property.Number("baudbase", 115200), Property.Bool("wakeup", false),
        ], Create) { Category = DeviceCategory.Input, Replaces = DefaultDevice.Serial };

    static IDevice Create(Properties properties, DeviceSite site)
    {
        ulong index = properties.NumberOrAuto("index") ?? FreeIndex(site.Board);
        if (index >= (ulong)Bases.Length)
            throw properties.Error($"index: there are {Bases.Length} ISA serial ports, 0 to 3");
        if (properties.Text("chardev") is not { } chardev)
            throw new ConfigurationException($"{properties.Owner}: it needs a character device: chardev=ID");
        ulong iobase = properties.NumberOrAuto("iobase") ?? Bases[(int)index], irq = properties.NumberOrAuto("irq")
            ?? Irqs[(int)index];
        if (iobase > 0x10000 - Ports)
            throw new ConfigurationException($"{properties.Owner}: iobase: {iobase:x} is beyond I/O port fff8");
        var uart = new Uart16550A($"serial{index}", site.Clock, site.Irq((int)irq),
            site.Chardev(chardev));
        site.MapPorts(iobase, Registers(uart));
        site.Describe($"COM{index + 1}", () => Aml.PlugAndPlay("PNP0501", (int)index + 1,
            AmlResource.Io((ushort)iobase, Ports), AmlResource.Irq((int)irq)));
        return uart;
    }

    static MemoryRegion Registers(Uart16550A uart)
    {
        MemoryRegion registers = MemoryRegion.Io(uart.Name, Ports, uart, AccessSizes.Bytes);
        registers.Traces = RegionTraces.Serial;
        return registers;
    }

    static ulong FreeIndex(IBoard board)
    {
        ulong index = 0;
        while (index < (ulong)Bases.Length && board.Ports.View.TryFind(Bases[(int)index], out _)) index++;
        return index;
    }
}
