using Qkvm.Core.Block;
using Qkvm.Core.Devices;
using Qkvm.Storage.Drivers;
using Qkvm.Storage.Drivers.Qcow2;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Tests;

public sealed class BlockFactoryTests : IDisposable
{
    readonly Scratch _scratch = new();

    public void Dispose() => _scratch.Dispose();

    [Fact]
    public void A_missing_file_is_named_with_the_option()
    {
        string message = Error("file=/nowhere/x.img");
        Assert.Equal("-drive file=/nowhere/x.img: Could not open '/nowhere/x.img': No such file or directory", message);
    }

    [Theory]
    [InlineData("qcow", "QFI\u00fb\0\0\0\u0001")]
    public void A_foreign_image_is_called_by_its_format_with_the_command_that_converts_it(string format, string magic)
    {
        var image = new byte[4096];
        System.Text.Encoding.Latin1.GetBytes(magic, image);
        File.WriteAllBytes(_scratch["disk.x"], image);
        string message = Error($"file={_scratch["disk.x"]}");
        Assert.Contains($"is a {format} image, which is not supported yet", message);
        Assert.Contains($"qemu-img convert -O qcow2 '{_scratch["disk.x"]}' '{_scratch["disk.qcow2"]}'", message);
    }

    [Fact]
    public void Directories_and_truncated_images_are_told_apart()
    {
        Assert.Contains("it is a directory", Error($"file={_scratch["."]},format=raw"));
        File.WriteAllBytes(_scratch["short"], "QFI\u00fb"u8.ToArray());
        Assert.Contains("Image is not in qcow2 format", Error($"file={_scratch["short"]},format=qcow2"));
        File.WriteAllBytes(_scratch["short"], [0x51, 0x46, 0x49, 0xFB, 0, 0, 0, 3]);
        Assert.Contains("Could not open", Error($"file={_scratch["short"]},format=qcow2"));
    }

    [Theory]
    [InlineData("format=floppy", "'floppy' is not a block driver")]
    [InlineData("format=raw,cache=quick", "Invalid cache option 'quick'")]
    [InlineData("format=raw,discard=maybe", "'discard'")]
    [InlineData("format=raw,detect-zeroes=unmap", "detect-zeroes to unmap")]
    [InlineData("format=raw,colour=red", "Property 'raw.colour' not found")]
    [InlineData("format=raw,offset=4M", "offset=4194304")]
    [InlineData("format=raw,size=100", "multiple of 512")]
    [InlineData("format=raw,readonly=perhaps", "'on' or 'off'")]
    public void Wrong_values_are_named(string options, string expected)
    {
        File.WriteAllBytes(_scratch["a.img"], new byte[1 << 20]);
        Assert.Contains(expected, Error($"{options},file={_scratch["a.img"]}"));
    }

    [Fact]
    public async Task Protocols_that_are_unknown_and_json_in_images_are_refused()
    {
        Assert.Contains("Unknown protocol 'ftp'", Error("file=ftp://host/x"));
        await Qcow2Image.CreateAsync(_scratch["a.qcow2"], 1 << 20,
            new Qcow2CreateOptions { BackingFile = "json:{\"driver\":\"file\",\"filename\":\"/etc/passwd\"}" });
        Assert.Contains("only taken from the command line", Error($"file={_scratch["a.qcow2"]}"));
        File.WriteAllBytes(_scratch["a.img"], new byte[1 << 20]);
        OpenedDrive drive = _scratch.Factory().OpenDrive(Options.Of("-drive",
            new OptionPair("file",
                $$$"""json:{"driver":"raw","file":{"driver":"file","filename":"{{{_scratch["a.img"]}}}"}}""")));
        Assert.Equal(1 << 20, drive.Root!.Length);
    }

    [Fact]
    public async Task A_chain_that_loops_is_refused()
    {
        await Qcow2Image.CreateAsync(_scratch["a.qcow2"], 1 << 20,
            new Qcow2CreateOptions { BackingFile = "b.qcow2", BackingFormat = "qcow2" });
        await Qcow2Image.CreateAsync(_scratch["b.qcow2"], 1 << 20,
            new Qcow2CreateOptions { BackingFile = "./a.qcow2", BackingFormat = "qcow2" });
        Assert.Contains("infinite loop", Error($"file={_scratch["a.qcow2"]}"));
    }

    [Fact]
    public async Task A_guessed_raw_image_warns_in_one_line_and_keeps_its_format()
    {
        File.WriteAllBytes(_scratch["a.img"], new byte[1 << 20]);
        await using BlockDriver image = _scratch.Open("a.img", "");
        Assert.Single(_scratch.Warnings);
        Assert.Contains("format=raw", _scratch.Warnings[0]);
        var header = new byte[512];
        new byte[] { 0x51, 0x46, 0x49, 0xFB, 0, 0, 0, 3 }.CopyTo(header, 0);
        Assert.Equal(1, (await Assert.ThrowsAsync<BlockException>(() => image.Write(0, header))).Errno);
        await image.Write(512, header);
        await image.Write(0, BlockDriverExtensions.Pattern(1, 1024));
        await using BlockDriver typed = _scratch.Open("a.img", "format=raw,file.locking=off");
        await typed.Write(0, header);
    }

