using Qkvm.Core.Input;
using Qkvm.Core.Virtio;
using Qkvm.Hw.Virtio;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Virtio;

/// <summary>Virtio 1.2, section 5.8; numbers of input-event-codes.h are restated here.</summary>
public sealed class VirtioInputTests : IDisposable
{
    const ulong Data = 0x20000;
    const int EventLength = 8;

    readonly PciBench _bench = new();
    readonly InputRouter _router = new();
    int _given;

    public void Dispose() => _bench.Dispose();

    VirtioGuest Guest(VirtioInput device) => new(_bench, device, new VirtioPciOptions(0x090000, 2, Legacy: false));

    [Fact]
    public void The_configuration_tells_what_a_keyboard_is_piece_by_piece()
    {
        VirtioGuest guest = Guest(new VirtioKeyboard("keyboard", "k7", _router));
        Assert.Equal(0x1052, guest.Function.Config.Get16(2));
        Assert.Equal("QEMU Virtio Keyboard", Text(guest, 1, 0));
        Assert.Equal("k7", Text(guest, 2, 0));
        Assert.Equal("", Text(guest, 1, 1));
        Assert.Equal(8, Select(guest, 3, 0));
        Assert.Equal(0x0001_0001_0627_0006u, guest.Config(8, 8));
        Assert.Equal(18, Select(guest, 0x11, 1));                  // KEY_WAKEUP is 143, in byte 17
        Assert.Equal(0x40000000u, guest.Config(8, 4) & 0x40000000); // KEY_A is 30
        Assert.Equal(0, Select(guest, 0x11, 3));
        Assert.Equal(0, Select(guest, 0x12, 0));
        Assert.Equal(0, Select(guest, 0xFF, 0xFF));
    }

    [Fact]
    public void A_tablets_axes_have_ranges()
    {
        VirtioGuest guest = Guest(new VirtioPointer("tablet", null, _router, isAbsolute: true, hasWheelAxis: true));
        for (byte axis = 0; axis < 2; axis++)
        {
            Assert.Equal(20, Select(guest, 0x12, axis));
            Assert.Equal((0u, 0x7FFFu), ((uint)guest.Config(8, 4), (uint)guest.Config(12, 4)));
        }
        Assert.Equal(0, Select(guest, 0x12, 2));
    }

    [Fact]
    public void Keys_come_as_events_once_a_driver_runs_and_wait_for_its_buffers()
    {
        VirtioGuest guest = Guest(new VirtioKeyboard("keyboard", null, _router));
        _router.Key(KeyCode.A, true);                              // nobody listens yet
        guest.Start();
        _router.Key(KeyCode.KpEnter, true);
        _router.Key(KeyCode.KpEnter, false);
        Assert.Null(guest.Queues[0].TakeUsed());
        Give(guest, 8);
        Assert.Equal(["1,96=1", "0,0=0", "1,96=0", "0,0=0"], Events(guest));
        guest.Status = 0;
        _router.Key(KeyCode.B, true);
        guest.Start();
        Give(guest, 8);
        Assert.Empty(Events(guest));
    }

    [Fact]
    public void Every_key_has_a_number()
    {
        foreach (KeyCode key in Enum.GetValues<KeyCode>().Where(key => key != KeyCode.None))
        {
            using var bench = new PciBench();
            var router = new InputRouter();
            var guest = new VirtioGuest(bench, new VirtioKeyboard("keyboard", null, router),
                new VirtioPciOptions(0x090000, 0, Legacy: false));
            guest.Start();
            guest.Request(0, (Data, -EventLength));
            guest.Request(0, (Data + 8, -EventLength));
            router.Key(key, true);
            Assert.NotEqual(0u, bench.Memory.Space.Read(Data + 2, 2));
        }
    }

    [Fact]
    public void Lights_that_the_driver_sets_are_seen_and_other_status_is_not()
    {
        var keyboard = new VirtioKeyboard("keyboard", null, _router);
        VirtioGuest guest = Guest(keyboard);
        guest.Start();
        Status(guest, 0x11, 1, 1);
        Assert.Equal(KeyboardLocks.Caps, keyboard.Lights);
        Status(guest, 0x11, 0, 1);
        Status(guest, 0x11, 1, 0);
        Assert.Equal(KeyboardLocks.Num, keyboard.Lights);
        Status(guest, 0x11, 0xFFFF, 1);
        Status(guest, 0x14, 0, 1);
        guest.Request(1, (Data, 7));
        Assert.Equal(KeyboardLocks.Num, keyboard.Lights);
        Assert.Equal(0, guest.Status & VirtioStatus.NeedsReset);
    }

