using System.Buffers.Binary;
using System.Text;
using Qkvm.Core.State;
using Qkvm.Testing;
using static Qkvm.Hw.Tests.Nvme.NvmeBench;

namespace Qkvm.Hw.Tests.Nvme;

/// <summary>NVM Express 1.4, whose numbers are restated here.</summary>
public sealed class NvmeTests : IDisposable
{
    const byte Flush = 0, Write = 1, Read = 2, Compare = 5, WriteZeroes = 8, Dsm = 9;

    readonly MemoryDisk _second = new(1 << 16);
    readonly NvmeBench _bench;

    public NvmeTests()
    {
        _bench = new NvmeBench(second: _second);
        Random.Shared.NextBytes(_bench.Disk.Bytes);
    }

    public void Dispose() => _bench.Dispose();

    void Prepare()
    {
        _bench.Start();
        _bench.MakeQueue(1);
    }

    byte[] Bytes(ulong at, int count) => _bench.Pci.Memory.Bytes(at, count);
    void Put(ulong at, ulong value) => _bench.Pci.Memory.Space.Write(at, 8, value);

    ushort Io(byte opcode, uint block = 0, uint blocks = 1, ulong prp1 = Data, ulong prp2 = 0, uint nsid = 1) =>
        _bench.Run(1, Command(opcode, 7, nsid, prp1, prp2, block, 0, blocks - 1)).Status;

    [Fact]
    public void Registers_tell_what_it_can_and_whether_it_is_ready()
    {
        Assert.Equal(0x0F01_07FFu, _bench[Cap]);
        Assert.Equal(0x0040_0020u, _bench[Cap + 4]);               // pages up to 64 KiB, the NVM command set
        Assert.Equal(0x0001_0400u, _bench[Vs]);
        Assert.Equal(0u, _bench[Csts]);
        _bench.Start();
        _bench[Cc] |= 1 << 14;
        Assert.Equal(9u, _bench[Csts]);                            // shutdown is complete
        _bench[Cc] = 0;
        Assert.Equal(0u, _bench[Csts]);
        _bench.Start();
    }

    [Fact]
    public void A_configuration_that_cannot_be_is_fatal_until_a_reset()
    {
        _bench[Cc] = 1;                                            // no admin queues
        Assert.Equal(2u, _bench[Csts]);
        _bench[Cc] = 0;
        _bench.Start();
    }

    [Fact]
    public void Controller_and_namespaces_are_identified()
    {
        _bench.Start();
        Assert.Equal(0, _bench.Run(0, Command(6, 1, prp1: Data, cdw10: 1)).Status);
        byte[] controller = Bytes(Data, 4096);
        Assert.Equal(0x1B36, BinaryPrimitives.ReadUInt16LittleEndian(controller));
        Assert.Equal("S1                  QEMU NVMe Ctrl", Encoding.ASCII.GetString(controller, 4, 34));
        Assert.Equal(5, controller[77]);
        Assert.Equal((0x66, 0x44), (controller[512], controller[513]));
        Assert.Equal(0, _bench.Run(0, Command(6, 1, nsid: 2, prp1: Data, cdw10: 0)).Status);
        Assert.Equal((128UL, 9), (BinaryPrimitives.ReadUInt64LittleEndian(Bytes(Data, 8)), Bytes(Data + 130, 1)[0]));
        Assert.Equal(0, _bench.Run(0, Command(6, 1, nsid: 0, prp1: Data, cdw10: 2)).Status);
        Assert.Equal([1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0], Bytes(Data, 12));
        Assert.Equal(0, _bench.Run(0, Command(6, 1, nsid: 9, prp1: Data, cdw10: 0)).Status);
        Assert.All(Bytes(Data, 4096), value => Assert.Equal(0, value));
        Assert.Equal(0x00B, _bench.Run(0, Command(6, 1, nsid: 300, prp1: Data, cdw10: 0)).Status);
        Assert.Equal(0x002, _bench.Run(0, Command(6, 1, prp1: Data, cdw10: 0x77)).Status);
    }

