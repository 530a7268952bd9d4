using System.Buffers.Binary;
using Qkvm.Core.State;
using Qkvm.Hw.Storage;
using Qkvm.Testing;
using static Qkvm.Hw.Storage.AhciRegisters;
using static Qkvm.Hw.Tests.Storage.AhciBench;

namespace Qkvm.Hw.Tests.Storage;

/// <summary>Commands of disk and CD over the list: data, frames, queued ones, errors.</summary>
public sealed class AhciCommandTests : IDisposable
{
    readonly AhciBench _ahci = new();

    public AhciCommandTests()
    {
        _ahci.Start(0);
        _ahci.Start(1);
    }

    public void Dispose() => _ahci.Dispose();

    static int Word(byte[] data, int word) => data[word * 2] | data[word * 2 + 1] << 8;

    byte[] Some(int count, int seed = 3)
    {
        var data = new byte[count];
        new Random(seed).NextBytes(data);
        return data;
    }

    [Fact]
    public void Identify_comes_by_pio_and_tells_of_queued_commands()
    {
        Assert.Equal(PSS | DHRS, _ahci.Run(0, Fis(0xEC), (Data, 512)));
        byte[] data = _ahci.Bytes(Data, 512);
        Assert.Equal(4096, Word(data, 60));
        Assert.Equal((31, 0x102, 0), (Word(data, 75), Word(data, 76), Word(data, 93)));
        Assert.Equal(512u, _ahci.Header(0, 0, 1));
        byte[] setup = _ahci.ReceivedAt(0, 0x20, 20);
        Assert.Equal((0x5F, 0x60, 0x58, 512), (setup[0], setup[1], setup[2], setup[16] | setup[17] << 8));
        Assert.Equal([0x34, 0x40, Good, 0], _ahci.ReceivedAt(0, 0x40, 4));
    }

    [Theory]
    [InlineData(0x20, 3)]                                          // READ SECTOR(S): a frame for each
    [InlineData(0x24, 200)]                                        // READ SECTOR(S) EXT, more than the drive's buffer
    [InlineData(0xC4, 33)]                                         // READ MULTIPLE
    [InlineData(0xC8, 100)]                                        // READ DMA
    [InlineData(0x25, 1000)]                                       // READ DMA EXT
    public void Sectors_are_read_into_the_regions(byte command, int count)
    {
        uint interrupts = _ahci.Run(0, Fis(command, 9, count), (Data, 514), (Data + 0x8_0000, 2),
            (Data + 0x1000, count * 512));
        Assert.Equal(command is 0xC8 or 0x25 ? DHRS : DHRS | PSS, interrupts);
        byte[] read = [.. _ahci.Bytes(Data, 514), .. _ahci.Bytes(Data + 0x8_0000, 2),
            .. _ahci.Bytes(Data + 0x1000, count * 512 - 516)];
        Assert.Equal(_ahci.Sectors(9, count), read);
        Assert.Equal((uint)count * 512, _ahci.Header(0, 0, 1));
        Assert.Equal(Good, _ahci.Status(0));
    }

    [Theory]
    [InlineData(0x30, 2)]
    [InlineData(0x34, 200)]
    [InlineData(0xCA, 64)]
    [InlineData(0x35, 1000)]
    public void Sectors_are_written_from_the_regions(byte command, int count)
    {
        byte[] data = Some(count * 512);
        _ahci.Memory.Write(Data, data);
        _ahci.Run(0, Fis(command, 100, count), (Data, 100), (Data + 100, count * 512 - 100));
        Assert.Equal(data, _ahci.Sectors(100, count));
        Assert.Equal((Good, (uint)count * 512), (_ahci.Status(0), _ahci.Header(0, 0, 1)));
        Assert.Equal(DHRS, _ahci.Run(0, Fis(0xEA)));               // FLUSH CACHE EXT
        Assert.Equal("flush", _ahci.Disk.Log[^1]);
    }

    [Fact]
    public void Commands_of_a_list_run_one_after_another()
    {
        for (int slot = 0; slot < 32; slot++)
            _ahci.Put(0, slot, Fis(0x25, (ulong)slot * 2, 2), default, (Data + (ulong)slot * 1024, 1024));
        _ahci.Port(0, PxCI, uint.MaxValue);
        _ahci.Bench.Pump.Until(() => _ahci.Port(0, PxCI) == 0);
        Assert.Equal(_ahci.Sectors(0, 64), _ahci.Bytes(Data, 64 * 512));
        Assert.Equal(Enumerable.Range(0, 32).Select(i => $"read {i * 1024}+1024"), _ahci.Disk.Log);
    }

