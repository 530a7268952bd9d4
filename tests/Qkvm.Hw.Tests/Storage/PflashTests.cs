using Qkvm.Core.Block;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Host;
using Qkvm.Hw.Storage;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Storage;

/// <summary>The flash chip as its data sheet has it, over a drive in memory.</summary>
public sealed class PflashTests : IDisposable
{
    const int Size = 16 * Pflash.SectorSize;
    const ulong At = 0xFFC0_0000;
    const byte Ready = 0x80, EraseError = 0x20, ProgramError = 0x10, Locked = 0x02;

    readonly Pump _pump = new();
    readonly MemoryDisk _disk = new(Size);
    readonly GuestRam _memory = new("flash", Size);
    readonly BlockBackend _drive;
    readonly AddressSpace _space = new("memory", MemoryRegion.Container("memory", 1UL << 32), new MachineLock());
    Pflash _flash;

    public PflashTests()
    {
        new Random(5).NextBytes(_disk.Bytes);
        _disk.Bytes.AsSpan(0, Pflash.SectorSize).Fill(0xFF);
        _disk.Bytes.CopyTo(_memory.Span(0, Size));
        _drive = new BlockBackend("pflash0", _pump.Post);
        _drive.Insert(_disk);
        _flash = Plug();
    }

    public void Dispose()
    {
        Settle();
        _memory.Dispose();
    }

    Pflash Plug()
    {
        var flash = new Pflash(_memory, _drive);
        _space.Map(At, flash.Region, 1);
        return flash;
    }

    void Out(int offset, byte value) => _space.Write(At + (ulong)offset, 1, value);
    byte In(int offset) => (byte)_space.Read(At + (ulong)offset, 1);
    bool IsMemory => _space.TryGetRam(At, write: false, out _, out _, out _);
    void Settle() => _pump.Until(() => _drive.InFlight == 0);

    byte Status()
    {
        Out(0, 0x70);
        return In(0);
    }

    void Program(int offset, byte value)
    {
        Out(offset, 0x40);
        Out(offset, value);
    }

    void Erase(int offset)
    {
        Out(offset, 0x20);
        Out(offset, 0xD0);
    }

    [Fact]
    public void In_array_mode_it_is_memory_and_in_others_it_is_not()
    {
        Assert.True(IsMemory);
        Assert.Equal(_disk.Bytes[5000], In(5000));
        Assert.Equal(Ready, Status());
        Assert.False(IsMemory);
        Assert.Equal(0x80808080u, _space.Read(At + 5000, 4));
        Out(0, 0xFF);
        Assert.True(IsMemory);
        Assert.Equal(_disk.Bytes[5000], In(5000));
    }

    [Theory]
    [InlineData(0x10)] [InlineData(0x40)]
    public void A_byte_is_programmed_and_reaches_the_drive(byte command)
    {
        Out(100, command);
        Out(100, 0x5A);
        Settle();
        Assert.Equal(Ready, In(100));
        Out(100, 0xFF);
        Assert.Equal(0x5A, In(100));
        Assert.Equal(_memory.Span(0, Size).ToArray(), _disk.Bytes);
        Assert.Equal(0x5A, _disk.Bytes[100]);
    }

    [Fact]
    public void Programming_clears_bits_and_erasing_sets_those_of_a_sector()
    {
        byte[] before = [.. _disk.Bytes];
        Program(7, 0xF0);
        Program(7, 0x3C);
        Program(Pflash.SectorSize, 0xFF);
        Settle();
        Assert.Equal(0x30, _disk.Bytes[7]);
        Assert.Equal(before[Pflash.SectorSize], _disk.Bytes[Pflash.SectorSize]);
        Erase(2 * Pflash.SectorSize + 99);
        Settle();
        before.AsSpan(2 * Pflash.SectorSize, Pflash.SectorSize).Fill(0xFF);
        before[7] = 0x30;
        Assert.Equal(before, _disk.Bytes);
    }

    [Fact]
    public void A_buffer_is_programmed_at_once_where_it_was_confirmed()
    {
        byte[] data = [1, 2, 3, 4];
        Out(0x210, 0xE8);
        Assert.Equal(Ready, In(0x210));
        Out(0x210, (byte)(data.Length - 1));
        for (int i = 0; i < data.Length; i++) Out(0x210 + i, data[i]);
        Assert.Equal(0xFFu, _memory.Read(0x210, 1));
        Out(0x210, 0xD0);
        Settle();
        Assert.Equal(Ready, In(0));
        Assert.Equal(data, _disk.Bytes[0x210..0x214]);
        Assert.Equal([0xFF, 0xFF], (byte[])[_disk.Bytes[0x20F], _disk.Bytes[0x214]]);
    }

    [Fact]
    public void A_buffer_across_two_blocks_is_a_sequence_error()
    {
        foreach ((int offset, byte value) in new[] { (0x2FF, (byte)0xE8), (0x2FF, (byte)1), (0x2FF, (byte)0),
            (0x300, (byte)0) }) Out(offset, value);
        Assert.Equal(Ready | EraseError | ProgramError, Status());
        Assert.Equal(0xFFFFu, _memory.Read(0x2FF, 2));
    }

