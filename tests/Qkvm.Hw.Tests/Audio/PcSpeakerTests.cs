using Qkvm.Core.Irq;
using Qkvm.Hw.Isa;
using Qkvm.Hw.Timer;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Audio;

/// <summary>Counter 2 through port 61h: both bits open make it heard.</summary>
public sealed class PcSpeakerTests : IDisposable
{
    readonly SoundBench _bench = new();
    readonly I8254 _pit;
    readonly SystemControlPort _port;

    public PcSpeakerTests()
    {
        _pit = new I8254(_bench.Clock, IrqLine.Unconnected("irq0"));
        _port = new SystemControlPort(_pit, _bench.Clock, _bench.Host);
        _port.Reset();
    }

    public void Dispose() => _bench.Dispose();

    void Beep(int count, byte mode = 3)
    {
        _pit.Write(3, 1, (ulong)(0xB0 | mode << 1));
        _pit.Write(2, 1, (byte)count);
        _pit.Write(2, 1, (byte)(count >> 8));
    }

    [Theory]
    [InlineData(2712, 440)] [InlineData(1193, 1000)] [InlineData(11931, 100)]
    public void The_count_is_the_pitch(int count, int hertz)
    {
        Beep(count);
        _port.Write(0, 1, 3);
        _bench.Run(1000);
        Assert.InRange(_bench.Heard.Frequency, hertz - 1, hertz + 1);
        Assert.InRange(_bench.Heard.Loudest, 7500, 8200);
        _port.Write(0, 1, 0);
        _bench.Heard.Bytes.Clear();
        _bench.Run(100);
        Assert.Empty(_bench.Heard.Bytes);
    }

    [Theory]
    [InlineData(1)] [InlineData(2)]
    public void One_bit_alone_is_silent(byte bits)
    {
        Beep(1193);
        _port.Write(0, 1, bits);
        _bench.Run(100);
        Assert.Empty(_bench.Heard.Bytes);
    }

    /// <summary>They would come back as lower tones; and no count divides by zero.</summary>
    [Theory]
    [InlineData(1)] [InlineData(2)] [InlineData(20)] [InlineData(40)]
    public void What_nobody_hears_is_near_silence(int count)
    {
        Beep(count);
        _port.Write(0, 1, 3);
        _bench.Run(100);
        Assert.InRange(_bench.Heard.Loudest, 0, 8192);
        if (count <= 20)
            Assert.InRange(_bench.Heard.Samples.Skip(100).Max(sample => Math.Abs((int)sample)), 0, 8192 / 2);
    }

    [Fact]
    public void Other_modes_are_silent()
    {
        Beep(1193, mode: 0);
        _port.Write(0, 1, 3);
        _bench.Run(100);
        Assert.Equal(0, _bench.Heard.Loudest);
    }
}
