using System.Buffers.Binary;

namespace Qkvm.Core.Audio;

/// <summary>How one sample is written, little endian.</summary>
public enum SampleType { U8, S8, U16, S16, U32, S32, F32 }

/// <summary>What a stream of sound is made of.</summary>
/// <param name="Rate">Frames a second; 0 for none yet.</param>
/// <param name="Channels">Samples of a frame. One is heard on both sides; of more than two the first two are.</param>
public readonly record struct AudioFormat(int Rate, SampleType Type, int Channels)
{
    /// <summary>Of all streams: a stream that asks for more is played at this rate.</summary>
    public const int MostRate = 384_000, MostChannels = 16;

    public int SampleSize => Type switch { SampleType.U8 or SampleType.S8 => 1, SampleType.U16 or SampleType.S16 => 2,
        _ => 4 };

    /// <summary>Bytes.</summary>
    public int FrameSize => SampleSize * Channels;

    /// <summary>Whether it can be played at all.</summary>
    public bool IsPossible => Rate > 0 && Channels is > 0 and <= MostChannels;

    /// <summary>The byte that silence is made of; of U16 and U32 it is near enough.</summary>
    public byte Silence => Type is SampleType.U8 or SampleType.U16 or SampleType.U32 ? (byte)0x80 : (byte)0;

    /// <summary>Whole frames become stereo frames of -1 to 1.</summary>
    /// <returns>How many frames.</returns>
    public int ToStereo(ReadOnlySpan<byte> bytes, Span<float> stereo)
    {
        int frames = Math.Min(bytes.Length / FrameSize, stereo.Length / 2);
        int right = Channels > 1 ? SampleSize : 0;
        for (int i = 0; i < frames; i++)
        {
            ReadOnlySpan<byte> frame = bytes.Slice(i * FrameSize, FrameSize);
            stereo[2 * i] = Sample(frame);
            stereo[2 * i + 1] = Sample(frame[right..]);
        }
        return frames;
    }

    /// <summary>Stereo frames become this format's, clipped; one channel has the mean of both.</summary>
    /// <returns>How many bytes.</returns>
    public int FromStereo(ReadOnlySpan<float> stereo, Span<byte> bytes)
    {
        int frames = Math.Min(stereo.Length / 2, bytes.Length / FrameSize);
        for (int i = 0; i < frames; i++)
        {
            Span<byte> frame = bytes.Slice(i * FrameSize, FrameSize);
            float left = stereo[2 * i], right = stereo[2 * i + 1];
            if (Channels == 1) Put(frame, (left + right) / 2);
            for (int channel = 0; channel < Channels && Channels > 1; channel++)
                Put(frame[(channel * SampleSize)..], channel == 0 ? left : channel == 1 ? right : 0);
        }
        return frames * FrameSize;
    }

    float Sample(ReadOnlySpan<byte> at) => Type switch
    {
        SampleType.U8 => (at[0] - 0x80) / 128f,
        SampleType.S8 => (sbyte)at[0] / 128f,
        SampleType.U16 => (BinaryPrimitives.ReadUInt16LittleEndian(at) - 0x8000) / 32768f,
        SampleType.S16 => BinaryPrimitives.ReadInt16LittleEndian(at) / 32768f,
        SampleType.U32 => (int)(BinaryPrimitives.ReadUInt32LittleEndian(at) ^ 0x8000_0000) / 2147483648f,
        SampleType.S32 => BinaryPrimitives.ReadInt32LittleEndian(at) / 2147483648f,
        _ => BinaryPrimitives.ReadSingleLittleEndian(at) is var value && float.IsFinite(value)
            ? Math.Clamp(value, -1, 1) : 0,
    };

    void Put(Span<byte> at, float value)
    {
        switch (Type)
        {
            case SampleType.U8: at[0] = (byte)(Scaled(value, 128) + 0x80); break;
            case SampleType.S8: at[0] = (byte)Scaled(value, 128); break;
            case SampleType.U16:
                BinaryPrimitives.WriteUInt16LittleEndian(at, (ushort)(Scaled(value, 32768) + 0x8000));
                break;
            case SampleType.S16: BinaryPrimitives.WriteInt16LittleEndian(at, (short)Scaled(value, 32768)); break;
            case SampleType.U32:
                BinaryPrimitives.WriteUInt32LittleEndian(at, (uint)Scaled(value, 2147483648) ^ 0x8000_0000);
                break;
            case SampleType.S32: BinaryPrimitives.WriteInt32LittleEndian(at, (int)Scaled(value, 2147483648)); break;
            default: BinaryPrimitives.WriteSingleLittleEndian(at, value); break;
        }
    }

    static long Scaled(float value, double full) => (long)Math.Clamp(Math.Round(value * full), -full, full - 1);
}