    [Fact]
    public void Data_goes_by_one_page_two_pages_and_lists()
    {
        Prepare();
        Assert.Equal(0, Io(Read, 3, 1, Data + 512));
        Assert.Equal(_bench.Disk.Bytes[1536..2048], Bytes(Data + 512, 512));
        Assert.Equal(0, Io(Read, 0, 12, Data + 0x800, Data + 0x5000));
        Assert.Equal(_bench.Disk.Bytes[..2048], Bytes(Data + 0x800, 2048));
        Assert.Equal(_bench.Disk.Bytes[2048..6144], Bytes(Data + 0x5000, 4096));
        for (ulong i = 0; i < 8; i++) Put(List + 8 * i, Data + 0x2_0000 - 0x2000 * i);
        Assert.Equal(0, Io(Read, 8, 64, Data + 0x3_0000, List));
        for (int i = 0; i < 7; i++)
            Assert.Equal(_bench.Disk.Bytes[(8192 + i * 4096)..(12288 + i * 4096)],
                Bytes(Data + 0x2_0000 - 0x2000 * (ulong)i, 4096));
        // a list that goes on in another page
        Put(List + 0xFF0, Data);
        Put(List + 0xFF8, List + 0x1000);
        Put(List + 0x1000, Data + 0x1000);
        Put(List + 0x1008, Data + 0x2000);
        _bench.Pci.Memory.Space.Write(Data + 0x9000, [.. Enumerable.Repeat((byte)0xA5, 4096)]);
        Assert.Equal(0, Io(Write, 64, 32, Data + 0x9000, List + 0xFF0));
        Assert.Equal(_bench.Disk.Bytes[(64 * 512 + 8192)..(64 * 512 + 16384)], Bytes(Data + 0x1000, 8192));
        Assert.Equal(0xA5, _bench.Disk.Bytes[64 * 512]);
    }

    [Theory]
    [InlineData(0x2048, 1, 0x080)]                                  // past the end
    [InlineData(0x7FF, 2, 0x080)]
    [InlineData(0, 257, 0x002)]                                     // more than MDTS
    public void A_range_is_one_that_there_is(uint block, uint blocks, int status)
    {
        Prepare();
        Assert.Equal(status, Io(Read, block, blocks, Data, List));
        Assert.Empty(_bench.Disk.Log);
    }

    [Fact]
    public void Lists_that_lie_are_refused_and_end()
    {
        Prepare();
        Put(List, Data + 8);                                       // not at a page's start
        Assert.Equal(0x013, Io(Read, 0, 64, Data, List));
        Assert.Equal(0x013, Io(Read, 0, 16, Data, Data + 0x1001));
        Assert.Equal(0x013, Io(Read, 0, 64, Data, List + 4));
        Assert.Equal(0x004, Io(Read, 0, 64, Data, 0xFFFF_FFFF_FFFF_F000));
        Assert.Equal(0x004, Io(Read, 0, 1, Bar));
        Put(List + 0xFF8, List);                                   // leads to its own page, whose entries are data
        for (ulong i = 0; i < 511; i++) Put(List + 8 * i, Data + 0x1000 * (i % 16));
        Assert.Equal(0, Io(Read, 0, 64, Data, List + 0xFF8));
        Assert.Equal(0x002, _bench.Run(1, [Read, 0x40, .. Command(Read, 7, 1, Data)[2..]]).Status);   // SGL
    }

    [Fact]
    public void Compare_zeroes_deallocation_and_flush()
    {
        Prepare();
        _bench.Pci.Memory.Space.Write(Data, _bench.Disk.Bytes[1024..5120]);
        Assert.Equal(0, Io(Compare, 2, 8));
        _bench.Pci.Memory.Space.Write(Data + 4095, 1, (ulong)(_bench.Disk.Bytes[5119] ^ 1));
        Assert.Equal(0x285, Io(Compare, 2, 8));
        Assert.Equal(0, Io(WriteZeroes, 2, 8));
        Assert.All(_bench.Disk.Bytes[1024..5120], value => Assert.Equal(0, value));
        Put(Data, 16UL << 32);                                     // 16 blocks from 32 on
        Put(Data + 8, 32);
        Put(Data + 16, 1UL << 32);
        Put(Data + 24, 0x7FF);
        Assert.Equal(0, _bench.Run(1, Command(Dsm, 7, 1, Data, cdw10: 1, cdw11: 4)).Status);
        Put(Data + 24, 0x800);
        Assert.Equal(0x080, _bench.Run(1, Command(Dsm, 7, 1, Data, cdw10: 1, cdw11: 4)).Status);
        Assert.Equal(0, Io(Flush, nsid: uint.MaxValue));
        Assert.Equal(["read 1024+4096", "read 1024+4096", "zero 1024+4096", "discard 1048064+512",
            "discard 16384+8192", "flush"], _bench.Disk.Log);
        Assert.Equal(["flush"], _second.Log);
        Assert.Equal(0x00B, Io(Flush, nsid: 3));
        Assert.Equal(0x001, Io(0x99));
    }

