using Qkvm.Core.Block;
using Qkvm.Core.Devices;
using Qkvm.Core.Irq;
using Qkvm.Core.Memory;
using Qkvm.Hw.Isa;
using Qkvm.Hw.Storage;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Storage;

public sealed class I82078Tests : IDisposable
{
    const ulong Dor = 0x3F2, Msr = 0x3F4, Fifo = 0x3F5, Dir = 0x3F7;
    const ulong Memory = 0x30000;
    const byte ToMemory = 0x46, FromMemory = 0x4A;                 // DMA: single, channel 2
    const int Side = 18 * 512;

    readonly PciBench _bench = new();
    readonly MemoryDisk _disk = new(2 * 80 * Side);
    readonly BlockBackend _backend;
    readonly I8237Pair _dma;
    readonly I82078 _chip;
    bool _irq;

    public I82078Tests()
    {
        new Random(5).NextBytes(_disk.Bytes);
        _backend = new BlockBackend("floppy0", _bench.Pump.Post);
        _backend.Insert(_disk);
        _dma = new I8237Pair(new Dma(_bench.Memory.Space));
        _chip = NewChip(new IrqLine("irq6", level => _irq = level));
        _chip.Map((at, region) => _bench.Memory.Ports.Map(at, region));
        Start();
    }

    public void Dispose() => _bench.Dispose();

    I82078 NewChip(IrqLine irq)
    {
        var chip = new I82078(irq, _dma, I82078.DefaultDma);
        chip.Plug(new FloppyDrive(_backend, null, FloppyType.Inch3Extra), FakeBoard.Defaults(FloppyDrive.Model),
            new FakeBoard(new DeviceBench(_bench.Clock)).Site);
        return chip;
    }

    byte In(ulong port) => (byte)_bench.Memory.Ports.Read(port, 1);
    void Out(ulong port, byte value) => _bench.Memory.Ports.Write(port, 1, value);

    /// <summary>Out of reset with motor A, DMA and interrupts on, as firmware does.</summary>
    void Start()
    {
        Out(Dor, 0x1C);
        for (int drive = 0; drive < 4; drive++) Command(0x08);
        Out(Dir, 0);                                               // 500 Kbit/s
        Command(0x03, 0xAF, 0x02);
    }

    /// <summary>Writes a command, waits for its end, reads its result.</summary>
    byte[] Command(params byte[] bytes)
    {
        foreach (byte value in bytes)
        {
            Assert.Equal(0x80, In(Msr) & 0xC0);
            Out(Fifo, value);
        }
        _bench.Pump.Until(() => (In(Msr) & 0x80) != 0);
        var result = new List<byte>();
        while ((In(Msr) & 0xD0) == 0xD0) result.Add(In(Fifo));
        return [.. result];
    }

    void SetDma(byte mode, int count)
    {
        _dma.Master.Reset();
        _dma.Master.Write(11, 1, mode);
        foreach (int shift in (int[])[0, 8]) _dma.Master.Write(4, 1, (byte)(Memory >> shift));
        foreach (byte value in (byte[])[(byte)(count - 1), (byte)((count - 1) >> 8)]) _dma.Master.Write(5, 1, value);
        _dma.Pages.Write(1, 1, Memory >> 16);
        _dma.Master.Write(10, 1, 2);
    }

    byte[] Moved(int count)
    {
        var data = new byte[count];
        _bench.Memory.Space.Read(Memory, data);
        return data;
    }

    [Fact]
    public void After_a_reset_four_drives_have_changed_and_then_none()
    {
        Out(Dor, 0);
        Assert.Equal(0, In(Msr));
        Out(Dor, 0x0C);
        Assert.True(_irq);
        for (int drive = 0; drive < 4; drive++) Assert.Equal([(byte)(0xC0 | drive), 0], Command(0x08));
        Assert.False(_irq);
        Assert.Equal([0x80], Command(0x08));
        Assert.Equal([0x90], Command(0x10));
        Assert.Equal([0x80], Command(0x00));
    }

    [Fact]
    public void A_seek_interrupts_tells_where_it_is_and_sees_the_disk()
    {
        Assert.Equal(0x80, In(Dir));                               // changed since nobody has moved over it
        Command(0x0F, 0, 7);
        Assert.True(_irq);
        Assert.Equal([0x20, 7], Command(0x08));
        Assert.False(_irq);
        Assert.Equal(0, In(Dir));
        Assert.Equal([0x28], Command(0x04, 0));                    // not over track 0
        Command(0x07, 0);
        Assert.Equal([0x20, 0], Command(0x08));
        Assert.Equal([0x38], Command(0x04, 0));
        Command(0x07, 1);                                          // there is no drive B
        Assert.Equal([0x71, 0], Command(0x08));
    }

