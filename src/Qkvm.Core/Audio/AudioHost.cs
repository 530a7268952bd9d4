using Qkvm.Core.Time;

namespace Qkvm.Core.Audio;

/// <summary>The host side of sound, as -audiodev names it: mixes what cards play and gives it to sinks. Under the
/// machine lock.</summary>
/// <remarks>Time is the guest's: a machine that is paused makes no sound, and one that runs late makes all of it. Work
/// is done at multiples of the period, and only while a stream is active: nobody plays, nothing is written.</remarks>
public sealed class AudioHost(string id, string driver, int rate, long period) : IDisposable
{
    /// <summary>Nanoseconds that are mixed at once, and the frames of that at the highest rate.</summary>
    const long Slice = 10_000_000;
    internal const int MostSliceFrames = (int)(AudioFormat.MostRate * Slice / Second) + 2;

    /// <summary>Bytes of one call of a card.</summary>
    internal const int MostChunk = 4096;

    /// <summary>Nanoseconds that a late host makes up for; what is older is lost.</summary>
    const long MostLate = Second;
    const long Second = 1_000_000_000;

    readonly List<AudioStream> _streams = [];
    readonly List<Outlet> _outlets = [];
    readonly float[] _mix = new float[2 * MostSliceFrames];
    readonly byte[] _bytes = new byte[2 * sizeof(float) * MostSliceFrames];
    IVirtualClock? _clock;
    IVmTimer? _timer;
    long _done = -1;                                               // nanoseconds that are mixed; -1: nothing plays
    long _sliceStart;
    int _mixFrames;

    public string Id { get; } = id;

    /// <summary>Of -audiodev: "none".</summary>
    public string Driver { get; } = driver;

    /// <summary>Of the mix, frames a second.</summary>
    public int Rate { get; } = rate;

    /// <summary>What is closed with the host.</summary>
    public IDisposable? Owned { get; init; }

    /// <param name="clock">The machine's.</param>
    public PlaybackStream OpenPlayback(IVirtualClock clock, string name, IAudioSource source)
    {
        UseClock(clock);
        var stream = new PlaybackStream(this, name, source);
        _streams.Add(stream);
        return stream;
    }

    /// <param name="clock">The machine's.</param>
    public RecordingStream OpenRecording(IVirtualClock clock, string name, IAudioTarget target)
    {
        UseClock(clock);
        var stream = new RecordingStream(this, name, target);
        _streams.Add(stream);
        return stream;
    }

    public void Add(IAudioSink sink) => _outlets.Add(new Outlet(sink));
    public void Remove(IAudioSink sink) => _outlets.RemoveAll(outlet => outlet.Sink == sink);

    public void Dispose()
    {
        _timer?.Cancel();
        Owned?.Dispose();
    }

    internal long Now => _clock!.Nanoseconds;

    /// <summary>Frames until a time.</summary>
    internal static long Frames(long nanoseconds, int rate) => (long)((Int128)nanoseconds * rate / Second);

    internal void Remove(AudioStream stream)
    {
        _streams.Remove(stream);
        Arm();
    }

    /// <summary>The part of the slice's mix that follows a time, and the number of its first frame.</summary>
    internal Span<float> MixFrom(long from, out long first)
    {
        first = Frames(from, Rate);
        int skipped = (int)Math.Min(first - Frames(_sliceStart, Rate), _mixFrames);
        return _mix.AsSpan(2 * skipped, 2 * (_mixFrames - skipped));
    }

    /// <summary>Ticks while a stream is active.</summary>
    internal void Arm()
    {
        if (_timer == null) return;
        if (!AnyActive())
        {
            _timer.Cancel();
            _done = -1;
            return;
        }
        if (_done >= 0) return;
        _done = Now - Now % period;
        _timer.ArmAt(_done + period);
    }

    void UseClock(IVirtualClock clock)
    {
        _clock ??= clock;
        _timer ??= clock.CreateTimer(Tick);
    }

    bool AnyActive()
    {
        foreach (AudioStream stream in _streams)
            if (stream.IsActive) return true;
        return false;
    }

    void Tick()
    {
        long now = Now, until = now - now % period;
        for (_done = Math.Max(_done, until - MostLate); _done >= 0 && _done < until;)
            MixSlice(Math.Min(_done + Slice, until));
        if (_done >= 0) _timer!.ArmAt(until + period);
    }

    void MixSlice(long to)
    {
        (_sliceStart, _done) = (_done, to);
        long first = Frames(_sliceStart, Rate);
        _mixFrames = (int)(Frames(to, Rate) - first);
        Span<float> mix = _mix.AsSpan(0, 2 * _mixFrames);
        mix.Clear();
        for (int i = 0; i < _streams.Count; i++) _streams[i].Move(_sliceStart, to); // a card may stop meanwhile
        foreach (Outlet outlet in _outlets) outlet.Write(this, mix, first, to);
    }

    /// <summary>A sink, and what brings the mix to its rate.</summary>
    sealed class Outlet(IAudioSink sink)
    {
        readonly Resampler _resampler = new();
        readonly float[] _out = new float[2 * MostSliceFrames];

        public IAudioSink Sink => sink;

        public void Write(AudioHost host, ReadOnlySpan<float> mix, long first, long to)
        {
            int rate = sink.Format.Rate;
            if (rate != host.Rate)
            {
                mix.CopyTo(_resampler.Input(mix.Length / 2));
                long firstOut = Frames(host._sliceStart, rate);
                Span<float> output = _out.AsSpan(0, 2 * (int)(Frames(to, rate) - firstOut));
                output.Clear();
                _resampler.AddTo(output, first, host.Rate, firstOut, rate);
                mix = output;
            }
            int bytes = sink.Format.FromStereo(mix, host._bytes);
            sink.Write(host._bytes.AsSpan(0, bytes));
        }
    }
}
