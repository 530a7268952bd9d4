using static Qkvm.Hw.Storage.AhciRegisters;
using static Qkvm.Hw.Tests.Storage.AhciBench;

namespace Qkvm.Hw.Tests.Storage;

/// <summary>What no driver does: nothing throws, nothing hangs, registers are never reached, and a reset makes all
/// good.</summary>
public sealed class AhciHostileTests : IDisposable
{
    const ulong Hole = Qkvm.Testing.TestMemory.HoleAddress, Io = Qkvm.Testing.TestMemory.IoAddress,
        Rom = Qkvm.Testing.TestMemory.RomAddress;

    readonly AhciBench _ahci = new();

    public AhciHostileTests()
    {
        _ahci.Start(0);
        _ahci.Start(1);
    }

    public void Dispose()
    {
        Assert.Equal(0, _ahci.Bench.Memory.Registers.Accesses);
        _ahci.Dispose();
    }

    /// <summary>Reset by COMRESET, the port works.</summary>
    void Recovers(int port = 0)
    {
        _ahci.Port(port, PxCMD, FRE);
        _ahci.Port(port, PxSCTL, Initialize);
        _ahci.Port(port, PxSCTL, 0);
        _ahci.Bench.Pump.Until(() => (_ahci.Port(port, PxCMD) & CR) == 0 && _ahci.Port(port, PxSIG) != NoSignature);
        _ahci.Start(port);
        Assert.Equal(DHRS, _ahci.Run(port, Fis(0xE5)));
    }

    [Theory]
    [InlineData(0x25, Hole)]
    [InlineData(0x25, Io)]
    [InlineData(0x25, Rom)]                                        // which cannot be written
    [InlineData(0x25, 0xFFFF_FFFF_FFFF_FFF0ul)]
    [InlineData(0x35, Hole)]
    [InlineData(0x20, Hole)]                                       // by PIO
    [InlineData(0x30, Io)]
    [InlineData(0xEC, Rom)]
    public void A_region_outside_memory_is_a_bus_error(byte command, ulong address)
    {
        uint interrupts = _ahci.Run(0, Fis(command, 0, 4), (Data, 256), (address, 4096));
        Assert.Equal(HBFS, interrupts & HBFS);
        Assert.DoesNotContain(_ahci.Disk.Log, line => line.StartsWith("write", StringComparison.Ordinal));
        Recovers();
    }

    [Theory]
    [InlineData(0x25)]
    [InlineData(0x35)]
    [InlineData(0x30)]
    [InlineData(0x24)]
    public void Regions_that_are_too_short_are_an_overflow(byte command)
    {
        _ahci.Port(0, PxIS, uint.MaxValue);
        _ahci.Issue(0, 0, Fis(command, 0, 4), (Data, 700));
        _ahci.Bench.Pump.Until(() => (_ahci.Port(0, PxIS) & OFS) != 0);
        Assert.DoesNotContain(_ahci.Disk.Log, line => line.StartsWith("write", StringComparison.Ordinal));
        Recovers();
    }

    [Fact]
    public void Queued_commands_with_such_regions_fail()
    {
        foreach ((ulong address, int length, uint bit) in ((ulong, int, uint)[])
            [(Hole, 4096, HBFS), (Data, 2048, OFS), (Io, 4 << 20, HBFS)])
        {
            _ahci.Port(0, PxSACT, 1);
            _ahci.Issue(0, 0, Queued(false, 0, 0, 8), (address, length));
            Assert.Equal(bit | TFES, _ahci.Port(0, PxIS) & (HBFS | OFS | TFES));
            Recovers();
        }
    }

    [Fact]
    public void A_tag_that_is_in_use_fails_and_the_first_command_keeps_its_memory()
    {
        _ahci.Disk.Hold();
        _ahci.Issue(0, 0, Queued(false, 5, 0, 8), (Data, 4096));
        _ahci.Issue(0, 1, Queued(false, 5, 100, 8), (Data + 0x1_0000, 4096));
        Assert.Equal(TFES, _ahci.Port(0, PxIS) & TFES);
        _ahci.Disk.Release();
        _ahci.Bench.Pump.Until(() => !_ahci.HardDisk.HasRequests);
        Assert.Equal(_ahci.Sectors(0, 8), _ahci.Bytes(Data, 4096));
        Assert.Equal(new byte[4096], _ahci.Bytes(Data + 0x1_0000, 4096));
        Recovers();
    }

    [Fact]
    public void A_start_before_abandoned_commands_have_ended_waits_for_them()
    {
        _ahci.Disk.Hold();
        _ahci.Issue(0, 0, Queued(false, 0, 0, 8), (Data, 4096));
        _ahci.Port(0, PxCMD, FRE);
        _ahci.Port(0, PxCMD, FRE | ST);
        _ahci.Port(0, PxIS, uint.MaxValue);
        _ahci.Port(0, PxSACT, 1);
        _ahci.Issue(0, 0, Queued(false, 0, 100, 8), (Data + 0x1_0000, 4096));
        Assert.Equal((1u, 1), (_ahci.Port(0, PxCI), _ahci.HardDisk.Backend.InFlight));
        _ahci.Disk.Release();
        _ahci.Bench.Pump.Until(() => _ahci.Port(0, PxSACT) == 0);
        Assert.Equal(_ahci.Sectors(100, 8), _ahci.Bytes(Data + 0x1_0000, 4096));
    }

    [Theory]
    [InlineData(Hole)]
    [InlineData(Io)]
    [InlineData(0xFFFF_FFFF_FFFF_FF80ul)]
    public void A_table_outside_memory_is_a_bus_error(ulong table)
    {
        _ahci.PutHeader(0, 0, 5 | 0xFFFF_0000, table);
        _ahci.Port(0, PxCI, 1);
        Assert.Equal(HBFS, _ahci.Port(0, PxIS) & HBFS);
        Recovers();
    }

