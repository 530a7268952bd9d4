using Qkvm.Core.Audio;
using Qkvm.Core.State;
using Qkvm.Core.Time;
using Qkvm.Testing;

namespace Qkvm.Core.Tests.Audio;

/// <summary>What is mixed, when, and how it is converted.</summary>
public class AudioHostTests
{
    const long Millisecond = 1_000_000, Second = 1000 * Millisecond;

    readonly FakeClock _clock = new();
    readonly AudioHost _host = new("a", "test", 48000, 10 * Millisecond);

    static AudioFormat S16(int rate, int channels = 2) => new(rate, SampleType.S16, channels);

    (PlaybackStream Stream, Tone Tone, Heard Heard) Play(AudioFormat played, AudioFormat heard, double hertz = 440)
    {
        var tone = new Tone(played, hertz);
        var sink = new Heard(heard);
        _host.Add(sink);
        PlaybackStream stream = _host.OpenPlayback(_clock, "test", tone);
        stream.Format = played;
        return (stream, tone, sink);
    }

    [Fact]
    public void Frames_pass_unchanged_at_equal_rates_two_frames_late()
    {
        (PlaybackStream stream, Tone tone, Heard heard) = Play(S16(48000), S16(48000));
        stream.IsActive = true;
        _clock.Advance(Second);
        Assert.Equal(48000 * 4, tone.Given.Count);
        Assert.Equal(tone.Given[..^8], heard.Bytes[8..]);
    }

    [Theory]
    [InlineData(8000, SampleType.U8, 1, 44100)] [InlineData(11025, SampleType.S16, 2, 48000)]
    [InlineData(44100, SampleType.S32, 2, 8000)] [InlineData(192000, SampleType.F32, 6, 44100)]
    [InlineData(48000, SampleType.U16, 2, 22050)] [InlineData(22050, SampleType.S8, 1, 96000)]
    [InlineData(96000, SampleType.U32, 2, 44100)]
    public void A_tone_has_its_pitch_and_length_at_every_rate(int rate, SampleType type, int channels, int heardRate)
    {
        (PlaybackStream stream, Tone tone, Heard heard) = Play(new(rate, type, channels), S16(heardRate));
        stream.IsActive = true;
        _clock.Advance(2 * Second);
        Assert.Equal(2 * rate, tone.Given.Count / stream.Format.FrameSize);
        Assert.Equal(2 * heardRate * 4, heard.Bytes.Count);
        Assert.InRange(heard.Frequency, 439, 441);
        Assert.InRange(heard.Loudest, 15000, 16500);
    }

    [Fact]
    public void Two_streams_are_added_and_what_is_too_loud_is_clipped()
    {
        (PlaybackStream one, _, Heard heard) = Play(S16(48000), S16(48000));
        PlaybackStream other = _host.OpenPlayback(_clock, "other", new Constant(30000));
        other.Format = S16(48000);
        one.IsActive = other.IsActive = true;
        _clock.Advance(Second);
        Assert.Equal(short.MaxValue, heard.Samples.Max());
        Assert.InRange(heard.Samples.Skip(100).Min(), 13000, 14500);
    }

    [Fact]
    public void Volume_is_of_each_side()
    {
        (PlaybackStream stream, _, Heard heard) = Play(S16(48000), S16(48000));
        stream.Volume = (0.5f, 0);
        stream.IsActive = true;
        _clock.Advance(Second);
        Assert.InRange(heard.Samples.Where((_, i) => i % 2 == 0).Max(), (short)8000, (short)8200);
        Assert.All(heard.Samples.Where((_, i) => i % 2 == 1), sample => Assert.Equal(0, sample));
    }

    [Fact]
    public void Nothing_is_written_while_nobody_plays_and_a_card_without_data_is_silent()
    {
        (PlaybackStream stream, Tone tone, Heard heard) = Play(S16(48000), S16(48000));
        _clock.Advance(Second);
        Assert.Empty(heard.Bytes);
        tone.Left = 1000 * 4;
        stream.IsActive = true;
        _clock.Advance(Second);
        Assert.Equal(48000 * 4, heard.Bytes.Count);
        Assert.All(heard.Bytes.Skip(1002 * 4), sample => Assert.Equal(0, sample));
        stream.IsActive = false;
        _clock.Advance(Second);
        Assert.Equal(48000 * 4, heard.Bytes.Count);
    }

    [Fact]
    public void A_late_host_makes_up_for_a_second_and_no_more()
    {
        (PlaybackStream stream, Tone tone, _) = Play(S16(48000), S16(48000));
        stream.IsActive = true;
        _clock.Jump(Second / 2);
        Assert.Equal(24000 * 4, tone.Given.Count);
        _clock.Jump(3600 * Second);
        Assert.Equal((24000 + 48000) * 4, tone.Given.Count);
    }

