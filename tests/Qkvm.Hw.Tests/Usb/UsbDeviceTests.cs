using System.Text;
using Qkvm.Core.Devices;
using Qkvm.Core.State;
using Qkvm.Core.Usb;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Usb;

/// <summary>What the contract itself does for all devices: USB 2.0, chapters 8 and 9.</summary>
public class UsbDeviceTests
{
    const byte Bulk = 2, SelfPowered = 0x40, Wakes = 0x20;

    static readonly DeviceModel s_model = new("usb-probe", BusKind.Usb, [], static (_, _) =>
        throw new NotSupportedException());

    /// <summary>It keeps bulk packets until it is told otherwise, and notes requests.</summary>
    sealed class Probe(bool super = false) : UsbDevice("usb-probe", new UsbDescription(0x1234, 0x5678, 0x0100, "Maker",
        "Probe", "7")
    {
        Full = Layout(8, 64),
        High = Layout(64, 512),
        Super = super ? Layout(9, 1024) : null,
    }, FakeBoard.Defaults(s_model))
    {
        public List<string> Log { get; } = [];
        public UsbPacket? Kept { get; private set; }
        public UsbStatus Next { get; set; } = UsbStatus.Pending;

        static UsbLayout Layout(byte packet0, ushort bulk) => new(0x0200, packet0,
            new UsbConfiguration(1, SelfPowered | Wakes, 50,
                new UsbInterface(0, 0xFF, 0, 0, new UsbEndpoint(Bulk, UsbTransfer.Bulk, bulk),
                    new UsbEndpoint(UsbEndpoint.In | Bulk, UsbTransfer.Bulk, bulk)) { Extra = [3, 0x24, 7] },
                new UsbInterface(0, 0xFF, 0, 0) { Alternate = 1 }));

        protected override void ResetDevice() => Log.Add("reset");
        protected override void ExchangeDevice(StateStream state) { }
        protected override void OnConfigured() => Log.Add($"configured {AlternateOf(0)}");
        protected override void OnHaltCleared(byte endpoint) => Log.Add($"cleared {endpoint:x}");
        protected override void CancelTransfer(UsbPacket packet) => Log.Add("cancel");

        protected override UsbStatus Transfer(UsbPacket packet)
        {
            Kept = packet;
            return Next;
        }

        protected override int AnswerRequest(in UsbSetup setup, Span<byte> answer)
        {
            if (setup.Kind != UsbRequestKind.Vendor) return Stall;
            answer.Fill(0x5A);
            return answer.Length;
        }

        protected override bool ObeyRequest(in UsbSetup setup, ReadOnlySpan<byte> data)
        {
            Log.Add($"{setup.Code:x} {Convert.ToHexString(data)}");
            return setup.Kind == UsbRequestKind.Vendor;
        }
    }

    static (UsbBench Bench, Probe Device) Make(UsbSpeeds speeds = UsbSpeeds.Full, bool super = false)
    {
        var bench = new UsbBench(speeds);
        var device = new Probe(super);
        bench.Port.Attach(device);
        device.Log.Clear();
        return (bench, device);
    }

    [Fact]
    public void Descriptors_say_what_the_description_says()
    {
        var (bench, _) = Make();
        Assert.Equal("12010002000000083412785600010102" + "0301", Convert.ToHexString(bench.Descriptor(1)!));
        Assert.Equal("09022C00010100E032" + "0904000002FF000000" + "032407" + "07050202400000" + "07058202400000"
            + "0904000100FF000000", Convert.ToHexString(bench.Descriptor(2)!));
        Assert.Equal("09022C00010100E032", Convert.ToHexString(bench.Ask(0x80, 6, 0x200, length: 9)!));
        Assert.Equal("0A06000200000040" + "0100", Convert.ToHexString(bench.Descriptor(6)!));
        Assert.Equal("Probe", Encoding.Unicode.GetString(bench.Descriptor(3, 2)!.AsSpan(2)));
        Assert.Equal([4, 3, 9, 4], bench.Descriptor(3, 0)!);
        Assert.Null(bench.Descriptor(3, 9));
        Assert.Null(bench.Descriptor(2, 1));
    }

    [Fact]
    public void The_fastest_speed_that_both_know_is_taken()
    {
        Assert.Equal(UsbSpeed.Full, Make(UsbSpeeds.Low | UsbSpeeds.Full).Device.Speed);
        Assert.Equal(UsbSpeed.High, Make(UsbSpeeds.Full | UsbSpeeds.High).Device.Speed);
        var (bench, device) = Make(UsbSpeeds.Super, super: true);
        Assert.Equal(UsbSpeed.Super, device.Speed);
        byte[] configuration = bench.Descriptor(2)!;
        Assert.Equal([6, 48, 0, 0, 0, 0], configuration[28..34]);  // a companion behind each endpoint
        byte[] bos = bench.Descriptor(15)!;
        Assert.Equal([5, 15, 22, 0, 2], bos[..5]);
    }

    [Fact]
    public void An_address_holds_from_the_status_stage_on()
    {
        var (bench, device) = Make();
        bench.Send(UsbToken.Setup, 0, UsbBench.Setup(0, 5, 9, 0, 0));
        Assert.Equal(0, device.Address);
        Assert.NotNull(bench.Receive(0, 0));
        Assert.Same(device, bench.Port.Find(9));
        Assert.False(bench.Tell(0, 5, 128));
        bench.Port.Reset();
        Assert.Equal(0, device.Address);
    }

