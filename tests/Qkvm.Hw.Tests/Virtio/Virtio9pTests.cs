using Qkvm.Core.State;
using Qkvm.Hw.Virtio;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Virtio;

public sealed class Virtio9pTests : Virtio9pBench
{
    [Fact]
    public void Its_tag_is_in_its_configuration()
    {
        Assert.Equal(4u, _guest.Config(0, 2));
        Assert.Equal("host"u8.ToArray(), Enumerable.Range(2, 4).Select(i => (byte)_guest.Config((uint)i, 1)));
        Assert.Equal(1UL, _guest.Offered & 1);
    }

    [Fact]
    public void Others_do_not_wait_for_a_slow_disk_and_a_flush_does()
    {
        Begin();
        Send(50, Number(0), Number(0));                            // Tfsync, 3
        Send(108, [3, 0]);                                         // Tflush of it, 4
        Send(24, Number(0), Number(0), Number(0));                 // Tgetattr, 5
        Send(108, [77, 0]);                                        // Tflush of nothing, 6
        Assert.Equal((25, 5), Await());
        Assert.Equal((109, 6), Await());
        Assert.Null(Answer());
        _folder.Disk.Set();
        Assert.Equal((51, 3), Await());
        Assert.Equal((109, 4), Await());
    }

    [Fact]
    public void More_than_a_few_slow_ones_wait_for_each_other_and_a_reset_for_all()
    {
        Begin();
        for (int i = 0; i < 20; i++) Send(50, Number(0), Number(0));
        _bench.Pump.RunPosted();
        _guest.Status = 0;
        Assert.NotEqual(0, _guest.Status);
        _folder.Disk.Set();
        _bench.Pump.Until(() => _guest.Status == 0);
        Assert.Equal(23, _guest.Queues[0].UsedIndex);
        _guest.Start();
        Begin2();
    }

    /// <summary>The old session's fids are gone.</summary>
    void Begin2()
    {
        Restart();
        Begin();
    }

    void Read() => Send(116, Number(0), Number(0), Number(0), Number(5));

    [Fact]
    public void What_is_faster_than_the_folder_s_limits_waits_and_nothing_else_does()
    {
        const long Second = 1_000_000_000;
        Begin();
        Read();                                                    // 3
        Assert.Equal((117, 3), Await());
        Read();                                                    // 4
        Send(118, Number(0), Number(0), Number(0), Number(1), [77]); // Twrite, 5
        Send(108, [4, 0]);                                         // Tflush of the read, 6
        Send(24, Number(0), Number(0), Number(0));                 // Tgetattr, 7
        Assert.Equal((25, 7), Await());
        _bench.Pump.RunPosted();                                   // the timer is armed
        Assert.Null(Answer());
        _bench.Clock.Advance(Second);
        Assert.Equal((117, 4), Await());
        Assert.Equal((109, 6), Await());
        _bench.Pump.RunPosted();
        Assert.Null(Answer());
        _bench.Clock.Advance(Second);
        Assert.Equal((119, 5), Await());
    }

    [Fact]
    public void A_reset_does_not_wait_for_limits()
    {
        Begin();
        for (int i = 0; i < 9; i++) Read();
        Assert.Equal((117, 3), Await());
        _guest.Status = 0;
        _bench.Pump.Until(() => _guest.Status == 0);
        Assert.Equal(12, _guest.Queues[0].UsedIndex);
        _guest.Start();
        Begin2();
        Read();                                                    // 3: what was let go is not counted
        _bench.Pump.RunPosted();
        _bench.Clock.Advance(1_000_000_000);
        Assert.Equal((117, 3), Await());
        Read();
        _bench.Pump.RunPosted();
        Assert.Null(Answer());                                     // limits hold again
    }

    [Fact]
    public void A_machine_whose_guest_has_it_mounted_is_not_saved()
    {
        _ = StateNode.Save(_device.Exchange);
        Begin();
        Assert.Throws<InvalidStateException>(() => _ = StateNode.Save(_device.Exchange));
    }

    [Theory]
    [InlineData(4, 512)]
    [InlineData(23, 4)]
    public void A_message_without_its_header_or_room_stops_the_device(int length, int room)
    {
        _guest.Request(0, (Messages, length), (Answers, -room));
        _bench.Pump.Until(() => (_guest.Status & 0x40) != 0);
    }
}