    [Fact]
    public void A_list_outside_memory_is_a_bus_error()
    {
        _ahci.Port(0, PxCLBU, 0xFFFF_FFFF);
        _ahci.Port(0, PxCI, uint.MaxValue);
        Assert.Equal(HBFS, _ahci.Port(0, PxIS) & HBFS);
        _ahci.Port(0, PxCLBU, 0);
        Recovers();
    }

    [Fact]
    public void Received_frames_outside_memory_are_a_bus_error()
    {
        _ahci.Port(0, PxFBU, 0xFFFF_FFFF);
        _ahci.Issue(0, 0, Fis(0xEC), (Data, 512));
        Assert.Equal(HBFS, _ahci.Port(0, PxIS) & HBFS);
        _ahci.Port(0, PxFBU, 0);
        Recovers();
    }

    [Fact]
    public void Frames_received_over_list_and_table_do_no_harm()
    {
        foreach (uint at in (uint[])[Lists, Tables])
        {
            _ahci.Port(0, PxFB, at);
            _ahci.Run(0, Fis(0xEC), (Data, 512));
            _ahci.Run(0, Fis(0x25, 0, 8), (Tables, 4096));         // and data over the table
            Recovers();
        }
    }

    [Theory]
    [InlineData(0x00, 0x80, 5)]
    [InlineData(0x99, 0x80, 5)]
    [InlineData(0x27, 0x81, 5)]                                    // for a port multiplier's port
    [InlineData(0x27, 0x80, 1)]                                    // too short
    [InlineData(0x27, 0x80, 31)]
    public void A_frame_for_nobody_is_an_interface_error(byte type, byte flags, uint length)
    {
        byte[] fis = Fis(0xEC);
        (fis[0], fis[1]) = (type, flags);
        _ahci.Put(0, 0, fis, default, (Data, 512));
        _ahci.PutHeader(0, 0, length | 1 << 16, Tables);
        _ahci.Port(0, PxCI, 1);
        Assert.Equal(IFS, _ahci.Port(0, PxIS) & IFS);
        Recovers();
    }

    [Fact]
    public void Without_bus_mastering_nothing_is_read()
    {
        _ahci.WriteConfig(4, 2, 3);
        _ahci.Issue(0, 0, Fis(0xEC), (Data, 512));
        Assert.Equal(HBFS, _ahci.Port(0, PxIS) & HBFS);
        _ahci.WriteConfig(4, 2, 7);
        Recovers();
    }

    [Fact]
    public void The_longest_table_of_the_shortest_regions_is_read_as_far_as_is_needed()
    {
        var regions = new (ulong, int)[2048];                      // into the next slots' tables
        for (int i = 0; i < regions.Length; i++) regions[i] = (Data + (ulong)i * 2, 2);
        Assert.Equal(DHRS, _ahci.Run(0, Fis(0x25, 3, 8), regions));
        Assert.Equal(_ahci.Sectors(3, 8), _ahci.Bytes(Data, 4096));
        _ahci.PutHeader(0, 0, 5 | 0xFFFF_0000, Tables);            // and 65535 entries, whatever they say
        _ahci.Memory.Write(Tables, Fis(0x25, 0, 0));               // 65536 sectors: beyond the end
        _ahci.Port(0, PxCI, 1);
        Assert.Equal(TFES, _ahci.Port(0, PxIS) & TFES);
        Recovers();
    }

    [Fact]
    public void A_region_of_four_mebibytes_is_used_as_far_as_is_needed()
    {
        Assert.Equal(DHRS, _ahci.Run(0, Fis(0x25, 3, 8), (Data, 4 << 20)));
        Assert.Equal(_ahci.Sectors(3, 8), _ahci.Bytes(Data, 4096));
    }

    [Fact]
    public void Any_values_in_all_registers_and_tables_do_no_harm()
    {
        var random = new Random(12);
        for (int round = 0; round < 3000; round++)
        {
            int port = random.Next(Ports);
            if (random.Next(8) == 0) _ahci.Start(port);
            if (random.Next(2) == 0)
            {
                byte[] fis = Fis((byte)random.Next(256), (ulong)random.Next(5000), random.Next(300), random.Next(300));
                if (random.Next(8) == 0) fis[random.Next(2)] = (byte)random.Next(256);
                if (random.Next(4) == 0) fis = Queued(random.Next(2) == 0, random.Next(32), 0, random.Next(64));
                _ahci.Issue(port % 2, random.Next(32), fis, (Data + (ulong)random.Next(4096), random.Next(65536) + 1),
                    (random.Next(4) == 0 ? (ulong)random.NextInt64() : Data, random.Next(4 << 20) + 1));
            }
            else if (random.Next(4) == 0) _ahci.Host(random.Next(FirstPort) & ~3, (uint)random.NextInt64());
            else _ahci.Port(port, random.Next(PortSize) & ~3, (uint)random.NextInt64());
            if (random.Next(16) == 0)
                _ahci.Bench.Pump.Until(() => !_ahci.HardDisk.HasRequests && !_ahci.CdRom.HasRequests);
            for (int register = 0; register < PortSize; register += 4) _ahci.Port(port, register);
        }
        _ahci.Host(GHC, HR);
        _ahci.Bench.Pump.Until(() => !_ahci.HardDisk.HasRequests && !_ahci.CdRom.HasRequests);
        _ahci.Host(GHC, IE);
        for (int port = 0; port < 2; port++)
        {
            for (int register = PxCLBU; register <= PxFBU; register += 8) _ahci.Port(port, register, 0);
            Recovers(port);
        }
    }
}
