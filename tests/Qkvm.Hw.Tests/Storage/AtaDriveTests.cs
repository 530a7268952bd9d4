using System.Text;
using Qkvm.Testing;
using static Qkvm.Hw.Tests.Storage.IdeBench;

namespace Qkvm.Hw.Tests.Storage;

public sealed class AtaDriveTests : IDisposable
{
    readonly IdeBench _ide = new();

    public void Dispose() => _ide.Dispose();

    byte[] Sectors(long lba, int count) => _ide.Disk.Bytes.AsSpan((int)lba * 512, count * 512).ToArray();

    static string Text(byte[] data, int word, int words)
    {
        var text = new StringBuilder();
        for (int i = word * 2; i < (word + words) * 2; i += 2) text.Append((char)data[i + 1]).Append((char)data[i]);
        return text.ToString().TrimEnd();
    }

    static int Word(byte[] data, int word) => data[word * 2] | data[word * 2 + 1] << 8;

    [Fact]
    public void Identify_tells_names_geometry_and_size()
    {
        _ide.Lba28(Primary, 0xEC, 0, 0);
        Assert.True(_ide.Irq(Primary));
        Assert.Equal(Drdy | Dsc | Drq, _ide.In(Primary + 7));
        Assert.False(_ide.Irq(Primary));
        byte[] data = _ide.ReadData(Primary, 512);
        Assert.Equal("QM00001", Text(data, 10, 10));
        Assert.Equal("QEMU HARDDISK", Text(data, 27, 20));
        Assert.Equal((4, 16, 63), (Word(data, 1), Word(data, 3), Word(data, 6)));
        Assert.Equal(4096, Word(data, 60) | Word(data, 61) << 16);
        Assert.Equal(4096, Word(data, 100) | Word(data, 101) << 16);
        Assert.Equal((2, 3), (Word(data, 53) & 2, Word(data, 64)));   // words 64 to 70 are valid; PIO 3 and 4
        Assert.Equal(Drdy | Dsc, _ide.Peek(Primary));
    }

    [Theory]
    [InlineData(1, 2)]
    [InlineData(3, 2)]
    [InlineData(3, 4)]
    [InlineData(200, 2)]
    public void Sectors_are_read_one_by_one_with_an_interrupt_each(byte count, int width)
    {
        _ide.Lba28(Primary, 0x20, 5, count);
        for (int i = 0; i < count; i++)
        {
            Assert.Equal(Drdy | Dsc | Drq, _ide.WaitIrq(Primary));
            Assert.Equal(Sectors(5 + i, 1), _ide.ReadData(Primary, 512, width));
        }
        Assert.Equal(Drdy | Dsc, _ide.Peek(Primary));
        Assert.False(_ide.Irq(Primary));
        Assert.Equal(5 + count - 1, _ide.In(Primary + 3));
    }

    [Fact]
    public void Multiple_sectors_come_in_blocks()
    {
        _ide.Lba28(Primary, 0xC6, 0, 8);
        Assert.Equal(Drdy | Dsc, _ide.WaitIrq(Primary));
        _ide.Lba28(Primary, 0xC4, 100, 20);
        int at = 100;
        foreach (int block in (int[])[8, 8, 4])
        {
            _ide.WaitIrq(Primary);
            Assert.Equal(Sectors(at, block), _ide.ReadData(Primary, block * 512));
            at += block;
        }
        Assert.Equal(Drdy | Dsc, _ide.Peek(Primary));
    }

    [Fact]
    public void Written_sectors_reach_the_disk_before_the_last_interrupt()
    {
        byte[] data = new byte[130 * 512];
        new Random(3).NextBytes(data);
        _ide.Lba48(Primary, 0x34, 1000, 130);
        Assert.False(_ide.Irq(Primary));                           // none before the first block
        for (int i = 0; i < 130; i++)
        {
            Assert.Equal(Drq, _ide.Wait(Primary) & (Drq | Err));
            _ide.WriteData(Primary, data.AsSpan(i * 512, 512));
            _ide.WaitIrq(Primary);
        }
        Assert.Equal(Drdy | Dsc, _ide.Peek(Primary));
        Assert.Equal(data, Sectors(1000, 130));
    }

