using Qkvm.Core.Pci;
using Qkvm.Hw.Audio;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Audio;

/// <summary>Intel 82801AA, chapter 13; AC '97 2.3.</summary>
public sealed class Ac97Tests : IDisposable
{
    const int Nam = 0x400, Nabm = 0x800, Out = Nabm + 0x10;
    const int Bdbar = 0, Civ = 4, Lvi = 5, Sr = 6, Picb = 8, Piv = 10, Cr = 11, GlobCnt = Nabm + 0x2C,
        GlobSta = Nabm + 0x30, Cas = Nabm + 0x34;
    const uint Run = 0x01, Reset = 0x02, LvbIe = 0x04, Ioce = 0x10, Halted = 1, Celv = 2, LvbCi = 4, Bcis = 8;
    const ulong List = 0x1000, Data = 0x10_0000;
    const uint Ioc = 1u << 31;

    readonly SoundBench _bench = new();
    readonly Ac97 _card;

    public Ac97Tests()
    {
        _card = _bench.Plug<Ac97>(Ac97.Model, Nam);
        _bench.Out(Nam + 0x02, 0, 2);                              // no mute, 0 dB
        _bench.Out(Nam + 0x18, 0x0808, 2);
    }

    public void Dispose() => _bench.Dispose();

    /// <summary>A buffer of samples: two of a stereo frame.</summary>
    void Descriptor(int index, uint address, uint samples, uint control = Ioc) =>
        _bench.PutDwords(List + (ulong)index * 8, address, samples | control);

    void Start(byte last, uint control = Run | LvbIe | Ioce)
    {
        _bench.Out(Out + Bdbar, (uint)List);
        _bench.Out(Out + Lvi, last, 1);
        _bench.Out(Out + Cr, control, 1);
    }

    uint Status => _bench.In(Out + Sr, 2);

    [Fact]
    public void It_is_8086_2415_with_its_mixer_and_bus_master_at_ports()
    {
        Assert.Equal(0x24158086u, _card.Config.Get32(PciConfig.VendorId));
        Assert.Equal(0x04010001u, _card.Config.Get32(PciConfig.RevisionId));
        Assert.Equal(0x0280, _card.Config.Get16(PciConfig.Status));
        Assert.Equal((0x400UL, 0x100UL), (_card.BarRegions[0]!.Size, _card.BarRegions[1]!.Size));
        Assert.Equal(0x83847600u, _bench.In(Nam + 0x7C, 2) << 16 | _bench.In(Nam + 0x7E, 2));
        Assert.Equal(0x0809u, _bench.In(Nam + 0x28, 2));
        Assert.Equal(48000u, _bench.In(Nam + 0x2C, 2));
        Assert.Equal(0x100u, _bench.In(GlobSta));                  // the codec is ready
        Assert.Equal(Halted, Status);
    }

    [Fact]
    public void A_tone_is_heard_and_each_buffer_asks_for_attention()
    {
        _bench.PutTone(Data, 48000, 48000);
        for (int i = 0; i < 4; i++) Descriptor(i, (uint)Data + (uint)i * 48000, 24000);
        Start(3);
        _bench.Run(260);
        Assert.True(_bench.Inta);
        Assert.Equal(Bcis, Status);
        Assert.Equal((1u, 2u), (_bench.In(Out + Civ, 1), _bench.In(Out + Piv, 1)));
        Assert.Equal(24000u - 960, _bench.In(Out + Picb, 2));
        Assert.Equal(0x140u, _bench.In(GlobSta));                  // POINT
        _bench.Out(Out + Sr, Bcis, 2);
        Assert.False(_bench.Inta);
        _bench.Run(2000);
        Assert.Equal(Halted | Celv | LvbCi | Bcis, Status);
        Assert.InRange(_bench.Heard.Frequency, 439, 441);
        Assert.InRange(_bench.Heard.Loudest, 16000, 16500);
    }

    /// <summary>"The channel goes on when LVI is written".</summary>
    [Fact]
    public void A_halted_ring_goes_on_when_software_appends_a_buffer()
    {
        Descriptor(0, (uint)Data, 96);
        Descriptor(1, (uint)Data, 960);
        Start(0);
        _bench.Run(30);
        Assert.Equal(Halted, Status & Halted);
        _bench.Out(Out + Sr, 0x1C, 2);
        _bench.Out(Out + Lvi, 1, 1);
        Assert.Equal(0u, Status & (Halted | Celv));
        Assert.Equal(1u, _bench.In(Out + Civ, 1));
        _bench.Run(50);
        Assert.Equal(Halted, Status & Halted);
    }

