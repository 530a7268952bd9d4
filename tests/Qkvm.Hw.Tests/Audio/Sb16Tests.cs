using Qkvm.Core.Audio;
using Qkvm.Core.Memory;
using Qkvm.Hw.Audio;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Audio;

/// <summary>Creative, Sound Blaster Series Hardware Programming Guide; and the 8237A under it.</summary>
public sealed class Sb16Tests : IDisposable
{
    const int Mixer = 0x224, ResetPort = 0x226, ReadData = 0x22A, Command = 0x22C, Status = 0x22E, Ack16 = 0x22F;
    const byte AutoRead = 0x58, SingleRead = 0x48, AutoWrite = 0x54;

    readonly SoundBench _bench = new();

    public Sb16Tests()
    {
        _bench.Make(Sb16.Model);
        _bench.Out(ResetPort, 1, 1);
        _bench.Out(ResetPort, 0, 1);
        Assert.Equal(0xAAu, _bench.In(ReadData, 1));
    }

    public void Dispose() => _bench.Dispose();

    void Send(params byte[] bytes)
    {
        foreach (byte value in bytes) _bench.Out(Command, value, 1);
    }

    byte Get() => (byte)_bench.In(ReadData, 1);

    byte MixerAt(byte register)
    {
        _bench.Out(Mixer, register, 1);
        return (byte)_bench.In(Mixer + 1, 1);
    }

    bool Irq => _bench.Board.Irqs[5].Level;

    /// <summary>Sets up channel 1 for a buffer at F0000h, or 5 for one at E0000h.</summary>
    void Program(int channel, byte mode, int units, byte page = 0x0F)
    {
        IRegisterBank chip = channel < 4 ? _bench.Dma.Master : _bench.Dma.Slave;
        int stride = channel < 4 ? 1 : 2, own = channel & 3;
        ulong At(int register) => (ulong)(register * stride);
        chip.Write(At(12), 1, 0);
        chip.Write(At(11), 1, (ulong)(mode | own));
        chip.Write(At(own * 2), 1, 0);
        chip.Write(At(own * 2), 1, 0);
        chip.Write(At(own * 2 + 1), 1, (byte)(units - 1));
        chip.Write(At(own * 2 + 1), 1, (byte)(units - 1 >> 8));
        _bench.Dma.Pages.Write(channel < 4 ? 3UL : 11, 1, page);
        chip.Write(At(10), 1, (ulong)own);
    }

    [Fact]
    public void The_DSP_answers_who_it_is()
    {
        Send(0xE1);
        Assert.Equal(0x80u, _bench.In(Status, 1) & 0x80);
        Assert.Equal((4, 5), (Get(), Get()));
        Assert.Equal(0u, _bench.In(Status, 1) & 0x80);
        Send(0xE0, 0x55, 0xE4, 0x77, 0xE8);
        Assert.Equal((0xAA, 0x77), (Get(), Get()));
        Send(0xE3);
        Assert.Equal((byte)'C', Get());
        Assert.Equal((2, 0x22), (MixerAt(0x80), MixerAt(0x81)));   // IRQ 5; DMA 1 and 5
    }

    [Fact]
    public void Sixteen_bits_of_stereo_are_heard_and_each_block_asks_for_attention()
    {
        _bench.PutTone(0xE0000, 4410, 44100);                      // pages of words are even
        Program(5, AutoRead, 8820);
        Send(0x41, 0xAC, 0x44, 0xB6, 0x30, 0xFF, 0x10);            // 4352 samples
        _bench.Run(60);
        Assert.True(Irq);
        Assert.Equal(2, MixerAt(0x82));
        _bench.In(Ack16, 1);
        Assert.False(Irq);
        _bench.Run(940);
        Assert.InRange(_bench.Heard.Frequency, 439, 441);
        Assert.InRange(_bench.Heard.Loudest, 16000, 16500);
        Send(0xD5);
        _bench.Run(20);
        _bench.Heard.Bytes.Clear();
        _bench.Run(100);
        Assert.Empty(_bench.Heard.Bytes);
        Send(0xD6);
        _bench.Run(100);
        Assert.InRange(_bench.Heard.Loudest, 16000, 16500);
    }

