using Qkvm.Core.Devices;
using Qkvm.Core.Irq;
using Qkvm.Core.Memory;
using Qkvm.Core.State;

namespace Qkvm.Hw.Storage;

/// <summary>One IDE channel on the ISA bus, as the PC/AT's adapter has it: no bus master, so that data moves by PIO.
/// ATA/ATAPI-7 volume 2 (T13/1532D), annex A.</summary>
public sealed class IsaIde : IDevice
{
    const int CommandPorts = 8, Prefix = 4;                        // "ide."

    public static readonly DeviceModel Model = new("isa-ide", BusKind.Isa,
        [
            Property.Number("iobase", 0x1F0, max: 0xFFF8), Property.Number("iobase2", 0x3F6, max: 0xFFFF),
            Property.Number("irq", 14, max: 15),
        ],
        static (properties, site) =>
        {
            string name = site.NameBus(BusKind.Ide, ".0");
            int index = name.Length > Prefix && int.TryParse(name[Prefix..], out int number) ? number : 0;
            var ide = new IsaIde(name, index, site.Irq((int)properties.Number("irq")));
            ide.Map(properties.Number("iobase"), properties.Number("iobase2"),
                (at, region) => site.MapPorts(at, region));
            site.AddBus(ide.NewBus());
            return ide;
        }) { Category = DeviceCategory.Storage, Description = "IDE channel on ISA" };

    /// <param name="busName">Of the bus that it brings.</param>
    /// <param name="index">The channel's number.</param>
    public IsaIde(string busName, int index, IrqLine irq) => Channel = new IdeChannel(busName, index, irq);

    public IdeChannel Channel { get; }

    public string Name => Model.Name;
    public string PathName => "ide";

    public QBus NewBus() => new(Channel.Id, BusKind.Ide, Channel);

    /// <param name="command">The first port of the command block.</param>
    /// <param name="control">The port of the control block.</param>
    public void Map(ulong command, ulong control, Action<ulong, MemoryRegion> map)
    {
        map(command, MemoryRegion.Io($"{Channel.Id}-command", CommandPorts, Channel, AccessSizes.UpToDword));
        map(control, MemoryRegion.Io($"{Channel.Id}-control", 1, Channel.ControlBlock, AccessSizes.ByteOnly));
    }

    public void Reset() => Channel.Reset();
    public void Exchange(StateStream state) => Channel.Exchange(state.Group("channel"));
}
