using Qkvm.Core.Block;
using Qkvm.Core.Configuration;
using Qkvm.Core.Devices;
using Qkvm.Core.State;
using Qkvm.Core.Virtio;
using Qkvm.Hw.Scsi;
using Qkvm.Hw.Tests.Virtio;
using Qkvm.Hw.Virtio;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Scsi;

/// <summary>Virtio 1.2, section 5.6, whose structures are restated here.</summary>
public sealed class VirtioScsiTests : IDisposable
{
    const int Control = 0, Events = 1, Requests = 2, HeaderLength = 51, ResponseLength = 108;
    const ulong Header = 0x20000, Response = 0x22000, Data = 0x30000, EventBuffer = 0x28000, Tmf = 0x29000,
        TmfResponse = 0x29800;
    const byte Ok = 0, Overrun = 1, Aborted = 2, BadTarget = 3, WasReset = 4, Failure = 9;

    readonly PciBench _bench = new();
    readonly MemoryDisk _disk = new(1 << 20);
    readonly VirtioScsi _host;
    readonly VirtioGuest _guest;
    readonly FakeBoard _board;
    readonly DeviceSite _site;
    readonly ScsiDevice _unit;

    public VirtioScsiTests()
    {
        _board = new FakeBoard(new DeviceBench(_bench.Clock));
        _host = new VirtioScsi("scsi", new VirtioScsiOptions { Queues = 2 }, _bench.Loop, _bench.Pump.Post);
        _guest = new VirtioGuest(_bench, _host, new VirtioPciOptions(0x010000, 5));
        (_unit, _site) = Plug(_disk, ("scsi-id", "2"), ("lun", "1"));
        _guest.Start();
        Assert.Equal(2, Run("00 00 00 00 00 00").Status);          // hears of the reset
    }

    public void Dispose() => _bench.Dispose();

    (ScsiDevice, DeviceSite) Plug(MemoryDisk disk, params (string, string)[] place)
    {
        var backend = new BlockBackend("drive", _bench.Pump.Post);
        backend.Insert(disk);
        DeviceSite site = _board.Site;
        var device = new ScsiDevice("scsi-hd", new ScsiDisk(backend, new ScsiOptions { IsQueued = true }), false);
        ((IBusWires)_host.Bus).Plug(device, FakeBoard.Defaults(ScsiModels.HardDisk, place), site);
        return (device, site);
    }

    void Begin(string cdb, int slot = 0, string lun = "01 02 00 01", int queue = Requests,
        params (ulong Address, int Length)[] data)
    {
        ulong header = Header + (ulong)slot * 0x80, response = Response + (ulong)slot * 0x80;
        byte[] bytes = new byte[HeaderLength];
        Bytes(lun).CopyTo(bytes, 0);
        bytes[8] = (byte)(slot + 1);                               // the tag
        Bytes(cdb).CopyTo(bytes, 19);
        _bench.Memory.Space.Write(header, bytes);
        _bench.Memory.Space.Write(response, [.. Enumerable.Repeat((byte)0xEE, ResponseLength)]);
        _guest.Request(queue, [(header, HeaderLength), .. data.Where(d => d.Length > 0), (response, -ResponseLength),
            .. data.Where(d => d.Length < 0)]);
    }

    (byte Response, byte Status, byte[] Sense, uint Residual) Result(int slot = 0)
    {
        byte[] response = _bench.Memory.Bytes(Response + (ulong)slot * 0x80, ResponseLength);
        int length = BitConverter.ToInt32(response);
        return (response[11], response[10], response[12..(12 + length)], BitConverter.ToUInt32(response, 4));
    }

    (byte Response, byte Status, byte[] Sense, uint Residual) Run(string cdb, string lun = "01 02 00 01",
        params (ulong Address, int Length)[] data)
    {
        Begin(cdb, 0, lun, Requests, data);
        _bench.Pump.Until(() => _guest.Queues[Requests].TakeUsed() != null);
        return Result();
    }

    byte Manage(uint what, ulong tag = 0, string lun = "01 02 00 01", bool waits = true)
    {
        byte[] request = new byte[24];
        BitConverter.TryWriteBytes(request.AsSpan(4), what);
        Bytes(lun).CopyTo(request, 8);
        BitConverter.TryWriteBytes(request.AsSpan(16), tag);
        _bench.Memory.Space.Write(Tmf, request);
        _guest.Request(Control, (Tmf, 24), (TmfResponse, -1));
        if (waits) _bench.Pump.Until(() => _guest.Queues[Control].TakeUsed() != null);
        return _bench.Memory.Bytes(TmfResponse, 1)[0];
    }

    static byte[] Bytes(string hex) => Convert.FromHexString(hex.Replace(" ", ""));

