using Qkvm.Core.Audio;
using Qkvm.Core.Pci;
using Qkvm.Hw.Audio;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Audio;

/// <summary>ENSONIQ AudioPCI ES1370 Specification.</summary>
public sealed class Es1370Tests : IDisposable
{
    const int Base = 0x400, Control = Base, Status = Base + 4, Page = Base + 0xC, Serial = Base + 0x20,
        Dac1Samples = Base + 0x24, Dac2Samples = Base + 0x28, AdcSamples = Base + 0x2C, Ring1 = Base + 0x30,
        Count1 = Base + 0x34, Ring2 = Base + 0x38, Count2 = Base + 0x3C;
    const uint Dac1On = 0x40, Dac2On = 0x20, AdcOn = 0x10, Rate44100 = 3 << 12, P1Int = 0x100, P2Int = 0x200,
        R1Int = 0x400, P2Pause = 0x1000, P1Stereo16 = 3, P2Stereo16 = 3 << 2, Pending = 1u << 31;
    const ulong Data = 0x10_0000;

    readonly SoundBench _bench = new();
    readonly Es1370 _card;

    public Es1370Tests() => _card = _bench.Plug<Es1370>(Es1370.Model, Base);

    public void Dispose() => _bench.Dispose();

    [Fact]
    public void It_is_1274_5000_with_256_ports()
    {
        Assert.Equal(0x50001274u, _card.Config.Get32(PciConfig.VendorId));
        Assert.Equal(0x04010000u, _card.Config.Get32(PciConfig.RevisionId));
        Assert.Equal(0x4C4C4942u, _card.Config.Get32(PciConfig.SubsystemVendorId));
        Assert.Equal(0x800C0100u, _card.Config.Get32(PciConfig.InterruptLine));
        Assert.Equal(0x100UL, _card.BarRegions[0]!.Size);
        Assert.Equal((1u, 0x60u), (_bench.In(Control), _bench.In(Status)));
    }

    /// <summary>DAC2 has a divisor of 1,411,200 Hz: 30 and 2 make 44,100.</summary>
    [Fact]
    public void DAC2_plays_its_ring_and_tells_after_each_count_of_frames()
    {
        _bench.PutTone(Data, 4410, 44100);                         // 44 waves
        _bench.Out(Page, 0xC, 1);
        _bench.Out(Ring2, (uint)Data);
        _bench.Out(Count2, 4410 - 1);
        _bench.Out(Dac2Samples, 2205 - 1, 2);
        _bench.Out(Serial, P2Int | P2Stereo16);
        _bench.Out(Control, Dac2On | 30 << 16);
        _bench.Run(60);
        Assert.True(_bench.Inta);
        Assert.Equal(Pending | 0x62, _bench.In(Status));
        _bench.Out(Serial, P2Stereo16);                            // takes it back
        Assert.False(_bench.Inta);
        Assert.Equal(0x60u, _bench.In(Status));
        _bench.Out(Serial, P2Int | P2Stereo16);
        _bench.Run(940);
        Assert.InRange(_bench.Heard.Frequency, 439, 441);
        Assert.Equal(4409u, _bench.In(Count2) & 0xFFFF);
        Assert.Equal(0u, _bench.In(Count2) >> 16);                 // ten times round
    }

    [Fact]
    public void DAC1_has_four_rates_and_both_are_mixed()
    {
        _bench.PutTone(Data, 4410, 44100);
        _bench.PutTone(Data + 0x10000, 4410, 44100);
        _bench.Out(Page, 0xC, 1);
        _bench.Out(Ring1, (uint)Data);
        _bench.Out(Count1, 4409);
        _bench.Out(Ring2, (uint)Data + 0x10000);
        _bench.Out(Count2, 4409);
        _bench.Out(Serial, P1Stereo16 | P2Stereo16);
        _bench.Out(Control, Dac1On | Dac2On | Rate44100 | 30 << 16);
        _bench.Run(500);
        Assert.InRange(_bench.Heard.Frequency, 439, 441);
        Assert.InRange(_bench.Heard.Loudest, 32000, 32767);
        _bench.Out(Serial, P1Stereo16 | P2Stereo16 | P2Pause);
        _bench.Run(20);
        _bench.Heard.Bytes.Clear();
        _bench.Run(500);
        Assert.InRange(_bench.Heard.Loudest, 16000, 16500);
    }

