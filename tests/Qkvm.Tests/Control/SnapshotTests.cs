using System.Buffers.Binary;
using System.Text;
using System.Text.Json;
using Qkvm.Core.Block;
using Qkvm.Storage.Drivers.Qcow2;

namespace Qkvm.Tests.Control;

/// <summary>info snapshots, as QEMU 7.2 printed it of images like these.</summary>
public sealed class SnapshotTests : IDisposable
{
    static readonly DateTime s_date = new(2026, 11, 29, 12, 42, 40, DateTimeKind.Local);

    readonly ControlBench _bench = new();
    readonly string _directory = Directory.CreateTempSubdirectory("qkvm-snapshots-").FullName;

    public void Dispose()
    {
        _bench.Dispose();
        Directory.Delete(_directory, recursive: true);
    }

    [Fact]
    public void Without_an_image_that_keeps_them_there_is_nothing_to_list() =>
        Assert.Equal("no block device can store vmstate for snapshot\n", _bench.Human("info snapshots"));

    [Fact]
    public async Task An_image_without_has_none()
    {
        await Insert("disk", "e");
        Assert.Equal("There is no snapshot available.\n", _bench.Human("info snapshots"));
    }

    [Fact]
    public async Task Of_one_disk_all_are_whole()
    {
        const string name = "a-name-that-is-longer-than-it-should-be-really-much-longer";
        await Insert("disk", "a", new("1", "one", 0, 0, 0), new("4", name, 0, 0, 0),
            new("5", "vm", 609_280, 3_723_004_000_000, ulong.MaxValue), new("6", "\e[2J", 5UL << 30, 0, null));
        string table = $"""
            ID        TAG               VM SIZE                DATE     VM CLOCK     ICOUNT
            --        one                   0 B 2026-11-29 12:42:40 00:00:00.000          0
            --        {name}      0 B 2026-11-29 12:42:40 00:00:00.000          0
            --        vm                595 KiB 2026-11-29 12:42:40 01:02:03.004           
            --        ?[2J                5 GiB 2026-11-29 12:42:40 00:00:00.000           

            """;
        Assert.Equal($"List of snapshots present on all disks:\n{table}", _bench.Human("info snapshots"));
        Assert.Contains("Snapshot list:\n" + table.Replace("--        o", "1         o")
            .Replace("--        a", "4         a").Replace("--        v", "5         v")
            .Replace("--        ?", "6         ?") + "Format specific information:\n    compat: 1.1\n",
            _bench.Human("info block -v"));
        JsonElement told = _bench.Query("query-block")[0].GetProperty("inserted").GetProperty("image")
            .GetProperty("snapshots");
        long seconds = new DateTimeOffset(s_date).ToUnixTimeSeconds();
        Assert.Equal($$"""
            {"id":"1","name":"one","vm-state-size":0,"date-sec":{{seconds}},"date-nsec":7,"vm-clock-sec":0,
            "vm-clock-nsec":0,"icount":0}
            """.ReplaceLineEndings(""), told[0].GetRawText());
        Assert.Equal(3723, told[2].GetProperty("vm-clock-sec").GetInt32());
        Assert.False(told[2].TryGetProperty("icount", out _));
        Assert.Equal(5L << 30, told[3].GetProperty("vm-state-size").GetInt64());
    }

    [Fact]
    public async Task Of_two_those_that_both_have_are_whole_and_a_disk_that_cannot_be_written_does_not_count()
    {
        await Insert("disk", "a", new("1", "one", 0, 0, 0), new("3", "both", 0, 0, 0));
        await Insert("other", "b", new("1", "both", 0, 0, 0), new("2", "onlyb", 0, 0, 0));
        await Insert("locked", "c", isReadOnly: true);
        Assert.Equal("""
            List of snapshots present on all disks:
            ID        TAG               VM SIZE                DATE     VM CLOCK     ICOUNT
            --        both                  0 B 2026-11-29 12:42:40 00:00:00.000          0

            List of partial (non-loadable) snapshots on 'disk':
            ID        TAG               VM SIZE                DATE     VM CLOCK     ICOUNT
            1         one                   0 B 2026-11-29 12:42:40 00:00:00.000          0

            List of partial (non-loadable) snapshots on 'other':
            ID        TAG               VM SIZE                DATE     VM CLOCK     ICOUNT
            2         onlyb                 0 B 2026-11-29 12:42:40 00:00:00.000          0

            """, _bench.Human("info snapshots"));
    }

