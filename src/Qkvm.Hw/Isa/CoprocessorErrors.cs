using Qkvm.Core.Accel;
using Qkvm.Core.Devices;
using Qkvm.Core.Irq;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Core.State;

namespace Qkvm.Hw.Isa;

/// <summary>Port F0h and what stands between FERR#, IGNNE# and IRQ 13. Spec: Intel 82371AB (PIIX4), section 4.2.7,
/// coprocessor error register; Intel SDM vol. 1, appendix D.2.</summary>
/// <remarks>The board maps one byte. An error raises IRQ 13; a write takes it back and ignores the error until it is
/// gone.
/// Deviations: the FERR# of all processors is one wire.</remarks>
public sealed class CoprocessorErrors(IrqLine irq13, MachineLock machineLock)
    : IDevice, IRegisterBank, ICoprocessorErrors
{
    bool _error, _ignored;

    public string Name => "coprocessor";
    public bool IsIgnored => Volatile.Read(ref _ignored);

    public void SetError(bool level)
    {
        using MachineLock.Scope held = machineLock.Hold();
        if (level == _error) return;
        _error = level;
        irq13.Set(level);
        if (!level) _ignored = false;
    }

    public void Reset()
    {
        (_error, _ignored) = (false, false);
        irq13.Set(false);
    }

    public ulong Read(ulong offset, int size) => 0xFF;             // write-only

    public void Write(ulong offset, int size, ulong value)
    {
        irq13.Set(false);
        _ignored = _error;
    }

    public void Exchange(StateStream state)
    {
        bool irq = irq13.Level;
        state.Field("error", ref _error);
        state.Field("ignored", ref _ignored);
        state.Field("irq", ref irq);
        if (state.IsLoading) irq13.Restore(irq);
    }
}
