using Qkvm.Core.Devices;
using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Core.State;

namespace Qkvm.Hw.Pci;

/// <summary>Configuration mechanism #1: CONFIG_ADDRESS at CF8h and CONFIG_DATA at CFCh. Spec: PCI Local Bus 3.0,
/// section
/// 3.2.2.3.2. A byte access inside CONFIG_ADDRESS is an ordinary port: CF9h belongs to the ISA bridge's reset
/// control.</summary>
public sealed class PciHostPorts : IDevice
{
    const ulong AddressPort = 0xCF8, DataPort = 0xCFC;
    const ulong ResetControl = 1;                                  // CF9h, as an offset
    const uint Enable = 0x8000_0000;

    readonly PciBus _bus;
    readonly IRegisterBank _resetControl;
    uint _configAddress;

    public PciHostPorts(PciBus bus, AddressSpace ports, IRegisterBank resetControl)
    {
        _bus = bus;
        _resetControl = resetControl;
        ports.Map(AddressPort, MemoryRegion.Io("pci-conf-idx", 4, new AddressBank(this), AccessSizes.UpToDword));
        ports.Map(DataPort, MemoryRegion.Io("pci-conf-data", 4, new DataBank(this), AccessSizes.UpToDword));
    }

    public string Name => "pci-host";
    public string PathName => $"pci@i{AddressPort:x4}";

    public void Reset() => _configAddress = 0;

    public void Exchange(StateStream state) => state.Field("config-address", ref _configAddress);

    /// <summary>The bus that answers, or null; the register's low bits come from the port.</summary>
    PciBus? Decode(ulong offset, out int devFn, out int register)
    {
        devFn = (int)(_configAddress >> 8) & 0xFF;
        register = (int)(_configAddress & 0xFC | offset);
        return (_configAddress & Enable) != 0 ? _bus.Find((int)(_configAddress >> 16) & 0xFF) : null;
    }

    sealed class AddressBank(PciHostPorts host) : IRegisterBank
    {
        public ulong Read(ulong offset, int size)
        {
            if (size == 4) return host._configAddress;
            return size == 1 && offset == ResetControl ? host._resetControl.Read(0, 1) : ulong.MaxValue;
        }

        public void Write(ulong offset, int size, ulong value)
        {
            if (size == 4) host._configAddress = (uint)value & ~3u;
            else if (size == 1 && offset == ResetControl) host._resetControl.Write(0, 1, value);
        }
    }

    sealed class DataBank(PciHostPorts host) : IRegisterBank
    {
        public ulong Read(ulong offset, int size) =>
            host.Decode(offset, out int devFn, out int register)?.ReadConfig(devFn, register, size) ?? ulong.MaxValue;

        public void Write(ulong offset, int size, ulong value) =>
            host.Decode(offset, out int devFn, out int register)?.WriteConfig(devFn, register, size, (uint)value);
    }
}