    [Fact]
    public void A_pause_keeps_the_place_and_a_channels_reset_does_not()
    {
        Descriptor(0, (uint)Data, 48000);
        Start(0);
        _bench.Run(100);
        _bench.Out(Out + Cr, 0, 1);
        uint left = _bench.In(Out + Picb, 2);
        Assert.InRange(left, 1u, 47999u);
        _bench.Run(100);
        Assert.Equal(left, _bench.In(Out + Picb, 2));
        _bench.Out(Out + Cr, Run, 1);
        _bench.Run(10);
        Assert.Equal(left - 960, _bench.In(Out + Picb, 2));
        _bench.Out(Out + Cr, Reset, 1);
        Assert.Equal((0u, 0u, Halted), (_bench.In(Out + Picb, 2), _bench.In(Out + Cr, 1), Status));
    }

    [Fact]
    public void Rate_mute_and_volume_are_the_mixers()
    {
        _bench.PutTone(Data, 22050, 22050);
        for (int i = 0; i < 3; i++) Descriptor(i, (uint)Data, 44100);
        _bench.Out(Nam + 0x2C, 22050, 2);
        Start(2);
        _bench.Run(1000);
        Assert.InRange(_bench.Heard.Frequency, 439, 441);
        Assert.Equal(1u, _bench.In(Out + Civ, 1));
        _bench.Out(Nam + 0x02, 0x8000, 2);
        _bench.Heard.Bytes.Clear();
        _bench.Run(100);
        Assert.Equal(0, _bench.Heard.Loudest);
        _bench.Out(Nam + 0x02, 0x0404, 2);                         // 6 dB less
        _bench.Heard.Bytes.Clear();
        _bench.Run(100);
        Assert.InRange(_bench.Heard.Loudest, 8100, 8300);
    }

    [Fact]
    public void The_semaphore_is_taken_by_reading_and_given_back_by_the_codec()
    {
        Assert.Equal((0u, 1u), (_bench.In(Cas, 1), _bench.In(Cas, 1)));
        _bench.In(Nam, 2);
        Assert.Equal(0u, _bench.In(Cas, 1));
    }

    [Fact]
    public void A_cold_reset_sets_mixer_and_channels_back()
    {
        Descriptor(0, (uint)Data, 48000);
        _bench.Out(GlobCnt, 2);
        Start(0);
        _bench.Out(GlobCnt, 0);
        Assert.Equal(0x8000u, _bench.In(Nam + 0x02, 2));
        Assert.Equal(0u, _bench.In(Out + Cr, 1));
        _bench.Out(GlobCnt, 6);
        Assert.Equal(2u, _bench.In(GlobCnt));                      // a warm reset is over at once
    }

    [Fact]
    public void Recording_fills_the_ring()
    {
        _bench.Memory.Space.Write(Data, [.. Enumerable.Repeat((byte)0xAA, 4096)]);
        Descriptor(0, (uint)Data, 1024);
        _bench.Out(Nabm + Bdbar, (uint)List);
        _bench.Out(Nabm + Cr, Run | Ioce, 1);
        _bench.Run(100);
        Assert.All(_bench.Memory.Bytes(Data, 2048), sample => Assert.Equal(0, sample));
        Assert.Equal(0xAA, _bench.Memory.Bytes(Data + 2048, 1)[0]);
        Assert.Equal(0x120u, _bench.In(GlobSta));                  // PIINT
    }

    // Hostile guests

    [Fact]
    public void A_ring_of_empty_buffers_halts_at_its_last()
    {
        for (int i = 0; i < 32; i++) Descriptor(i, (uint)Data, 0);
        Start(31);
        _bench.Run(100);
        Assert.Equal(Halted | Celv | LvbCi | Bcis, Status);
        Assert.Equal(31u, _bench.In(Out + Civ, 1));
    }

    [Theory]
    [InlineData((uint)TestMemory.IoAddress)] [InlineData((uint)TestMemory.HoleAddress)] [InlineData(0xFFFFFFFEu)]
    [InlineData((uint)TestMemory.RomAddress)]
    public void Buffers_outside_memory_are_silent_and_reach_nobody(uint address)
    {
        Descriptor(0, address, 4800);
        Start(0);
        _bench.Out(Nabm + Bdbar, (uint)List);                      // and to be recorded into
        _bench.Out(Nabm + Cr, Run, 1);
        _bench.Run(200);
        Assert.Equal(0, _bench.Heard.Loudest);
        Assert.Equal(0, _bench.Trespasses);
        Assert.Equal(Halted, Status & Halted);
    }

    [Fact]
    public void A_list_outside_memory_is_one_of_empty_buffers()
    {
        _bench.Out(Out + Bdbar, (uint)TestMemory.IoAddress);
        _bench.Out(Out + Lvi, 31, 1);
        _bench.Out(Out + Cr, Run, 1);
        _bench.Run(100);
        Assert.Equal(Halted, Status & Halted);
        Assert.Equal(0, _bench.Trespasses);
    }

    [Fact]
    public void A_rate_of_0_stands_still()
    {
        Descriptor(0, (uint)Data, 4800);
        _bench.Out(Nam + 0x2C, 0, 2);
        Start(0);
        _bench.Run(1000);
        Assert.Equal(4800u, _bench.In(Out + Picb, 2));
    }
}
