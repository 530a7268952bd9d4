using System.Diagnostics;
using System.IO.Compression;
using System.Text.Json;
using Qkvm.Control;
using Qkvm.Core.Machine;
using Qkvm.Testing;

namespace Qkvm.Tests.Control;

/// <summary>dump-guest-memory, whose files are read by other programs.</summary>
public sealed class DumpTests : IDisposable
{
    const int Megabyte = 1 << 20, Page = 4096;

    readonly ControlBench _bench = new();
    readonly string _path = Path.Combine(Path.GetTempPath(), $"qkvm-{Guid.NewGuid():N}.dump");

    public void Dispose()
    {
        _bench.Dispose();
        File.Delete(_path);
    }

    [ReadelfFact]
    public void A_core_has_a_header_for_each_range_and_a_note_for_each_vCPU()
    {
        Fill(Megabyte, 0x5A);
        _bench.OnLoop(() =>
        {
            var registers = _bench.Cpus[1].ReadRegisters();
            registers.General[1] = 0x1122_3344;
            registers.Efer = 1 << 10;
            _bench.Cpus[1].WriteRegisters(registers);
        });
        Dump("""{"paging":false,"protocol":"file:FILE"}""");
        string text = Run("readelf", "-h", "-l", "-n", "-W", _path);
        Assert.Contains("CORE (Core file)", text);
        Assert.Contains("Intel 80386", text);                      // the first vCPU is not in long mode
        Assert.Contains("0x0000000000100000 0x0000000000100000 0xf00000 0xf00000", text);
        Assert.Equal(2, text.Split("NT_PRSTATUS").Length - 1);
        Assert.Equal(2, text.Split("QEMU   ").Length - 1);
        byte[] core = File.ReadAllBytes(_path);
        Assert.All(core[OffsetOf(core, Megabyte)..][..Page], b => Assert.Equal(0x5A, b));
        Assert.True(core.AsSpan().IndexOf((ReadOnlySpan<byte>)[0x44, 0x33, 0x22, 0x11]) > 0, "RCX of the second vCPU");
        Assert.Equal("completed", _bench.Query("query-dump").GetProperty("status").GetString());
        Assert.Equal(_bench.Query("query-dump").GetProperty("total").GetInt64(),
            _bench.Query("query-dump").GetProperty("completed").GetInt64());
    }

    [Fact]
    public void A_part_of_memory_is_dumped_alone()
    {
        Fill(2 * Megabyte, 0x33);
        Dump($$"""{"paging":false,"protocol":"file:FILE","begin":{{2 * Megabyte}},"length":{{Page}}}""");
        byte[] core = File.ReadAllBytes(_path);
        Assert.All(core[OffsetOf(core, 2 * Megabyte)..], b => Assert.Equal(0x33, b));
        Assert.Equal(Page, core.Length - OffsetOf(core, 2 * Megabyte));
        Assert.Equal(Page, _bench.Query("query-dump").GetProperty("total").GetInt32());
    }

    /// <summary>32-bit page tables at 1 MiB that map C0000000h to 4 MiB.</summary>
    [Fact]
    public void Paging_shows_the_guests_own_addresses()
    {
        const uint Directory = Megabyte, Table = Megabyte + Page, Target = 4 * Megabyte, Present = 3;
        Fill(Target, 0x77);
        _bench.OnLoop(() =>
        {
            _bench.Machine.Board.Memory.Write(Directory + 0x300 * 4, 4, Table | Present);
            _bench.Machine.Board.Memory.Write(Table, 4, Target | Present);
            _bench.Machine.Board.Memory.Write(Table + 4, 4, Target + Page | Present);
            var registers = _bench.Cpus[0].ReadRegisters();
            (registers.Cr0, registers.Cr3) = (0x80000001, Directory);
            _bench.Cpus[0].WriteRegisters(registers);
        });
        Dump("""{"paging":true,"protocol":"file:FILE"}""");
        byte[] core = File.ReadAllBytes(_path);
        Assert.Equal(2, BitConverter.ToUInt16(core, 56));          // the notes, and two pages that are neighbours
        Assert.Equal(0xC0000000, BitConverter.ToUInt64(core, 64 + 56 + 16));
        Assert.Equal(Target, BitConverter.ToUInt64(core, 64 + 56 + 24));
        Assert.Equal(2UL * Page, BitConverter.ToUInt64(core, 64 + 56 + 32));
        Assert.Equal(0x77, core[BitConverter.ToInt64(core, 64 + 56 + 8)]);
    }

