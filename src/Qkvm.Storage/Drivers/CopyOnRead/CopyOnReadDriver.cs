using Qkvm.Core.Block;
using Qkvm.Host;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Drivers.CopyOnRead;

/// <summary>Filter <c>copy-on-read</c>: what is read through it an image takes from what it lies over, down to a
/// bottom. Over what is no image with a backing file it does nothing.</summary>
public sealed class CopyOnReadDriver : FilterNode
{
    public static readonly BlockDriverModel Model = new("copy-on-read",
        [Property.Node("file", "the image"), Property.Text("bottom",
            help: "node-name of the lowest image whose bytes are taken; that at the bottom by default")],
        Create)
    {
        Description = "images that take what is read from what they lie over",
    };

    readonly BlockDriver? _bottom;

    CopyOnReadDriver(BlockDriver file, NodeOptions options, BlockDriver? bottom) : base(file, options) =>
        _bottom = bottom;

    static CopyOnReadDriver Create(Properties properties, NodeParts parts)
    {
        BlockDriver file = parts.File;
        if (file.IsReadOnly) throw properties.Error("Block node is read-only");
        if (properties.Text("bottom") is not { } name) return new(file, parts.Node, null);
        BlockDriver? bottom = parts.Factory.Find(name);
        if (bottom == null) throw properties.Error($"Bottom node '{name}' not found");
        for (BlockDriver? node = file.Below; node != bottom; node = node.Below)
            if (node == null) throw properties.Error($"bottom={name} is none of the images that file lies over");
        return new(file, parts.Node, bottom);
    }

    public override string FormatName => Model.Name;

    protected override void OnUse(BlockUse use) => base.OnUse(use with
    {
        Needs = use.Needs == BlockRights.None ? use.Needs : use.Needs | BlockRights.WriteUnchanged,
    });

    protected override async ValueTask ReadCore(long offset, ScatterList buffers)
    {
        await CopyOnReading.PullAsync(File, _bottom, offset, buffers.Length).ConfigureAwait(false);
        await File.ReadAsync(offset, buffers).ConfigureAwait(false);
    }

    protected override bool TryStartCore(BlockOperation operation, long offset, ScatterList buffers, IoRing? ring,
        out ValueTask result)
    {
        if (operation != BlockOperation.Read) return base.TryStartCore(operation, offset, buffers, ring, out result);
        result = default;
        return false;
    }
}