    [Fact]
    public void A_single_block_of_8_bits_ends_by_itself()
    {
        _bench.PutTone(0xF0000, 11025, 11025, type: SampleType.U8, channels: 1);
        Program(1, SingleRead, 11025);
        Send(0x41, 0x2B, 0x11, 0x14, 0x10, 0x2B);                  // 11,025 Hz, 11,025 samples
        _bench.Run(900);
        Assert.False(Irq);
        _bench.Run(200);
        Assert.True(Irq);
        Assert.Equal(1, MixerAt(0x82));
        _bench.In(Status, 1);
        Assert.False(Irq);
        Assert.InRange(_bench.Heard.Frequency, 438, 442);
        Assert.Equal(0x02UL, _bench.Dma.Master.Read(8, 1));        // terminal count of channel 1
        Assert.Equal(0xFFUL, _bench.Dma.Master.Read(15, 1));       // which is masked again
        Assert.Equal(0UL, _bench.Dma.Master.Read(8, 1));
    }

    [Fact]
    public void A_time_constant_is_a_rate_and_auto_init_ends_after_its_block()
    {
        Program(1, AutoRead, 1000);
        Send(0x40, 156, 0x48, 0xE7, 0x03, 0x1C);                   // 10,000 Hz, blocks of 1000
        _bench.Run(110);
        Assert.True(Irq);
        _bench.In(Status, 1);
        Send(0xDA);
        _bench.Run(100);
        Assert.True(Irq);
        _bench.In(Status, 1);
        _bench.Run(500);
        Assert.False(Irq);
    }

    [Fact]
    public void Recording_writes_memory()
    {
        _bench.Memory.Space.Write(0xF0000, [.. Enumerable.Repeat((byte)0xAA, 2000)]);
        Program(1, AutoWrite, 1000);
        Send(0x42, 0x27, 0x10, 0xCE, 0x00, 0xE7, 0x03);            // unsigned: 80h is silence
        _bench.Run(500);
        Assert.All(_bench.Memory.Bytes(0xF0000, 1000), sample => Assert.Equal(0x80, sample));
        Assert.Equal(0xAA, _bench.Memory.Bytes(0xF0000 + 1000, 1)[0]);
        Assert.True(Irq);
    }

    [Fact]
    public void The_guest_can_ask_for_the_interrupt_and_a_reset_takes_it_back()
    {
        Send(0xF2);
        Assert.True(Irq);
        _bench.Out(ResetPort, 1, 1);
        _bench.Out(ResetPort, 0, 1);
        Assert.False(Irq);
    }

    // Hostile guests

    [Fact]
    public void A_masked_channel_or_one_of_the_other_direction_moves_nothing()
    {
        Send(0x41, 0xAC, 0x44, 0xB6, 0x30, 0xFF, 0x00);
        _bench.Run(100);
        Program(5, AutoWrite, 1000);
        _bench.Run(100);
        Assert.False(Irq);
        Assert.Equal(0, _bench.Heard.Loudest);
    }

    [Fact]
    public void Blocks_of_one_sample_and_a_count_of_one_end_in_time()
    {
        Program(1, AutoRead, 1);
        Send(0x41, 0xFF, 0xFF, 0xC6, 0x00, 0x00, 0x00);
        _bench.Run(100);
        Assert.True(Irq);
    }

    [Fact]
    public void Rates_of_0_stand_still()
    {
        Program(5, AutoRead, 1000);
        Send(0x41, 0, 0, 0xB6, 0x30, 0, 0);
        _bench.Run(100);
        Assert.False(Irq);
    }

    [Fact]
    public void Any_bytes_do_no_harm_and_answers_are_bounded()
    {
        var random = new Random(1);
        for (int i = 0; i < 100_000; i++)
        {
            _bench.Out(0x224 + random.Next(12), (uint)random.Next(256), 1);
            if (i % 100 == 0) _bench.Run(1);
        }
        for (int i = 0; i < 100; i++) Send(0xE3);
        int answers = 0;
        for (; (_bench.In(Status, 1) & 0x80) != 0; answers++) Get();
        Assert.InRange(answers, 0, 64);
    }

    [Fact]
    public void Pages_above_memory_are_silent()
    {
        Program(1, AutoRead, 1000, page: 0xFF);
        Send(0x41, 0xAC, 0x44, 0xC6, 0x00, 0xFF, 0x00);
        _bench.Run(100);
        Assert.True(Irq);
        Assert.Equal(0, _bench.Trespasses);
    }
}