    [Fact]
    public void Queued_commands_run_at_once_and_each_end_is_told()
    {
        byte[] data = Some(16 * 512);
        _ahci.Memory.Write(Data + 0x1_0000, data);
        _ahci.Disk.Hold();
        _ahci.Port(0, PxSACT, 1u << 31 | 1 << 5);
        _ahci.Issue(0, 31, Queued(false, 31, 20, 8), (Data, 4096));
        _ahci.Issue(0, 5, Queued(true, 5, 40, 16), (Data + 0x1_0000, 8192));
        Assert.Equal((0u, 1u << 31 | 1 << 5), (_ahci.Port(0, PxCI), _ahci.Port(0, PxSACT)));
        Assert.Equal((Good, 2), (_ahci.Status(0), _ahci.HardDisk.Backend.InFlight));
        Assert.Equal(0, _ahci.ReceivedAt(0, 0x41, 1)[0] & 0x40);   // taken, without an interrupt
        _ahci.Port(0, PxIS, uint.MaxValue);
        _ahci.Disk.Release();
        _ahci.Bench.Pump.Until(() => _ahci.Port(0, PxSACT) == 0);
        Assert.Equal(SDBS, _ahci.Port(0, PxIS));
        byte[] bits = _ahci.ReceivedAt(0, 0x58, 8);
        Assert.Equal((0xA1, 0x40, Good), (bits[0], bits[1], bits[2]));
        uint last = BinaryPrimitives.ReadUInt32LittleEndian(bits.AsSpan(4));
        Assert.True(last is 1u << 31 or 1 << 5, $"{last:x}");
        Assert.Equal(_ahci.Sectors(20, 8), _ahci.Bytes(Data, 4096));
        Assert.Equal(data, _ahci.Sectors(40, 16));
    }

    [Fact]
    public void A_queued_write_may_be_forced()
    {
        byte[] fis = Queued(true, 2, 9, 1);
        fis[7] |= 0x80;
        foreach (byte[] command in (byte[][])[fis, Queued(true, 2, 10, 1)])
        {
            _ahci.Port(0, PxSACT, 1 << 2);
            _ahci.Issue(0, 2, command, (Data, 512));
            _ahci.Bench.Pump.Until(() => _ahci.Port(0, PxSACT) == 0);
        }
        Assert.Equal(["write 4608+512", "flush", "write 5120+512"], _ahci.Disk.Log);
    }

    [Fact]
    public void After_a_queued_error_the_log_tells_which_and_the_drive_goes_on()
    {
        _ahci.Disk.FailWith = 5;
        _ahci.Port(0, PxSACT, 1 << 7);
        _ahci.Issue(0, 7, Queued(false, 7, 0x123, 8), (Data, 4096));
        _ahci.Bench.Pump.Until(() => (_ahci.Port(0, PxIS) & TFES) != 0);
        Assert.Equal((Bad, 0x40), (_ahci.Status(0), _ahci.ErrorOf(0)));
        Assert.Equal(1u << 7, _ahci.Port(0, PxSACT));
        _ahci.Disk.FailWith = 0;
        _ahci.Restart(0);
        Assert.Equal(0u, _ahci.Port(0, PxSACT));
        Assert.Equal(TFES, _ahci.Run(0, Fis(0x25, 0, 1), (Data, 512)) & TFES);   // nothing but the log
        _ahci.Restart(0);
        _ahci.Run(0, Fis(0x2F, 0x10, 1), (Data, 512));
        byte[] log = _ahci.Bytes(Data, 512);
        Assert.Equal((7, Bad, 0x40, 0x23, 1), (log[0], log[2], log[3], log[4], log[5]));
        Assert.Equal(0, log.Sum(b => b) & 0xFF);
        Assert.Equal(DHRS, _ahci.Run(0, Fis(0x25, 0, 1), (Data, 512)));
    }

    [Fact]
    public void An_error_among_queued_commands_silences_the_others()
    {
        _ahci.Disk.Hold();
        _ahci.Port(0, PxSACT, 3);
        _ahci.Issue(0, 0, Queued(false, 0, 0, 8), (Data, 4096));
        _ahci.Issue(0, 1, Queued(false, 1, 4095, 8), (Data + 0x1_0000, 4096));   // beyond the end
        Assert.Equal((TFES, Bad, 0x10), (_ahci.Port(0, PxIS) & TFES, _ahci.Status(0), _ahci.ErrorOf(0)));
        _ahci.Port(0, PxCMD, FRE);
        Assert.Equal(CR, _ahci.Port(0, PxCMD) & CR);               // the first is still in memory
        _ahci.Port(0, PxIS, uint.MaxValue);
        _ahci.Disk.Release();
        _ahci.Bench.Pump.Until(() => (_ahci.Port(0, PxCMD) & CR) == 0);
        Assert.Equal(0u, _ahci.Port(0, PxIS));
        _ahci.Restart(0);
        _ahci.Run(0, Fis(0x2F, 0x10, 1), (Data, 512));
        Assert.Equal([1, 0, Bad, 0x10, 0, 0x10], _ahci.Bytes(Data, 6));   // sector 4096 is the first that is not there
    }

    [Fact]
    public void A_command_without_a_tag_among_queued_ones_fails()
    {
        _ahci.Disk.Hold();
        _ahci.Issue(0, 0, Queued(false, 0, 0, 8), (Data, 4096));
        _ahci.Issue(0, 1, Fis(0x25, 0, 1), (Data, 512));
        Assert.Equal((TFES, 4), (_ahci.Port(0, PxIS) & TFES, _ahci.ErrorOf(0)));
        _ahci.Disk.Release();
        _ahci.Bench.Pump.Until(() => !_ahci.HardDisk.HasRequests);
    }

