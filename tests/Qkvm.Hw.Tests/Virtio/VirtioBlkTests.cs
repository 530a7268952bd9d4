using System.Buffers.Binary;
using Qkvm.Core.Block;
using Qkvm.Core.Machine;
using Qkvm.Core.State;
using Qkvm.Core.Virtio;
using Qkvm.Hw.Virtio;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Virtio;

public sealed class VirtioBlkTests : IDisposable
{
    const ulong Header = 0x20000, Data = 0x21000, StatusByte = 0x2F000;
    const uint In = 0, Out = 1, Flush = 4, GetId = 8, Discard = 11, WriteZeroes = 13;
    const byte Ok = 0, IoError = 1, Unsupported = 2;
    const long DiskSize = 1 << 20;

    readonly PciBench _bench = new();
    readonly MemoryDisk _disk = new(DiskSize);
    readonly BlockBackend _backend;
    readonly VirtioGuest _guest;

    public VirtioBlkTests()
    {
        _backend = Backend(_bench, _disk);
        _guest = new VirtioGuest(_bench,
            new VirtioBlk("disk", _backend, new VirtioBlkOptions("SN-1"), [_bench.Loop], _bench.Pump.Post));
    }

    public void Dispose() => _bench.Dispose();

    static BlockBackend Backend(PciBench bench, MemoryDisk disk)
    {
        var backend = new BlockBackend("drive0", bench.Pump.Post);
        backend.Insert(disk);
        return backend;
    }

    /// <summary>One request; returns its status byte.</summary>
    byte Run(uint type, ulong sector, params (ulong Address, int Length)[] data)
    {
        Begin(type, sector, 0, data);
        _bench.Pump.Until(() => _guest.Queues[0].TakeUsed() != null);
        return _bench.Memory.Bytes(StatusByte, 1)[0];
    }

    void Begin(uint type, ulong sector, int slot, params (ulong Address, int Length)[] data)
    {
        ulong header = Header + (ulong)slot * 16, status = StatusByte + (ulong)slot;
        _bench.Memory.Space.Write(header, 4, type);
        _bench.Memory.Space.Write(header + 4, 4, 0);
        _bench.Memory.Space.Write(header + 8, 8, sector);
        _bench.Memory.Space.Write(status, 1, 0xEE);
        _guest.Request(0, [(header, 16), .. data, (status, -1)]);
    }

    [Fact]
    public void It_reads_and_writes_sectors_in_pieces()
    {
        _guest.Start();
        Random.Shared.NextBytes(_disk.Bytes);
        Assert.Equal(Ok, Run(In, 3, (Data, -700), (Data + 0x1000, -324)));
        Assert.Equal(_disk.Bytes[1536..2236], _bench.Memory.Bytes(Data, 700));
        Assert.Equal(_disk.Bytes[2236..2560], _bench.Memory.Bytes(Data + 0x1000, 324));

        Assert.Equal(Ok, Run(Out, 100, (Data, 512)));
        Assert.Equal(_disk.Bytes[1536..2048], _disk.Bytes[51200..51712]);
    }

    [Fact]
    public void Its_configuration_tells_capacity_blocks_and_limits()
    {
        _guest.Start();
        Assert.Equal((ulong)DiskSize / 512, _guest.Config(0, 8));
        Assert.Equal(254u, _guest.Config(12, 4));
        Assert.Equal(512u, _guest.Config(20, 4));
        Assert.Equal(1u, _guest.Config(34, 2));
        Assert.Equal(4194303u, _guest.Config(36, 4));
    }

    [Fact]
    public void It_tells_its_serial()
    {
        _guest.Start();
        Assert.Equal(Ok, Run(GetId, 0, (Data, -20)));
        Assert.Equal("SN-1"u8.ToArray(), _bench.Memory.Bytes(Data, 4));
        Assert.Equal(0, _bench.Memory.Bytes(Data + 4, 1)[0]);
    }

    [Fact]
    public void Flush_discard_and_write_zeroes_reach_the_backend()
    {
        _guest.Start();
        Assert.Equal(Ok, Run(Flush, 0));
        Segment(8, 16, 0);
        Assert.Equal(Ok, Run(Discard, 0, (Data, 16)));
        Assert.Equal(Ok, Run(WriteZeroes, 0, (Data, 16)));
        Segment(8, 16, 1);
        Assert.Equal(Ok, Run(WriteZeroes, 0, (Data, 16)));
        Assert.Equal(["flush", "discard 4096+8192", "zero 4096+8192", "unmap 4096+8192"], _disk.Log);
    }

    [Fact]
    public void With_the_write_cache_off_each_write_is_flushed()
    {
        _guest.Start();
        _guest.Config(32, 1, 0);
        Assert.Equal(0u, _guest.Config(32, 1));
        Assert.Equal(Ok, Run(Out, 0, (Data, 512)));
        Assert.Equal(["write 0+512", "flush"], _disk.Log);
    }

