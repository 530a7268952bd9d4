using Qkvm.Core.Block;
using Qkvm.Core.Block.Jobs;

namespace Qkvm.Tests.Control;

/// <summary>Images that take what is read from what they lie over.</summary>
public sealed class CopyOnReadTests : BlockJobBench
{
    /// <summary>base ← mid ← top, which reads as the base from 1 MiB on and as mid below.</summary>
    void MakeChain(string bottom)
    {
        Make("base");
        Plug("base");
        Write(1 << 20, 1, 1 << 20);
        Make("mid", "base");
        Query("blockdev-snapshot", """{"node":"base","overlay":"mid"}""");
        Write(0, 2, 1 << 20);
        Make("top", "mid");
        Query("blockdev-snapshot", """{"node":"mid","overlay":"top"}""");
        Bench.OnLoop(() =>
        {
            Drive.Insert(null);
            return Bench.Backends.Drives.Remove("guest");
        });
        Query("blockdev-add", $$"""{"driver":"copy-on-read","node-name":"cor","file":"top"{{bottom}} }""");
        byte[] model = [.. Model];
        Plug("cor");
        model.CopyTo(Model, 0);
    }

    bool Has(long offset) => Bench.OnLoop(() => Bench.Host.BlockJobs.Find("top")).StatusAsync(offset, 512).AsTask()
        .GetAwaiter().GetResult().IsAllocated;

    [Theory]
    [InlineData("", true)]
    [InlineData(""","bottom":"mid" """, false)]
    public void What_is_read_is_in_the_image_then(string bottom, bool hasBase)
    {
        MakeChain(bottom);
        Assert.False(Has(0));
        Assert.Equal(Model, Read());
        Assert.Equal((true, hasBase, false), (Has(512 << 10), Has((1 << 20) + 512), Has(3 << 20)));
        Write(4096, 9);
        Assert.Equal(Model, Read());
    }

    [Fact]
    public async Task A_copy_of_the_filter_has_what_its_image_lies_over()
    {
        MakeChain("");
        Make("copy");
        Query("blockdev-backup", """{"job-id":"b","device":"cor","target":"copy","sync":"full"}""");
        Await(JobStatus.Null, "b");
        BlockDriver copy = Bench.OnLoop(() => Bench.Host.BlockJobs.Find("copy"));
        var data = new byte[Size];
        await copy.ReadAsync(0, new ScatterList(data));
        Assert.Equal(Model, data);
    }

    [Theory]
    [InlineData(""" "file":"top","bottom":"nobody" """, "Bottom node 'nobody' not found")]
    [InlineData(""" "file":"base" """, "is read-only; give read-only=on here as well")]
    [InlineData(""" "file":"top","bottom":"other" """, "bottom=other is none of the images that file lies over")]
    public void What_cannot_be_says_why(string options, string message)
    {
        MakeChain("");
        Make("other");
        Assert.EndsWith(message, Error("blockdev-add", $$"""{"driver":"copy-on-read","node-name":"c",{{options}} }"""));
    }

    [Fact]
    public async Task A_drive_can_do_so_itself()
    {
        MakeChain("");
        Query("blockdev-add", """{"driver":"null-co","node-name":"n","size":512}""");
        Bench.OnLoop(() => Drive.Insert(null));
        Query("blockdev-del", """{"node-name":"cor"}""");
        Query("blockdev-del", """{"node-name":"top"}""");
        Query("blockdev-del", """{"node-name":"top-file"}""");
        await Bench.Host.AddDriveAsync($"if=none,id=d,file={Path("top")},format=qcow2,copy-on-read=on");
        BlockDriver root = Bench.OnLoop(() => Bench.Backends.Drives["d"].Root!);
        var data = new byte[Block];
        await root.ReadAsync(1 << 20, new ScatterList(data));
        Assert.Equal(1, data[0]);
        Assert.True((await root.StatusAsync(1 << 20, 512)).IsAllocated);
        Assert.False((await root.StatusAsync(0, 512)).IsAllocated);
    }
}
