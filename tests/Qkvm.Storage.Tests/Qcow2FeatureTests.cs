using System.Buffers.Binary;
using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Core.Devices;
using Qkvm.Storage.Drivers.Qcow2;

namespace Qkvm.Storage.Tests;

/// <summary>Snapshots, bitmaps, data files and checks of qcow2, each in both directions with the reference
/// tools.</summary>
public sealed class Qcow2FeatureTests
{
    const int Size = 4 << 20;

    [QemuTheory]
    [InlineData("")] [InlineData("cluster_size=512")] [InlineData("cluster_size=4k,refcount_bits=8")]
    [InlineData("compat=0.10")] [InlineData("extended_l2=on")]
    public async Task Snapshots_of_ours_are_what_qemu_reads(string options)
    {
        using var scratch = new Scratch();
        await scratch.Create("qcow2", "a", Size, options);
        var random = new Random(3);
        var model = new byte[Size];
        var kept = new Dictionary<string, byte[]>();
        await using (var image = (Qcow2Driver)scratch.Open("a", "format=qcow2,discard=unmap"))
            for (int round = 0; round < 12; round++)
            {
                for (int i = 0; i < 12; i++) await Qcow2ModelTests.Step(image, model, random, keepsOnDiscard: false);
                switch (round % 4)
                {
                    case 0 or 1:
                        await image.CreateSnapshotAsync(new BlockSnapshot("", $"s{round}", 0, 1, 2, 3, 0));
                        kept[$"s{round}"] = (byte[])model.Clone();
                        break;
                    case 2 when kept.Count > 1:
                        string gone = kept.Keys.First();
                        await image.DeleteSnapshotAsync(image.Snapshots.First(s => s.Name == gone).Id);
                        kept.Remove(gone);
                        break;
                    case 3:
                        string back = kept.Keys.ElementAt(random.Next(kept.Count));
                        await image.ApplySnapshotAsync(image.Snapshots.First(s => s.Name == back).Id);
                        model = (byte[])kept[back].Clone();
                        break;
                }
                Assert.Equal(model, await image.Read(0, Size));
            }
        Assert.Contains("No errors", QemuTools.Img("check", scratch["a"]));
        Assert.Equal(model, Reference(scratch));
        foreach ((string name, byte[] then) in kept)
        {
            await using (var shown = (Qcow2Driver)scratch.Open("a", "format=qcow2,readonly=on"))
            {
                await shown.ShowSnapshotAsync(shown.Snapshots.First(s => s.Name == name).Id);
                Assert.Equal(then, await shown.Read(0, Size));
            }
            QemuTools.Img("snapshot", "-a", name, scratch["a"]);
            Assert.Equal(then, Reference(scratch));
        }
    }

    [QemuFact]
    public async Task Snapshots_of_qemus_are_applied_and_deleted()
    {
        using var scratch = new Scratch();
        QemuTools.Img("create", "-q", "-f", "qcow2", scratch["a"], Size.ToString());
        QemuTools.Io(scratch["a"], "write -P 1 0 1M");
        QemuTools.Img("snapshot", "-c", "one", scratch["a"]);
        QemuTools.Io(scratch["a"], "write -P 2 64k 1M");
        QemuTools.Img("snapshot", "-c", "two", scratch["a"]);
        QemuTools.Io(scratch["a"], "write -P 3 0 4M");
        await using (var image = (Qcow2Driver)scratch.Open("a"))
        {
            await image.ApplySnapshotAsync("1");
            Assert.All(await image.Read(0, 1 << 20), value => Assert.Equal(1, value));
            Assert.All(await image.Read(1 << 20, 3 << 20), value => Assert.Equal(0, value));
            await image.DeleteSnapshotAsync("1");
            Assert.Equal(2, (await Assert.ThrowsAsync<BlockException>(async () => await image.DeleteSnapshotAsync("7")))
                .Errno);
        }
        Assert.Contains("No errors", QemuTools.Img("check", scratch["a"]));
        QemuTools.Img("snapshot", "-a", "two", scratch["a"]);
        Assert.Equal(2, Reference(scratch)[64 << 10]);
    }

