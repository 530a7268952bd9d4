using Qkvm.Core.Input;
using Qkvm.Testing;

namespace Qkvm.Backends.Tests.Display;

/// <summary>What a guest with a US keyboard types when viewers send keysyms. A model of that guest reads the keys.
/// Spec: RFC 6143, section 7.5.4; the community's RFB protocol, "LED State Pseudo-encoding".</summary>
public class VncKeyTests
{
    const uint Shift = 0xFFE1, ShiftR = 0xFFE2, CapsLock = 0xFFE5, NumLock = 0xFF7F, Kp1 = 0xFFB1, KpEnd = 0xFF9C,
        AltGr = 0xFE03, F1 = 0xFFBE;

    /// <summary>Keys as a PC's system understands them.</summary>
    sealed class Guest
    {
        const string Plain = "1234567890-=qwertyuiop[]asdfghjkl;'`\\zxcvbnm,./ ",
            Shifted = "!@#$%^&*()_+QWERTYUIOP{}ASDFGHJKL:\"~|ZXCVBNM<>? ";
        const string Codes =
            "\u0002\u0003\u0004\u0005\u0006\u0007\u0008\u0009\u000A\u000B\u000C\u000D\u0010"
            + "\u0011\u0012\u0013\u0014\u0015\u0016\u0017\u0018\u0019\u001A"
            + "\u001B\u001E\u001F\u0020\u0021\u0022\u0023\u0024\u0025\u0026\u0027\u0028\u0029"
            + "\u002B\u002C\u002D\u002E\u002F\u0030\u0031\u0032\u0033\u0034\u0035\u0039";

        readonly HashSet<KeyCode> _held = [];
        public KeyboardLocks Locks;
        public string Text = "";

        public bool HoldsNothing => _held.Count == 0;

        public void Take((KeyCode Key, bool Down) key)
        {
            if (!key.Down) { _held.Remove(key.Key); return; }
            bool isNew = _held.Add(key.Key), shift = _held.Contains(KeyCode.Shift) || _held.Contains(KeyCode.ShiftR);
            if (isNew && key.Key == KeyCode.CapsLock) Locks ^= KeyboardLocks.Caps;
            if (isNew && key.Key == KeyCode.NumLock) Locks ^= KeyboardLocks.Num;
            if (key.Key == KeyCode.Kp1) Text += (Locks & KeyboardLocks.Num) != 0 != shift ? "<1>" : "<End>";
            int index = Codes.IndexOf((char)key.Key, StringComparison.Ordinal);
            if (index < 0) return;
            bool isUpper = char.IsAsciiLetter(Plain[index]) && (Locks & KeyboardLocks.Caps) != 0 ? !shift : shift;
            if (_held.Contains(KeyCode.AltR)) Text += "Alt+";
            Text += isUpper ? Shifted[index] : Plain[index];
        }

        /// <summary>Until F1 goes up.</summary>
        public void Read(VncBench bench)
        {
            for (var key = bench.NextKey(); key != (KeyCode.F1, false); key = bench.NextKey()) Take(key);
            _held.Remove(KeyCode.F1);
        }
    }

    static string Typed(Action<VncViewer> type, KeyboardLocks guestLocks = KeyboardLocks.None, bool lockKeySync = true)
    {
        using var bench = new VncBench(lockKeySync: lockKeySync);
        var guest = new Guest { Locks = guestLocks };
        bench.Light(guestLocks);
        using VncViewer viewer = bench.ConnectAndStart();
        type(viewer);
        viewer.Type(F1);
        guest.Read(bench);
        Assert.True(guest.HoldsNothing);
        return guest.Text;
    }

    [Theory]
    [InlineData(KeyboardLocks.None)] [InlineData(KeyboardLocks.Caps)] [InlineData(KeyboardLocks.Num)]
    [InlineData(KeyboardLocks.Caps | KeyboardLocks.Num)]
    public void A_guest_whose_locks_differ_types_what_the_viewer_does(KeyboardLocks locks)
    {
        Assert.Equal("aAbB<1><End>Zz1!", Typed(viewer =>
        {
            viewer.Type('a');
            viewer.Type(Shift, 'A');
            viewer.Type('b');
            viewer.Type('B');                                      // its Caps Lock is on by now
            viewer.Type(Kp1);
            viewer.Type(KpEnd);
            viewer.Type('Z');
            viewer.Type(ShiftR, 'z');                              // with Caps Lock
            viewer.Type('1');
            viewer.Type(Shift, '!');
        }, locks));
    }

