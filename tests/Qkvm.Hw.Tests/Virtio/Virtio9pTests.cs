using System.Buffers.Binary;
using System.Text;
using Qkvm.Core.State;
using Qkvm.Hw.Virtio;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Virtio;

public sealed class Virtio9pTests : IDisposable
{
    const ulong Messages = 0x20000, Answers = 0x30000, Spacing = 0x200;

    readonly PciBench _bench = new();
    readonly SlowFolder _folder = new();
    readonly Virtio9p _device;
    readonly VirtioGuest _guest;
    int _sent;

    public Virtio9pTests()
    {
        _device = new Virtio9p("9p", _folder, "host", new PumpLoop(_bench.Pump), _bench.Pump.Post);
        _guest = new VirtioGuest(_bench, _device);
        _guest.Start();
    }

    public void Dispose()
    {
        _folder.Disk.Set();
        _bench.Dispose();
    }

    /// <summary>Its tag is its number.</summary>
    void Send(byte type, params byte[][] fields)
    {
        byte[] body = [.. fields.SelectMany(field => field)], message = [0, 0, 0, 0, type, (byte)_sent, 0, .. body];
        BinaryPrimitives.WriteInt32LittleEndian(message, message.Length);
        ulong place = Spacing * (ulong)_sent++;
        for (int i = 0; i < message.Length; i++) _bench.Memory.Space.Write(Messages + place + (ulong)i, 1, message[i]);
        _guest.Request(0, (Messages + place, message.Length), (Answers + place, -(int)Spacing));
    }

    static byte[] Number(uint value) => BitConverter.GetBytes(value);
    static byte[] Text(string text) => [(byte)text.Length, 0, .. Encoding.ASCII.GetBytes(text)];

    /// <summary>The type and tag of the next answer, or null.</summary>
    (byte Type, int Tag)? Answer()
    {
        if (_guest.Queues[0].TakeUsed() is not { } used) return null;
        byte[] answer = _bench.Memory.Bytes(Answers + Spacing * (used.Id / 2), (int)used.Written);
        Assert.Equal(used.Written, BinaryPrimitives.ReadUInt32LittleEndian(answer));
        return (answer[4], answer[5]);
    }

    (byte Type, int Tag) Await()
    {
        (byte, int)? answer = null;
        _bench.Pump.Until(() => (answer = Answer()) != null);
        return answer!.Value;
    }

    void Begin()
    {
        Send(100, Number(8192), Text("9P2000.L"));
        Assert.Equal((101, 0), Await());
        Send(104, Number(0), Number(uint.MaxValue), Text(""), Text(""), Number(0));
        Assert.Equal((105, 1), Await());
        Send(12, Number(0), Number(0));
        Assert.Equal((13, 2), Await());
    }

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
        _sent = 0;
        Begin();
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
