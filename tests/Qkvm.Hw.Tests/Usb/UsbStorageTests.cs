using System.Buffers.Binary;
using Qkvm.Core.Block;
using Qkvm.Core.State;
using Qkvm.Core.Usb;
using Qkvm.Hw.Scsi;
using Qkvm.Hw.Usb;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Usb;

/// <summary>USB Mass Storage Class, Bulk-Only Transport 1.0; SCSI's numbers are restated here.</summary>
public sealed class UsbStorageTests
{
    const int DiskSize = 1 << 20;
    const byte In = 0x81, Out = 0x02;

    readonly Pump _pump = new();
    readonly MemoryDisk _disk = new(DiskSize);
    readonly BlockBackend _backend;
    readonly UsbStorage _storage;
    readonly UsbBench _bench = new(UsbSpeeds.High);

    public UsbStorageTests()
    {
        _backend = new BlockBackend("disk", _pump.Post);
        _backend.Insert(_disk);
        _storage = Make(_backend);
        _bench.Port.Attach(_storage);
        Assert.True(_bench.Tell(0, 9, 1));
        for (int i = 0; i < DiskSize; i++) _disk.Bytes[i] = (byte)(i / 512 + i);
    }

    static UsbStorage Make(BlockBackend backend) => new("usb-storage", FakeBoard.Defaults(UsbStorage.Model),
        new ScsiDisk(backend, new ScsiOptions { Serial = "S1", HasDpoFua = true }));

    [Fact]
    public void A_read_comes_in_packets_of_any_size_and_ends_with_a_status()
    {
        Begin([0x28, 0, 0, 0, 0, 3, 0, 0, 4, 0], 2048, toHost: true);
        var read = new List<byte>();
        foreach (int size in (int[])[1, 511, 1000, 536]) read.AddRange(Take(size));
        Assert.Equal(_disk.Bytes[(3 * 512)..(7 * 512)], read);
        Assert.Equal((0, 0u), Status());
        Assert.Equal(["read 1536+2048"], _disk.Log);
    }

    [Fact]
    public void A_write_reaches_the_disk_before_its_status_comes()
    {
        byte[] data = new byte[1024];
        Random.Shared.NextBytes(data);
        Begin([0x2A, 0, 0, 0, 0, 8, 0, 0, 2, 0], 1024, toHost: false);
        Give(data[..100]);
        Give(data[100..]);
        Assert.Equal((0, 0u), Status());
        Assert.Equal(data, _disk.Bytes[4096..5120]);
    }

    [Fact]
    public void A_megabyte_goes_through_the_buffer_both_ways()
    {
        byte[] data = new byte[DiskSize - 4096];
        Random.Shared.NextBytes(data);
        Begin([0x8A, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 7, 0xF8, 0, 0], data.Length, toHost: false);
        for (int at = 0; at < data.Length; at += 65536) Give(data[at..Math.Min(at + 65536, data.Length)]);
        Assert.Equal((0, 0u), Status());
        Assert.Equal(data, _disk.Bytes[4096..]);
        Begin([0x88, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 7, 0xF8, 0, 0], data.Length, toHost: true);
        Assert.Equal(data, Take(data.Length));
        Assert.Equal((0, 0u), Status());
    }

    [Theory]
    [InlineData("12 00 00 00 24 00", 36, "00 00 05 12 1F 00 00 10 51 45 4D 55")]              // INQUIRY
    [InlineData("12 01 80 00 40 00", 6, "00 80 00 02 53 31")]                                 // its serial number
    [InlineData("25 00 00 00 00 00 00 00 00 00", 8, "00 00 07 FF 00 00 02 00")]                // READ CAPACITY (10)
    [InlineData("9E 10 00 00 00 00 00 00 00 00 00 00 00 20 00 00", 32, "00 00 00 00 00 00 07 FF 00 00 02 00")]
    [InlineData("A0 00 00 00 00 00 00 00 00 10 00 00", 16, "00 00 00 08")]                     // REPORT LUNS
    [InlineData("1A 00 08 00 C0 00", 32, "1F 00 10 08 00 00 08 00 00 00 02 00 08 12 04")] // MODE SENSE (6), caching
    public void Data_that_the_disk_has_of_itself(string command, int length, string begins)
    {
        Begin(Bytes(command), length, toHost: true);
        byte[] answer = Take(length);
        Assert.Equal(Bytes(begins), answer[..Bytes(begins).Length]);
        Assert.Equal((0, 0u), Status());
    }