    [QemuFact]
    public async Task A_snapshot_that_refcounts_cannot_count_changes_nothing()
    {
        using var scratch = new Scratch();
        await scratch.Create("qcow2", "a", Size, "refcount_bits=1");
        await using (var image = (Qcow2Driver)scratch.Open("a"))
        {
            await image.Write(0, BlockDriverExtensions.Pattern(1, 100 << 10));
            await Assert.ThrowsAsync<BlockException>(async () =>
                await image.CreateSnapshotAsync(new BlockSnapshot("", "s", 0, 1, 2, 3, 0)));
            await image.Write(0, BlockDriverExtensions.Pattern(2, 100 << 10));
        }
        Assert.Contains("No errors", QemuTools.Img("check", scratch["a"]));
    }

    [QemuTheory]
    [InlineData("")] [InlineData("cluster_size=512")]
    public async Task Bitmaps_know_what_was_written_by_us_and_by_qemu(string options)
    {
        using var scratch = new Scratch();
        await scratch.Create("qcow2", "a", Size, options);
        await using (var image = (Qcow2Driver)scratch.Open("a"))
        {
            image.AddBitmap("ours", 4096);
            image.AddBitmap("still", null).IsEnabled = false;
            await image.Write(0, BlockDriverExtensions.Pattern(1, 5000 / 512 * 512));
            await image.WriteZeroesAsync(1 << 20, 4096, mayUnmap: true);
            Assert.Throws<BlockException>(() => image.AddBitmap("ours", null));
        }
        Assert.Contains("No errors", QemuTools.Img("check", scratch["a"]));
        Assert.Contains("ours", QemuTools.Img("info", scratch["a"]));
        QemuTools.Img("bitmap", "--add", "-g", "4k", "--merge", "ours", scratch["a"], "merged");
        QemuTools.Io(scratch["a"], "write 2M 8k");
        await using (var image = (Qcow2Driver)scratch.Open("a"))
        {
            Assert.Equal([(0, 8192), (1 << 20, (1 << 20) + 4096), (2 << 20, (2 << 20) + 8192)], Dirty(image, "ours"));
            Assert.Equal([(0, 8192), (1 << 20, (1 << 20) + 4096), (2 << 20, (2 << 20) + 8192)], Dirty(image, "merged"));
            Assert.Empty(Dirty(image, "still"));
            image.RemoveBitmap(image.Bitmaps.First(b => b.Name == "merged"));
        }
        Assert.DoesNotContain("merged", QemuTools.Img("info", scratch["a"]));
        Assert.Contains("No errors", QemuTools.Img("check", scratch["a"]));
    }

    /// <summary>Whoever changes nothing but a bitmap has changed the image.</summary>
    [Fact]
    public async Task A_bitmap_is_stored_when_it_alone_changes()
    {
        using var scratch = new Scratch();
        await scratch.Create("qcow2", "a", Size);
        await Change(bitmap => Assert.True(bitmap.IsEnabled));
        await Change(bitmap => bitmap.IsEnabled = false);
        await Change(bitmap =>
        {
            Assert.False(bitmap.IsEnabled);
            bitmap.Set(1 << 20, 4096);
        });
        await Change(bitmap => Assert.Equal(1 << 20, bitmap.NextDirty(0)));
        await Change(bitmap => bitmap.Clear());
        await Change(bitmap => Assert.Equal(-1, bitmap.NextDirty(0)));
        await Change(bitmap => bitmap.IsEnabled = true);
        await using (var image = (Qcow2Driver)scratch.Open("a")) await image.Write(0, new byte[512]);
        await Change(bitmap => Assert.Equal(0, bitmap.NextDirty(0)));

        async Task Change(Action<IBitmap> change)
        {
            await using var image = (Qcow2Driver)scratch.Open("a");
            change(image.Bitmaps.Count > 0 ? image.Bitmaps[0] : image.AddBitmap("b", 4096));
        }
    }

