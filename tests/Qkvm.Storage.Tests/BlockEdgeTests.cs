using Qkvm.Core.Block;
using Qkvm.Storage.Drivers.Qcow2;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Tests;

/// <summary>Who may do what with a node, and what happens when the graph changes under a disk.</summary>
public sealed class BlockEdgeTests : IDisposable
{
    readonly Scratch _scratch = new();

    public void Dispose() => _scratch.Dispose();

    [Fact]
    public async Task A_node_has_one_writer_unless_both_share_that()
    {
        await using BlockFactory factory = _scratch.Factory();
        BlockDriver raw = Raw(factory, "a");
        BlockEdge first = Scratch.Use(raw);
        Assert.Equal("node 'a' is in use by the test as 'root', and they cannot share the right to 'Write'",
            Assert.Throws<ConfigurationException>(() => Scratch.Use(raw, shareWrite: true)).Message);
        first.Change(BlockUse.Disk(readOnly: false, shareWrite: true));
        BlockEdge second = Scratch.Use(raw, shareWrite: true);
        Assert.Throws<ConfigurationException>(() => first.Change(BlockUse.Disk(readOnly: true)));
        second.Detach();
        first.Change(BlockUse.Disk(readOnly: true));
        Assert.Equal(BlockUse.Disk(readOnly: true), raw.Use);
    }

    [Fact]
    public async Task Rights_reach_the_file_through_raw_and_end_with_the_user()
    {
        await using BlockFactory factory = _scratch.Factory();
        BlockDriver raw = Raw(factory, "a");
        BlockDriver file = Assert.Single(Assert.IsAssignableFrom<Qkvm.Storage.Drivers.BlockNode>(raw).Children).Node;
        Assert.Equal(default, file.Use);
        BlockEdge edge = Scratch.Use(raw);
        Assert.Equal(BlockUse.Disk(readOnly: false), file.Use);
        edge.Detach();
        Assert.Equal(default, file.Use);
    }

    [Fact]
    public async Task A_node_in_use_is_not_removed_and_named_children_outlive_their_parent()
    {
        await Qcow2Image.CreateAsync(_scratch["a.qcow2"], 1 << 20, new Qcow2CreateOptions());
        await using BlockFactory factory = _scratch.Factory();
        Add(factory, $"driver=file,node-name=f,filename={_scratch["a.qcow2"]}");
        Add(factory, "driver=qcow2,node-name=q,file=f");
        Assert.Equal("Node f is in use",
            (await Assert.ThrowsAsync<ConfigurationException>(async () => await factory.RemoveNodeAsync("f"))).Message);
        await factory.RemoveNodeAsync("q");
        Add(factory, "driver=qcow2,node-name=q2,file=f");          // the file is still open
        await factory.RemoveNodeAsync("q2");
        await factory.RemoveNodeAsync("f");
        Assert.Empty(factory.Nodes);
    }

    [Fact]
    public async Task A_disk_whose_node_is_replaced_holds_its_requests_back_meanwhile()
    {
        await using BlockFactory factory = _scratch.Factory();
        BlockDriver before = Raw(factory, "a"), after = Raw(factory, "b");
        await after.Write(0, [42, .. new byte[511]]);
        var posted = new System.Collections.Concurrent.ConcurrentQueue<Action>();
        var disk = new BlockBackend("hd0", posted.Enqueue);
        disk.Insert(before);
        Action resume = await ((IBlockUser)disk).PauseAsync();
        var request = new Request { Operation = BlockOperation.Read, Buffers = new ScatterList(new byte[512]) };
        disk.Submit(request);
        Assert.Equal(0, disk.InFlight);
        await disk.Edge!.ReplaceAsync(after);
        Assert.Empty(before.Edges);
        resume();
        while (request.Result == null)
            if (posted.TryDequeue(out Action? work)) work();
            else await Task.Yield();
        var data = new byte[512];
        request.Buffers.CopyTo(data);
        Assert.Equal(0, request.Result);
        Assert.Equal(42, data[0]);
        await disk.DisposeAsync();
    }

    [Fact]
    public async Task What_lies_below_pauses_the_disks_above_each_as_often_as_it_resumes()
    {
        await using BlockFactory factory = _scratch.Factory();
        BlockDriver raw = Raw(factory, "a");
        var user = new TestUser();
        _ = new BlockEdge(raw, user, "root", BlockUse.Disk(readOnly: true));
        Action resume = await ((IBlockUser)raw).PauseAsync();
        Assert.Equal(1, user.Paused);
        resume();
        Assert.Equal(0, user.Paused);
    }

    BlockDriver Raw(BlockFactory factory, string name)
    {
        File.WriteAllBytes(_scratch[name], new byte[4096]);
        return Add(factory, $"driver=raw,node-name={name},file.driver=file,file.filename={_scratch[name]}");
    }

    static BlockDriver Add(BlockFactory factory, string options) =>
        factory.AddNode(Scratch.Options(options, "-blockdev"));

    sealed class Request : BlockRequest
    {
        public int? Result { get; private set; }

        public override void Complete(int errno) => Result = errno;
    }
}