    [Theory]
    [InlineData("28 00 00 00 08 00 00 00 01 00", 512, true, 5, 0x21)]                          // behind the end
    [InlineData("88 00 FF FF FF FF FF FF FF FF 00 00 00 02 00 00", 1024, true, 5, 0x21)]       // whose end wraps
    [InlineData("FF 00 00 00 00 00", 512, true, 5, 0x20)]                                      // no such command
    [InlineData("12 01 77 00 40 00", 64, true, 5, 0x24)]                                       // no such page
    [InlineData("42 00 00 00 00 00 00 FF FF 00", 512, false, 5, 0x1A)]                         // a list too long
    public void What_cannot_be_is_refused_and_the_sense_says_why(string command, int length, bool toHost, int key,
        int code)
    {
        Begin(Bytes(command), length, toHost);
        if (toHost)
        {
            Assert.Equal(new byte[length], Take(length));          // SeaBIOS would not recover from a stall
        }
        else Give(new byte[length]);
        Assert.Equal((1, (uint)length), Status());
        Begin([3, 0, 0, 0, 18, 0], 18, toHost: true);
        byte[] sense = Take(18);
        Assert.Equal((key, code), (sense[2], sense[12]));
        Status();
        Begin([3, 0, 0, 0, 18, 0], 18, toHost: true);
        Assert.Equal(0, Take(18)[2]);                              // it was told
    }

    [Fact]
    public void A_disk_that_fails_makes_the_command_fail()
    {
        _disk.FailWith = 5;
        Begin([0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], 512, toHost: true);
        Assert.Equal(new byte[512], Take(512));
        Assert.Equal((1, 512u), Status());
    }

    [Fact]
    public void Where_the_host_wants_more_than_there_is_a_short_packet_ends_the_data()
    {
        Begin([0x1A, 0, 8, 0, 192, 0], 192, toHost: true);
        Assert.Equal(32, _bench.Receive(1, 192)!.Length);
        Assert.Equal((0, 192u - 32), Status());
    }

    [Fact]
    public void Unmapped_blocks_are_discarded()
    {
        byte[] list = new byte[24];
        BinaryPrimitives.WriteUInt16BigEndian(list.AsSpan(2), 16);
        BinaryPrimitives.WriteUInt64BigEndian(list.AsSpan(8), 10);
        BinaryPrimitives.WriteUInt32BigEndian(list.AsSpan(16), 4);
        Begin([0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], 24, toHost: false);
        Give(list);
        Assert.Equal((0, 0u), Status());
        Assert.Equal(["discard 5120+2048"], _disk.Log);
    }

    [Theory]
    [InlineData(30), InlineData(32), InlineData(0), InlineData(512)]
    public void What_is_no_command_breaks_the_transport_until_it_is_reset(int length)
    {
        byte[] wrapper = new byte[length];
        BinaryPrimitives.TryWriteUInt32LittleEndian(wrapper, 0x43425355);
        Assert.Equal(UsbStatus.Stall, _bench.Send(UsbToken.Out, 2, wrapper));
        Assert.True(_bench.Tell(2, 1, 0, Out));
        Assert.Equal(UsbStatus.Stall, _bench.Send(UsbToken.Out, 2, Wrapper([0, 0, 0, 0, 0, 0], 0, true)));
        Assert.True(_bench.Tell(0x21, 0xFF));
        Assert.True(_bench.Tell(2, 1, 0, Out));
        Begin([0, 0, 0, 0, 0, 0], 0, toHost: false);
        Assert.Equal((0, 0u), Status());
    }

    [Theory]
    [InlineData(false, 1024), InlineData(true, 512), InlineData(true, 0)]
    public void Where_host_and_command_disagree_the_phase_is_wrong_and_nothing_moves(bool toHost, int length)
    {
        Begin([0x28, 0, 0, 0, 0, 0, 0, 0, 2, 0], length, toHost);  // reads 1024 bytes
        if (toHost && length > 0)
        {
            Assert.Equal(UsbStatus.Stall, _bench.Send(UsbToken.In, 1, new byte[512]));
            ClearHalt();
        }
        else if (length > 0) Give(new byte[length]);
        Assert.Equal((2, (uint)length), Status());
        Assert.Empty(_disk.Log);
    }

    [Fact]
    public void More_than_was_announced_is_refused()
    {
        Begin([0x2A, 0, 0, 0, 0, 8, 0, 0, 1, 0], 512, toHost: false);
        Assert.Equal(UsbStatus.Stall, _bench.Send(UsbToken.Out, 2, new byte[513]));
        Assert.Empty(_disk.Log);
    }

