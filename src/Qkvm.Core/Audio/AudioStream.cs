using Qkvm.Core.State;

namespace Qkvm.Core.Audio;

/// <summary>A card's end of an <see cref="AudioHost"/>: frames move while it is active, as many as guest time gives its
/// rate, at the host's ticks.</summary>
public abstract class AudioStream : IDisposable
{
    readonly AudioHost _host;
    bool _isActive;
    long _since;                                                   // nanoseconds; frames have moved until then

    private protected AudioStream(AudioHost host, string name) => (_host, Name) = (host, name);

    public string Name { get; }

    /// <summary>Takes effect at once; one that is not possible makes the stream stand still.</summary>
    public AudioFormat Format
    {
        get;
        set => field = value with { Rate = Math.Clamp(value.Rate, 0, AudioFormat.MostRate) };
    }

    public bool IsActive
    {
        get => _isActive;
        set
        {
            if (_isActive == value) return;
            _isActive = value;
            _since = value ? _host.Now : 0;
            if (value) Begin();
            _host.Arm();
        }
    }

    /// <summary>What the card names in its own Exchange. Its format and volume follow from its registers.</summary>
    public void Exchange(StateStream state)
    {
        state.Field("active", ref _isActive);
        state.Field("since", ref _since);
        if (_since < 0 || _since > _host.Now) throw state.Refuse("since", "it lies in the future");
        if (!state.IsLoading) return;
        Begin();
        _host.Arm();
    }

    public void Dispose() => _host.Remove(this);

    private protected virtual void Begin() { }

    /// <summary>Moves the frames of [from, to), nanoseconds, as far as the stream is active in it.</summary>
    internal void Move(long from, long to)
    {
        from = Math.Max(from, _since);
        if (!_isActive || from >= to) return;
        _since = to;
        AudioFormat format = Format;
        if (!format.IsPossible) return;
        long first = AudioHost.Frames(from, format.Rate);
        int count = (int)(AudioHost.Frames(to, format.Rate) - first);
        Move(format, first, Math.Min(count, AudioHost.MostSliceFrames), from);
    }

    private protected abstract void Move(AudioFormat format, long first, int count, long from);
}

/// <summary>What a card plays.</summary>
public sealed class PlaybackStream : AudioStream
{
    readonly AudioHost _host;
    readonly IAudioSource _source;
    readonly Resampler _resampler = new();
    readonly byte[] _bytes = new byte[AudioHost.MostChunk];

    internal PlaybackStream(AudioHost host, string name, IAudioSource source) : base(host, name) =>
        (_host, _source) = (host, source);

    /// <summary>0 for silence to 1.</summary>
    public (float Left, float Right) Volume { get; set; } = (1, 1);

    private protected override void Begin() => _resampler.Clear();

    private protected override void Move(AudioFormat format, long first, int count, long from)
    {
        Span<float> stereo = _resampler.Input(count);
        int most = _bytes.Length / format.FrameSize;
        for (int done = 0; done < count;)
        {
            int wanted = Math.Min(count - done, most) * format.FrameSize;
            int got = Math.Clamp(_source.Read(_bytes.AsSpan(0, wanted)), 0, wanted);
            done += format.ToStereo(_bytes.AsSpan(0, got), stereo[(2 * done)..]);
            if (got == wanted) continue;
            stereo[(2 * done)..].Clear();
            break;
        }
        Span<float> mix = _host.MixFrom(from, out long firstOut);
        _resampler.AddTo(mix, first, format.Rate, firstOut, _host.Rate, Volume.Left, Volume.Right);
    }
}

/// <summary>What a card records.</summary>
/// <remarks>Deviations: no driver of the host records, so that all is silence.</remarks>
public sealed class RecordingStream : AudioStream
{
    readonly IAudioTarget _target;
    readonly byte[] _silence = new byte[AudioHost.MostChunk];

    internal RecordingStream(AudioHost host, string name, IAudioTarget target) : base(host, name) => _target = target;

    private protected override void Move(AudioFormat format, long first, int count, long from)
    {
        int most = _silence.Length / format.FrameSize;
        _silence.AsSpan().Fill(format.Silence);
        for (int done = 0; done < count; done += most)
            _target.Write(_silence.AsSpan(0, Math.Min(count - done, most) * format.FrameSize));
    }
}