    [Fact]
    public void Configurations_interfaces_and_features_are_as_chosen()
    {
        var (bench, device) = Make();
        Assert.Equal(UsbStatus.Stall, bench.Send(UsbToken.Out, Bulk, [1])); // no configuration, no endpoint
        Assert.False(bench.Tell(0, 9, 2));
        Assert.True(bench.Tell(0, 9, 1));
        Assert.Equal([1], bench.Ask(0x80, 8)!);
        Assert.Equal([1, 0], bench.Ask(0x80, 0)!);
        Assert.True(bench.Tell(0, 3, 1));                          // remote wake-up
        Assert.True(device.MayWake);
        Assert.Equal([3, 0], bench.Ask(0x80, 0)!);
        Assert.True(bench.Tell(1, 11, 1, 0));
        Assert.False(bench.Tell(1, 11, 2, 0));
        Assert.Equal([1], bench.Ask(0x81, 10)!);
        Assert.Null(bench.Ask(0x82, 0, 0, Bulk));                  // the alternate setting has no endpoints
        Assert.Equal(["configured 0", "configured 1"], device.Log);
    }

    [Fact]
    public void A_stall_halts_an_endpoint_until_the_host_clears_it()
    {
        var (bench, device) = Make();
        bench.Tell(0, 9, 1);
        device.Next = UsbStatus.Stall;
        Assert.Equal(UsbStatus.Stall, bench.Send(UsbToken.In, Bulk, new byte[4]));
        device.Next = UsbStatus.Success;
        Assert.Equal(UsbStatus.Stall, bench.Send(UsbToken.In, Bulk, new byte[4]));
        Assert.Equal(UsbStatus.Success, bench.Send(UsbToken.Out, Bulk, new byte[4]));
        Assert.Equal([1, 0], bench.Ask(0x82, 0, 0, 0x82)!);
        Assert.True(bench.Tell(2, 1, 0, 0x82));
        Assert.Equal(UsbStatus.Success, bench.Send(UsbToken.In, Bulk, new byte[4]));
        Assert.Contains("cleared 82", device.Log);
    }

    [Fact]
    public void Data_for_the_device_come_before_the_request_is_carried_out()
    {
        var (bench, device) = Make();
        Assert.True(bench.Tell(0x40, 7, 0, 0, [1, 2, 3, 4, 5, 6, 7, 8, 9]));
        Assert.Equal(["4007 010203040506070809"], device.Log);
    }

    [Theory]
    [InlineData(0x40, 4097)] [InlineData(0x40, 0xFFFF)]
    public void A_request_with_more_data_than_there_is_room_for_stalls(byte type, int length)
    {
        var (bench, device) = Make();
        Assert.Equal(UsbStatus.Success, bench.Send(UsbToken.Setup, 0, UsbBench.Setup(type, 7, 0, 0, length)));
        Assert.Equal(UsbStatus.Stall, bench.Send(UsbToken.Out, 0, new byte[64]));
        Assert.Equal(UsbStatus.Stall, bench.Send(UsbToken.In, 0, []));
        Assert.Empty(device.Log);
        Assert.NotNull(bench.Descriptor(1));                       // the next setup is taken
    }

    [Fact]
    public void More_data_than_announced_stall_and_answers_are_cut_to_the_room()
    {
        var (bench, device) = Make();
        bench.Send(UsbToken.Setup, 0, UsbBench.Setup(0x40, 7, 0, 0, 4));
        Assert.Equal(UsbStatus.Stall, bench.Send(UsbToken.Out, 0, new byte[64]));
        Assert.Empty(device.Log);
        bench.Send(UsbToken.Setup, 0, UsbBench.Setup(0xC0, 7, 0, 0, 0xFFFF));
        var data = new byte[100_000];
        Assert.Equal(UsbStatus.Success, bench.Send(UsbToken.In, 0, data));
        Assert.Equal(4096, bench.Packet.Actual);
        Assert.Equal(UsbStatus.Stall, bench.Send(UsbToken.Setup, 0, new byte[7]));
        Assert.Equal(UsbStatus.Stall, bench.Send(UsbToken.In, 9, new byte[7]));
    }

    [Fact]
    public void What_is_under_way_ends_when_the_device_is_reset_or_leaves()
    {
        var (bench, device) = Make();
        foreach (Action end in new Action[] { bench.Port.Reset, () => bench.Tell(0, 9, 1), bench.Port.Detach })
        {
            var packet = new UsbPacket(p => bench.Completed.Add(p.Status));
            bench.Tell(0, 9, 1);
            packet.Begin(UsbToken.In, Bulk);
            packet.Add(new byte[512]);
            Assert.Equal(UsbStatus.Pending, device.Handle(packet));
            end();
            Assert.False(packet.IsPending);
        }
        Assert.Equal([UsbStatus.NoDevice, UsbStatus.NoDevice, UsbStatus.NoDevice], bench.Completed);
        Assert.Null(device.Port);
        Assert.Equal("detached", bench.Events[^1]);
    }

    [Fact]
    public void A_cancelled_packet_is_nobodys()
    {
        var (bench, device) = Make();
        bench.Tell(0, 9, 1);
        Assert.Equal(UsbStatus.Pending, bench.Send(UsbToken.In, Bulk, new byte[8]));
        bench.Packet.Cancel();
        Assert.Contains("cancel", device.Log);
        Assert.Empty(bench.Completed);
        bench.Port.Reset();
        Assert.Empty(bench.Completed);
    }
}