    [Fact]
    public void A_reset_while_the_disk_works_leaves_the_next_command_waiting_for_it()
    {
        _disk.Hold();
        Begin([0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], 512, toHost: true);
        Assert.Equal(UsbStatus.Pending, _bench.Send(UsbToken.In, 1, new byte[512]));
        Assert.Equal(UsbStatus.Success, ResetTransport());
        Assert.Equal([UsbStatus.IoError], _bench.Completed);
        Assert.Equal(UsbStatus.Pending, _bench.Send(UsbToken.Out, 2, Wrapper([0, 0, 0, 0, 0, 0], 0, false)));
        _disk.Release();
        _pump.Until(() => _bench.Completed.Count == 2);
        Assert.Equal(UsbStatus.Success, _bench.Completed[1]);
        Assert.Equal((0, 0u), Status());
    }

    [Fact]
    public void A_stick_that_is_pulled_while_the_disk_works_ends_its_packet()
    {
        _disk.Hold();
        Begin([0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], 512, toHost: true);
        Assert.Equal(UsbStatus.Pending, _bench.Send(UsbToken.In, 1, new byte[512]));
        _bench.Port.Detach();
        Assert.Single(_bench.Completed);
        _disk.Release();
        _pump.Until(() => _backend.InFlight == 0);
        Assert.Single(_bench.Completed);
    }

    [Fact]
    public void State_is_kept_in_the_middle_of_a_command()
    {
        Begin([0x28, 0, 0, 0, 0, 3, 0, 0, 4, 0], 2048, toHost: true);
        Take(1000);
        var backend = new BlockBackend("other", _pump.Post);
        backend.Insert(new MemoryDisk(DiskSize));
        UsbStorage other = Make(backend);
        StateAssert.SurvivesSaveAndLoad(_storage, other);
        UsbStorage fresh = Make(backend);
        new UsbBench(UsbSpeeds.High).Port.Attach(fresh);
        StateAssert.ResetEqualsNew(_storage, fresh);
    }

    /// <summary>A control transfer between packets that wait needs a packet of its own.</summary>
    UsbStatus ResetTransport()
    {
        var packet = new UsbPacket(_ => { });
        packet.Begin(UsbToken.Setup, 0);
        packet.Add(UsbBench.Setup(0x21, 0xFF, 0, 0, 0));
        _storage.Handle(packet);
        packet.Begin(UsbToken.In, 0);
        return _storage.Handle(packet);
    }

    void ClearHalt() => Assert.True(_bench.Tell(2, 1, 0, In));

    static byte[] Bytes(string hex) => Convert.FromHexString(hex.Replace(" ", ""));

    static byte[] Wrapper(byte[] command, int length, bool toHost)
    {
        byte[] wrapper = new byte[31];
        BinaryPrimitives.WriteUInt32LittleEndian(wrapper, 0x43425355);
        BinaryPrimitives.WriteUInt32LittleEndian(wrapper.AsSpan(4), 0xCAFE);
        BinaryPrimitives.WriteInt32LittleEndian(wrapper.AsSpan(8), length);
        (wrapper[12], wrapper[14]) = (toHost ? (byte)0x80 : (byte)0, (byte)command.Length);
        command.CopyTo(wrapper, 15);
        return wrapper;
    }

    void Begin(byte[] command, int length, bool toHost) =>
        Assert.Equal(UsbStatus.Success, _bench.Send(UsbToken.Out, 2, Wrapper(command, length, toHost)));

    UsbStatus SendAndWait(UsbToken token, byte[] data)
    {
        int before = _bench.Completed.Count;
        UsbStatus status = _bench.Send(token, token == UsbToken.In ? (byte)1 : (byte)2, data);
        if (status != UsbStatus.Pending) return status;
        _pump.Until(() => _bench.Completed.Count > before);
        return _bench.Completed[^1];
    }

    byte[] Take(int count)
    {
        byte[] data = new byte[count];
        Assert.Equal(UsbStatus.Success, SendAndWait(UsbToken.In, data));
        return data[.._bench.Packet.Actual];
    }

    void Give(byte[] data) => Assert.Equal(UsbStatus.Success, SendAndWait(UsbToken.Out, data));

    (int Status, uint Residue) Status()
    {
        byte[] status = Take(13);
        Assert.Equal(0x53425355u, BinaryPrimitives.ReadUInt32LittleEndian(status));
        Assert.Equal(0xCAFEu, BinaryPrimitives.ReadUInt32LittleEndian(status.AsSpan(4)));
        return (status[12], BinaryPrimitives.ReadUInt32LittleEndian(status.AsSpan(8)));
    }
}