    /// <summary>The bench's own disk keeps none, so that nothing is on all.</summary>
    [Fact]
    public async Task A_node_that_no_disk_has_counts_too_and_has_no_name()
    {
        await Image("b", new Entry("1", "both", 0, 0, 0));
        Add("b", isReadOnly: false);
        Assert.Equal("""
            List of snapshots present on all disks:
            None

            List of partial (non-loadable) snapshots on '':
            ID        TAG               VM SIZE                DATE     VM CLOCK     ICOUNT
            1         both                  0 B 2026-11-29 12:42:40 00:00:00.000          0

            """, _bench.Human("info snapshots"));
    }

    /// <param name="Clock">Nanoseconds.</param>
    /// <param name="Count">Of instructions; null for an entry of the time before there was one.</param>
    sealed record Entry(string Id, string Name, ulong StateSize, ulong Clock, ulong? Count);

    async Task Insert(string drive, string file, params Entry[] entries)
    {
        await Image(file, entries);
        Put(drive, Add(file, isReadOnly: false), isReadOnly: false);
    }

    async Task Insert(string drive, string file, bool isReadOnly)
    {
        await Image(file);
        Put(drive, Add(file, isReadOnly), isReadOnly);
    }

    BlockDriver Add(string file, bool isReadOnly)
    {
        _bench.Query("blockdev-add", $$$"""
            {"driver":"qcow2","node-name":"{{{file}}}","read-only":{{{(isReadOnly ? "true" : "false")}}},
             "file":{"driver":"file","filename":"{{{Path.Combine(_directory, file)}}}"} }
            """);
        return _bench.OnLoop(() => _bench.Host.Nodes.Single(node => node.NodeName == file));
    }

    void Put(string drive, BlockDriver medium, bool isReadOnly) => _bench.OnLoop(() =>
    {
        if (!_bench.Backends.Drives.TryGetValue(drive, out BlockBackend? backend))
            _bench.Backends.Drives[drive] = backend = new BlockBackend(drive, _bench.Environment.Loop.Post);
        backend.IsReadOnly = isReadOnly;
        backend.Insert(medium);
    });

    /// <summary>An image with a table of snapshots. Spec: QEMU docs/interop/qcow2.txt, "Snapshots".</summary>
    async Task Image(string file, params Entry[] entries)
    {
        string path = Path.Combine(_directory, file);
        await Qcow2Image.CreateAsync(path, 1 << 20, new Qcow2CreateOptions());
        byte[] image = File.ReadAllBytes(path);
        Array.Resize(ref image, (image.Length + 0xFFFF) & ~0xFFFF);
        BinaryPrimitives.WriteInt32BigEndian(image.AsSpan(60), entries.Length);          // nb_snapshots
        BinaryPrimitives.WriteInt64BigEndian(image.AsSpan(64), image.Length);            // snapshots_offset
        File.WriteAllBytes(path, [.. image, .. entries.SelectMany(Bytes)]);
    }

    static byte[] Bytes(Entry entry)
    {
        bool isOld = entry.Count == null;
        int extra = isOld ? 8 : 24;
        byte[] text = Encoding.UTF8.GetBytes(entry.Id + entry.Name);
        var data = new byte[(40 + extra + text.Length + 7) / 8 * 8];
        Span<byte> to = data;
        BinaryPrimitives.WriteInt16BigEndian(to[12..], (short)entry.Id.Length);
        BinaryPrimitives.WriteInt16BigEndian(to[14..], (short)(text.Length - entry.Id.Length));
        BinaryPrimitives.WriteInt32BigEndian(to[16..], (int)new DateTimeOffset(s_date).ToUnixTimeSeconds());
        BinaryPrimitives.WriteInt32BigEndian(to[20..], 7);
        BinaryPrimitives.WriteUInt64BigEndian(to[24..], entry.Clock);
        BinaryPrimitives.WriteUInt32BigEndian(to[32..], (uint)entry.StateSize);
        BinaryPrimitives.WriteInt32BigEndian(to[36..], extra);
        BinaryPrimitives.WriteUInt64BigEndian(to[40..], entry.StateSize);
        if (!isOld) BinaryPrimitives.WriteUInt64BigEndian(to[56..], entry.Count!.Value);
        text.CopyTo(to[(40 + extra)..]);
        return data;
    }
}
