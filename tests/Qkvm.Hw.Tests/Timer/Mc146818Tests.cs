using Qkvm.Core.Irq;
using Qkvm.Hw.Timer;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Timer;

/// <summary>Against the MC146818A data sheet.</summary>
public class Mc146818Tests
{
    const long Second = 1_000_000_000;

    readonly FakeClock _clock = new();
    readonly Mc146818 _rtc;
    int _edges;

    public Mc146818Tests() =>
        _rtc = new Mc146818(_clock, new IrqLine("irq8", level => _edges += level ? 1 : 0),
            new DateTime(2024, 2, 28, 23, 59, 58));

    void Write(int index, byte value)
    {
        _rtc.Write(0, 1, (ulong)index);
        _rtc.Write(1, 1, value);
    }

    byte Read(int index)
    {
        _rtc.Write(0, 1, (ulong)index);
        return (byte)_rtc.Read(1, 1);
    }

    string Shown => string.Join(' ', new[] { 0x32, 9, 8, 7, 6, 4, 2, 0 }.Select(i => Read(i).ToString("x2")));

    [Theory]
    [InlineData(0x02, 0, "20 24 02 28 04 23 59 58")] [InlineData(0x02, 2, "20 24 02 29 05 00 00 00")]
    [InlineData(0x06, 0, "14 18 02 1c 04 17 3b 3a")] [InlineData(0x00, 0, "20 24 02 28 04 91 59 58")]
    [InlineData(0x00, 2, "20 24 02 29 05 12 00 00")] [InlineData(0x04, 0, "14 18 02 1c 04 8b 3b 3a")]
    public void The_time_shows_in_BCD_or_binary_and_12_or_24_hours(byte b, int later, string shown)
    {
        Write(11, b);
        _clock.Advance(later * Second);
        Assert.Equal(shown, Shown);
    }

    [Fact]
    public void SET_holds_the_registers_while_they_are_written()
    {
        Write(11, 0x82);
        _clock.Advance(10 * Second);
        Assert.Equal("20 24 02 28 04 23 59 58", Shown);
        foreach ((int index, byte value) in ((int, byte)[])[(0x32, 0x19), (9, 0x99), (8, 0x12), (7, 0x31), (4, 0x23),
            (2, 0x59), (0, 0x59)]) Write(index, value);
        Write(11, 0x02);
        Assert.Equal(new DateTime(1999, 12, 31, 23, 59, 59), _rtc.Now);
        _clock.Advance(Second);
        Assert.Equal(new DateTime(2000, 1, 1), _rtc.Now);
    }

    [Theory]
    [InlineData(8, 0x00)] [InlineData(8, 0xFF)] [InlineData(7, 0x99)] [InlineData(4, 0xFF)] [InlineData(0, 0xFF)]
    [InlineData(0x32, 0xFF)]
    public void Impossible_dates_are_brought_into_range(int index, byte value)
    {
        Write(index, value);
        _clock.Advance(Second);
        Assert.InRange(_rtc.Now.Year, 1, 9999);
    }

    [Fact]
    public void Update_in_progress_warns_244_microseconds_ahead()
    {
        _clock.Advance(Second - 244_001);
        Assert.Equal(0x26, Read(10));
        _clock.Advance(1001);
        Assert.Equal(0xA6, Read(10));
        _clock.Advance(243_000);
        Assert.Equal(0x26, Read(10));
    }

    [Theory]
    [InlineData(3, 8192)] [InlineData(6, 1024)] [InlineData(15, 2)] [InlineData(1, 256)] [InlineData(2, 128)]
    public void The_periodic_interrupt_comes_at_its_rate(int rate, int perSecond)
    {
        Write(10, (byte)(0x20 | rate));
        Write(11, 0x42);
        int taken = 0;
        for (int i = 0; i < 20_000; i++)
        {
            _clock.Advance(Second / 20_000);
            if ((Read(12) & 0xC0) == 0xC0) taken++;
        }
        Assert.Equal(perSecond, taken);
    }

    [Fact]
    public void A_periodic_flag_shows_without_its_interrupt()
    {
        Assert.Equal(0, Read(12));
        _clock.Advance(Second / 1000);
        Assert.Equal(0x40, Read(12));
        Assert.Equal(0, _edges);
    }

    [Fact]
    public void The_update_ended_interrupt_comes_each_second_and_reading_C_ends_it()
    {
        Write(11, 0x12);
        for (int i = 1; i <= 3; i++)
        {
            _clock.Advance(Second);
            Assert.Equal(i, _edges);
            Assert.Equal(0x90, Read(12) & 0x90);
            Assert.Equal(0, Read(12));
        }
    }

    [Theory]
    [InlineData(0x00, 0x00, 0x00, 2)] [InlineData(0xC0, 0xC0, 0xFF, 1)] [InlineData(0x05, 0xFF, 0xFF, 7)]
    [InlineData(0x00, 0x01, 0xFF, 62)]
    public void The_alarm_matches_time_and_wildcards(byte seconds, byte minutes, byte hours, int after)
    {
        Write(1, seconds);
        Write(3, minutes);
        Write(5, hours);
        Write(11, 0x22);
        _clock.Advance(after * Second - 1);
        Assert.Equal(0, _edges);
        _clock.Advance(1);
        Assert.Equal(1, _edges);
        Assert.Equal(0xA0, Read(12) & 0xA0);
    }

    [Fact]
    public void Reset_stops_interrupts_and_keeps_memory_and_time()
    {
        Write(0x40, 0x5A);
        Write(11, 0x12);
        _clock.Advance(Second);
        _rtc.Reset();
        Assert.Equal(0x5A, Read(0x40));
        Assert.Equal(0x02, Read(11));
        Assert.Equal(59, _rtc.Now.Second);
        _clock.Advance(Second);
        Assert.Equal(1, _edges);
    }

    [Fact]
    public void Index_bit_7_masks_NMI()
    {
        _rtc.Write(0, 1, 0x8D);
        Assert.True(_rtc.IsNmiMasked);
        Assert.Equal(0x80UL, _rtc.Read(1, 1));
        _rtc.Write(0, 1, 0x0D);
        Assert.False(_rtc.IsNmiMasked);
    }
}