    /// <summary>"Snapshots": in version 3 each has its state's size in 64 bits and its disk's.</summary>
    [QemuFact]
    public async Task Snapshots_of_version_2_get_what_version_3_asks_of_them()
    {
        using var scratch = new Scratch();
        QemuTools.Img("create", "-q", "-f", "qcow2", "-o", "compat=0.10", scratch["a"], Size.ToString());
        QemuTools.Img("snapshot", "-c", "one", scratch["a"]);
        byte[] bytes = File.ReadAllBytes(scratch["a"]);
        int at = (int)BinaryPrimitives.ReadInt64BigEndian(bytes.AsSpan(64)), named = at + 40 + 24;
        Assert.Equal(24, BinaryPrimitives.ReadInt32BigEndian(bytes.AsSpan(at + 36)));
        Array.Resize(ref bytes, named + 8);
        BinaryPrimitives.WriteInt32BigEndian(bytes.AsSpan(at + 36), 0); // as the first ones were
        bytes.AsSpan(named, 8).CopyTo(bytes.AsSpan(at + 40));
        File.WriteAllBytes(scratch["a"], bytes);
        await using (var image = (Qcow2Driver)scratch.Open("a")) await image.AmendAsync(Amended("compat=1.1"));
        bytes = File.ReadAllBytes(scratch["a"]);
        at = (int)BinaryPrimitives.ReadInt64BigEndian(bytes.AsSpan(64));
        Assert.Equal(24, BinaryPrimitives.ReadInt32BigEndian(bytes.AsSpan(at + 36)));
        Assert.Equal(Size, BinaryPrimitives.ReadInt64BigEndian(bytes.AsSpan(at + 48)));
        Assert.Contains("No errors", QemuTools.Img("check", scratch["a"]));
        Assert.Contains("one", QemuTools.Img("snapshot", "-l", scratch["a"]));
    }

    /// <summary>"Header", compression_type: "must be present and not zero" if its bit is set.</summary>
    [Fact]
    public async Task A_compression_type_and_its_bit_come_together()
    {
        using var scratch = new Scratch();
        foreach (string type in new[] { "zlib", "zstd" })
        {
            await scratch.Create("qcow2", type, Size, $"compression_type={type}");
            byte[] bytes = File.ReadAllBytes(scratch[type]);
            bytes[79] ^= 8;
            File.WriteAllBytes(scratch[type], bytes);
            Assert.Contains("ompression type",
                Assert.Throws<ConfigurationException>(() => scratch.Open(type, "format=qcow2")).Message);
        }
    }

    /// <summary>QEMU goes by the last header extension of a type, and only one is left when the image is
    /// changed.</summary>
    [QemuFact]
    public async Task The_last_of_two_header_extensions_counts()
    {
        using var scratch = new Scratch();
        QemuTools.Img("create", "-q", "-f", "raw", scratch["base"], Size.ToString());
        QemuTools.Img("create", "-q", "-f", "qcow2", "-b", scratch["base"], "-F", "raw", scratch["a"]);
        byte[] bytes = File.ReadAllBytes(scratch["a"]);
        const int header = 112, length = 16;
        Assert.Equal(0xE2792ACA, BinaryPrimitives.ReadUInt32BigEndian(bytes.AsSpan(header)));
        byte[] more = bytes[header..(header + length)];
        "foo"u8.CopyTo(more.AsSpan(8));
        int end = (int)BinaryPrimitives.ReadInt64BigEndian(bytes.AsSpan(8));
        bytes.AsSpan((header + length)..end).Clear();              // the names of features
        more.CopyTo(bytes, header + length);
        File.WriteAllBytes(scratch["a"], bytes);
        Assert.Contains("Unknown driver 'foo'", QemuTools.Run("qemu-io", "-c", "read 0 512", scratch["a"]).Output);
        Assert.Contains("foo", Assert.Throws<ConfigurationException>(() => scratch.Open("a", "format=qcow2")).Message);
        await using (var image = (Qcow2Driver)scratch.Open("a", "format=qcow2,backing.driver=raw,backing.file.filename="
            + scratch["base"])) await image.ChangeBackingAsync(scratch["base"], "raw");
        QemuTools.Io(scratch["a"], "read 0 512");
    }

    [QemuFact]
    public async Task A_bitmap_that_was_in_use_at_a_crash_is_kept_and_not_believed()
    {
        using var scratch = new Scratch();
        QemuTools.Img("create", "-q", "-f", "qcow2", scratch["a"], Size.ToString());
        QemuTools.Img("bitmap", "--add", scratch["a"], "b");
        BlockDriver lost = scratch.Open("a");
        await lost.Write(0, new byte[512]);
        await lost.FlushAsync();
        File.Copy(scratch["a"], scratch["crashed"]);
        await lost.DisposeAsync();
        Assert.Contains("in-use", QemuTools.Img("info", scratch["crashed"]));
        await using (var image = (Qcow2Driver)scratch.Open("crashed"))
        {
            Assert.True(Assert.Single(image.Bitmaps).IsInconsistent);
            await image.Write(4096, new byte[512]);
        }
        Assert.Contains("in-use", QemuTools.Img("info", scratch["crashed"]));
        Assert.Contains("No errors", QemuTools.Img("check", scratch["crashed"]));
    }

