using Qkvm.Core.Memory;
using Qkvm.Core.State;

namespace Qkvm.Hw.Pci;

/// <summary>APMC and APMS, the SMI command port and its status: Intel 82371AB (PIIX4), order 290562, section 5.2
/// "Advanced Power Management Registers"; ICH9, order 316972, section 13.7.</summary>
/// <param name="enable">What turns ACPI on, as firmware's SMI handler would.</param>
/// <param name="disable">And off.</param>
/// <param name="setAcpi">Turns it on or off.</param>
/// <param name="command">Any other value is a command to an SMI handler.</param>
/// <remarks>Deviation: values of ACPI are no commands to a handler, as with QEMU.</remarks>
public sealed class ApmPorts(byte enable, byte disable, Action<bool> setAcpi, Action command) : IRegisterBank
{
    public const ulong Address = 0xB2, Size = 2;

    byte _control, _status;

    public void Reset() => _control = _status = 0;

    public ulong Read(ulong offset, int size) => offset == 0 ? _control : _status;

    public void Write(ulong offset, int size, ulong value)
    {
        if (offset != 0) { _status = (byte)value; return; }
        _control = (byte)value;
        if (_control == enable || _control == disable) setAcpi(_control == enable);
        else command();
    }

    public void Exchange(StateStream state)
    {
        state.Field("control", ref _control);
        state.Field("status", ref _status);
    }
}