    [Fact]
    public void An_erasure_that_is_not_confirmed_is_a_sequence_error_and_erases_nothing()
    {
        byte[] before = [.. _disk.Bytes];
        Out(Pflash.SectorSize, 0x20);
        Out(Pflash.SectorSize, 0x12);
        Assert.True(IsMemory);
        Assert.Equal(Ready | EraseError | ProgramError, Status());
        Out(0, 0x50);
        Assert.Equal(0, Status());
        Assert.Equal(before, _memory.Span(0, Size).ToArray());
    }

    [Fact]
    public void The_query_tells_command_set_size_sectors_and_buffer()
    {
        Out(0x55, 0x98);
        byte[] query = [.. Enumerable.Range(0, 0x40).Select(In)];
        Assert.Equal("QRY"u8.ToArray(), query[0x10..0x13]);
        Assert.Equal(1, query[0x13] | query[0x14] << 8);
        int primary = query[0x15] | query[0x16] << 8;
        Assert.Equal("PRI"u8.ToArray(), query[primary..(primary + 3)]);
        Assert.Equal(Size, 1 << query[0x27]);
        Assert.Equal(256, 1 << query[0x2A]);
        Assert.Equal((1, 15), (query[0x2C], query[0x2D] | query[0x2E] << 8));
        Assert.Equal(Pflash.SectorSize, (query[0x2F] | query[0x30] << 8) << 8);
        Assert.Equal(0, In(0xFF));
        Out(0, 0x90);
        Assert.Equal((0, 0, 0), (In(0), In(1), In(2)));
    }

    [Fact]
    public void Ready_is_clear_until_the_drive_has_it_and_what_follows_goes_in_one_write()
    {
        _disk.Hold();
        Program(0, 0x11);
        Assert.Equal(0, In(0));
        for (int i = 1; i < 50; i++) Program(i, 0x22);
        Erase(Pflash.SectorSize);
        Out(0, 0xFF);
        Assert.Equal(0x2211u, _space.Read(At, 2));
        _disk.Release();
        Settle();
        Assert.Equal(Ready, Status());
        Assert.Equal(["write 0+4096", "write 0+8192"], _disk.Log);
        Assert.Equal(_memory.Span(0, Size).ToArray(), _disk.Bytes);
    }

    [Fact]
    public void An_error_of_the_drive_is_one_of_the_chip_and_the_next_change_makes_good()
    {
        _disk.FailWith = 28;
        Program(0, 1);
        Settle();
        Assert.Equal(Ready | ProgramError, In(0));
        Out(0, 0x50);
        Erase(2 * Pflash.SectorSize);
        Settle();
        Assert.Equal(Ready | EraseError | ProgramError, Status());
        Assert.Equal(2, _disk.Log.Length);
        _disk.FailWith = 0;
        Out(0, 0x50);
        Program(1, 2);
        Settle();
        Assert.Equal(Ready, Status());
        Assert.Equal(_memory.Span(0, Size).ToArray(), _disk.Bytes);
    }

    [Fact]
    public void A_read_only_drive_refuses()
    {
        _drive.IsReadOnly = true;
        _space.Root.Unmap(_flash.Region);
        _flash = Plug();
        byte[] before = [.. _disk.Bytes];
        Program(0, 0);
        Assert.Equal(Ready | ProgramError | Locked, In(0));
        Out(0, 0x50);
        Erase(4096);
        Assert.Equal(Ready | EraseError | Locked, In(0));
        Assert.Equal(before, _memory.Span(0, Size).ToArray());
        Assert.Empty(_disk.Log);
    }

    /// <summary>Random writes everywhere: no exception, no byte of the drive unlike the memory.</summary>
    [Fact]
    public void Whatever_is_written_the_drive_is_as_the_memory()
    {
        var random = new Random(11);
        byte[] commands = [0x10, 0x20, 0x40, 0x50, 0x60, 0x70, 0x90, 0x98, 0xD0, 0xE8, 0xFF, 0x00, 0x03];
        for (int i = 0; i < 20_000; i++)
        {
            ulong value = random.Next(4) == 0 ? (ulong)random.NextInt64() : commands[random.Next(commands.Length)];
            _space.Write(At + (ulong)random.Next(Size), 1 << random.Next(4), value);
            _space.Read(At + (ulong)random.Next(Size), 1 << random.Next(4));
        }
        Settle();
        Assert.NotEmpty(_disk.Log);
        Assert.Equal(_memory.Span(0, Size).ToArray(), _disk.Bytes);
    }

    [Fact]
    public void State_is_kept_and_reset_forgets_it() => DeviceSuite.Check(_ => new Pflash(_memory, _drive), device =>
    {
        var flash = (Pflash)device;
        foreach ((ulong offset, byte value) in new (ulong, byte)[] { (0, 0x20), (0, 0x01), (0x310, 0xE8), (0x310, 3),
            (0x311, 0x77) }) flash.Write(offset, 1, value);
    });
}