    [Fact]
    public void Errors_of_the_host_are_told()
    {
        Prepare();
        _bench.Disk.FailWith = 5;
        Assert.Equal((0x281, 0x280), (Io(Read), Io(Write)));
        _bench.Disk.FailWith = 28;
        Assert.Equal(0x081, Io(Write));
    }

    [Fact]
    public void Completions_wait_for_room_and_submission_for_completions()
    {
        Prepare();
        for (int round = 0; round < 3; round++)
        {
            for (ushort i = 0; i < 3; i++) _bench.Submit(1, Command(Flush, i, 1));
            _bench.Pci.Pump.RunPosted();
            _bench.Pci.Pump.Until(() => _bench.Disk.Log.Length == Math.Min(3 * round + 3, 3 + Entries));
        }
        _bench.Pci.Pump.RunPosted();
        var seen = new List<ushort>();
        while (seen.Count < 9)
        {
            while (_bench.Look(1, tells: false) is { } end) seen.Add(end.Id);
            _bench.Tell(1);
            _bench.Pci.Pump.RunPosted();
        }
        Assert.Equal([0, 0, 0, 1, 1, 1, 2, 2, 2], seen.Order().Select(id => (int)id));
    }

    [Fact]
    public void Queues_are_made_once_and_deleted_in_order()
    {
        Prepare();
        Assert.Equal(0x101, Make(5, 3 << 16 | 1, 3));              // there is one
        Assert.Equal(0x101, Make(5, 3 << 16 | 4, 3));              // more than there are
        Assert.Equal(0x102, Make(5, 0xFFFF_0002, 3));
        Assert.Equal(0x108, Make(5, 3 << 16 | 2, 9 << 16 | 3));
        Assert.Equal(0x100, Make(1, 3 << 16 | 2, 2 << 16 | 1));
        Assert.Equal(0x10C, _bench.Run(0, Command(4, 1, cdw10: 1)).Status);
        _bench.Disk.Hold();
        _bench.Submit(1, Command(Read, 5, 1, Data));
        _bench.Submit(0, Command(0, 9, cdw10: 1));
        _bench.Pci.Pump.RunPosted();
        Assert.Null(_bench.Look(0));                               // waits for what is in flight
        _bench.Disk.Release();
        _bench.Pci.Pump.Until(() => _bench.Look(0) is { Id: 9, Status: 0 });
        Assert.Equal(0, _bench.Run(0, Command(4, 1, cdw10: 1)).Status);
        _bench.MakeQueue(1);

        ushort Make(byte opcode, uint sizeAndId, uint rest) =>
            _bench.Run(0, Command(opcode, 1, prp1: 0x14_0000, cdw10: sizeAndId, cdw11: rest)).Status;
    }

    [Fact]
    public void It_is_ready_until_what_is_in_flight_has_ended()
    {
        Prepare();
        _bench.Disk.Hold();
        _bench.Submit(1, Command(Read, 5, 1, Data));
        _bench[Cc] = 0;
        Assert.Equal(1u, _bench[Csts]);
        _bench.Disk.Release();
        _bench.Pci.Pump.Until(() => _bench[Csts] == 0);
        Prepare();
        Assert.Equal(0, Io(Read));
    }

    [Fact]
    public void Doorbells_that_lie_are_told_as_events()
    {
        Prepare();
        for (ushort i = 0; i < 4; i++) _bench.Submit(0, Command(0xC, i));
        Assert.Equal(0x105, _bench.Run(0, Command(0xC, 9)).Status);
        _bench[Doorbell + 8] = 99;
        Assert.Equal((0x0001_0100u, (ushort)0), (_bench.Look(0) is var end ? end!.Value.Result : 0, end!.Value.Id));
        _bench[Doorbell + 0x18] = 1;                               // masked until the log page is read
        Assert.Null(_bench.Look(0));
        Assert.Equal(0, Log(1, 64));
        Assert.Equal(0x0001_0000u, _bench.Look(0)!.Value.Result);
        _bench.Backend.TellLength();
        Assert.Equal(0x0004_0002u, _bench.Look(0)!.Value.Result);
        Assert.Equal(0, Log(4, 4096));
        Assert.Equal([2, 0, 0, 0, 0, 0, 0, 0], Bytes(Data, 8));
    }

