using Qkvm.Core.Audio;
using Qkvm.Core.State;

namespace Qkvm.Hw.Audio;

/// <summary>What a codec's DAC or ADC is set to. Spec: High Definition Audio 1.0a, sections 7.3.3.7, 7.3.3.8 and
/// 7.3.3.11.</summary>
sealed class HdaConverter(HdaCodec codec, bool isOutput) : IAudioSource, IAudioTarget
{
    /// <summary>Steps of an amplifier of 1 dB each, of which the last is 0 dB.</summary>
    public const int Steps = 0x4A;
    const byte Mute = 0x80;
    const uint SetOutput = 0x8000, SetInput = 0x4000, SetLeft = 0x2000, SetRight = 0x1000;

    ushort _format = 0x0011;                                       // 48 kHz, 16 bits, 2 channels
    byte _stream, _left = Steps, _right = Steps;

    public bool IsOutput => isOutput;
    public ushort Format { get => _format; set => _format = value; }

    /// <summary>Stream number and lowest channel.</summary>
    public byte Stream { get => _stream; set => _stream = value; }

    HdaStream? Source => codec.Bus?.Controller.FindStream(_stream >> 4, isOutput);

    public bool IsRunning => Source != null;

    public AudioFormat Sound => HdaStream.Decode(_format);

    public (float Left, float Right) Volume
    {
        get
        {
            return (Gain(_left), Gain(_right));

            static float Gain(byte amplifier) => (amplifier & Mute) != 0 ? 0
                : MathF.Pow(10, (Math.Min((int)amplifier, Steps) - Steps) / 20f);
        }
    }

    public void Reset()
    {
        _format = 0x0011;
        _stream = 0;
        _left = _right = Steps;
    }

    public void SetAmplifier(uint payload)
    {
        if ((payload & (isOutput ? SetOutput : SetInput)) == 0) return;
        if ((payload & SetLeft) != 0) _left = (byte)payload;
        if ((payload & SetRight) != 0) _right = (byte)payload;
    }

    public uint Amplifier(uint payload) => ((payload & SetOutput) != 0) != isOutput ? 0u
        : (payload & SetLeft) != 0 ? (uint)_left : _right;

    public int Read(Span<byte> frames)
    {
        int count = Source?.Transfer(frames, default) ?? 0;
        codec.Bus!.Controller.Update();
        return count;
    }

    void IAudioTarget.Write(ReadOnlySpan<byte> frames)
    {
        Source?.Transfer(default, frames);
        codec.Bus!.Controller.Update();
    }

    public void Exchange(StateStream state)
    {
        state.Field("format", ref _format);
        state.Field("stream", ref _stream);
        state.Field("left", ref _left);
        state.Field("right", ref _right);
    }
}