    /// <summary>cache=writethrough and write-cache=off are one setting.</summary>
    [Fact]
    public void A_write_through_backend_under_a_write_through_disk_flushes_once()
    {
        using var bench = new PciBench();
        _backend.Insert(null);
        BlockBackend backend = Backend(bench, _disk);
        backend.WriteCache = false;
        var guest = new VirtioGuest(bench, new VirtioBlk("through", backend, new VirtioBlkOptions(WriteCache: false),
            [bench.Loop], bench.Pump.Post));
        guest.Start();
        Assert.Equal(0u, guest.Config(32, 1));
        bench.Memory.Space.Write(Header, 4, Out);
        guest.Request(0, [(Header, 16), (Data, 512), (StatusByte, -1)]);
        bench.Pump.Until(() => guest.Queues[0].TakeUsed() != null);
        Assert.Equal(["write 0+512", "flush"], _disk.Log);
    }

    [Fact]
    public void A_driver_that_cannot_flush_gets_write_through()
    {
        const ulong FlushFeature = 1 << 9, ConfigWce = 1 << 11;
        _guest.Start(~(FlushFeature | ConfigWce));
        Assert.Equal(Ok, Run(Out, 0, (Data, 512)));
        Assert.Equal(["write 0+512", "flush"], _disk.Log);
    }

    [Fact]
    public void Many_requests_are_in_flight_together()
    {
        _guest.Start();
        _disk.Hold();
        for (int i = 0; i < 32; i++) Begin(In, (ulong)i, i, (Data + (ulong)i * 512, -512));
        _bench.Pump.RunPosted();
        Assert.Equal(32, _backend.InFlight);
        _disk.Release();
        int done = 0;
        _bench.Pump.Until(() => { while (_guest.Queues[0].TakeUsed() != null) done++; return done == 32; });
        Assert.All(_bench.Memory.Bytes(StatusByte, 32), status => Assert.Equal(Ok, status));
    }

    [Theory]
    [InlineData(In, 2048, 512)]
    [InlineData(In, 2047, 1024)]
    [InlineData(In, ulong.MaxValue, 512)]
    [InlineData(In, ulong.MaxValue / 512 + 1, 512)]
    [InlineData(In, 0, 511)]
    [InlineData(Out, 2048, 512)]
    [InlineData(Out, 0x7FFFFFFFFFFFFF, 512)]
    [InlineData(Out, 0, 100)]
    public void Transfers_off_the_disk_or_of_odd_length_fail(uint type, ulong sector, int length)
    {
        _guest.Start();
        Assert.Equal(IoError, Run(type, sector, (Data, type == In ? -length : length)));
        Assert.Empty(_disk.Log);
    }

    [Theory]
    [InlineData(Discard, 0UL, 0xFFFFFFFFu, 0u, IoError)]
    [InlineData(WriteZeroes, 2047UL, 2u, 0u, IoError)]
    [InlineData(Discard, ulong.MaxValue, 1u, 0u, IoError)]
    [InlineData(Discard, 0UL, 1u, 1u, Unsupported)]
    [InlineData(WriteZeroes, 0UL, 1u, 2u, Unsupported)]
    public void Segments_off_the_disk_or_with_unknown_flags_fail(uint type, ulong sector, uint count, uint flags,
        byte expected)
    {
        _guest.Start();
        Segment(sector, count, flags);
        Assert.Equal(expected, Run(type, 0, (Data, 16)));
        Assert.Empty(_disk.Log);
    }

    [Fact]
    public void A_request_of_unknown_type_or_several_segments_is_unsupported()
    {
        _guest.Start();
        Assert.Equal(Unsupported, Run(0x77, 0));
        Assert.Equal(Unsupported, Run(Discard, 0, (Data, 32)));
    }

    [Fact]
    public void A_failing_backend_is_an_error_for_the_guest()
    {
        _guest.Start();
        _disk.FailWith = 5;
        Assert.Equal(IoError, Run(In, 0, (Data, -512)));
        Assert.Equal(IoError, Run(Flush, 0));
    }

    [Fact]
    public void A_read_only_disk_says_so_and_refuses_writes()
    {
        using var bench = new PciBench();
        BlockBackend backend = Backend(bench, new MemoryDisk(DiskSize));
        backend.IsReadOnly = true;
        var guest =
            new VirtioGuest(bench, new VirtioBlk("disk", backend, new VirtioBlkOptions(), [bench.Loop],
                bench.Pump.Post));
        guest.Start();
        Assert.NotEqual(0UL, guest.Offered & 1 << 5);
        bench.Memory.Space.Write(Header, 4, Out);
        guest.Request(0, (Header, 16), (Data, 512), (StatusByte, -1));
        bench.Pump.Until(() => guest.Queues[0].TakeUsed() != null);
        Assert.Equal(IoError, bench.Memory.Bytes(StatusByte, 1)[0]);
    }

