using Qkvm.Core.Audio;
using Qkvm.Testing;

namespace Qkvm.Tests.Control;

/// <summary>wavcapture, stopcapture and info capture.</summary>
public sealed class AudioCaptureTests : IDisposable
{
    const long Millisecond = 1_000_000;

    readonly ControlBench _bench = new();
    readonly AudioHost _host = new("a", "none", 44100, 10 * Millisecond);
    readonly string _directory = Directory.CreateTempSubdirectory("qkvm-sound-").FullName;

    public AudioCaptureTests() => _bench.Backends.Audiodevs.Add(_host);

    public void Dispose()
    {
        _bench.Dispose();
        Directory.Delete(_directory, recursive: true);
    }

    string File(string name) => Path.Combine(_directory, name);

    [Fact]
    public void The_newest_is_first_and_what_is_played_is_in_the_files()
    {
        Assert.Equal("", _bench.Human($"wavcapture {File("one")} a"));
        Assert.Equal("", _bench.Human($"wavcapture {File("two")} a 8000 8 1"));
        Assert.Equal($"[0]: Capturing audio(8000,8,1) to {File("two")}: 0 bytes\n"
            + $"[1]: Capturing audio(44100,16,2) to {File("one")}: 0 bytes\n", _bench.Human("info capture"));
        var clock = new FakeClock();
        PlaybackStream stream = _host.OpenPlayback(clock, "test", new Tone(new(44100, SampleType.S16, 2), 440));
        stream.Format = new AudioFormat(44100, SampleType.S16, 2);
        stream.IsActive = true;
        clock.Advance(1000 * Millisecond);
        Assert.Equal("", _bench.Human("stopcapture 0"));
        clock.Advance(1000 * Millisecond);
        Assert.Equal($"[0]: Capturing audio(44100,16,2) to {File("one")}: {2 * 44100 * 4} bytes\n",
            _bench.Human("info capture"));
        Assert.Equal("", _bench.Human("stopcapture 0"));
        Assert.Equal("", _bench.Human("stopcapture 7"));
        Assert.Equal((44 + 8000, 44 + 2 * 44100 * 4), (Length("two"), Length("one")));

        int Length(string name) => (int)new FileInfo(File(name)).Length;
    }

    [Theory]
    [InlineData("b", "Audiodev 'b' not found")] [InlineData("a 44100 12", "incorrect bit count 12, must be 8 or 16")]
    [InlineData("a 44100 16 3", "incorrect channel count 3, must be 1 or 2")]
    [InlineData("a 0", "incorrect frequency 0")] [InlineData("a 999999999", "incorrect frequency 999999999")]
    public void What_is_wrong_is_said_and_leaves_no_capture(string words, string message)
    {
        Assert.Contains(message, _bench.Human($"wavcapture {File("x")} {words}"));
        Assert.Equal("", _bench.Human("info capture"));
    }

    [Fact]
    public void A_file_that_cannot_be_made_is_named() => Assert.Contains("/nowhere/x",
        _bench.Human("wavcapture /nowhere/x a"));
}
