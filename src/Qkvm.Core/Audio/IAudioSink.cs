namespace Qkvm.Core.Audio;

/// <summary>Where mixed sound goes: a file. Under the machine lock.</summary>
public interface IAudioSink
{
    AudioFormat Format { get; }

    /// <summary>Whole frames, which are not kept.</summary>
    void Write(ReadOnlySpan<byte> frames);
}

/// <summary>A card's playback. Under the machine lock.</summary>
public interface IAudioSource
{
    /// <summary>Fills whole frames of the stream's format, the time for which has come.</summary>
    /// <returns>Bytes; fewer than asked for where the card has no more, which is heard as silence.</returns>
    int Read(Span<byte> frames);
}

/// <summary>A card's recording. Under the machine lock.</summary>
public interface IAudioTarget
{
    /// <summary>Takes whole frames of the stream's format; what it has no room for is lost.</summary>
    void Write(ReadOnlySpan<byte> frames);
}