    [Fact]
    public void Mono_samples_of_8_bits_are_a_quarter_as_long()
    {
        _bench.PutTone(Data, 1100, 11025, type: SampleType.U8, channels: 1);
        _bench.Out(Page, 0xC, 1);
        _bench.Out(Ring1, (uint)Data);
        _bench.Out(Count1, 275 - 1);
        _bench.Out(Dac1Samples, 1100 - 1, 2);
        _bench.Out(Serial, P1Int);
        _bench.Out(Control, Dac1On | 1 << 12);
        _bench.Run(500);
        Assert.InRange(_bench.Heard.Frequency, 435, 445);
        Assert.True(_bench.Inta);
    }

    [Fact]
    public void The_ADC_fills_its_ring()
    {
        _bench.Memory.Space.Write(Data, [.. Enumerable.Repeat((byte)0xAA, 1024)]);
        _bench.Out(Page, 0xD, 1);
        _bench.Out(Ring1, (uint)Data);
        _bench.Out(Count1, 128 - 1);
        _bench.Out(AdcSamples, 256, 2);
        _bench.Out(Serial, R1Int | 3 << 4);
        _bench.Out(Control, AdcOn | 30 << 16);
        _bench.Run(100);
        Assert.All(_bench.Memory.Bytes(Data, 512), sample => Assert.Equal(0, sample));
        Assert.Equal(0xAA, _bench.Memory.Bytes(Data + 512, 1)[0]);
        Assert.Equal(Pending | 0x61, _bench.In(Status));
    }

    // Hostile guests

    [Fact]
    public void A_ring_of_one_dword_and_a_count_of_one_frame_end_in_time()
    {
        _bench.Out(Page, 0xC, 1);
        _bench.Out(Ring2, (uint)Data);
        _bench.Out(Serial, P2Int | P2Stereo16);
        _bench.Out(Control, Dac2On);                               // 705,600 Hz
        _bench.Run(100);
        Assert.True(_bench.Inta);
    }

    [Theory]
    [InlineData((uint)TestMemory.IoAddress)] [InlineData((uint)TestMemory.HoleAddress)] [InlineData(0xFFFFFFFCu)]
    public void A_ring_outside_memory_is_silent_and_reaches_nobody(uint address)
    {
        foreach (uint page in new uint[] { 0xC, 0xD })
        {
            _bench.Out(Page, page, 1);
            _bench.Out(Ring1, address);
            _bench.Out(Count1, 0xFFFF);
        }
        _bench.Out(Control, Dac1On | AdcOn);
        _bench.Run(100);
        Assert.All(_bench.Heard.Samples, sample => Assert.InRange(sample, short.MinValue, (short)0));
        Assert.Equal(0, _bench.Trespasses);
    }

    [Fact]
    public void A_place_beyond_the_rings_end_begins_anew()
    {
        _bench.Out(Page, 0xC, 1);
        _bench.Out(Ring2, (uint)Data);
        _bench.Out(Count2, 0xFFFF_0003);
        _bench.Out(Serial, P2Stereo16);
        _bench.Out(Control, Dac2On | 30 << 16);
        _bench.Run(100);
        Assert.InRange(_bench.In(Count2) >> 16, 0u, 3u);
    }

    [Fact]
    public void A_format_that_changes_inside_a_frame_does_no_harm()
    {
        _bench.Out(Page, 0xC, 1);
        _bench.Out(Ring2, (uint)Data);
        _bench.Out(Count2, 2);
        _bench.Out(Control, Dac2On | 127 << 16);                   // 8 bits, mono
        for (uint format = 0; format < 20; format++)
        {
            _bench.Out(Serial, format % 4 << 2);
            _bench.Run(13);
        }
        Assert.InRange(_bench.In(Count2) >> 16, 0u, 2u);
    }

    [Fact]
    public void Pages_without_a_ring_read_as_zeros()
    {
        for (uint page = 0; page < 16; page++)
        {
            _bench.Out(Page, page, 1);
            if (page is not 0xC and not 0xD) _bench.Out(Ring1, 0x1234_5678);
            Assert.Equal(0u, _bench.In(Ring1));
        }
        _bench.Out(Page, 0xD, 1);
        _bench.Out(Ring2, 0x1234_5678);                            // the phantom ring
        Assert.Equal(0u, _bench.In(Ring2));
    }
}
