using Qkvm.Core.Char;
using Qkvm.Core.Devices;
using Qkvm.Core.Memory;
using Qkvm.Core.State;

namespace Qkvm.Hw.Isa;

/// <summary>isa-debugcon: the Bochs debug port. Bytes written appear on the backend; reads give a constant by which
/// firmware recognizes it.</summary>
/// <remarks>What the backend has no room for is lost.</remarks>
public sealed class Debugcon : IDevice, IRegisterBank, ICharFrontend
{
    public static readonly DeviceModel Model = new("isa-debugcon", BusKind.Isa,
        [Property.Chardev(), Property.Number("iobase", 0xE9, max: 0xFFFF),
            Property.Number("readback", 0xE9, max: 0xFF)],
        static (properties, site) =>
        {
            if (properties.Text("chardev") is not { } chardev)
                throw new ConfigurationException($"{properties.Owner}: it needs a character device: chardev=ID");
            var device = new Debugcon(site.Chardev(chardev),
                (byte)properties.Number("readback"));
            site.MapPorts(properties.Number("iobase"), MemoryRegion.Io(device.Name, 1, device, AccessSizes.ByteOnly));
            return device;
        }) { Category = DeviceCategory.Input };

    readonly ICharBackend _backend;
    readonly byte _readback;

    public Debugcon(ICharBackend backend, byte readback)
    {
        (_backend, _readback) = (backend, readback);
        backend.Connect(this);
    }

    public string Name => Model.Name;
    public int Room => 0;
    public void Reset() { }
    public ulong Read(ulong offset, int size) => _readback;
    public void Write(ulong offset, int size, ulong value) => _backend.Write([(byte)value]);
    public void Receive(ReadOnlySpan<byte> data) { }               // it takes no input
    public void Exchange(StateStream state) { }                    // stateless
}
