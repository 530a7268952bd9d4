using Qkvm.Core.Acpi;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Core.State;
using static Qkvm.Core.Acpi.Aml;

namespace Qkvm.Hw.Isa;

/// <summary>pvpanic: the guest's kernel reports that it panicked. Spec: QEMU's docs/specs/pvpanic.</summary>
/// <remarks>Deviations: a crash that the guest handles itself (bit 1) is accepted and changes nothing.</remarks>
public sealed class Pvpanic(IBoard board, byte events) : IDevice, IRegisterBank
{
    const byte Panicked = 1, CrashLoaded = 2;

    /// <summary>The events that are understood.</summary>
    public const byte Known = Panicked | CrashLoaded;

    public static readonly DeviceModel Model = new("pvpanic", BusKind.Isa,
        [Property.Number("ioport", 0x505, max: 0xFFFF), Property.Number("events", Known, max: 0xFF)],
        static (properties, site) =>
        {
            var device = new Pvpanic(site.Board, (byte)properties.Number("events"));
            ushort port = (ushort)properties.Number("ioport");
            site.MapPorts(port, MemoryRegion.Io(device.Name, 1, device, AccessSizes.ByteOnly));
            site.Describe("PEVT", () => Describe(port));
            return device;
        });

    public string Name => Model.Name;
    public void Reset() { }

    /// <summary>The events that are understood.</summary>
    public ulong Read(ulong offset, int size) => events;

    public void Write(ulong offset, int size, ulong value)
    {
        if ((value & Panicked) != 0) board.RequestShutdown(ShutdownCause.GuestPanic);
    }

    /// <summary>The guest reads which events there are and writes the one that happened.</summary>
    static Aml[] Describe(ushort port) =>
    [
        Aml.Name("_HID", Text("QEMU0001")),
        Aml.Name("_CRS", AmlResource.Template(AmlResource.Io(port, 1))),
        OperationRegion("PEOR", AmlRegionSpace.SystemIo, port, 1),
        Field("PEOR", AmlAccess.Byte, ("PEPT", 8)),
        Aml.Name("_STA", 0x0F),
        Method("RDPT", 0, Store(Ref("PEPT"), Local0), Return(Local0)),
        Method("WRPT", 1, Store(Arg0, Ref("PEPT"))),
    ];

    public void Exchange(StateStream state) { }                    // stateless
}
