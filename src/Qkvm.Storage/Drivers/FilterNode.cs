using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Host;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Drivers;

/// <summary>A node that shows the disk of the one below it, <c>file</c>, and passes requests on in its own
/// way.</summary>
public abstract class FilterNode : BlockNode, IGrowable
{
    bool _mayGrow;

    protected FilterNode(BlockDriver file, NodeOptions options) : base(options) =>
        Child = Attach("file", file, default);

    protected BlockEdge Child { get; }
    protected BlockDriver File => Child.Node;

    public override string FileName => BlockFactory.NameOf(File);
    public override ImageFacts Facts => File.Facts with { Specific = null };
    public override long Length => File.Length;
    protected override long Limit => _mayGrow ? long.MaxValue : Length;

    public bool AllowGrowth() => _mayGrow = File is IGrowable file && file.AllowGrowth();

    protected override void OnUse(BlockUse use) => Child.Change(use);
    protected override ValueTask ReopenAsync(bool isReadOnly) => isReadOnly ? default : File.SetReadOnlyAsync(false);
    public override ValueTask FlushAsync() => File.FlushAsync();
    public override ValueTask DisposeAsync() => ReleaseChildrenAsync();

    protected override ValueTask ReadCore(long offset, ScatterList buffers) => File.ReadAsync(offset, buffers);
    protected override ValueTask WriteCore(long offset, ScatterList buffers) => File.WriteAsync(offset, buffers);
    protected override ValueTask DiscardCore(long offset, long length) => File.DiscardAsync(offset, length);

    protected override ValueTask WriteZeroesCore(long offset, long length, bool mayUnmap) =>
        File.WriteZeroesAsync(offset, length, mayUnmap);

    protected override bool HasFua => true;

    protected override ValueTask WriteFuaCore(long offset, ScatterList buffers) =>
        File.WriteAsync(offset, buffers, WriteFlags.Fua);

    protected override bool TryStartCore(BlockOperation operation, long offset, ScatterList buffers, IoRing? ring,
        out ValueTask result) => File.TryStart(operation, offset, buffers, ring, out result);

    /// <summary>Also of what the node below lies over: a filter lies over nothing else.</summary>
    protected override async ValueTask<BlockStatus> StatusCore(long offset, long length) =>
        (await ChainStatus.FindAsync(File, offset, length).ConfigureAwait(false)).Status;

    protected override ValueTask ResizeCore(long length, Preallocation preallocation) =>
        File.ResizeAsync(length, preallocation);
}