    [Theory]
    [InlineData(16, 0)]
    [InlineData(15, 1)]
    [InlineData(0, 1)]
    public void A_request_without_header_or_status_needs_a_reset(int readable, int writable)
    {
        _guest.Start();
        (ulong, int)[] buffers = [.. readable > 0 ? new[] { (Header, readable) } : [], .. writable > 0
            ? new[] { (StatusByte, -writable) } : []];
        _guest.Request(0, buffers);
        _bench.Pump.RunPosted();
        Assert.Equal(VirtioStatus.NeedsReset, _guest.Status & VirtioStatus.NeedsReset);
        Assert.Equal(0, _guest.Queues[0].UsedIndex);
    }

    [Fact]
    public void A_reset_shows_when_requests_in_flight_have_ended_and_nothing_is_written_after_it()
    {
        _guest.Start();
        _disk.Bytes.AsSpan().Fill(0xAB);
        _disk.Hold();
        Begin(In, 0, 0, (Data, -512));
        Begin(In, 0, 1, (Data + 512, -512));
        _bench.Pump.RunPosted();
        _guest.Status = 0;
        Assert.Equal(15, _guest.Status);
        _guest.Status = 1;                                         // a driver that does not wait is not heard
        _bench.Pump.RunPosted();
        Assert.Equal(15, _guest.Status);

        _disk.Release();
        _bench.Pump.Until(() => _guest.Status == 0);
        Assert.Equal(0, _backend.InFlight);
        _bench.Memory.Space.Write(Data, 8, 0);
        _bench.Pump.RunPosted();
        Assert.Equal(0u, _bench.Memory.Space.Read(Data, 8));
        _guest.Start();
        Assert.Equal(Ok, Run(In, 0, (Data, -512)));
    }

    [Fact]
    public void State_with_requests_in_flight_waits_until_they_have_ended()
    {
        _guest.Start();
        _disk.Hold();
        Begin(In, 0, 0, (Data, -512));
        _bench.Pump.RunPosted();
        bool idle = false;
        _backend.WhenIdle(() => idle = true);
        _bench.Pump.RunPosted();
        Assert.False(idle);
        _disk.Release();
        _bench.Pump.Until(() => idle);
        Assert.NotNull(_guest.Queues[0].TakeUsed());
    }

    [Fact]
    public void What_is_left_in_the_ring_of_a_saved_machine_is_done_by_the_one_that_loads_it()
    {
        _guest.Start();
        _disk.Bytes.AsSpan(0, 512).Fill(0xCD);
        Run(In, 1, (Data, -512));
        StateNode saved = StateNode.Save(_guest.Function.Exchange);
        _bench.Memory.Space.Write(Header, 4, In);
        _bench.Memory.Space.Write(Header + 8, 8, 0);
        _guest.Queues[0].Add((Header, 16), (Data, -512), (StatusByte, -1));
        saved.Load(_guest.Function.Exchange);
        Assert.NotEqual(0xCD, _bench.Memory.Bytes(Data, 1)[0]);    // not amid loading
        _bench.Pump.Until(() => _guest.Queues[0].TakeUsed() != null);
        Assert.Equal(0xCD, _bench.Memory.Bytes(Data, 1)[0]);
    }

    [Fact]
    public void A_kick_takes_no_lock()
    {
        _guest.Start();
        using (new HeldElsewhere(_bench.Memory.Lock))
        {
            Assert.Equal(Ok, Run(In, 0, (Data, -512)));
            _bench.Pump.RunPosted();
        }
    }

    [Fact]
    public void Reset_makes_the_disk_new_and_its_state_survives_saving()
    {
        _guest.Start();
        _guest.Config(32, 1, 0);
        Run(Out, 0, (Data, 512));
        using var bench = new PciBench();
        var fresh =
            new VirtioGuest(bench,
            new VirtioBlk("disk", Backend(bench, new MemoryDisk(DiskSize)), new VirtioBlkOptions("SN-1"), [bench.Loop],
            bench.Pump.Post)).Function;
        StateAssert.SurvivesSaveAndLoad(_guest.Function, fresh);
        fresh.Reset();
        StateAssert.ResetEqualsNew(_guest.Function, fresh);
    }

    /// <summary>Another thread holds a machine lock and does not let go.</summary>
    sealed class HeldElsewhere : IDisposable
    {
        readonly ManualResetEventSlim _release = new();
        readonly Thread _holder;

        public HeldElsewhere(MachineLock machineLock)
        {
            using var held = new ManualResetEventSlim();
            _holder = new Thread(() => machineLock.Run(() => { held.Set(); _release.Wait(); }));
            _holder.Start();
            held.Wait();
        }

        public void Dispose()
        {
            _release.Set();
            _holder.Join();
        }
    }

    void Segment(ulong sector, uint count, uint flags)
    {
        var bytes = new byte[16];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, sector);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(8), count);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(12), flags);
        _bench.Memory.Space.Write(Data, bytes);
    }
}