    [Theory]
    [InlineData(0, 2)] [InlineData(-1, 2)] [InlineData(48000, 0)] [InlineData(48000, 17)]
    public void An_impossible_format_stands_still(int rate, int channels)
    {
        (PlaybackStream stream, Tone tone, Heard heard) = Play(S16(rate, channels), S16(48000));
        stream.IsActive = true;
        _clock.Advance(Second);
        Assert.Empty(tone.Given);
        Assert.All(heard.Bytes, sample => Assert.Equal(0, sample));
    }

    [Fact]
    public void A_card_that_stops_or_goes_while_it_is_asked_is_asked_no_more()
    {
        var card = new Stopping();
        PlaybackStream stream = card.Stream = _host.OpenPlayback(_clock, "stopping", card);
        stream.Format = S16(48000);
        stream.IsActive = true;
        _clock.Advance(Second);
        Assert.Equal(1, card.Calls);
        stream.Dispose();
        _clock.Advance(Second);
        Assert.Equal(1, card.Calls);
    }

    [Fact]
    public void Recordings_are_silence_at_their_rate()
    {
        var target = new Recorded();
        RecordingStream stream = _host.OpenRecording(_clock, "in", target);
        stream.Format = new AudioFormat(8000, SampleType.U8, 2);
        stream.IsActive = true;
        _clock.Advance(Second);
        Assert.Equal(16000, target.Bytes.Count);
        Assert.All(target.Bytes, sample => Assert.Equal(0x80, sample));
    }

    [Fact]
    public void A_stream_goes_on_from_its_state_and_one_from_the_future_is_refused()
    {
        (PlaybackStream stream, Tone tone, _) = Play(S16(44100), S16(48000));
        _clock.Advance(3 * Millisecond);
        stream.IsActive = true;
        _clock.Advance(12 * Millisecond);
        StateNode state = StateNode.Save(stream.Exchange);
        int before = tone.Given.Count;
        var loadedTone = new Tone(S16(44100), 440);
        PlaybackStream loaded = new AudioHost("b", "test", 48000, 10 * Millisecond).OpenPlayback(_clock, "test",
            loadedTone);
        loaded.Format = S16(44100);
        state.Load(loaded.Exchange);
        _clock.Advance(Second);
        Assert.Equal(tone.Given.Count - before, loadedTone.Given.Count);
        PlaybackStream early = new AudioHost("c", "test", 48000, Millisecond).OpenPlayback(new FakeClock(), "test",
            loadedTone);
        Assert.Contains("future", Assert.Throws<InvalidStateException>(() => state.Load(early.Exchange)).Message);
    }

    [Fact]
    public void Mixing_allocates_nothing()
    {
        var clock = new Ticks();
        PlaybackStream stream = _host.OpenPlayback(clock, "test", new Constant(1));
        stream.Format = S16(44100);
        _host.Add(new Deaf(S16(44100)));
        _host.Add(new Deaf(S16(48000)));
        stream.IsActive = true;
        for (int i = 0; i < 100; i++) clock.Tick();
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 100; i++) clock.Tick();
        Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());
    }

    /// <summary>A clock of one timer.</summary>
    sealed class Ticks : IVirtualClock, IVmTimer
    {
        Action _onExpired = static () => { };
        long _due;

        public long Nanoseconds { get; private set; }
        public bool IsArmed => true;

        public IVmTimer CreateTimer(Action onExpired)
        {
            _onExpired = onExpired;
            return this;
        }

        public void ArmAt(long nanoseconds) => _due = nanoseconds;
        public void Cancel() { }

        public void Tick()
        {
            Nanoseconds = _due;
            _onExpired();
        }
    }

    sealed class Constant(short value) : IAudioSource
    {
        public int Read(Span<byte> frames)
        {
            for (int i = 0; i < frames.Length; i += 2) BitConverter.TryWriteBytes(frames[i..], value);
            return frames.Length;
        }
    }

    sealed class Stopping : IAudioSource
    {
        public PlaybackStream? Stream { get; set; }
        public int Calls { get; private set; }

        public int Read(Span<byte> frames)
        {
            Calls++;
            Stream!.IsActive = false;
            return int.MaxValue;                                   // more than there is room for
        }
    }

    sealed class Deaf(AudioFormat format) : IAudioSink
    {
        public AudioFormat Format => format;
        public void Write(ReadOnlySpan<byte> frames) { }
    }

    sealed class Recorded : IAudioTarget
    {
        public List<byte> Bytes { get; } = [];
        public void Write(ReadOnlySpan<byte> frames) => Bytes.AddRange(frames);
    }
}