    [Fact]
    public void Kdump_pages_are_compressed_and_zeros_are_shared()
    {
        Fill(3 * Megabyte, 0x21);
        Dump("""{"paging":false,"protocol":"file:FILE","format":"kdump-zlib"}""");
        byte[] file = Unflatten(File.ReadAllBytes(_path));
        Assert.Equal("KDUMP   "u8, file.AsSpan(0, 8));
        int subHeader = BitConverter.ToInt32(file, 432), bitmaps = BitConverter.ToInt32(file, 436);
        int descriptors = (1 + subHeader + bitmaps) * Page, bitmap = (1 + subHeader) * Page;
        int index = 0;                                             // of the page at 3 MiB among those that there are
        for (int page = 0; page < 3 * Megabyte / Page; page++) index += file[bitmap + page / 8] >> page % 8 & 1;
        int entry = descriptors + index * 24;
        Assert.Equal(1, BitConverter.ToInt32(file, entry + 12));
        using var zlib = new ZLibStream(new MemoryStream(file, (int)BitConverter.ToInt64(file, entry),
            BitConverter.ToInt32(file, entry + 8)), CompressionMode.Decompress);
        var plain = new byte[Page];
        zlib.ReadExactly(plain);
        Assert.All(plain, b => Assert.Equal(0x21, b));
        Assert.Equal(0, BitConverter.ToInt32(file, entry + 24 + 12));
        Assert.True(new FileInfo(_path).Length < 4 * Megabyte, "16 MiB of zeros are not written");
    }

    /// <summary>As Linux makes it; the last byte of the note fills it up to four.</summary>
    static byte[] CoreInfo => [11, 0, 0, 0, 35, 0, 0, 0, 0, 0, 0, 0, .. "VMCOREINFO\0\0"u8,
        .. "OSRELEASE=6.1\nNUMBER(phys_base)=-99\0"u8];

    [ReadelfFact]
    public void A_core_has_the_note_that_the_guest_tells_of()
    {
        using var bench = new ControlBench(WithCoreInfo);
        Tell(bench, 2 * Megabyte, CoreInfo, CoreInfo.Length);
        Dump("""{"paging":false,"protocol":"file:FILE"}""", bench);
        Assert.Contains("VMCOREINFO", Run("readelf", "-n", "-W", _path));
        Assert.True(File.ReadAllBytes(_path).AsSpan().IndexOf(CoreInfo) > 0);
    }

    [Fact]
    public void Kdump_tells_where_the_guests_note_stands()
    {
        using var bench = new ControlBench(WithCoreInfo);
        Tell(bench, 2 * Megabyte, CoreInfo, CoreInfo.Length);
        Dump("""{"paging":false,"protocol":"file:FILE","format":"kdump-zlib"}""", bench);
        byte[] file = Unflatten(File.ReadAllBytes(_path));
        Assert.Equal(-99, BitConverter.ToInt64(file, Page));
        Assert.Equal("OSRELEASE=6.1"u8, file.AsSpan((int)BitConverter.ToInt64(file, Page + 32), 13));
        Assert.Equal(35, BitConverter.ToInt64(file, Page + 40));
    }

    /// <summary>Beyond memory, in registers, cut short, too long, of another owner, with a text beyond its end: there
    /// is a dump without it.</summary>
    [Theory]
    [InlineData(0xFFFF_FFFF_FFFFUL, 59, 0, 11)] [InlineData(0xFEE0_0000UL, 59, 0, 11)] [InlineData(2UL << 20, 8, 0, 11)]
    [InlineData(2UL << 20, int.MaxValue, 0, 11)] [InlineData(2UL << 20, 59, 0, 12)] [InlineData(2UL << 20, 59, 4, 255)]
    [InlineData(2UL << 20, 20, 0, 11)] [InlineData(ulong.MaxValue - 3, 59, 0, 11)]
    public void A_note_that_is_none_is_left_out(ulong address, int length, int changed, byte value)
    {
        using var bench = new ControlBench(WithCoreInfo);
        byte[] note = CoreInfo;
        note[changed] = value;
        Tell(bench, address, note, length);
        Dump("""{"paging":false,"protocol":"file:FILE","begin":8388608,"length":4096}""", bench);
        Assert.Equal(-1, File.ReadAllBytes(_path).AsSpan().IndexOf("VMCOREINFO"u8));
    }

