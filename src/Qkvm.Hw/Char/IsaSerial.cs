using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;

namespace Qkvm.Hw.Char;

/// <summary>-device isa-serial: a <see cref="Uart16550A"/> at a COM port's place.</summary>
public static class IsaSerial
{
    const ulong Automatic = uint.MaxValue;
    const int Ports = 8;

    static ReadOnlySpan<ushort> Bases => [0x3F8, 0x2F8, 0x3E8, 0x2E8];
    static ReadOnlySpan<byte> Irqs => [4, 3, 4, 3];

    public static readonly DeviceModel Model = new("isa-serial", "ISA",
        [
            Property.Chardev(), Property.Number("index", Automatic, help: "COM port, 0 to 3"),
            Property.Number("iobase", Automatic),
            Property.Number("irq", Automatic), Property.Number("baudbase", 115200), Property.Bool("wakeup", false),
        ], Create) { Category = DeviceCategory.Input };

    static IDevice Create(Properties properties, IBoard board)
    {
        ulong index = properties.Number("index");
        if (index == Automatic) index = FreeIndex(board);
        if (index >= (ulong)Bases.Length)
            throw new ConfigurationException($"{properties.Owner}: index: there are 4 ISA serial ports, 0 to 3");
        if (properties.Text("chardev") is not { } chardev)
            throw new ConfigurationException($"{properties.Owner}: it needs a character device: chardev=ID");
        ulong iobase = properties.Number("iobase"), irq = properties.Number("irq");
        if (iobase == Automatic) iobase = Bases[(int)index];
        if (irq == Automatic) irq = Irqs[(int)index];
        if (iobase > 0x10000 - Ports)
            throw new ConfigurationException($"{properties.Owner}: iobase: {iobase:x} is beyond I/O port fff8");
        if (irq > 15) throw new ConfigurationException($"{properties.Owner}: irq: {irq} is no ISA interrupt, 0 to 15");
        var uart = new Uart16550A($"serial{index}", board.Clock, board.Irq((int)irq),
            board.TakeChardev(chardev, properties.Owner));
        board.Ports.Map(iobase, MemoryRegion.Io(uart.Name, Ports, uart, AccessSizes.Bytes));
        return uart;
    }

    static ulong FreeIndex(IBoard board)
    {
        ulong index = 0;
        while (index < (ulong)Bases.Length && board.Ports.View.TryFind(Bases[(int)index], out _)) index++;
        return index;
    }
}
