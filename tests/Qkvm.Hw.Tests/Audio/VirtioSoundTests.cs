using Qkvm.Core.State;
using Qkvm.Hw.Audio;
using Qkvm.Hw.Tests.Virtio;
using Qkvm.Hw.Virtio;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Audio;

/// <summary>Virtio 1.2, section 5.14, whose numbers are restated here.</summary>
public sealed class VirtioSoundTests : IDisposable
{
    const ulong Request = 0x20000, Answer = 0x21000, Sound = 0x30000;
    const uint JackInfo = 1, PcmInfo = 0x100, Set = 0x101, Prepare = 0x102, Release = 0x103, Start = 0x104,
        Stop = 0x105, MapInfo = 0x200, Ok = 0x8000, Bad = 0x8001, NotSupported = 0x8002, IoError = 0x8003;
    const int Transmit = 2, Receive = 3, Period = 4800 * 4;        // 100 ms of 48000 Hz, stereo, 16 bits
    const uint Rate48000 = 7, S16 = 5;

    readonly SoundBench _bench = new();
    readonly VirtioSound _device;
    readonly VirtioGuest _guest;

    public VirtioSoundTests()
    {
        _device = Make();
        _guest = new VirtioGuest(_bench.Pci, _device, new VirtioPciOptions(0x040100, 2, Legacy: false));
        _guest.Start();
    }

    public void Dispose() => _bench.Dispose();

    VirtioSound Make() => new("sound", null, _bench.Board.Site);

    uint[] Ask(int room, params uint[] request)
    {
        _bench.PutDwords(Request, request);
        _guest.Queues[0].Add((Request, request.Length * 4), (Answer, -room));
        _guest.Notify(0);
        uint written = Assert.IsType<(uint, uint)>(_guest.Queues[0].TakeUsed()).Item2;
        return [.. Enumerable.Range(0, (int)written / 4).Select(i => _bench.GetDword(Answer + (ulong)i * 4))];
    }

    uint Say(params uint[] request) => Ask(4, request)[0];

    uint SetUp(uint stream, uint format = S16, uint rate = Rate48000, uint channels = 2) =>
        Say(Set, stream, 4 * Period, Period, 0, channels | format << 8 | rate << 16);

    /// <summary>A period from memory, or for it; the status comes behind.</summary>
    void Give(int queue, uint stream, ulong at, int length = Period)
    {
        _bench.PutDwords(Request + 0x100, stream);
        if (queue == Transmit) _guest.Queues[queue].Add((Request + 0x100, 4), (at, length), (at + 0x8000, -8));
        else _guest.Queues[queue].Add((Request + 0x100, 4), (at, -length), (at + 0x8000, -8));
        _guest.Notify(queue);
    }

    [Fact]
    public void It_tells_of_a_jack_a_stream_and_a_map_for_each_direction()
    {
        Assert.Equal(0x1059, _guest.Function.Config.Get16(2));
        Assert.Equal([2UL, 2UL, 2UL], Enumerable.Range(0, 3).Select(i => _guest.Config((uint)i * 4, 4)));
        Assert.Equal([Ok, 0, 0, 0x0101_0010, 0x10, 1, 0, 1, 0, 0x0181_0020, 0x20, 1, 0],
            Ask(100, JackInfo, 0, 2, 24));
        Assert.Equal([Ok, 1, 0, 0x000E_0078, 0, 0x3FFF, 0, 0x0002_0101, 0], Ask(100, PcmInfo, 1, 1, 32));
        Assert.Equal([Ok, 0, 0x0403_0200, 0, 0, 0, 0], Ask(100, MapInfo, 0, 1, 24));
        Assert.Equal(Bad, Say(PcmInfo, 1, 2, 32));
        Assert.Equal(Bad, Say(PcmInfo, 0, uint.MaxValue, 32));
        Assert.Equal(Bad, Say(JackInfo, 0, 1, 8));
        Assert.Equal(NotSupported, Say(2, 0, 0, 0));
    }

    [Fact]
    public void A_tone_is_heard_and_each_buffer_comes_back_when_it_was_played()
    {
        Assert.Equal(Ok, SetUp(0));
        Assert.Equal(Ok, Say(Prepare, 0));
        for (int i = 0; i < 4; i++)
        {
            _bench.PutTone(Sound + (ulong)i * 0x10000, Period / 4, 48000);
            Give(Transmit, 0, Sound + (ulong)i * 0x10000);
        }
        _bench.Run(200);
        Assert.Null(_guest.Queues[Transmit].TakeUsed());           // not before it starts
        Assert.Equal(Ok, Say(Start, 0));
        _bench.Run(110);
        Assert.NotNull(_guest.Queues[Transmit].TakeUsed());
        Assert.Equal(Ok, _bench.GetDword(Sound + 0x8000));
        Assert.Null(_guest.Queues[Transmit].TakeUsed());
        _bench.Run(310);
        Assert.InRange(_bench.Heard.Frequency, 430, 450);
        Assert.Equal(Ok, Say(Stop, 0));
        Assert.Equal(Ok, Say(Release, 0));
    }

