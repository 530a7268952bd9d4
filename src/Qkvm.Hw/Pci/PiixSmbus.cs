using Qkvm.Core.Memory;
using Qkvm.Core.State;

namespace Qkvm.Hw.Pci;

/// <summary>SMBus host controller with an empty bus: each transaction ends with a device error, as when no slave
/// acknowledges. Spec: Intel 82371AB (PIIX4), order 290562, section 7.4 "SMBus I/O Space Registers".</summary>
public sealed class PiixSmbus : IRegisterBank
{
    const ulong HostStatus = 0, HostControl = 2, HostCommand = 3, HostAddress = 4, HostData0 = 5, HostData1 = 6,
        BlockData = 7;
    const byte DeviceError = 0x04, StatusBits = 0x1E, Start = 0x40;

    readonly byte[] _registers = new byte[16];

    public void Reset() => Array.Clear(_registers);

    public ulong Read(ulong offset, int size) => offset < (ulong)_registers.Length ? _registers[offset] : 0xFFu;

    public void Write(ulong offset, int size, ulong value)
    {
        switch (offset)
        {
            case HostStatus:
                _registers[HostStatus] &= (byte)~(value & StatusBits);
                break;
            case HostControl:
                _registers[HostControl] = (byte)(value & ~(ulong)Start);
                if ((value & Start) != 0) _registers[HostStatus] |= DeviceError;
                break;
            case HostCommand or HostAddress or HostData0 or HostData1 or BlockData:
                _registers[offset] = (byte)value;
                break;
        }
    }

    public void Exchange(StateStream state) => state.Block("registers", _registers);
}