    [Fact]
    public void Cylinder_head_and_sector_are_counted_by_the_geometry()
    {
        _ide.Out(Primary + 6, 0xA0 | 3);
        _ide.Out(Primary + 2, 1);
        _ide.Out(Primary + 3, 10);
        _ide.Out(Primary + 4, 2);
        _ide.Out(Primary + 5, 0);
        _ide.Out(Primary + 7, 0x20);
        _ide.WaitIrq(Primary);
        Assert.Equal(Sectors((2 * 16 + 3) * 63 + 9, 1), _ide.ReadData(Primary, 512));
    }

    [Theory]
    [InlineData(4096, 1)]
    [InlineData(4095, 2)]
    [InlineData(0x0FFFFFFF, 0)]
    public void Addresses_beyond_the_end_are_not_found(uint lba, byte count)
    {
        foreach (byte command in (byte[])[0x20, 0x30, 0xC8, 0xCA, 0x40])
        {
            _ide.Lba28(Primary, command, lba, count);
            Assert.Equal(Err, _ide.WaitIrq(Primary) & (Err | Drq));
            Assert.Equal(0x10, _ide.In(Primary + 1));
            // "the address of the sector where the first unrecoverable error occurred"
            long first = _ide.In(Primary + 3) | _ide.In(Primary + 4) << 8 | _ide.In(Primary + 5) << 16
                | (_ide.In(Primary + 6) & 15) << 24;
            Assert.Equal(Math.Max(lba, 4096), first);
        }
        _ide.Lba48(Primary, 0x25, 0xFFFFFFFFFFFF, 0xFFFF);
        Assert.Equal(Err, _ide.WaitIrq(Primary) & (Err | Drq));
        Assert.Empty(_ide.Disk.Log);
    }

    [Fact]
    public void An_unknown_command_is_aborted()
    {
        _ide.Lba28(Primary, 0xFE, 0, 0);
        Assert.Equal(Drdy | Dsc | Err, _ide.WaitIrq(Primary));
        Assert.Equal(4, _ide.In(Primary + 1));
    }

    [Fact]
    public void A_failing_disk_is_an_uncorrectable_error()
    {
        _ide.Disk.FailWith = 5;
        _ide.Lba28(Primary, 0x20, 9, 1);
        Assert.Equal(Drdy | Dsc | Err, _ide.WaitIrq(Primary));
        Assert.Equal(0x40, _ide.In(Primary + 1));
        Assert.Equal(9, _ide.In(Primary + 3));
    }

    [Fact]
    public void A_forced_write_is_flushed_and_the_next_is_not()
    {
        _ide.Lba48(Primary, 0xCE, 0, 1);                           // WRITE MULTIPLE FUA EXT
        _ide.WriteData(Primary, new byte[512]);
        _ide.WaitIrq(Primary);
        _ide.Lba28(Primary, 0x30, 1, 1);
        _ide.WriteData(Primary, new byte[512]);
        _ide.WaitIrq(Primary);
        Assert.Equal(["write 0+512", "flush", "write 512+512"], _ide.Disk.Log);
    }