    [Fact]
    public void Its_configuration_tells_queues_limits_and_sizes()
    {
        Assert.Equal([2u, 254, 65535, 128, 16, 96, 32],
            Enumerable.Range(0, 7).Select(i => (uint)_guest.Config((uint)i * 4, 4)));
        Assert.Equal((0u, 255u, 16383u), ((uint)_guest.Config(28, 2), (uint)_guest.Config(30, 2),
            (uint)_guest.Config(32, 4)));
    }

    [Fact]
    public void It_reads_and_writes_in_pieces()
    {
        Random.Shared.NextBytes(_disk.Bytes);
        var read = Run("28 00 00 00 00 03 00 00 02 00", data: [(Data, -700), (Data + 0x1000, -400)]);
        Assert.Equal((Ok, 0, 76u), (read.Response, read.Status, read.Residual));
        Assert.Equal(_disk.Bytes[1536..2236], _bench.Memory.Bytes(Data, 700));
        Assert.Equal(_disk.Bytes[2236..2560], _bench.Memory.Bytes(Data + 0x1000, 324));
        Assert.Equal(Ok, Run("8A 00 00 00 00 00 00 00 00 64 00 00 00 01 00 00", data: (Data, 512)).Response);
        Assert.Equal(_disk.Bytes[1536..2048], _disk.Bytes[51200..51712]);
        Assert.Equal(Ok, Run("35 00 00 00 00 00 00 00 00 00").Response);
        Assert.Equal(["read 1536+1024", "write 51200+512", "flush"], _disk.Log);
    }

    [Fact]
    public void Answers_and_sense_come_with_the_response()
    {
        var inquiry = Run("12 00 00 00 24 00", data: (Data, -36));
        Assert.Equal((Ok, 0, 0u), (inquiry.Response, inquiry.Status, inquiry.Residual));
        Assert.Equal("QEMU"u8.ToArray(), _bench.Memory.Bytes(Data + 8, 4));
        var failed = Run("28 00 00 00 FF FF 00 00 01 00", data: (Data, -512));
        Assert.Equal((Ok, 2, 512u), (failed.Response, failed.Status, failed.Residual));
        Assert.Equal((0x70, 5, 0x21), (failed.Sense[0], failed.Sense[2], failed.Sense[12]));
        _disk.FailWith = 5;
        failed = Run("28 00 00 00 00 00 00 00 01 00", data: (Data, -512));
        Assert.Equal((3, 0x11), (failed.Sense[2], failed.Sense[12]));
        _disk.FailWith = 28;
        failed = Run("2A 00 00 00 00 00 00 00 01 00", data: (Data, 512));
        Assert.Equal((7, 0x27, 7), (failed.Sense[2], failed.Sense[12], failed.Sense[13]));
    }

    [Theory]
    [InlineData("01 03 00 01", BadTarget)]                         // no such target
    [InlineData("02 02 00 01", BadTarget)]                         // no such way to name one
    [InlineData("01 02 80 01", BadTarget)]
    [InlineData("01 02 40 01", Ok)]                                // flat
    public void A_request_names_a_unit(string lun, byte response) =>
        Assert.Equal(response, Run("00 00 00 00 00 00", lun).Response);

    [Fact]
    public void Another_unit_of_the_target_is_absent()
    {
        Assert.Equal(0x25, Run("00 00 00 00 00 00", "01 02 00 00").Sense[12]);
        Run("12 00 00 00 24 00", "01 02 00 00", (Data, -36));
        Assert.Equal(0x7F, _bench.Memory.Bytes(Data, 1)[0]);
        Run("A0 00 00 00 00 00 00 00 00 10 00 00", "01 02 00 00", (Data, -16));
        Assert.Equal(Bytes("00 00 00 08 00 00 00 00 00 01 00 00 00 00 00 00"), _bench.Memory.Bytes(Data, 16));
    }

    [Fact]
    public void Data_that_does_not_fit_or_goes_both_ways_is_refused()
    {
        Assert.Equal(Overrun, Run("28 00 00 00 00 00 00 00 02 00", data: (Data, -1023)).Response);
        Assert.Equal(Overrun, Run("12 00 00 00 24 00", data: (Data, -35)).Response);
        Assert.Equal(Overrun, Run("2A 00 00 00 00 00 00 00 01 00", data: (Data, 511)).Response);
        Assert.Equal(Failure, Run("28 00 00 00 00 00 00 00 01 00", data: [(Data, 512), (Data, -512)]).Response);
        Assert.Empty(_disk.Log);
    }

    [Theory]
    [InlineData(HeaderLength - 1, ResponseLength)]
    [InlineData(HeaderLength, ResponseLength - 1)]
    public void A_request_without_its_header_or_response_stops_the_device(int header, int response)
    {
        _guest.Request(Requests, (Header, header), (Response, -response));
        _bench.Pump.RunPosted();
        Assert.NotEqual(0, _guest.Status & VirtioStatus.NeedsReset);
        _guest.Start();
        Assert.Equal(Ok, Run("00 00 00 00 00 00").Response);
    }

