using Qkvm.Core.Acpi;
using Qkvm.Core.Char;
using Qkvm.Core.Devices;
using Qkvm.Core.Irq;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Core.State;

namespace Qkvm.Hw.Char;

/// <summary>isa-parallel: a printer port in standard (SPP) mode. Spec: IEEE 1284-1994, compatibility mode; IBM Personal
/// Computer AT Technical Reference, "Parallel Printer Adapter".</summary>
/// <remarks>Over a port of the host, the guest works that one's registers, without interrupts. Deviations: bytes print
/// in no time while another backend has room; output only.</remarks>
public sealed class ParallelPort : IDevice, IRegisterBank, ICharFrontend
{
    const int Data = 0, Status = 1, Control = 2, Ports = 8;
    const byte NotBusy = 0x80, NotAcknowledge = 0x40, Online = 0x10, NotError = 0x08;
    const byte Strobe = 0x01, Initialize = 0x04, Select = 0x08, InterruptEnable = 0x10, Direction = 0x20,
        ControlOnes = 0xC0;

    /// <summary>LPT ports that there can be.</summary>
    public static int Places => Bases.Length;

    static ReadOnlySpan<ushort> Bases => [0x378, 0x278, 0x3BC];

    public static readonly DeviceModel Model = new("isa-parallel", BusKind.Isa,
        [
            Property.Chardev(), Property.Automatic("index", max: 2, help: "LPT port, 0 to 2"),
            Property.Automatic("iobase", max: 0xFFFF),
            Property.Number("irq", 7, max: 15),
        ], Create) { Category = DeviceCategory.Input, Replaces = DefaultDevice.Parallel };

    readonly IrqLine _irq;
    readonly ICharBackend? _backend;
    readonly IParallelLines? _lines;                               // of the host
    byte _data, _control;
    bool _waiting;                                                 // a byte that the backend has no room for

    public ParallelPort(string name, IrqLine irq, ICharBackend? backend)
    {
        (Name, _irq, _backend, _lines) = (name, irq, backend, backend?.Stream as IParallelLines);
        Reset();
        backend?.Connect(this);
    }

    public string Name { get; }
    public int Room => 0;

    public void Reset()
    {
        _data = 0;
        if ((_control & Direction) != 0) _lines?.SetInput(false);
        _control = ControlOnes | Select | Initialize;
        _waiting = false;
        _irq.Set(false);
    }

    public ulong Read(ulong offset, int size)
    {
        if (_lines is { } lines)
            return (int)offset switch
            {
                Data => lines.Data,
                Status => lines.Status,
                Control => (byte)(lines.Control | ControlOnes | _control & (InterruptEnable | Direction)),
                _ => 0xFF,
            };
        switch ((int)offset)
        {
            case Data: return _data;
            case Status:
                Print();                                           // a loaded byte has no Writable to come
                _irq.Set(false);
                return (byte)(NotAcknowledge | Online | NotError | (_waiting ? 0 : NotBusy));
            case Control: return _control;
            default: return 0xFF;
        }
    }

    public void Write(ulong offset, int size, ulong value)
    {
        if (_lines != null)
        {
            WriteLines(_lines, (int)offset, (byte)value);
            return;
        }
        switch ((int)offset)
        {
            case Data:
                if (!_waiting) _data = (byte)value;
                break;
            case Control:
                byte old = _control;
                _control = (byte)(value | ControlOnes);
                if ((_control & Initialize) == 0) _waiting = false;
                else if ((_control & Select) != 0 && (_control & ~old & Strobe) != 0) _waiting = true;
                if ((_control & InterruptEnable) == 0) _irq.Set(false);
                Print();
                break;
        }
    }

    public void Receive(ReadOnlySpan<byte> data) { }               // it takes no input
    public void Writable() => Print();

    public void Exchange(StateStream state)
    {
        state.Field("data", ref _data);
        state.Field("control", ref _control);
        state.Field("waiting", ref _waiting);
        bool level = _irq.Level;
        state.Field("irq", ref level);
        if (!state.IsLoading) return;
        _irq.Restore(level);
        _control |= ControlOnes;
    }

    static IDevice Create(Properties properties, DeviceSite site)
    {
        ulong index = properties.NumberOrAuto("index") ?? FreeIndex(site.Board);
        if (index >= (ulong)Bases.Length)
            throw new ConfigurationException($"{properties.Owner}: index: there are 3 ISA parallel ports, 0 to 2");
        if (properties.Text("chardev") is not { } chardev)
            throw new ConfigurationException($"{properties.Owner}: it needs a character device: chardev=ID");
        ulong iobase = properties.NumberOrAuto("iobase") ?? Bases[(int)index], irq = properties.Number("irq");
        if (iobase > 0x10000 - Ports)
            throw new ConfigurationException($"{properties.Owner}: iobase: {iobase:x} is beyond I/O port fff8");
        var port = new ParallelPort($"parallel{index}", site.Irq((int)irq),
            site.Chardev(chardev));
        // Base 3BCh has four ports before the display's registers.
        byte ports = (iobase & 7) == 0 ? (byte)Ports : (byte)4;
        site.MapPorts(iobase, MemoryRegion.Io(port.Name, ports, port, AccessSizes.Bytes));
        site.Describe($"LPT{index + 1}", () => Aml.PlugAndPlay("PNP0400", (int)index + 1,
            AmlResource.Io((ushort)iobase, ports), AmlResource.Irq((int)irq)));
        return port;
    }

    static ulong FreeIndex(IBoard board)
    {
        ulong index = 0;
        while (index < (ulong)Bases.Length && board.Ports.View.TryFind(Bases[(int)index], out _)) index++;
        return index;
    }

    void WriteLines(IParallelLines lines, int offset, byte value)
    {
        if (offset == Data) lines.Data = value;
        if (offset != Control) return;
        if (((value ^ _control) & Direction) != 0) lines.SetInput((value & Direction) != 0);
        _control = (byte)(value | ControlOnes);
        lines.Control = (byte)(value & ~(ControlOnes | Direction | InterruptEnable));
    }

    void Print()
    {
        if (!_waiting || _backend != null && _backend.Write([_data]) == 0) return; // Writable follows
        _waiting = false;
        if ((_control & InterruptEnable) != 0) _irq.Set(true);
    }
}