    [Fact]
    public void Flush_goes_to_the_backend_and_an_uncached_write_too()
    {
        _ide.Lba28(Primary, 0xE7, 0, 0);
        Assert.Equal(Drdy | Dsc, _ide.WaitIrq(Primary));
        _ide.Out(Primary + 1, 0x82);
        _ide.Out(Primary + 7, 0xEF);
        _ide.WaitIrq(Primary);
        _ide.Lba28(Primary, 0x30, 0, 1);
        _ide.WriteData(Primary, new byte[512]);
        _ide.WaitIrq(Primary);
        Assert.Equal(["flush", "flush", "write 0+512", "flush"], _ide.Disk.Log);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Dma_moves_sectors_through_the_regions_of_the_table(bool toMemory)
    {
        if (!toMemory) _ide.Memory.Write(0x100000, new byte[4096]);
        _ide.Regions((0x100000, 512), (0x102000, 1024), (0x105000, 512));
        byte[] before = Sectors(64, 4);
        _ide.Lba28(Primary, toMemory ? (byte)0xC8 : (byte)0xCA, 64, 4);
        Assert.False(_ide.Irq(Primary));
        _ide.StartDma(Primary, toMemory);
        Assert.Equal(Drdy | Dsc, _ide.WaitIrq(Primary));
        Assert.Equal(4, _ide.MasterStatus(Primary) & 7);
        byte[] memory = [.. _ide.Bench.Memory.Bytes(0x100000, 512), .. _ide.Bench.Memory.Bytes(0x102000, 1024),
            .. _ide.Bench.Memory.Bytes(0x105000, 512)];
        Assert.Equal(memory, Sectors(64, 4));
        Assert.Equal(toMemory, before.AsSpan().SequenceEqual(memory));
        _ide.Out(BusMaster + 2, 4);
        Assert.Equal(0, _ide.MasterStatus(Primary) & 7);
    }

    [Fact]
    public void Dma_may_be_started_before_the_command()
    {
        _ide.Regions((0x100000, 512));
        _ide.StartDma(Primary, toMemory: true);
        Assert.Equal(1, _ide.MasterStatus(Primary) & 7);
        _ide.Lba48(Primary, 0x25, 7, 1);
        _ide.WaitIrq(Primary);
        Assert.Equal(Sectors(7, 1), _ide.Bench.Memory.Bytes(0x100000, 512));
    }

    [Fact]
    public void A_table_longer_than_the_transfer_leaves_the_bus_master_active()
    {
        _ide.Regions((0x100000, 4096));
        _ide.Lba28(Primary, 0xC8, 0, 1);
        _ide.StartDma(Primary, toMemory: true);
        _ide.WaitIrq(Primary);
        Assert.Equal(5, _ide.MasterStatus(Primary) & 7);
        _ide.Out(BusMaster, 0);
        Assert.Equal(4, _ide.MasterStatus(Primary) & 7);
    }

    [Fact]
    public void A_table_shorter_than_the_transfer_ends_without_an_interrupt()
    {
        _ide.Regions((0x100000, 512));
        _ide.Lba28(Primary, 0xC8, 0, 2);
        _ide.StartDma(Primary, toMemory: true);
        Assert.Equal(0, _ide.MasterStatus(Primary) & 7);
        Assert.False(_ide.Irq(Primary));
        Assert.Empty(_ide.Disk.Log);
    }

    [Theory]
    [InlineData(TestMemory.IoAddress)]
    [InlineData(TestMemory.RomAddress)]
    [InlineData(TestMemory.HoleAddress)]
    public void Regions_outside_RAM_are_an_error_and_touch_no_register(ulong address)
    {
        _ide.Regions(((uint)address, 512));
        _ide.Lba28(Primary, 0xC8, 0, 1);
        _ide.StartDma(Primary, toMemory: true);
        Assert.Equal(2, _ide.MasterStatus(Primary) & 3);
        Assert.Equal(Err, _ide.WaitIrq(Primary) & Err);
        Assert.Equal(0, _ide.Bench.Memory.Registers.Accesses);
    }

    [Fact]
    public void A_table_that_never_ends_is_read_only_as_far_as_needed()
    {
        _ide.Memory.Write(Table, new byte[0x10000]);               // 8192 regions of 64 KiB at address 0, no end
        _ide.Lba48(Primary, 0x25, 0, 2048);
        _ide.StartDma(Primary, toMemory: true);
        Assert.Equal(Drdy | Dsc, _ide.WaitIrq(Primary));
        Assert.Equal(5, _ide.MasterStatus(Primary) & 7);
    }

    [Fact]
    public void A_software_reset_during_dma_is_busy_until_it_has_ended_and_writes_nothing_afterwards()
    {
        _ide.Regions((0x100000, 512));
        _ide.Disk.Hold();
        _ide.Lba28(Primary, 0xC8, 0, 1);
        _ide.StartDma(Primary, toMemory: true);
        Assert.Equal(Bsy, _ide.Peek(Primary) & Bsy);
        _ide.Out(0x3F6, 4);
        _ide.Out(0x3F6, 0);
        _ide.Bench.Pump.RunPosted();
        Assert.Equal(Bsy, _ide.Peek(Primary));
        _ide.Disk.Release();
        _ide.Bench.Pump.Until(() => (_ide.Peek(Primary) & Bsy) == 0);
        Assert.Equal(0, _ide.DiskBackend.InFlight);
        _ide.Memory.Write(0x100000, new byte[512]);
        _ide.Bench.Pump.RunPosted();
        Assert.Equal(new byte[512], _ide.Bench.Memory.Bytes(0x100000, 512));
        Assert.Equal(0, _ide.PrimaryEdges);
        Assert.Equal((1, 1, 0, 0),
            (_ide.In(Primary + 2), _ide.In(Primary + 3), _ide.In(Primary + 4), _ide.In(Primary + 5)));
        Assert.Equal(Drdy | Dsc, _ide.Peek(Primary));
    }

    [Fact]
    public void Stopping_the_bus_master_lets_the_transfer_end()
    {
        _ide.Regions((0x100000, 512));
        _ide.Disk.Hold();
        _ide.Lba28(Primary, 0xC8, 3, 1);
        _ide.StartDma(Primary, toMemory: true);
        _ide.Out(BusMaster, 0);
        Assert.Equal(1, _ide.MasterStatus(Primary) & 7);
        _ide.Disk.Release();
        _ide.Bench.Pump.Until(() => (_ide.MasterStatus(Primary) & 1) == 0);
        Assert.Equal(Sectors(3, 1), _ide.Bench.Memory.Bytes(0x100000, 512));
        Assert.Equal(4, _ide.MasterStatus(Primary) & 7);
    }

    [Fact]
    public void NIEN_holds_the_interrupt_back()
    {
        _ide.Out(0x3F6, 2);
        _ide.Lba28(Primary, 0xEC, 0, 0);
        Assert.False(_ide.Irq(Primary));
        _ide.Out(0x3F6, 0);
        Assert.True(_ide.Irq(Primary));
    }

    [Fact]
    public void A_missing_slave_reads_as_zeros_and_ignores_commands()
    {
        _ide.Out(Primary + 6, 0xB0);
        for (ulong i = 1; i < 8; i++) Assert.Equal(0, _ide.In(Primary + i));
        _ide.Out(Primary + 7, 0xEC);
        Assert.False(_ide.Irq(Primary));
    }

    [Fact]
    public void The_high_order_bytes_are_read_back_with_HOB()
    {
        _ide.Out(Primary + 3, 0x12);
        _ide.Out(Primary + 3, 0x34);
        Assert.Equal(0x34, _ide.In(Primary + 3));
        _ide.Out(0x3F6, 0x80);
        Assert.Equal(0x12, _ide.In(Primary + 3));
    }

    [Fact]
    public void Smart_says_that_the_drive_is_healthy()
    {
        _ide.Out(Primary + 1, 0xDA);
        _ide.Lba28(Primary, 0xB0, 0xC24F00, 0);
        Assert.Equal(Drdy | Dsc, _ide.WaitIrq(Primary));
        Assert.Equal((0x4F, 0xC2), (_ide.In(Primary + 4), _ide.In(Primary + 5)));
    }

    [Fact]
    public void Random_port_accesses_throw_nothing()
    {
        var random = new Random(11);
        for (int i = 0; i < 50000; i++)
        {
            ulong port = random.Next(3) switch { 0 => Primary + (ulong)random.Next(8),
                1 => BusMaster + (ulong)random.Next(16), _ => Secondary + (ulong)random.Next(8) };
            int size = 1 << random.Next(3);
            if (random.Next(2) == 0) _ide.Ports.Read(port, size);
            else _ide.Ports.Write(port, size, (ulong)random.NextInt64());
        }
        _ide.DiskBackend.Drain();
        _ide.DiscBackend.Drain();
        _ide.HardDisk.Reset();
        Assert.Equal(Drdy | Dsc, _ide.HardDisk.ReadRegister(7, false));
    }

    [Fact]
    public void Reset_makes_drive_and_controller_new_and_a_transfer_survives_saving()
    {
        _ide.Lba28(Primary, 0x20, 5, 3);
        _ide.WaitIrq(Primary);
        _ide.ReadData(Primary, 100);
        using var other = new IdeBench();
        StateAssert.SurvivesSaveAndLoad(_ide.HardDisk, other.HardDisk);
        StateAssert.SurvivesSaveAndLoad(_ide.Ide, other.Ide);
        Assert.Equal(Sectors(5, 1)[100..], other.ReadData(Primary, 412));
        Assert.Equal(Drq, other.Peek(Primary) & Drq);
        other.Ide.Reset();
        using var fresh = new IdeBench();
        fresh.Ide.Reset();
        StateAssert.ResetEqualsNew(_ide.HardDisk, fresh.HardDisk);
        StateAssert.ResetEqualsNew(_ide.Ide, fresh.Ide);
    }
}