    [Theory]
    [InlineData(0x25, 4095, 4, 0x10)]                              // beyond the end
    [InlineData(0xFF, 0, 0, 4)]                                    // no command
    [InlineData(0x2F, 0x11, 1, 4)]                                 // no such log
    public void An_error_stops_the_list_until_it_is_started_again(byte command, ulong lba, int count, byte error)
    {
        uint interrupts = _ahci.Run(0, Fis(command, lba, count), (Data, 4096));
        Assert.Equal((TFES, Bad, error), (interrupts & TFES, _ahci.Status(0), _ahci.ErrorOf(0)));
        Assert.Equal(1u, _ahci.Port(0, PxCI));
        _ahci.Issue(0, 4, Fis(0xE5));
        Assert.Equal(0x11u, _ahci.Port(0, PxCI));
        Assert.Equal(0u, _ahci.Port(0, PxCMD) >> CCS & 31);        // the slot at fault
        _ahci.Restart(0);
        Assert.Equal(0u, _ahci.Port(0, PxCI));
        Assert.Equal(DHRS, _ahci.Run(0, Fis(0xE5)));
    }

    [Fact]
    public void A_failing_disk_fails_the_command()
    {
        _ahci.Disk.FailWith = 5;
        Assert.Equal(TFES, _ahci.Run(0, Fis(0x25, 8, 8), (Data, 4096)) & TFES);
        Assert.Equal((Bad, 0x40), (_ahci.Status(0), _ahci.ErrorOf(0)));
    }

    [Theory]
    [InlineData(true, 0)]
    [InlineData(false, 0xFFFF)]
    public void The_disc_is_read_by_dma_and_by_pio(bool dma, int limit)
    {
        byte[] read = [0x28, 0, 0, 0, 0, 17, 0, 0, 50, 0];
        _ahci.Run(1, Packet(), [0x00], []);                        // the unit attention of a new medium, if any
        _ahci.Restart(1);
        uint interrupts = _ahci.Run(1, Packet(), read, (Data, 50 * 2048));
        Assert.Equal(dma ? DHRS : DHRS | PSS, interrupts);
        Assert.Equal(_ahci.Disc.Bytes[(17 * 2048)..(67 * 2048)], _ahci.Bytes(Data, 50 * 2048));
        Assert.Equal((uint)50 * 2048, _ahci.Header(1, 0, 1));

        byte[] Packet() => Fis(0xA0, (ulong)limit << 8, 0, dma ? 1 : 0, 0xA0);
    }

    [Fact]
    public void A_refused_packet_is_an_error_with_sense()
    {
        Assert.Equal(TFES, _ahci.Run(1, Fis(0xA0, 0, 0, 1), [0xFF], (Data, 512)) & TFES);
        Assert.Equal((Bad, 0x54), (_ahci.Status(1), _ahci.ErrorOf(1)));   // illegal request
        _ahci.Restart(1);
        _ahci.Run(1, Fis(0xA0, 0, 0, 1), [0x03, 0, 0, 0, 18], (Data, 18));
        Assert.Equal((5, 0x20), (_ahci.Bytes(Data, 18)[2], _ahci.Bytes(Data, 18)[12]));
    }

    [Fact]
    public void Identify_packet_device_and_the_refusal_of_identify()
    {
        Assert.Equal(TFES, _ahci.Run(1, Fis(0xEC), (Data, 512)) & TFES);
        Assert.Equal(0xEB14_0101u, _ahci.Port(1, PxSIG));
        _ahci.Restart(1);
        Assert.Equal(PSS | DHRS, _ahci.Run(1, Fis(0xA1), (Data, 512)));
        Assert.Equal(0x85C0, Word(_ahci.Bytes(Data, 512), 0));
        _ahci.Restart(1);
        Assert.Equal(TFES, _ahci.Run(1, Queued(false, 0, 0, 1), (Data, 512)) & TFES);   // no queue
    }

    [Fact]
    public void State_is_kept_and_reset_forgets_it()
    {
        _ahci.Run(0, Fis(0x25, 4095, 4), (Data, 4096));
        var other = new Ahci(port => $"ide.{port}", 0);
        using var bench = new PciBench();
        other.Channels[0].Attach(new AtaDrive("ide-hd", new("d", bench.Pump.Post), new AtaOptions("QM00001")));
        other.Channels[1].Attach(new AtapiDrive("ide-cd", new("c", bench.Pump.Post), "QM00003"));
        bench.Bus.Plug(other, 4 << 3);
        string fresh = StateNode.Save(other.Exchange).ToString();
        StateNode saved = StateNode.Save(_ahci.Controller.Exchange);
        Assert.NotEqual(fresh, saved.ToString());
        saved.Load(other.Exchange);
        Assert.Equal(saved.ToString(), StateNode.Save(other.Exchange).ToString());
        other.Reset();
        Assert.Equal(fresh, StateNode.Save(other.Exchange).ToString());
    }
}