    [QemuTheory]
    [InlineData("")] [InlineData(",data_file_raw=on")] [InlineData(",extended_l2=on")]
    public async Task An_external_data_file_holds_the_data(string more)
    {
        using var scratch = new Scratch();
        QemuTools.Img("create", "-q", "-f", "qcow2", "-o", $"data_file={scratch["data"]}{more}", scratch["a"],
            Size.ToString());
        QemuTools.Io(scratch["a"], "write -P 5 0 100k", "write -P 6 1M 70k", "write -z 64k 8k");
        byte[] model = Reference(scratch);
        await TakesWritesAside(scratch, model, more);
        await scratch.Create("qcow2", "a", Size, $"data_file={scratch["data"]}{more}");
        model = new byte[Size];
        Assert.Equal(model, Reference(scratch));
        await TakesWritesAside(scratch, model, more);
    }

    static async Task TakesWritesAside(Scratch scratch, byte[] model, string more)
    {
        await using (BlockDriver image = scratch.Open("a", "format=qcow2,discard=unmap"))
        {
            Assert.Equal(model, await image.Read(0, Size));
            var random = new Random(11);
            for (int i = 0; i < 80; i++) await Qcow2ModelTests.Step(image, model, random, keepsOnDiscard: false);
            Assert.Equal(model, await image.Read(0, Size));
        }
        Assert.Contains("No errors", QemuTools.Img("check", scratch["a"]));
        Assert.Equal(model, Reference(scratch));
        if (more.Contains("raw")) Assert.Equal(model, File.ReadAllBytes(scratch["data"])[..Size]);
    }

    [Theory]
    [InlineData("json:null", "json:")] [InlineData("nbd:localhost:10809", "nbd")]
    [InlineData("/nowhere/at/all", "No such file")]
    public async Task A_data_file_named_by_an_image_is_a_file_of_the_host(string name, string message)
    {
        using var scratch = new Scratch();
        await scratch.Create("qcow2", "a", Size, $"data_file={scratch["data"]}");
        await using (var image = (Qcow2Driver)scratch.Open("a"))
        {
            await image.Write(0, BlockDriverExtensions.Pattern(1, 512));
            await image.AmendAsync(Amended($"data_file={name}"));
        }
        Assert.Contains(message, Assert.Throws<ConfigurationException>(() => scratch.Open("a")).Message);
        await using BlockDriver told = scratch.Factory().OpenImage(scratch["a"],
            new Qkvm.Storage.Graph.ImageOpening { IsUnread = true }); // as info does
        Assert.Equal(name, (string?)told.Facts.Specific!["data-file"]);
        Assert.Throws<BlockException>(() => told.Read(0, 512).GetAwaiter().GetResult());
    }

