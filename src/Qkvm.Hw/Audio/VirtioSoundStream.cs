using System.Buffers.Binary;
using Qkvm.Core.Audio;
using Qkvm.Core.Devices;
using Qkvm.Core.State;
using Qkvm.Core.Virtio;

namespace Qkvm.Hw.Audio;

/// <summary>A PCM stream of virtio-sound, between the buffers of its queue and the host's sound. Virtio 1.2, sections
/// 5.14.6.6 and 5.14.6.8.</summary>
/// <remarks>Buffers stay in the queue until their time has come, so that none has to be remembered.</remarks>
sealed class VirtioSoundStream : IAudioSource, IAudioTarget
{
    /// <summary>struct virtio_snd_pcm_set_params.</summary>
    public const int ParametersSize = 24;

    enum Phase : byte { None, Set, Prepared, Running, Stopped }

    const int BufferBytes = 8, PeriodBytes = 12, Features = 16, Channels = 20, Format = 21, Rate = 22;
    const int Header = 4, StatusSize = 8;                          // stream_id; status and latency_bytes

    static readonly SampleType?[] s_formats =
    [
        null, null, null, SampleType.S8, SampleType.U8, SampleType.S16, SampleType.U16, null, null, null, null, null,
        null, null, null, null, null, SampleType.S32, SampleType.U32, SampleType.F32,
    ];

    static readonly int[] s_rates = [5512, 8000, 11025, 16000, 22050, 32000, 44100, 48000, 64000, 88200, 96000, 176400,
        192000, 384000];

    readonly int _id;
    readonly AudioStream _stream;
    Phase _phase;
    uint _bufferBytes, _periodBytes;
    byte _channels, _format, _rate;                                // as the driver set them
    uint _done;                                                    // bytes of the first buffer in the queue

    /// <param name="id">0 plays, 1 records.</param>
    public VirtioSoundStream(int id, string? audiodev, DeviceSite site)
    {
        _id = id;
        _stream = id == 0 ? site.Playback(audiodev, "virtio-sound.out", this)
            : site.Recording(audiodev, "virtio-sound.in", this);
    }

    /// <summary>Null while the device is stopped.</summary>
    public Virtqueue? Queue { get; set; }

    public void Reset()
    {
        _stream.IsActive = false;
        _phase = Phase.None;
        (_bufferBytes, _periodBytes, _done) = (0, 0, 0);
        (_channels, _format, _rate) = (0, 0, 0);
    }

    /// <summary>struct virtio_snd_pcm_info.</summary>
    public void Describe(Span<byte> info)
    {
        ulong formats = 0;
        for (int i = 0; i < s_formats.Length; i++)
            if (s_formats[i] != null) formats |= 1UL << i;
        BinaryPrimitives.WriteInt32LittleEndian(info, _id);        // hda_fn_nid
        BinaryPrimitives.WriteUInt64LittleEndian(info[8..], formats);
        BinaryPrimitives.WriteUInt64LittleEndian(info[16..], (1UL << s_rates.Length) - 1);
        (info[24], info[25], info[26]) = ((byte)_id, 1, 2);        // direction, channels
    }

    // Requests, section 5.14.6.6.1: each is an answer's code

    public uint Set(ReadOnlySpan<byte> parameters)
    {
        uint buffer = BinaryPrimitives.ReadUInt32LittleEndian(parameters[BufferBytes..]);
        uint period = BinaryPrimitives.ReadUInt32LittleEndian(parameters[PeriodBytes..]);
        (byte channels, byte format, byte rate) = (parameters[Channels], parameters[Format], parameters[Rate]);
        if (_phase is Phase.Running or Phase.Stopped) return VirtioSound.BadMessage;
        if (period == 0 || buffer % period != 0) return VirtioSound.BadMessage;
        if (BinaryPrimitives.ReadUInt32LittleEndian(parameters[Features..]) != 0 || channels is not (1 or 2)
            || format >= s_formats.Length || s_formats[format] == null || rate >= s_rates.Length)
            return VirtioSound.NotSupported;
        (_bufferBytes, _periodBytes, _channels, _format, _rate) = (buffer, period, channels, format, rate);
        return To(Phase.Set);
    }

    public uint Prepare() => _phase is Phase.Set or Phase.Prepared ? To(Phase.Prepared) : VirtioSound.BadMessage;

    public uint Start() => _phase is Phase.Prepared or Phase.Stopped ? To(Phase.Running) : VirtioSound.BadMessage;

    public uint Stop() => _phase is Phase.Running ? To(Phase.Stopped) : VirtioSound.BadMessage;

    /// <summary>All buffers go back.</summary>
    public uint Release()
    {
        if (_phase is not (Phase.Prepared or Phase.Stopped)) return VirtioSound.BadMessage;
        To(Phase.Set);
        GiveBack(VirtioSound.Ok);
        return VirtioSound.Ok;
    }

