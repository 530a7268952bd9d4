using Qkvm.Core.Devices;
using Qkvm.Core.Memory;
using Qkvm.Core.State;

namespace Qkvm.Hw.Isa;

/// <summary>Port 92h: system control port A with A20 gate and fast reset. Spec: Intel 82371AB (PIIX4), section
/// 4.2.6.</summary>
/// <param name="setA20">The A20 gate: true opens it.</param>
public sealed class Port92(Action<bool> setA20, Action resetMachine) : IDevice, IRegisterBank
{
    const byte FastReset = 0x01, A20 = 0x02;

    byte _value;

    public string Name => "port92";
    public void Reset() => _value = 0;
    public ulong Read(ulong offset, int size) => _value;

    public void Write(ulong offset, int size, ulong value)
    {
        bool resets = (value & FastReset) != 0 && (_value & FastReset) == 0;
        _value = (byte)value;
        setA20((value & A20) != 0);
        if (resets) resetMachine();
    }

    public void Exchange(StateStream state) => state.Field("value", ref _value);
}
