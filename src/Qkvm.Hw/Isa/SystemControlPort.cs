using Qkvm.Core.Audio;
using Qkvm.Core.Devices;
using Qkvm.Core.Memory;
using Qkvm.Core.State;
using Qkvm.Core.Time;
using Qkvm.Hw.Audio;
using Qkvm.Hw.Timer;

namespace Qkvm.Hw.Isa;

/// <summary>Port 61h: NMI status and control. Spec: Intel 82371AB (PIIX4), section 4.2.6.</summary>
/// <remarks>Deviations: no parity or I/O channel error ever occurs; the speaker is silent without an
/// audiodev.</remarks>
public sealed class SystemControlPort : IDevice, IRegisterBank
{
    /// <summary>QEMU's name of the speaker.</summary>
    public const string Driver = "isa-pcspk";

    const byte Gate2 = 0x01, SpeakerData = 0x02, Refresh = 0x10, Out2 = 0x20;
    const byte Stored = 0x0E;                                      // speaker data, parity and channel check disable
    const int RefreshTicks = 18;                                   // counter 1's period on a PC: 15 µs

    readonly I8254 _pit;
    readonly TickClock _ticks;
    readonly PlaybackStream? _speaker;
    byte _value;

    /// <param name="audio">What the speaker plays to; null: nothing.</param>
    public SystemControlPort(I8254 pit, IVirtualClock clock, AudioHost? audio = null)
    {
        (_pit, _ticks) = (pit, new TickClock(clock, I8254.Hertz));
        if (audio == null) return;
        _speaker = audio.OpenPlayback(clock, Driver, new PcSpeaker(pit));
        _speaker.Format = PcSpeaker.Format;
    }

    public string Name => "port61";

    public void Reset()
    {
        _value = 0;
        SetSpeaker(false);
    }

    public ulong Read(ulong offset, int size) => (ulong)(_value | (_pit.SpeakerGate ? Gate2 : 0)
        | ((_ticks.Now / RefreshTicks & 1) != 0 ? Refresh : 0) | (_pit.SpeakerOut ? Out2 : 0));

    public void Write(ulong offset, int size, ulong value)
    {
        _value = (byte)(value & Stored);
        _pit.SpeakerGate = (value & Gate2) != 0;
        SetSpeaker((value & (Gate2 | SpeakerData)) == (Gate2 | SpeakerData));
    }

    public void Exchange(StateStream state)
    {
        state.Field("value", ref _value);
        _value &= Stored;
        _speaker?.Exchange(state.Group("speaker"));
    }

    void SetSpeaker(bool isOn)
    {
        if (_speaker != null) _speaker.IsActive = isOn;
    }
}