    [Fact]
    public void A_lock_key_that_the_viewer_presses_itself_is_counted() => Assert.Equal("aBC<1>", Typed(viewer =>
    {
        viewer.Type('a');
        viewer.Type(CapsLock);
        viewer.Type('B');
        viewer.Type('C');
        viewer.Type(NumLock);
        viewer.Type(Kp1);
    }));

    [Fact]
    public void With_lock_key_sync_off_the_guests_locks_are_its_own() =>
        Assert.Equal("a", Typed(viewer => viewer.Type('A'), lockKeySync: false));

    [Fact]
    public void Characters_come_with_the_shift_keys_of_a_US_keyboard_whatever_the_viewers_is()
    {
        string all = string.Concat(Enumerable.Range(0x20, 0x5F).Select(c => (char)c));
        // a robot, without shift keys
        Assert.Equal(all, Typed(viewer => { foreach (char c in all) viewer.Type(c); }));
        // as if all were shifted
        Assert.Equal(all, Typed(viewer => { foreach (char c in all) viewer.Type(Shift, c); }));
        Assert.Equal(all, Typed(viewer => { foreach (char c in all) viewer.Type(ShiftR, c); }));
        Assert.Equal("@{/", Typed(viewer =>                        // a German keyboard: AltGr Q, AltGr 7, Shift 7
        {
            viewer.Type(AltGr, '@');
            viewer.Type(AltGr, '{');
            viewer.Type(Shift, '/');
        }));
        Assert.Equal("Aa!",
            Typed(viewer => { viewer.Type(0x0100_0041); viewer.Type(0x0100_0061); viewer.Type(0x0100_0021); }));
    }

    [Fact]
    public void Extended_key_events_bring_the_locks_into_step_too() => Assert.Equal("Qq", Typed(viewer =>
    {
        foreach (char c in "Qq")
            foreach (byte down in (byte[])[1, 0])
                viewer.Send(255, 0, 0, down, 0, 0, 0, (byte)c, 0, 0, 0, 0x10);
    }));

    /// <summary>key-delay-ms is 10 unless given: keys reach the guest one by one, in its own time.</summary>
    [Fact]
    public void Key_events_come_ten_milliseconds_apart()
    {
        var clock = new FakeClock();
        using var bench = new VncBench(clock: clock);
        using VncViewer viewer = bench.ConnectAndStart();
        viewer.Type('a');
        viewer.Type('b');
        Assert.Equal((KeyCode.A, true), bench.NextKey());
        viewer.RequestAndRead(incremental: false);                 // the server has read all that was typed before
        Assert.Empty(bench.Keys);
        bench.Ask(() => { clock.Advance(9_999_999); return 0; });
        Assert.Empty(bench.Keys);
        bench.Ask(() => { clock.Advance(1); return 0; });
        Assert.Equal([(KeyCode.A, false)], bench.Keys);
        bench.Ask(() => { clock.Advance(20_000_000); return 0; });
        Assert.Equal([(KeyCode.A, false), (KeyCode.B, true), (KeyCode.B, false)], bench.Keys);
    }

    [Theory]
    [InlineData(-261)] [InlineData(0x574D5668)]
    public void Viewers_that_ask_for_the_lights_are_told_of_them(int encoding)
    {
        using var bench = new VncBench();
        bench.Light(KeyboardLocks.Num);
        using VncViewer viewer = bench.ConnectAndStart(true, 0, encoding);
        viewer.RequestAndRead(incremental: false);
        Assert.Contains(viewer.Rectangles, r => r == (0, 0, 0, 0, encoding));
        Assert.Equal(2, viewer.Lights);
        viewer.Request(incremental: true);
        bench.Light(KeyboardLocks.Caps | KeyboardLocks.Scroll);
        viewer.ReadUpdate();
        Assert.Equal((5, 1), (viewer.Lights, viewer.Rectangles.Count));
    }
}
