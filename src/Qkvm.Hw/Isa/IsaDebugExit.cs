using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Core.State;

namespace Qkvm.Hw.Isa;

/// <summary>QEMU's isa-debug-exit: a write of v ends the process with status 2v + 1.</summary>
public sealed class IsaDebugExit(IBoard board) : IDevice, IRegisterBank
{
    public static readonly DeviceModel Model = new("isa-debug-exit", BusKind.Isa,
        [Property.Number("iobase", 0x501, max: 0xFFFF), Property.Number("iosize", 2, min: 1, max: 0x10000)],
        static (properties, site) =>
        {
            var device = new IsaDebugExit(site.Board);
            site.MapPorts(properties.Number("iobase"),
                MemoryRegion.Io(device.Name, properties.Number("iosize"), device, AccessSizes.UpToDword));
            return device;
        });

    public string Name => Model.Name;
    public void Reset() { }
    public ulong Read(ulong offset, int size) => 0;

    public void Write(ulong offset, int size, ulong value) =>
        board.RequestShutdown(ShutdownCause.GuestShutdown, (int)(value << 1 | 1));

    public void Exchange(StateStream state) { }                    // stateless
}
