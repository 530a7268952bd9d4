using System.Buffers.Binary;
using Qkvm.Core.Audio;
using Qkvm.Hw.Timer;

namespace Qkvm.Hw.Audio;

/// <summary>What the speaker of a PC sounds like while counter 2 drives it: each sample is the mean of the square wave
/// over its time, so that nothing that is too high to be heard comes back as a lower tone.</summary>
/// <remarks>Deviations: only the timer's square waves (modes 2 and 3) sound; programs that move the speaker bit by bit
/// are silent. A wave that changes between two ticks of the audio host sounds from the second one on.</remarks>
sealed class PcSpeaker(I8254 pit) : IAudioSource
{
    public static readonly AudioFormat Format = new(44100, SampleType.S16, 1);

    const int Loudness = 8192;
    const double TicksPerFrame = (double)I8254.Hertz / 44100;

    double _tick;                                                  // in the wave

    public int Read(Span<byte> frames)
    {
        long count = pit.SpeakerPeriod;
        if (count == 0) return 0;
        _tick %= count;
        for (int i = 0; i < frames.Length; i += sizeof(short))
        {
            double high = High(_tick + TicksPerFrame, count) - High(_tick, count);
            _tick += TicksPerFrame;
            short sample = (short)(Loudness * (2 * high / TicksPerFrame - 1));
            BinaryPrimitives.WriteInt16LittleEndian(frames[i..], sample);
        }
        return frames.Length;
    }

    /// <summary>For how many of the first ticks OUT is high.</summary>
    static double High(double ticks, long count)
    {
        double cycles = Math.Floor(ticks / count);
        return cycles * count / 2 + Math.Min(ticks - cycles * count, count / 2.0);
    }
}
