using Qkvm.Core.State;

namespace Qkvm.Hw.Audio;

/// <summary>The mixer of an AC '97 codec, a SigmaTel STAC9700 as in QEMU. Spec: Audio Codec '97 2.3, section 5.7; names
/// are the sheet's.</summary>
/// <remarks>Deviations: volumes other than the master's and PCM Out's change nothing, as nothing else plays; power-down
/// bits change nothing.</remarks>
sealed class Ac97Codec
{
    public const int Size = 0x80;
    public const int MasterVolume = 0x02, PcmOutVolume = 0x18, PcmFrontDacRate = 0x2C, PcmLrAdcRate = 0x32,
        MicAdcRate = 0x34;
    const int Reset_ = 0x00, RecordSelect = 0x1A, PowerdownControl = 0x26, ExtendedAudioId = 0x28,
        ExtendedAudioControl = 0x2A, VendorId1 = 0x7C, VendorId2 = 0x7E;
    const ushort Mute = 0x8000, Vra = 0x0001, Vrm = 0x0008, ReadySections = 0x000F;
    const int FixedRate = 48000;

    /// <summary>What a register is after reset, and which bits can be written.</summary>
    readonly record struct Register(int Offset, ushort Reset, ushort Writable);

    static readonly Register[] s_registers =
    [
        new(Reset_, 0, 0), new(MasterVolume, 0x8000, 0xBF3F), new(0x04, 0x8000, 0xBF3F), new(0x06, 0x8000, 0x803F),
        new(0x0A, 0, 0x801E), new(0x0C, 0x8008, 0x801F), new(0x0E, 0x8008, 0x805F),
        new(0x10, 0x8808, 0x9F1F), new(0x12, 0x8808, 0x9F1F), new(0x14, 0x8808, 0x9F1F), new(0x16, 0x8808, 0x9F1F),
        new(PcmOutVolume, 0x8808, 0x9F1F), new(RecordSelect, 0, 0x0707), new(0x1C, 0x8000, 0x8F0F),
        new(0x1E, 0x8000, 0x800F), new(0x20, 0, 0xA380), new(0x22, 0, 0x0F0F),
        new(PowerdownControl, ReadySections, 0xFF00),
        // 2.2 of the specification, variable rates of both, as QEMU's
        new(ExtendedAudioId, 0x0809, 0), new(ExtendedAudioControl, 0x0009, Vra | Vrm),
        new(PcmFrontDacRate, FixedRate, 0xFFFF), new(PcmLrAdcRate, FixedRate, 0xFFFF),
        new(MicAdcRate, FixedRate, 0xFFFF),
        new(VendorId1, 0x8384, 0), new(VendorId2, 0x7600, 0),
    ];

    readonly ushort[] _values = new ushort[Size / 2];

    public Ac97Codec() => Reset();

    public void Reset()
    {
        foreach (Register register in s_registers) _values[register.Offset / 2] = register.Reset;
    }

    /// <param name="offset">Even.</param>
    public ushort Read(int offset) => _values[offset / 2];

    /// <param name="offset">Even.</param>
    public void Write(int offset, ushort value)
    {
        if (offset == Reset_) { Reset(); return; }
        foreach (Register register in s_registers)
            if (register.Offset == offset)
                _values[offset / 2] = (ushort)(_values[offset / 2] & ~register.Writable | value & register.Writable);
    }

    /// <summary>Frames a second of a converter; the fixed ones without variable rates.</summary>
    /// <param name="register">Of its rate.</param>
    public int Rate(int register) => (_values[ExtendedAudioControl / 2] & (register == MicAdcRate ? Vrm : Vra)) != 0
        ? _values[register / 2] : FixedRate;

    /// <summary>What samples are multiplied by. Tables "Master volume", "PCM Out": steps of 1.5 dB.</summary>
    public (float Left, float Right) Volume
    {
        get
        {
            ushort master = _values[MasterVolume / 2], pcm = _values[PcmOutVolume / 2];
            if (((master | pcm) & Mute) != 0) return (0, 0);
            return (Gain(master >> 8 & 0x3F, pcm >> 8 & 0x1F), Gain(master & 0x3F, pcm & 0x1F));

            // 8 of PCM Out is 0 dB, and nothing is louder than the host's full scale
            static float Gain(int master, int pcm) => MathF.Min(1, MathF.Pow(10, -1.5f * (master + pcm - 8) / 20));
        }
    }

    public void Exchange(StateStream state)
    {
        for (int i = 0; i < _values.Length; i++) state.Group("register", i).Field("value", ref _values[i]);
    }
}
