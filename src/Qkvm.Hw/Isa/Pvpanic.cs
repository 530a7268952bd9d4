using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Core.State;

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
            site.MapPorts(properties.Number("ioport"), MemoryRegion.Io(device.Name, 1, device, AccessSizes.ByteOnly));
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

    public void Exchange(StateStream state) { }                    // stateless
}