    ushort Log(byte page, int length) =>
        _bench.Run(0, Command(2, 7, uint.MaxValue, Data, cdw10: (uint)(length / 4 - 1) << 16 | page)).Status;

    [Fact]
    public void Log_pages_and_features()
    {
        Prepare();
        Io(Read, 0, 8);
        Io(Write, 0, 8, Data);
        Assert.Equal(0, Log(2, 512));
        Assert.Equal((323, 1UL, 1UL, 1UL), (BinaryPrimitives.ReadUInt16LittleEndian(Bytes(Data + 1, 2)),
            BinaryPrimitives.ReadUInt64LittleEndian(Bytes(Data + 32, 8)),
            BinaryPrimitives.ReadUInt64LittleEndian(Bytes(Data + 64, 8)),
            BinaryPrimitives.ReadUInt64LittleEndian(Bytes(Data + 80, 8))));
        Assert.Equal(0, Log(3, 512));
        Assert.Equal(0x109, Log(0x70, 512));
        Assert.Equal((0, 0x0002_0002u), _bench.Run(0, Command(9, 1, cdw10: 7, cdw11: 0xFFFE_FFFE)));
        Assert.Equal((0, 1u), _bench.Run(0, Command(0xA, 1, cdw10: 6)));
        Assert.Equal(0, _bench.Run(0, Command(9, 1, cdw10: 6, cdw11: 0)).Status);
        Assert.False(_bench.Backend.WriteCache);
        Assert.Equal(0x10E, _bench.Run(0, Command(9, 1, cdw10: 1, cdw11: 3)).Status);
        Assert.Equal(0x002, _bench.Run(0, Command(0xA, 1, cdw10: 0x55)).Status);
        Assert.Equal((0, 1u), _bench.Run(0, Command(8, 1, cdw10: 1)));     // Abort: not aborted
    }

    [Fact]
    public void INTx_is_up_while_there_are_completions_and_may_be_masked()
    {
        _bench.Start();
        _bench.Submit(0, Command(8, 1));
        Assert.True(_bench.Pci.Inta);
        _bench[Intms] = 1;
        Assert.False(_bench.Pci.Inta);
        _bench[Intmc] = 1;
        Assert.True(_bench.Pci.Inta);
        _bench.Look(0);
        Assert.False(_bench.Pci.Inta);
    }

    [Fact]
    public void Queues_outside_of_memory_are_fatal()
    {
        _bench[Aqa] = 7 << 16 | 7;
        _bench[Asq] = unchecked((uint)Bar);
        _bench[Acq] = unchecked((uint)Bar);
        _bench[Cc] = 4 << 20 | 6 << 16 | 1;
        _bench[Doorbell] = 1;
        Assert.Equal(3u, _bench[Csts]);
        Assert.Equal(0, _bench.Pci.Memory.Registers.Accesses);
    }

    [Fact]
    public void State_is_kept_and_reset_forgets_it()
    {
        string fresh = StateNode.Save(_bench.Controller.Exchange).ToString();
        Prepare();
        _bench.Submit(0, Command(0xC, 3));
        Io(Read);
        StateNode state = StateNode.Save(_bench.Controller.Exchange);
        using var other = new NvmeBench(second: new MemoryDisk(1 << 16));
        state.Load(other.Controller.Exchange);
        Assert.Equal(state.ToString(), StateNode.Save(other.Controller.Exchange).ToString());
        state.Load(_bench.Controller.Exchange);
        Assert.Equal(0, Io(Read, 5));
        _bench.Controller.Reset();
        _bench.Pci.Bus.WriteConfig(_bench.Controller.DevFn, 0x10, 4, unchecked((uint)Bar));
        _bench.Pci.Enable(_bench.Controller);
        Assert.Equal(fresh, StateNode.Save(_bench.Controller.Exchange).ToString());
    }
}
