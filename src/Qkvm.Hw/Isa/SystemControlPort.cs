using Qkvm.Core.Devices;
using Qkvm.Core.Memory;
using Qkvm.Core.State;
using Qkvm.Core.Time;
using Qkvm.Hw.Timer;

namespace Qkvm.Hw.Isa;

/// <summary>Port 61h: NMI status and control. Spec: Intel 82371AB (PIIX4), section 4.2.6.</summary>
/// <remarks>Deviations: no parity or I/O channel error ever occurs; the speaker is silent.</remarks>
public sealed class SystemControlPort(I8254 pit, IVirtualClock clock) : IDevice, IRegisterBank
{
    const byte Gate2 = 0x01, Refresh = 0x10, Out2 = 0x20;
    const byte Stored = 0x0E;                                      // speaker data, parity and channel check disable
    const int RefreshTicks = 18;                                   // counter 1's period on a PC: 15 µs

    readonly TickClock _ticks = new(clock, I8254.Hertz);
    byte _value;

    public string Name => "port61";
    public void Reset() => _value = 0;

    public ulong Read(ulong offset, int size) => (ulong)(_value | (pit.SpeakerGate ? Gate2 : 0)
        | ((_ticks.Now / RefreshTicks & 1) != 0 ? Refresh : 0) | (pit.SpeakerOut ? Out2 : 0));

    public void Write(ulong offset, int size, ulong value)
    {
        _value = (byte)(value & Stored);
        pit.SpeakerGate = (value & Gate2) != 0;
    }

    public void Exchange(StateStream state)
    {
        state.Field("value", ref _value);
        _value &= Stored;
    }
}