    [QemuTheory]
    [InlineData(0, 0)] [InlineData(1, 5)] [InlineData(2, 9)] [InlineData(3, 0)]
    public async Task Checks_find_what_qemu_finds_and_mend_it(int kind, int count)
    {
        using var scratch = new Scratch();
        await scratch.Create("qcow2", "a", Size, "cluster_size=4k");
        byte[] data = BlockDriverExtensions.Pattern(1, 200 << 10);
        await using (BlockDriver image = scratch.Open("a")) await image.Write(0, data);
        byte[] bytes = File.ReadAllBytes(scratch["a"]);
        const int refcounts = 2 * 4096;                            // as the image is made
        switch (kind)
        {
            case 1: for (int i = 0; i < count; i++) bytes[refcounts + 2 * (60 + i) + 1] = 1; break; // leaks
            case 2: for (int i = 0; i < count; i++) bytes[refcounts + 2 * (10 + i) + 1] = 0; break; // counted too low
            case 3: bytes[79] |= 2; break;                         // marked corrupt for no reason
        }
        File.WriteAllBytes(scratch["a"], [.. bytes, .. new byte[4096 * 10]]);
        var lines = new List<string>();
        CheckResult found;
        await using (var image = (Qcow2Driver)scratch.Open("a", "format=qcow2,readonly=on"))
            found = await image.CheckAsync(Repair.None, lines.Add);
        (_, string theirs) = QemuTools.Run("qemu-img", "check", "--output=json", scratch["a"]);
        System.Text.Json.JsonElement json =
            System.Text.Json.JsonDocument.Parse(theirs[theirs.IndexOf('{')..(theirs.LastIndexOf('}') + 1)])
            .RootElement;
        Assert.Equal(Number("leaks"), found.Leaks);
        Assert.Equal(Number("corruptions"), found.Corruptions);
        Assert.Equal(json.GetProperty("image-end-offset").GetInt64(), found.ImageEndOffset);
        Assert.Equal(Number("allocated-clusters"), found.AllocatedClusters);
        Assert.Equal(Number("fragmented-clusters"), found.FragmentedClusters);
        (_, string human) = QemuTools.Run("qemu-img", "check", scratch["a"]);
        Assert.All(lines, line => Assert.Contains(line, human));

        var file = new MemoryFile(File.ReadAllBytes(scratch["a"])) { KeepsLog = false };
        await using (var image = new Qcow2Driver(file, "memory", new(), static _ => null, isChecked: true))
        {
            CheckResult mended = await image.CheckAsync(Repair.All, static _ => { });
            Assert.Equal(0, mended.Leaks + mended.Corruptions);
            Assert.Equal(count, mended.LeaksFixed + mended.CorruptionsFixed);
        }
        File.WriteAllBytes(scratch["a"], file.Contents);
        Assert.Contains("No errors", QemuTools.Img("check", scratch["a"]));
        Assert.Equal(data, Reference(scratch)[..data.Length]);
        Assert.DoesNotContain("corrupt: true", QemuTools.Img("info", scratch["a"]));

        long? Number(string name) => json.TryGetProperty(name, out System.Text.Json.JsonElement value)
            ? value.GetInt64()
            : 0;
    }

    [QemuTheory]
    [InlineData("compat=0.10", "compat=1.1")] [InlineData("compat=0.10", "compat=1.1,refcount_bits=64")]
    [InlineData("", "refcount_bits=1")] [InlineData("cluster_size=512", "refcount_bits=64")]
    [InlineData("cluster_size=4k,refcount_bits=64", "refcount_bits=2,lazy_refcounts=on")]
    [InlineData("", "compat=0.10")] [InlineData("", "size=6M")] [InlineData("lazy_refcounts=on", "lazy_refcounts=off")]
    public async Task An_amended_image_is_sound_and_holds_the_same(string made, string amended)
    {
        using var scratch = new Scratch();
        await scratch.Create("qcow2", "a", Size, made);
        QemuTools.Io(scratch["a"], "write -P 1 0 1M", "write -P 2 2M 100k");
        if (!made.Contains("compat")) QemuTools.Io(scratch["a"], "write -z 64k 128k", "write -z -u 2M 64k");
        byte[] before = Reference(scratch);
        await using (var image = (Qcow2Driver)scratch.Open("a"))
            await image.AmendAsync(Amended(amended));
        Assert.Contains("No errors", QemuTools.Img("check", scratch["a"]));
        Assert.Equal(before, Reference(scratch)[..before.Length]);
        Directory.CreateDirectory(scratch["q"]);
        QemuTools.Img(["create", "-q", "-f", "qcow2", .. made == "" ? Array.Empty<string>() : ["-o", made],
            scratch["q/a"], Size.ToString()]);
        QemuTools.Img("amend", "-f", "qcow2", "-o", amended, scratch["q/a"]);
        Assert.Equal(Facts(scratch["q/a"]), Facts(scratch["a"]));
        byte[] model = Reference(scratch);
        await using (BlockDriver image = scratch.Open("a", "format=qcow2,discard=unmap"))
            for (int i = 0; i < 60; i++) await Qcow2ModelTests.Step(image, model, new Random(i), keepsOnDiscard: false);
        Assert.Contains("No errors", QemuTools.Img("check", scratch["a"]));
        Assert.Equal(model, Reference(scratch));
    }

