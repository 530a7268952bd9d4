namespace Qkvm.Machines.Tests.Q35;

/// <summary>Intel I/O Controller Hub 9, order 316972, section 13.9.</summary>
public sealed class Ich9TcoTests
{
    const long Tick = 600_000_000;                                 // nanoseconds
    const ulong Reload = 0, Status1 = 4, Status2 = 6, Control1 = 8, Timer = 0x12;
    const ushort Halt = 0x0800, Lock = 0x1000;

    readonly ChipsetBench _bench = new();

    [Fact]
    public void It_expires_when_it_has_run_out_twice()
    {
        _bench.Tco.Write(Timer, 2, 10);
        _bench.Tco.Write(Reload, 2, 1);
        _bench.Clock.Advance(4 * Tick);
        Assert.Equal(6u, _bench.Tco.Read(Reload, 2));
        _bench.Clock.Advance(6 * Tick);
        Assert.Equal(8u, _bench.Tco.Read(Status1, 2));             // TIMEOUT
        Assert.Equal(0, _bench.Expired);
        _bench.Clock.Advance(10 * Tick);
        Assert.Equal(1, _bench.Expired);
        Assert.Equal(6u, _bench.Tco.Read(Status2, 2));             // SECOND_TO_STS and BOOT_STS
        _bench.Clock.Advance(100 * Tick);
        Assert.Equal(1, _bench.Expired);
    }

    [Fact]
    public void Who_reloads_it_in_time_is_left_alone()
    {
        _bench.Tco.Write(Timer, 2, 4);
        for (int i = 0; i < 20; i++)
        {
            _bench.Tco.Write(Reload, 2, 1);
            _bench.Clock.Advance(3 * Tick);
        }
        Assert.Equal(0u, _bench.Tco.Read(Status1, 2));
        Assert.Equal(0, _bench.Expired);
    }

    [Fact]
    public void Halted_it_stands_and_locked_nobody_halts_it()
    {
        _bench.Tco.Write(Timer, 2, 4);
        _bench.Tco.Write(Control1, 2, Halt);
        _bench.Tco.Write(Reload, 2, 1);
        _bench.Clock.Advance(100 * Tick);
        Assert.Equal(0u, _bench.Tco.Read(Status1, 2));
        _bench.Tco.Write(Control1, 2, Lock);
        _bench.Tco.Write(Control1, 2, Halt);
        Assert.Equal(Lock, (ushort)_bench.Tco.Read(Control1, 2));
        _bench.Clock.Advance(8 * Tick);
        Assert.Equal(1, _bench.Expired);
    }

    /// <summary>Section 10.1.75 "GCS": a pin forbids the reset for good, else software does.</summary>
    [Theory]
    [InlineData(true)] [InlineData(false)]
    public void The_strap_for_no_reboot_stays(bool forbids)
    {
        const uint Root = 0xFED1_C000, GeneralControl = Root + 0x3410;
        var bench = new ChipsetBench(forbids);
        bench.Bus.WriteConfig(ChipsetBench.LpcDevFn, 0xF0, 4, Root | 1);
        Assert.Equal(forbids, bench.Lpc.IsRebootForbidden);
        bench.Memory.Write(GeneralControl, 4, 0x20);
        Assert.True(bench.Lpc.IsRebootForbidden);
        bench.Memory.Write(GeneralControl, 4, 0);
        Assert.Equal(forbids, bench.Lpc.IsRebootForbidden);
    }
}