    [Fact]
    public void Tasks_are_asked_for_aborted_and_reset()
    {
        _disk.Hold();
        Begin("28 00 00 00 00 00 00 00 01 00", 0, data: (Data, -512));
        Begin("28 00 00 00 00 08 00 00 01 00", 1, queue: Requests + 1, data: (Data + 512, -512));
        _bench.Pump.RunPosted();
        Assert.Equal(10, Manage(6, tag: 2));                       // QUERY TASK
        Assert.Equal(0, Manage(6, tag: 3));
        Assert.Equal(11, Manage(2));                               // CLEAR ACA
        Assert.Equal(12, Manage(5, lun: "01 02 00 07"));
        Assert.Equal(3, Manage(5, lun: "01 09 00 00"));
        Manage(0, tag: 1, waits: false);                           // ABORT TASK waits for what is in flight
        _bench.Pump.RunPosted();
        Assert.Null(_guest.Queues[Control].TakeUsed());
        Manage(5, waits: false);                                   // LOGICAL UNIT RESET
        _disk.Release();
        _bench.Pump.Until(() => _guest.Queues[Control].UsedIndex == 7);
        Assert.Equal(0, _bench.Memory.Bytes(TmfResponse, 1)[0]);
        Assert.Equal((Aborted, WasReset), (Result(0).Response, Result(1).Response));
        for (int i = 0; i < 2; i++) Assert.NotNull(_guest.Queues[Requests + i].TakeUsed());
        Assert.Equal(0x29, Run("00 00 00 00 00 00").Sense[12]);
    }

    [Fact]
    public void The_driver_hears_of_units_that_come_and_go_and_grow()
    {
        _guest.Request(Events, (EventBuffer, -16));
        (ScsiDevice other, DeviceSite site) = Plug(new MemoryDisk(4096), ("scsi-id", "7"), ("lun", "300"));
        Assert.Equal(Bytes("01 00 00 00 01 07 41 2C 00 00 00 00 01 00 00 00"), _bench.Memory.Bytes(EventBuffer, 16));
        Assert.Equal((0x3F, 0x0E), (Run("00 00 00 00 00 00").Sense is var sense ? sense[12] : 0, sense[13]));
        site.Dispose();                                            // no buffer: the driver misses it
        Assert.Equal(BadTarget, Run("00 00 00 00 00 00", "01 07 41 2C").Response);
        _guest.Request(Events, (EventBuffer, -16));
        Assert.Equal(0x80, _bench.Memory.Bytes(EventBuffer + 3, 1)[0]);
        _guest.Request(Events, (EventBuffer, -16));
        _unit.Unit.Backend.TellLength();
        Assert.Equal(Bytes("03 00 00 00 01 02 00 01 00 00 00 00 2A 09 00 00"), _bench.Memory.Bytes(EventBuffer, 16));
        Assert.NotSame(other, _unit);
    }

    [Theory]
    [InlineData("channel", "1", "bad scsi channel id: 1")]
    [InlineData("scsi-id", "256", "bad scsi device id: 256")]
    [InlineData("lun", "16384", "bad scsi device lun: 16384")]
    public void A_place_is_one_that_there_is(string name, string value, string message) =>
        Assert.EndsWith(message,
            Assert.Throws<ConfigurationException>(() => Plug(new MemoryDisk(4096), (name, value))).Message);

    [Fact]
    public void A_place_is_free_or_refused()
    {
        Assert.EndsWith("lun already used by '(null)'", Assert.Throws<ConfigurationException>(
            () => Plug(new MemoryDisk(4096), ("scsi-id", "2"), ("lun", "1"))).Message);
        Assert.Equal((0, 0), Place(Plug(new MemoryDisk(4096)).Item1));
        Assert.Equal((1, 0), Place(Plug(new MemoryDisk(4096)).Item1));
        Assert.Equal((2, 0), Place(Plug(new MemoryDisk(4096), ("scsi-id", "2")).Item1));
        Assert.Equal((2, 2), Place(Plug(new MemoryDisk(4096), ("scsi-id", "2")).Item1));
        Assert.Equal((0, 9), Place(Plug(new MemoryDisk(4096), ("lun", "9")).Item1));

        static (int, int) Place(ScsiDevice device) => (device.Target, device.Unit.Lun);
    }

    [Fact]
    public void State_is_kept_while_it_runs()
    {
        _guest.Config(20, 4, 64);
        StateNode state = StateNode.Save(_guest.Function.Exchange);
        Assert.Equal(64u, (uint)_guest.Config(20, 4));
        _guest.Config(20, 4, 96);
        state.Load(_guest.Function.Exchange);
        Assert.Equal(64u, (uint)_guest.Config(20, 4));
        Assert.Equal(state.ToString(), StateNode.Save(_guest.Function.Exchange).ToString());
    }
}
