using Qkvm.Core.State;

namespace Qkvm.Hw.Audio;

/// <summary>The CT1745 mixer of a Sound Blaster 16. Spec: Creative, Sound Blaster Series Hardware Programming Guide,
/// chapter 4.</summary>
/// <remarks>Deviations: master and voice volumes begin at their loudest, as in QEMU; other volumes change nothing; the
/// interrupt and DMA channels are the card's options and cannot be changed.</remarks>
sealed class Sb16Mixer(byte irqSetup, byte dmaSetup)
{
    const int Registers = 256;
    const byte ResetAt = 0x00, Output = 0x0E, MasterLeft = 0x30, MasterRight = 0x31, VoiceLeft = 0x32,
        VoiceRight = 0x33, IrqSetup = 0x80, DmaSetup = 0x81, IrqStatus = 0x82, Loudest = 0xF8, StereoSwitch = 0x02;

    readonly byte[] _values = new byte[Registers];
    byte _index;

    public byte Index { get => _index; set => _index = value; }

    /// <summary>Of the old commands: what is played has two channels.</summary>
    public bool IsStereo => (_values[Output] & StereoSwitch) != 0;

    public (float Left, float Right) Volume => (Gain(_values[MasterLeft], _values[VoiceLeft]),
        Gain(_values[MasterRight], _values[VoiceRight]));

    public void Reset()
    {
        Array.Clear(_values);
        _values.AsSpan(MasterLeft, 4).Fill(Loudest);
        _index = 0;
    }

    /// <param name="pending">What the Interrupt Status register shows.</param>
    public byte Read(byte pending) => _index switch
    {
        IrqSetup => irqSetup,
        DmaSetup => dmaSetup,
        IrqStatus => pending,
        _ => _values[_index],
    };

    public void Write(byte value)
    {
        byte index = _index;
        if (index == ResetAt) Reset();
        else _values[index] = value;
        _index = index;
    }

    public void Exchange(StateStream state)
    {
        state.Block("values", _values);
        state.Field("index", ref _index);
    }

    /// <summary>Steps of 2 dB in the upper five bits.</summary>
    static float Gain(byte master, byte voice)
    {
        const int Top = 31;
        return MathF.Pow(10, 2f * ((master >> 3) - Top + (voice >> 3) - Top) / 20);
    }
}