    static MachineConfig WithCoreInfo(MachineConfig config) => config with
        { Devices = [.. config.Devices, new DeviceConfig("vmcoreinfo", null, [], "-device vmcoreinfo")] };

    /// <summary>What Linux' driver does: the note in memory, its place into the file by fw_cfg's DMA.</summary>
    static void Tell(ControlBench bench, ulong address, byte[] note, int length) => bench.OnLoop(() =>
    {
        const ulong Told = Megabyte, Access = Megabyte + 64;
        var board = (Qkvm.Machines.Board)bench.Machine.Board;
        Assert.Contains("etc/vmcoreinfo", board.FirmwareConfiguration.Files);
        ReadOnlySpan<byte> directory = board.FirmwareConfiguration.Item(0x19).Span;
        int entry = directory.IndexOf("etc/vmcoreinfo"u8) - 8;
        board.Memory.Write(address, note);
        board.Memory.Write(Told, 8, (ulong)length << 32 | 1 << 16);
        board.Memory.Write(Told + 8, 8, address);
        Span<byte> access = stackalloc byte[16];
        access[..2].Clear();
        directory.Slice(entry + 4, 2).CopyTo(access);              // the key; select and write
        access[3] = 8 | 16;
        System.Buffers.Binary.BinaryPrimitives.WriteInt32BigEndian(access[4..], 16);
        System.Buffers.Binary.BinaryPrimitives.WriteUInt64BigEndian(access[8..], Told);
        board.Memory.Write(Access, access);
        board.Ports.Write(0x518, 4, System.Buffers.Binary.BinaryPrimitives.ReverseEndianness((uint)Access));
        Assert.Equal(0u, board.Memory.Read(Access, 4));
    });

    [Fact]
    public void A_running_machine_stands_meanwhile_and_the_end_is_told()
    {
        var told = new List<string>();
        _bench.Machine.Events.Raised += happened => told.Add(EventCatalogue.Of(happened).Name);
        _bench.OnLoop(_bench.Machine.Resume);
        Dump("""{"paging":false,"protocol":"file:FILE"}""");
        Assert.Equal(["RESUME", "STOP", "DUMP_COMPLETED", "RESUME"], _bench.OnLoop(told.ToArray));
    }

    [Fact]
    public async Task Who_detaches_is_answered_at_once_and_asks_how_far_it_is()
    {
        var ended = new TaskCompletionSource<DumpCompletedEvent>();
        _bench.Machine.Events.Raised += happened =>
        {
            if (happened is DumpCompletedEvent end) ended.SetResult(end);
        };
        Assert.Equal("none", _bench.Query("query-dump").GetProperty("status").GetString());
        Dump("""{"paging":false,"protocol":"file:FILE","detach":true,"format":"kdump-zlib"}""");
        DumpCompletedEvent told = await ended.Task.WaitAsync(TimeSpan.FromMinutes(2));
        Assert.Null(told.Error);
        Assert.Equal(told.Result.Total, told.Result.Completed);
        Assert.Equal("Status: completed\n", _bench.Human("info dump"));
    }

    [Fact]
    public void What_cannot_be_written_fails_and_the_machine_goes_on()
    {
        _bench.OnLoop(_bench.Machine.Resume);
        CommandException e = Assert.Throws<CommandException>(() =>
            _bench.Query("dump-guest-memory", """{"paging":false,"protocol":"file:/dev/full"}"""));
        Assert.StartsWith("dump: failed to save memory: ", e.Message);
        Assert.Equal("failed", _bench.Query("query-dump").GetProperty("status").GetString());
        Assert.Equal(RunState.Running, _bench.OnLoop(() => _bench.Machine.State));
    }