    [QemuFact]
    public async Task What_cannot_be_amended_says_why_and_changes_nothing()
    {
        using var scratch = new Scratch();
        await scratch.Create("qcow2", "a", Size);
        foreach ((string options, string why) in new[] { ("compat=0.9", "Unknown compatibility level 0.9"),
            ("refcount_bits=3", "Refcount width must be a power of two"), ("data_file=x", "data-file can only be set"),
            ("compat=0.10,lazy_refcounts=on", "Lazy refcounts only supported"),
            ("compat=0.10,refcount_bits=8", "Refcount widths other than 16 bits") })
            await using (var image = (Qcow2Driver)scratch.Open("a"))
                Assert.Contains(why, (await Assert.ThrowsAsync<BlockException>(async () =>
                    await image.AmendAsync(Amended(options)))).Message);
        await using (var image = (Qcow2Driver)scratch.Open("a"))
        {
            await image.Write(0, new byte[512]);
            await image.CreateSnapshotAsync(new BlockSnapshot("", "s", 0, 1, 2, 3, 0));
            await Assert.ThrowsAsync<BlockException>(async () =>
                await image.AmendAsync(Amended("refcount_bits=1")));
        }
        Assert.Contains("No errors", QemuTools.Img("check", scratch["a"]));
    }

    /// <summary>Refcounts on disk are late; whoever opens the image next counts anew.</summary>
    [QemuFact]
    public async Task Lazy_refcounts_are_late_and_a_crash_is_mended()
    {
        using var scratch = new Scratch();
        var random = new Random(4);
        await scratch.Create("qcow2", "a", Size, "lazy_refcounts=on,cluster_size=4k");
        var file = new MemoryFile(File.ReadAllBytes(scratch["a"]));
        byte[] start = file.Contents;
        var image = new Qcow2Driver(file, "memory", new() { Discard = true }, static _ => null);
        var model = new byte[Size];
        var promises = new List<(int At, byte[] Model)>();
        for (int i = 0; i < 60; i++)
        {
            await Qcow2ModelTests.Step(image, model, random, keepsOnDiscard: false);
            if (i % 10 != 9) continue;
            await image.FlushAsync();
            promises.Add((file.Log.Count, (byte[])model.Clone()));
        }
        foreach ((int at, byte[] then) in promises)
        {
            var crashed = new MemoryFile(Qcow2CrashTests.Replay(start, file.Log, at, random)) { KeepsLog = false };
            Assert.Equal(1, crashed.Contents[79] & 1);
            await using (var next = new Qcow2Driver(crashed, "memory", new(), static _ => null))
            {
                Assert.Equal(then, await next.Read(0, Size));
                await next.Write(Size - 512, new byte[512]);
            }
            File.WriteAllBytes(scratch["b"], crashed.Contents);
            Assert.Contains("No errors", QemuTools.Img("check", scratch["b"]));
        }
        await image.DisposeAsync();
        File.WriteAllBytes(scratch["b"], file.Contents);
        Assert.Contains("No errors", QemuTools.Img("check", scratch["b"]));
    }

    static Amendment Amended(string options) => new(new Properties(new Amending(Qcow2Driver.Model.AmendOptions),
        Options.Parse(options, "-o")), IsForced: false, static _ => [], static _ => { });

    sealed record Amending(Property[] Options) : Model("amend", Options);

    static string Facts(string path) => string.Join('\n', QemuTools.Img("info", path).Split('\n')
        .Where(line => !line.StartsWith("image:") && !line.StartsWith("disk size:")));

    static List<(long, long)> Dirty(Qcow2Driver image, string name)
    {
        IBitmap bitmap = image.Bitmaps.First(b => b.Name == name);
        var runs = new List<(long, long)>();
        for (long at = 0; (at = bitmap.NextDirty(at)) >= 0;)
        {
            long end = bitmap.NextClean(at);
            runs.Add((at, end < 0 ? Size : end));
            if (end < 0) break;
            at = end;
        }
        return runs;
    }

    static byte[] Reference(Scratch scratch)
    {
        QemuTools.Img("convert", "-f", "qcow2", "-O", "raw", scratch["a"], scratch["reference"]);
        return File.ReadAllBytes(scratch["reference"]);
    }
}