    [Fact]
    public void What_is_recorded_is_silence_in_time()
    {
        Assert.Equal(Ok, SetUp(1));
        Assert.Equal(Ok, Say(Prepare, 1));
        _bench.PutTone(Sound, Period / 4, 48000);
        Give(Receive, 1, Sound);
        Assert.Equal(Ok, Say(Start, 1));
        _bench.Run(50);
        Assert.Null(_guest.Queues[Receive].TakeUsed());
        _bench.Run(60);
        Assert.Equal((uint)Period + 8, Assert.IsType<(uint, uint)>(_guest.Queues[Receive].TakeUsed()).Item2);
        Assert.Equal((Ok, 0u), (_bench.GetDword(Sound + 0x8000), _bench.GetDword(Sound + 400)));
    }

    [Fact]
    public void Releasing_gives_all_buffers_back()
    {
        SetUp(0);
        Say(Prepare, 0);
        for (int i = 0; i < 3; i++) Give(Transmit, 0, Sound);
        Assert.Equal(Ok, Say(Release, 0));
        for (int i = 0; i < 3; i++) Assert.NotNull(_guest.Queues[Transmit].TakeUsed());
        Give(Transmit, 0, Sound);                                  // nobody waits for it any more
        Assert.NotNull(_guest.Queues[Transmit].TakeUsed());
        Assert.Equal(IoError, _bench.GetDword(Sound + 0x8000));
    }

    [Fact]
    public void Requests_out_of_turn_and_what_no_stream_can_are_refused()
    {
        Assert.Equal(Bad, Say(Start, 0));
        Assert.Equal(Bad, Say(Prepare, 0));
        Assert.Equal(Bad, Say(Release, 0));
        Assert.Equal(Bad, Say(Prepare, 2));
        Assert.Equal(Bad, Say(Prepare));
        Assert.Equal(NotSupported, SetUp(0, format: 20));          // FLOAT64
        Assert.Equal(NotSupported, SetUp(0, format: 255));
        Assert.Equal(NotSupported, SetUp(0, rate: 14));
        Assert.Equal(NotSupported, SetUp(0, channels: 3));
        Assert.Equal(Bad, Say(Set, 0, 100, 0, 0, 0x00050702));     // periods of nothing
        Assert.Equal(Bad, Say(Set, 0, 100));
        Assert.Equal(Ok, SetUp(0));
        Assert.Equal(Bad, Say(Start, 0));
        Assert.Equal(Ok, Say(Prepare, 0));
        Assert.Equal(Ok, Say(Start, 0));
        Assert.Equal(Bad, SetUp(0));
        Assert.Equal(Bad, Say(Release, 0));
    }

    [Fact]
    public void Buffers_that_are_none_come_back_as_mistakes()
    {
        SetUp(0);
        Say(Prepare, 0);
        Give(Transmit, 1, Sound);                                  // another stream's
        _guest.Queues[Transmit].Add((Request, 2));                 // not even a stream's number
        _guest.Queues[Transmit].Add((Request + 0x100, 4), (Sound, -8));
        Say(Start, 0);
        _bench.Run(20);
        for (int i = 0; i < 3; i++) Assert.NotNull(_guest.Queues[Transmit].TakeUsed());
        Assert.Equal(Bad, _bench.GetDword(Sound + 0x8000));
        Assert.Equal(0, _bench.Trespasses);
    }

    [Fact]
    public void State_is_kept_in_the_middle_of_a_buffer()
    {
        SetUp(0);
        Say(Prepare, 0);
        _bench.PutTone(Sound, Period / 4, 48000);
        Give(Transmit, 0, Sound);
        Say(Start, 0);
        _bench.Run(50);
        VirtioSound other = Make();
        StateNode saved = StateNode.Save(_device.Exchange);
        saved.Load(other.Exchange);
        Assert.Equal(saved.ToString(), StateNode.Save(other.Exchange).ToString());
        Assert.Contains("stream.done = 2580", saved.ToString(), StringComparison.Ordinal); // bytes of it were played
    }
}