    /// <summary>The texts are QEMU's.</summary>
    [Theory]
    [InlineData("""{"paging":true,"protocol":"file:x","format":"kdump-zlib"}""",
        "kdump-compressed format doesn't support paging or filter")]
    [InlineData("""{"paging":false,"protocol":"file:x","begin":4096}""", "Parameter 'length' is missing")]
    [InlineData("""{"paging":false,"protocol":"file:x","length":4096}""", "Parameter 'begin' is missing")]
    [InlineData("""{"paging":false,"protocol":"file:x","begin":0,"length":0}""", "Invalid parameter 'length'")]
    [InlineData("""{"paging":false,"protocol":"file:/dev/null","begin":4096000000,"length":9}""",
        "dump: no guest memory to dump")]
    [InlineData("""{"paging":false,"protocol":"fil:x"}""", "Invalid parameter 'protocol'")]
    [InlineData("""{"paging":false,"protocol":"fd:x"}""", "File descriptor named 'x' has not been found")]
    [InlineData("""{"paging":false,"protocol":"fd:1"}""", "File descriptor named '1' has not been found")]
    [InlineData("""{"paging":false,"protocol":"file:/nowhere/x"}""",
        "Could not open '/nowhere/x': No such file or directory")]
    [InlineData("""{"paging":false,"protocol":"file:x","format":"kdump-lzo"}""", "kdump-lzo is not available now")]
    [InlineData("""{"paging":false,"protocol":"file:x","format":"kdump-snappy"}""",
        "kdump-snappy is not available now")]
    public void A_dump_that_cannot_be_says_why(string arguments, string message) =>
        Assert.Equal(message, Assert.Throws<CommandException>(() => _bench.Query("dump-guest-memory", arguments))
            .Message);

    [Fact]
    public void The_human_monitor_dumps_too()
    {
        Assert.Equal("", _bench.Human($"dump-guest-memory -z {_path}"));
        Assert.Equal("makedumpfile"u8, File.ReadAllBytes(_path).AsSpan(0, 12));
        Assert.Equal("Error: only one of '-z|-l|-s|-w' can be set\n", _bench.Human($"dump-guest-memory -z -l {_path}"));
    }

    void Dump(string arguments, ControlBench? bench = null) =>
        (bench ?? _bench).Query("dump-guest-memory", arguments.Replace("FILE", _path));

    void Fill(uint at, byte value) => _bench.OnLoop(() =>
    {
        var page = new byte[Page];
        page.AsSpan().Fill(value);
        _bench.Machine.Board.Memory.Write(at, page);
    });

    /// <summary>Where the core has a physical address.</summary>
    static int OffsetOf(byte[] core, ulong physical)
    {
        int table = (int)BitConverter.ToInt64(core, 32), count = BitConverter.ToUInt16(core, 56);
        for (int i = 0; i < count; i++)
        {
            int header = table + i * 56;
            ulong start = BitConverter.ToUInt64(core, header + 24), length = BitConverter.ToUInt64(core, header + 32);
            if (BitConverter.ToInt32(core, header) == 1 && physical >= start && physical < start + length)
                return (int)(BitConverter.ToUInt64(core, header + 8) + (physical - start));
        }
        throw new InvalidDataException($"{physical:x} is in no program header");
    }

    /// <summary>What makedumpfile -R does.</summary>
    static byte[] Unflatten(byte[] flat)
    {
        var file = new MemoryStream();
        for (int at = Page;;)
        {
            long place = System.Buffers.Binary.BinaryPrimitives.ReadInt64BigEndian(flat.AsSpan(at)),
                length = System.Buffers.Binary.BinaryPrimitives.ReadInt64BigEndian(flat.AsSpan(at + 8));
            if (place < 0) return file.ToArray();
            file.Position = place;
            file.Write(flat, at + 16, (int)length);
            at += 16 + (int)length;
        }
    }

    static string Run(string program, params string[] arguments)
    {
        using Process process = Process.Start(new ProcessStartInfo(program, arguments)
            { RedirectStandardOutput = true })!;
        string text = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        Assert.Equal(0, process.ExitCode);
        return text;
    }

    sealed class ReadelfFactAttribute() : ConditionalFactAttribute(File.Exists("/usr/bin/readelf") ? null
        : "needs readelf (Debian: binutils)");
}