    [Fact]
    public void Sectors_come_by_DMA_until_its_count_ends()
    {
        SetDma(ToMemory, 3 * 512);
        byte[] result = Command(0xE6, 0, 5, 0, 4, 2, 18, 0x1B, 0xFF);
        Assert.Equal([0, 0, 0, 5, 0, 7, 2], result);
        Assert.Equal(_disk.Bytes.AsSpan(10 * Side + 3 * 512, 3 * 512).ToArray(), Moved(3 * 512));
        Assert.False(_irq);                                        // reading the result has lowered it
    }

    [Fact]
    public void Multitrack_goes_on_on_the_other_side_and_ends_with_the_cylinder()
    {
        SetDma(ToMemory, 2 * Side);
        Assert.Equal([0, 0, 0, 4, 0, 1, 2], Command(0xE6, 0, 3, 0, 1, 2, 18, 0x1B, 0xFF));
        Assert.Equal(_disk.Bytes.AsSpan(6 * Side, 2 * Side).ToArray(), Moved(2 * Side));
        SetDma(ToMemory, 0x10000);
        Assert.Equal([0x40, 0x80, 0, 4, 0, 1, 2], Command(0xE6, 0, 3, 0, 1, 2, 18, 0x1B, 0xFF));
        SetDma(ToMemory, 0x10000);
        Assert.Equal([0x44, 0x80, 0, 4, 1, 1, 2], Command(0x46, 4, 3, 1, 17, 2, 18, 0x1B, 0xFF));
    }

    [Fact]
    public void A_write_fills_the_last_sector_with_zeros()
    {
        byte[] data = new byte[700];
        new Random(9).NextBytes(data);
        _bench.Memory.Space.Write(Memory, data);
        SetDma(FromMemory, data.Length);
        Assert.Equal([4, 0, 0, 0, 1, 4, 2], Command(0xC5, 4, 0, 1, 2, 2, 18, 0x1B, 0xFF));
        Assert.Equal([.. data, .. new byte[1024 - 700]], _disk.Bytes.AsSpan(Side + 512, 1024).ToArray());
    }

    [Fact]
    public void Formatting_fills_a_side_of_the_track()
    {
        SetDma(FromMemory, 18 * 4);
        Command(0x0F, 0, 2);
        Command(0x08);
        Assert.Equal(0, Command(0x4D, 0, 2, 18, 0x6C, 0xF6)[0]);
        Assert.All(_disk.Bytes.AsSpan(4 * Side, Side).ToArray(), value => Assert.Equal(0xF6, value));
        Assert.Contains(_disk.Bytes.AsSpan(5 * Side, Side).ToArray(), value => value != 0xF6);
    }

    [Fact]
    public void Without_DMA_each_byte_passes_through_the_FIFO()
    {
        Command(0x03, 0xAF, 0x03);
        foreach (byte value in (byte[])[0x46, 0, 0, 0, 2, 2, 2, 0x1B, 0xFF]) Out(Fifo, value);
        _bench.Pump.Until(() => _irq);
        var data = new byte[512];
        for (int i = 0; i < data.Length; i++)
        {
            Assert.Equal(0xF0, In(Msr));
            data[i] = In(Fifo);
        }
        Assert.Equal(_disk.Bytes.AsSpan(512, 512).ToArray(), data);
        Assert.Equal(0x40, In(Fifo));                              // nobody could say that it was the last
        Assert.Equal(0x80, In(Fifo));
    }

    [Theory]
    [InlineData(80, 0, 1, 2, 0x04)]                                // beyond the last track
    [InlineData(0, 0, 19, 2, 0x04)]
    [InlineData(0, 0, 1, 3, 0x04)]                                 // sectors of 1024 bytes
    public void What_is_not_on_the_disk_is_not_found(byte track, byte head, byte sector, byte size, byte status1)
    {
        SetDma(ToMemory, 512);
        byte[] result = Command(0x46, 0, track, head, sector, size, 18, 0x1B, 0xFF);
        Assert.Equal((0x40, status1), (result[0], result[1]));
        Assert.Empty(_disk.Log);
    }

