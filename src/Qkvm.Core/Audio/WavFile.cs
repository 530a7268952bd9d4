using System.Buffers.Binary;

namespace Qkvm.Core.Audio;

/// <summary>A RIFF WAVE file that grows. Spec: Microsoft and IBM, Multimedia Programming Interface and Data
/// Specifications 1.0, "Waveform Audio File Format".</summary>
/// <remarks>The header tells the length of what has been written each time that some is: a file of a machine that
/// ended badly is a whole one, too. A full disk, or a file of 4 GiB, ends it and nothing else.</remarks>
public sealed class WavFile : IAudioSink, IDisposable
{
    const int HeaderSize = 44, RiffSizeAt = 4, DataSizeAt = 40, BufferSize = 1 << 16;
    const ushort Pcm = 1, IeeeFloat = 3;

    readonly Stream _file;
    readonly Action<string> _warn;
    readonly byte[] _buffer = new byte[BufferSize];
    int _buffered;
    uint _written;
    bool _isEnded;

    /// <param name="file">Belongs to this from now on, empty.</param>
    /// <param name="format">Samples of 8 bits are unsigned, others signed or floats.</param>
    /// <param name="warn">Gets the reason, once, where the file cannot be written any more.</param>
    public WavFile(Stream file, string path, AudioFormat format, Action<string> warn)
    {
        (_file, Path, Format, _warn) = (file, path, format, warn);
        try { WriteHeader(); }
        catch (IOException e) { Fail(e); }
    }

    public string Path { get; }
    public AudioFormat Format { get; }

    /// <summary>Bytes of sound.</summary>
    public long Length => _written + (uint)_buffered;

    public void Write(ReadOnlySpan<byte> frames)
    {
        while (frames.Length > 0 && !_isEnded)
        {
            int count = Math.Min(frames.Length, BufferSize - _buffered);
            frames[..count].CopyTo(_buffer.AsSpan(_buffered));
            _buffered += count;
            frames = frames[count..];
            if (_buffered == BufferSize) Flush();
        }
    }

    public void Dispose()
    {
        Flush();
        _isEnded = true;
        try { _file.Dispose(); }
        catch (IOException) { }                                    // Flush has said so
    }

    void Flush()
    {
        if (_isEnded) return;
        if (_buffered > uint.MaxValue - HeaderSize - _written) { End($"{Path} has 4 GiB"); return; }
        try
        {
            _file.Write(_buffer, 0, _buffered);
            _written += (uint)_buffered;
            _buffered = 0;
            if (!_file.CanSeek) return;
            long end = _file.Position;
            _file.Position = 0;
            WriteHeader();
            _file.Position = end;
            _file.Flush();
        }
        catch (IOException e) { Fail(e); }
    }

    void Fail(IOException e) => End($"cannot write {Path}: {e.Message}");

    void End(string why)
    {
        _isEnded = true;
        _warn($"{why}; no more sound is kept");
    }

    void WriteHeader()
    {
        Span<byte> header = stackalloc byte[HeaderSize];
        "RIFF"u8.CopyTo(header);
        BinaryPrimitives.WriteUInt32LittleEndian(header[RiffSizeAt..], _written + HeaderSize - 8);
        "WAVEfmt "u8.CopyTo(header[8..]);
        BinaryPrimitives.WriteUInt32LittleEndian(header[16..], 16);
        BinaryPrimitives.WriteUInt16LittleEndian(header[20..], Format.Type == SampleType.F32 ? IeeeFloat : Pcm);
        BinaryPrimitives.WriteUInt16LittleEndian(header[22..], (ushort)Format.Channels);
        BinaryPrimitives.WriteInt32LittleEndian(header[24..], Format.Rate);
        BinaryPrimitives.WriteInt32LittleEndian(header[28..], Format.Rate * Format.FrameSize);
        BinaryPrimitives.WriteUInt16LittleEndian(header[32..], (ushort)Format.FrameSize);
        BinaryPrimitives.WriteUInt16LittleEndian(header[34..], (ushort)(Format.SampleSize * 8));
        "data"u8.CopyTo(header[36..]);
        BinaryPrimitives.WriteUInt32LittleEndian(header[DataSizeAt..], _written);
        _file.Write(header);
    }
}