    [Fact]
    public async Task Nodes_stack_by_name()
    {
        File.WriteAllBytes(_scratch["base.img"], BlockDriverExtensions.Pattern(3, 1 << 20));
        await Qcow2Image.CreateAsync(_scratch["a.qcow2"], 1 << 20, new Qcow2CreateOptions());
        await using BlockFactory factory = _scratch.Factory();
        Add(factory, $"driver=file,node-name=f0,filename={_scratch["base.img"]},read-only=on");
        Add(factory, "driver=raw,node-name=base,file=f0,read-only=on");
        Add(factory, $"driver=file,node-name=f1,filename={_scratch["a.qcow2"]},cache.direct=off");
        BlockDriver top = Add(factory, "driver=qcow2,node-name=top,file=f1,backing=base,discard=unmap");
        Assert.Equal(BlockDriverExtensions.Pattern(3, 1 << 20), await top.Read(0, 1 << 20));
        Assert.Equal(["f0", "base", "f1", "top"], factory.Nodes.Select(node => node.NodeName));
        Assert.Contains("Cannot find",
            Assert.Throws<ConfigurationException>(() => Add(factory, "driver=raw,node-name=x,file=none")).Message);
        Assert.Contains("Duplicate",
            Assert.Throws<ConfigurationException>(() =>
            Add(factory, $"driver=file,node-name=top,filename={_scratch["base.img"]},read-only=on")).Message);
        Assert.Contains("node 'f1' is in use by node 'top' as 'file', and they cannot share the right to 'Write, " +
            "Resize'",
            Assert.Throws<ConfigurationException>(() => Add(factory, "driver=qcow2,node-name=y,file=f1")).Message);
    }

    [Fact]
    public async Task Json_options_open_the_same_nodes_and_null_means_no_backing_file()
    {
        await Qcow2Image.CreateAsync(_scratch["a.qcow2"], 1 << 20, new Qcow2CreateOptions { BackingFile = "missing" });
        await using BlockFactory factory = _scratch.Factory();
        BlockDriver node = factory.AddNode(Options.ParseJson(
            $$$"""{"driver":"qcow2","node-name":"n","read-only":true,"backing":null,"file":{""" +
            $$$""" "cache":{"direct":false},"driver":"file","filename":"{{{_scratch["a.qcow2"]}}}"} }""",
            "-blockdev"));
        Assert.True(node.IsReadOnly);
        Assert.Equal(new byte[512], await node.Read(0, 512));
        await factory.RemoveNodeAsync("n");
        Assert.Null(factory.Find("n"));
    }

    [Fact]
    public async Task A_snapshot_drive_leaves_its_image_alone()
    {
        byte[] data = BlockDriverExtensions.Pattern(4, 1 << 20);
        File.WriteAllBytes(_scratch["a.img"], data);
        await using BlockDriver image = _scratch.Open("a.img", "format=raw,snapshot=on");
        Assert.False(image.IsReadOnly);
        await image.Write(1024, new byte[4096]);
        Assert.Equal(new byte[4096], await image.Read(1024, 4096));
        Assert.Equal(data[8192..16384], await image.Read(8192, 8192));
        Assert.Equal(data, File.ReadAllBytes(_scratch["a.img"]));
    }

    [Theory]
    [InlineData("none", true)] [InlineData("writeback", true)] [InlineData("writethrough", false)]
    [InlineData("unsafe", true)] [InlineData("directsync", false)]
    public async Task Cache_modes_keep_the_data_and_say_whether_writes_may_wait(string cache, bool writeCache)
    {
        await Qcow2Image.CreateAsync(_scratch["a.qcow2"], 1 << 20, new Qcow2CreateOptions { ClusterSize = 4096 });
        OpenedDrive drive = _scratch.Factory()
            .OpenDrive(Scratch.Options($"file={_scratch["a.qcow2"]},cache={cache},format=qcow2", "-drive"));
        Assert.Equal(writeCache, drive.WriteCache);
        var model = new byte[1 << 20];
        var random = new Random(1);
        for (int i = 0; i < 60; i++) await Qcow2ModelTests.Step(drive.Root!, model, random, keepsOnDiscard: false);
        Assert.Equal(model, await drive.Root!.Read(0, 1 << 20));
        await drive.Root!.DisposeAsync();
        await using BlockDriver again = _scratch.Open("a.qcow2");
        Assert.Equal(model, await again.Read(0, 1 << 20));
    }

    [Fact]
    public async Task Zeros_are_detected_and_not_stored()
    {
        await Qcow2Image.CreateAsync(_scratch["a.qcow2"], 1 << 20, new Qcow2CreateOptions());
        await using (BlockDriver image = _scratch.Open("a.qcow2", "format=qcow2,discard=unmap,detect-zeroes=unmap"))
        {
            await image.Write(0, BlockDriverExtensions.Pattern(1, 65536));
            await image.Write(0, new byte[65536]);
            await image.Write(65536 * 4, new byte[65536]);
            Assert.Equal(new byte[65536 * 5], await image.Read(0, 65536 * 5));
        }
        Assert.True(new FileInfo(_scratch["a.qcow2"]).Length <= 65536 * 6);
    }

    string Error(string options) =>
        Assert.Throws<ConfigurationException>(() => _scratch.Factory()
            .OpenDrive(Scratch.Options(options, $"-drive {options}"))).Message;

    static BlockDriver Add(BlockFactory factory, string options) =>
        factory.AddNode(Scratch.Options(options, $"-blockdev {options}"));
}