    [Fact]
    public void Another_data_rate_or_no_disk_finds_no_address_mark()
    {
        Out(Dir, 2);
        Assert.Equal([0x40, 1], Command(0x4A, 0)[..2]);
        Out(Dir, 0);
        Assert.Equal([0, 0], Command(0x4A, 0)[..2]);
        _backend.Insert(null);
        Assert.Equal([0x40, 1], Command(0x4A, 0)[..2]);
        Assert.Equal(0x80, In(Dir));
    }

    [Fact]
    public void A_disk_that_is_read_only_is_not_written()
    {
        _backend.IsReadOnly = true;
        SetDma(FromMemory, 512);
        Assert.Equal([0x40, 2], Command(0xC5, 0, 0, 0, 1, 2, 18, 0x1B, 0xFF)[..2]);
        Assert.Equal(0x40, Command(0x04, 0)[0] & 0x40);
        Assert.Empty(_disk.Log);
    }

    [Fact]
    public void A_failing_disk_is_a_data_error()
    {
        _disk.FailWith = 5;
        SetDma(ToMemory, 512);
        Assert.Equal([0x40, 0x20, 0x20], Command(0xE6, 0, 0, 0, 1, 2, 18, 0x1B, 0xFF)[..3]);
    }

    [Fact]
    public void A_reset_forgets_what_is_under_way()
    {
        _disk.Hold();
        SetDma(ToMemory, 512);
        foreach (byte value in (byte[])[0xE6, 0, 0, 0, 1, 2, 18, 0x1B, 0xFF]) Out(Fifo, value);
        Out(Dor, 0);
        Out(Dor, 0x1C);
        _disk.Release();
        _bench.Pump.Until(() => _backend.InFlight == 0);
        for (int drive = 0; drive < 4; drive++) Command(0x08);
        Assert.False(_irq);
        Assert.Equal(new byte[512], Moved(512));
        Start();
        Assert.Equal(0, Command(0xE6, 0, 0, 0, 1, 2, 18, 0x1B, 0xFF)[0]);
    }

    [Theory]
    [InlineData(1440, 18, 80, FloppyType.Inch3)]
    [InlineData(2880, 36, 80, FloppyType.Inch3Extra)]
    [InlineData(720, 9, 80, FloppyType.Inch3)]
    [InlineData(1200, 15, 80, FloppyType.Inch5)]
    [InlineData(360, 9, 40, FloppyType.Inch5)]
    [InlineData(1000, 36, 80, FloppyType.Inch3Extra)]              // of no known size
    public void Sizes_tell_formats(int kib, int sectors, int tracks, FloppyType drive)
    {
        FloppyFormat format = FloppyFormat.For(kib * 1024L, null, FloppyType.Inch3Extra);
        Assert.Equal((sectors, tracks, drive), (format.Sectors, format.Tracks, format.Drive));
    }

    [Fact]
    public void Its_path_has_its_first_port()
    {
        Assert.Equal("fdc@03f0", _chip.PathName);
        Assert.Equal("fdc@0370", new I82078(new IrqLine("irq6", _ => { }), _dma, 2) { FirstAddress = 0x370 }.PathName);
    }

    [Theory]
    [InlineData(ErrorPolicy.Stop, ErrorPolicy.Report, "werror")]
    [InlineData(ErrorPolicy.Report, ErrorPolicy.Ignore, "rerror")]
    public void The_guest_hears_of_all_errors(ErrorPolicy onWrite, ErrorPolicy onRead, string refused)
    {
        FakeBoard board = new(new DeviceBench(_bench.Clock)) { Drives = { ["d"] = _backend } };
        var site = new DeviceSite(board, "-device", _chip.NewBus("floppy-bus.0"));
        Properties properties = FakeBoard.Defaults(FloppyDrive.Model, ("drive", "d"));
        FloppyDrive.Model.Create(properties, site);
        Assert.Equal(ErrorPolicy.Report, _backend.Errors.OnWrite);
        (_backend.Errors.OnWrite, _backend.Errors.OnRead) = (onWrite, onRead);
        Assert.Contains($"fdc doesn't support drive option {refused}",
            Assert.Throws<ConfigurationException>(() => FloppyDrive.Model.Create(properties, site)).Message);
    }

    [Fact]
    public void State_is_kept() => DeviceSuite.Check(bench => NewChip(bench.Wire("irq")), device =>
    {
        device.Reset();
        ((I82078)device).Write(0, 1, 0x1C);
        ((I82078)device).Write(3, 1, 0x03);
        ((I82078)device).Write(3, 1, 0xAF);
    });
}