    /// <summary>The driver gave buffers, which wait where it has prepared for them.</summary>
    public void Refilled()
    {
        if (_phase is Phase.None or Phase.Set) GiveBack(VirtioSound.IoError);
    }

    /// <summary>Plays from the buffers.</summary>
    public int Read(Span<byte> frames)
    {
        int read = 0;
        bool any = false;
        while (read < frames.Length && Take() is { } chain)
        {
            long length = chain.ReadableLength - Header;
            int count = (int)Math.Min(frames.Length - read, length - _done);
            chain.Readable.Slice(Header + _done, count).CopyTo(frames[read..]);
            read += count;
            any |= Advance(chain, count, length);
        }
        if (any) Queue!.Signal();
        return read;
    }

    /// <summary>Records into the buffers.</summary>
    public void Write(ReadOnlySpan<byte> frames)
    {
        bool any = false;
        while (frames.Length > 0 && Take() is { } chain)
        {
            long length = chain.WritableLength - StatusSize;
            int count = (int)Math.Min(frames.Length, length - _done);
            chain.Writable.Slice(_done, count).CopyFrom(frames[..count]);
            frames = frames[count..];
            any |= Advance(chain, count, length);
        }
        if (any) Queue!.Signal();
    }

    public void Exchange(StateStream state)
    {
        byte phase = (byte)_phase;
        state.Field("phase", ref phase);
        state.Field("buffer", ref _bufferBytes);
        state.Field("period", ref _periodBytes);
        state.Field("channels", ref _channels);
        state.Field("format", ref _format);
        state.Field("rate", ref _rate);
        state.Field("done", ref _done);
        if (phase > (byte)Phase.Stopped) throw state.Refuse("phase", $"{phase} is none");
        if (_format >= s_formats.Length || (phase > (byte)Phase.None && s_formats[_format] == null))
            throw state.Refuse("format", $"{_format} is none");
        if (_rate >= s_rates.Length) throw state.Refuse("rate", $"{_rate} is none");
        if (state.IsLoading)
        {
            _phase = (Phase)phase;
            ApplyFormat();
        }
        _stream.Exchange(state.Group("sound"));
    }

    uint To(Phase phase)
    {
        _phase = phase;
        ApplyFormat();
        _stream.IsActive = phase == Phase.Running;
        return VirtioSound.Ok;
    }

    void ApplyFormat()
    {
        if (_phase != Phase.None)
            _stream.Format = new AudioFormat(s_rates[_rate], s_formats[_format] ?? default, _channels);
    }

    /// <summary>The next buffer that has bytes left; what is none goes back.</summary>
    DescriptorChain? Take()
    {
        if (Queue is not { } queue) return null;
        bool any = false;
        int budget = Virtqueue.Burst;
        DescriptorChain? chain = null;
        while (budget-- > 0 && (queue.TryPop(out chain) || (queue.EnableKicks() && queue.TryPop(out chain))))
        {
            long length = _id == 0 ? chain.ReadableLength - (long)Header : chain.WritableLength - (long)StatusSize;
            if (StreamOf(chain) == _id && length > _done) break;
            Complete(chain, VirtioSound.BadMessage);
            any = true;
            chain = null;
        }
        if (any) queue.Signal();
        return chain;
    }

    /// <returns>The buffer is at its end, and gone.</returns>
    bool Advance(DescriptorChain chain, int count, long length)
    {
        _done += (uint)count;
        if (_done < length)
        {
            Queue!.Unpop(chain);
            return false;
        }
        Complete(chain, VirtioSound.Ok);
        return true;
    }

    void GiveBack(uint status)
    {
        if (Queue is not { } queue) return;
        bool any = false;
        for (int budget = queue.Setup.Size; budget > 0 && queue.TryPop(out DescriptorChain? chain); budget--)
        {
            Complete(chain, status);
            any = true;
        }
        queue.EnableKicks();
        if (any) queue.Signal();
    }

    /// <summary>The status is the last of the buffer, and all before it counts as written.</summary>
    void Complete(DescriptorChain chain, uint status)
    {
        _done = 0;
        Span<byte> bytes = stackalloc byte[StatusSize];
        bytes.Clear();
        BinaryPrimitives.WriteUInt32LittleEndian(bytes, status);
        int count = (int)Math.Min(StatusSize, chain.WritableLength);
        chain.Writable.Slice(chain.WritableLength - count, count).CopyFrom(bytes[..count]);
        Queue!.Push(chain, chain.WritableLength);
    }

    static uint StreamOf(DescriptorChain chain)
    {
        Span<byte> id = stackalloc byte[Header];
        if (chain.ReadableLength < Header) return uint.MaxValue;
        chain.Readable.Slice(0, Header).CopyTo(id);
        return BinaryPrimitives.ReadUInt32LittleEndian(id);
    }
}
