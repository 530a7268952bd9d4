using Qkvm.Core.Audio;

namespace Qkvm.Testing;

/// <summary>A sine of half the loudness that there is, as a card plays it.</summary>
public sealed class Tone(AudioFormat format, double hertz) : IAudioSource
{
    readonly float[] _stereo = new float[2];
    long _frame;

    /// <summary>Bytes that it still gives.</summary>
    public int Left { get; set; } = int.MaxValue;

    public List<byte> Given { get; } = [];

    public int Read(Span<byte> frames)
    {
        frames = frames[..Math.Min(frames.Length, Left)];
        Left -= frames.Length;
        for (int i = 0; i + format.FrameSize <= frames.Length; i += format.FrameSize)
        {
            Array.Fill(_stereo, (float)Math.Sin(_frame++ * 2 * Math.PI * hertz / format.Rate) / 2);
            format.FromStereo(_stereo, frames.Slice(i, format.FrameSize));
        }
        Given.AddRange(frames);
        return frames.Length;
    }
}

/// <summary>Keeps what it hears, and says what that is.</summary>
/// <param name="format">Of 16 bits.</param>
public sealed class Heard(AudioFormat format) : IAudioSink
{
    public AudioFormat Format => format;
    public List<byte> Bytes { get; } = [];

    public short[] Samples => [.. Bytes.Chunk(2).Select(pair => (short)(pair[0] | pair[1] << 8))];

    public int Loudest => Samples.Length == 0 ? 0 : Samples.Max(sample => Math.Abs((int)sample));

    /// <summary>Of the left side, in Hz: full waves between the first and the last rise through zero.</summary>
    public double Frequency => FrequencyOf([.. Samples.Where((_, i) => i % format.Channels == 0)], format.Rate);

    public void Write(ReadOnlySpan<byte> frames) => Bytes.AddRange(frames);

    /// <summary>Where a sine rises through zero tells its frequency, in Hz; 0 for silence.</summary>
    public static double FrequencyOf(short[] samples, int rate)
    {
        double first = -1, last = -1;
        int rises = -1;
        for (int i = 1; i < samples.Length; i++)
        {
            if (samples[i - 1] >= 0 || samples[i] < 0) continue;
            last = i - (double)samples[i] / (samples[i] - samples[i - 1]);
            if (++rises == 0) first = last;
        }
        return rises < 1 ? 0 : rises * rate / (last - first);
    }
}