    [Fact]
    public void Movements_without_buffers_are_added_up()
    {
        VirtioGuest guest = Guest(new VirtioPointer("mouse", null, _router, isAbsolute: false, hasWheelAxis: true));
        guest.Start();
        for (int i = 0; i < 10; i++) _router.Pointer(1, -2, 1, MouseButtons.Left);
        Assert.Null(guest.Queues[0].TakeUsed());
        Give(guest, 32);
        Assert.Equal(["2,0=10", "2,1=-20", "1,272=1", "2,8=-10", "0,0=0"], Events(guest));
        _router.Pointer(int.MaxValue, int.MinValue, int.MaxValue, MouseButtons.None);
        Assert.Equal(["2,0=32767", "2,1=-32767", "1,272=0", "2,8=-32767", "0,0=0"], Events(guest));
    }

    [Fact]
    public void A_tablet_tells_positions_that_changed_and_a_wheel_as_buttons_where_it_has_no_axis()
    {
        VirtioGuest guest = Guest(new VirtioPointer("tablet", null, _router, isAbsolute: true, hasWheelAxis: false));
        guest.Start();
        Give(guest, 64);
        Assert.True(_router.PointerIsAbsolute);
        _router.Pointer(100, 40000, 0, MouseButtons.None);
        Assert.Equal(["3,0=100", "3,1=32767", "0,0=0"], Events(guest));
        _router.Pointer(100, 32767, 1, MouseButtons.None);
        Assert.Equal(["1,336=1", "1,336=0", "0,0=0"], Events(guest));
        _router.Pointer(100, 32767, 0, MouseButtons.None);
        Assert.Empty(Events(guest));
    }

    [Fact]
    public void A_buffer_that_is_too_small_gets_what_it_holds()
    {
        VirtioGuest guest = Guest(new VirtioKeyboard("keyboard", null, _router));
        guest.Start();
        _bench.Memory.Space.Write(Data, 8, 0x5555555555555555);
        guest.Request(0, (Data, -4));
        guest.Request(0, (Data + 16, 8));                          // which cannot be written
        _router.Key(KeyCode.A, true);
        Assert.Equal((0u, 4u), guest.Queues[0].TakeUsed());
        Assert.Equal((1u, 0u), guest.Queues[0].TakeUsed());
        Assert.Equal(0x55555555u, _bench.Memory.Space.Read(Data + 4, 4));
    }

    [Fact]
    public void State_is_kept_and_reset_forgets_it()
    {
        VirtioPointer Make(InputRouter router) => new("mouse", null, router, isAbsolute: false, hasWheelAxis: true);
        VirtioGuest used = Guest(Make(_router));
        used.Start();
        _router.Pointer(3, 4, 5, MouseButtons.Right);
        using var bench = new PciBench();
        var fresh = new VirtioGuest(bench, Make(new InputRouter()), new VirtioPciOptions(0x090000, 2, Legacy: false));
        StateAssert.SurvivesSaveAndLoad(used.Function, fresh.Function);
        fresh.Function.Reset();
        StateAssert.ResetEqualsNew(used.Function, fresh.Function);
    }

    int Select(VirtioGuest guest, byte what, byte which)
    {
        guest.Config(0, 1, what);
        guest.Config(1, 1, which);
        return (int)guest.Config(2, 1);
    }

    string Text(VirtioGuest guest, byte what, byte which)
    {
        int length = Select(guest, what, which);
        return string.Concat(Enumerable.Range(0, length).Select(i => (char)guest.Config(8 + (uint)i, 1)));
    }

    void Give(VirtioGuest guest, int count)
    {
        for (int i = 0; i < count; i++, _given++)
            guest.Request(0, (Data + EventLength * (ulong)(_given % 64), -EventLength));
    }

    void Status(VirtioGuest guest, ushort type, ushort code, uint value)
    {
        _bench.Memory.Space.Write(Data + 0x1000, 2, type);
        _bench.Memory.Space.Write(Data + 0x1002, 2, code);
        _bench.Memory.Space.Write(Data + 0x1004, 4, value);
        guest.Request(1, (Data + 0x1000, EventLength));
    }

    List<string> Events(VirtioGuest guest)
    {
        var events = new List<string>();
        while (guest.Queues[0].TakeUsed() is { } used)
        {
            ulong at = Data + EventLength * used.Id;
            Assert.Equal((uint)EventLength, used.Written);
            events.Add($"{_bench.Memory.Space.Read(at, 2)},{_bench.Memory.Space.Read(at + 2, 2)}="
                + $"{(int)_bench.Memory.Space.Read(at + 4, 4)}");
        }
        return events;
    }
}
