using Qkvm.Hw.Watchdog;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Watchdog;

/// <summary>Intel 6300ESB, chapter 16; offsets are restated here.</summary>
public sealed class I6300EsbTests : IDisposable
{
    const ulong Bar = 0xC0000000, Preload1 = Bar, Preload2 = Bar + 4, Reload = Bar + 12;
    const int Configuration = 0x60, Lock = 0x68;
    const long Tick = 30L << 15;                                   // nanoseconds with the slow prescaler

    readonly PciBench _bench = new();
    readonly I6300Esb _watchdog;
    int _expired;

    public I6300EsbTests()
    {
        _watchdog = _bench.Plug(new I6300Esb(_bench.Clock, () => _expired++), 3);
        _bench.Bus.WriteConfig(_watchdog.DevFn, 0x10, 4, (uint)Bar);
    }

    public void Dispose() => _bench.Dispose();

    [Fact]
    public void It_expires_when_both_stages_have_run_down_and_says_so_after_the_reset()
    {
        Load(9, 19);
        Configure(Lock, 2);
        _bench.Clock.Advance(30 * Tick - 1);
        Assert.Equal(0, _expired);
        _bench.Clock.Advance(1);
        Assert.Equal(1, _expired);
        _watchdog.Reset();
        _bench.Enable(_watchdog);
        _bench.Bus.WriteConfig(_watchdog.DevFn, 0x10, 4, (uint)Bar);
        Assert.Equal(0x200u, _bench.Memory.Space.Read(Reload, 2));
        Write(Reload, 2, 0x200);
        Assert.Equal(0u, _bench.Memory.Space.Read(Reload, 2));
    }

    [Fact]
    public void A_reload_begins_again_with_the_first_stage()
    {
        Load(9, 9);
        Configure(Lock, 2);
        for (int i = 0; i < 5; i++)
        {
            _bench.Clock.Advance(19 * Tick);
            Write(Reload, 2, 0x100);
        }
        Assert.Equal(0, _expired);
        Configure(Lock, 0);
        _bench.Clock.Advance(100 * Tick);
        Assert.Equal(0, _expired);
    }

    [Fact]
    public void Registers_change_only_behind_the_sequence_that_unlocks_them()
    {
        Load(5, 5);
        _bench.Memory.Space.Write(Preload1, 4, 7);
        _bench.Memory.Space.Write(Reload, 1, 0x86);
        _bench.Memory.Space.Write(Preload2, 4, 7);
        Assert.Equal((5u, 5u),
            ((uint)_bench.Memory.Space.Read(Preload1, 4), (uint)_bench.Memory.Space.Read(Preload2, 4)));
        Write(Preload1, 4, 0xFFFFFFFF);
        Assert.Equal(0xFFFFFu, _bench.Memory.Space.Read(Preload1, 4));
    }

    [Fact]
    public void Locked_it_stays_enabled_until_the_machine_is_reset()
    {
        Load(9, 9);
        Configure(Lock, 3);
        Configure(Lock, 0);
        Assert.Equal(3u, _bench.Bus.ReadConfig(_watchdog.DevFn, Lock, 1));
        _watchdog.Reset();
        Configure(Lock, 4);
        Assert.Equal(4u, _bench.Bus.ReadConfig(_watchdog.DevFn, Lock, 1));
    }

    [Fact]
    public void With_its_output_disabled_it_runs_and_resets_nothing()
    {
        Load(0, 0);
        Configure(Configuration, 0x24);                            // and the fast prescaler
        Configure(Lock, 6);
        _bench.Clock.Advance(1_000_000);
        Assert.Equal(0, _expired);
        Configure(Configuration, 0x04);
        _bench.Clock.Advance(2 * (30 << 5));
        Assert.InRange(_expired, 1, 2);
    }

    void Load(uint first, uint second)
    {
        Write(Preload1, 4, first);
        Write(Preload2, 4, second);
    }

    void Write(ulong register, int size, ulong value)
    {
        _bench.Memory.Space.Write(Reload, 1, 0x80);
        _bench.Memory.Space.Write(Reload, 1, 0x86);
        _bench.Memory.Space.Write(register, size, value);
    }

    void Configure(int register, byte value) => _bench.Bus.WriteConfig(_watchdog.DevFn, register, 1, value);
}
