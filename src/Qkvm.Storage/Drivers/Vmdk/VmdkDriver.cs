using System.Text.Json.Nodes;
using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Storage.Drivers.Images;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Drivers.Vmdk;

/// <summary>Format <c>vmdk</c>: VMware's images of one file or several, sparse, flat and stream-optimised.
/// Spec: VMware, Virtual Disk Format 1.1.</summary>
/// <remarks>Deviations: ESX's own sparse extents (VMFSSPARSE, SESPARSE) are refused; the grains of all sparse extents
/// of a disk have one size.</remarks>
public sealed partial class VmdkDriver : GrowingImage, ICompressedWrites, ICheckable
{
    public static readonly BlockDriverModel Model = new("vmdk",
        [Property.Node("file", "the image"), Property.Node("backing", "what the image lies over; the descriptor says "
            + "so by default"), Property.Node("extents", "extents.0, extents.1, …: files that the descriptor names")],
        static (_, parts) => Open(parts.File, parts.Node, (role, name) => parts.OpenExtent(role, name),
            name => parts.OpenBacking(name, name == null ? null : "vmdk")))
    {
        Description = "VMware's images",
        Creation = VmdkCreation.Model, CanCompress = true,
    };

    const int SectorSize = 512;

    readonly Func<string, string, BlockDriver?> _openExtent;
    readonly Func<string?, BlockDriver?> _openBacking;
    readonly List<VmdkExtent> _extents = [];
    readonly UnpackedPieces _unpacked = new();
    VmdkDescriptor _descriptor = null!;
    int _grainSize = 64 << 10;
    long _length, _descriptorAt;
    volatile bool _isUntouched = true;

    VmdkDriver(BlockDriver file, NodeOptions options, Func<string, string, BlockDriver?> openExtent,
        Func<string?, BlockDriver?> openBacking) : base(file, options) =>
        (_openExtent, _openBacking) = (openExtent, openBacking);

    /// <param name="openExtent">Given a child's role and a file name of the descriptor.</param>
    /// <param name="openBacking">Given the parent's name, or null.</param>
    public static VmdkDriver Open(BlockDriver file, NodeOptions options,
        Func<string, string, BlockDriver?> openExtent, Func<string?, BlockDriver?> openBacking) =>
        Opened(new VmdkDriver(file, options, openExtent, openBacking));

    public override string FormatName => Model.Name;
    public override long Length => _length;
    private protected override int BlockSize => _grainSize;
    private protected override bool HasDirty =>
        _extents.Exists(extent => extent is VmdkSparseExtent { HasDirty: true });

    /// <inheritdoc/>
    public bool IsCompressedOnly => IsStream;

    /// <summary>Its only extent takes each grain once, compressed.</summary>
    bool IsStream => _extents is [VmdkSparseExtent { IsCompressed: true }];

    bool IsSparse => _extents.Exists(extent => extent is VmdkSparseExtent);

    public override ImageFacts Facts => new(Children.Where(child => child.Role != "backing")
            .Select(child => child.Node.Facts.ActualSize).Sum(), IsSparse ? _grainSize : null,
        _descriptor.ParentFile, _descriptor.ParentFile == null ? null : Model.Name, Specific: new JsonObject
        {
            ["cid"] = Number(_descriptor.Cid), ["parent-cid"] = Number(_descriptor.ParentCid),
            ["create-type"] = _descriptor.CreateType,
            ["extents"] = new JsonArray([.. _extents.Select(Describe)]),
        });

    static long Number(string cid) => uint.TryParse(cid, System.Globalization.NumberStyles.HexNumber, null,
        out uint number) ? number : 0;

    static JsonNode Describe(VmdkExtent extent)
    {
        var text = new JsonObject();
        if (extent is VmdkSparseExtent { IsCompressed: true }) text["compressed"] = true;
        text["virtual-size"] = extent.Length;
        text["filename"] = extent.Name;
        if (extent is VmdkSparseExtent sparse) text["cluster-size"] = sparse.GrainBytes;
        text["format"] = extent.Type;
        return text;
    }

    /// <inheritdoc/>
    public ValueTask<CheckResult> CheckAsync(Repair repair, Action<string> report) => new(Check(report));

    private protected override ImageRun Find(long offset, long length)
    {
        VmdkExtent extent = At(offset);
        return extent.Find(offset - extent.Start, Math.Min(length, extent.Start + extent.Length - offset));
    }

    /// <summary>The extent that holds a byte.</summary>
    VmdkExtent At(long offset)
    {
        int low = 0, high = _extents.Count - 1;
        while (low < high)
        {
            int middle = (low + high + 1) / 2;
            if (_extents[middle].Start <= offset) low = middle;
            else high = middle - 1;
        }
        return _extents[low];
    }

    private protected override async ValueTask ReadPackedAsync(long offset, ScatterList buffers)
    {
        var extent = (VmdkSparseExtent)At(offset);
        long host;
        lock (Sync) host = extent.Find(offset - extent.Start, 1).Host;
        byte[] data = await Task.Run(() => _unpacked.Get(host, () => extent.Unpack(host))).ConfigureAwait(false);
        buffers.CopyFrom(data.AsSpan((int)((offset - extent.Start) % _grainSize), (int)buffers.Length));
    }

    private protected override BlockDriver FileOf(long block) => At(block * _grainSize).File ?? File;

    private protected override long Allocate(long block)
    {
        if (At(block * _grainSize) is not VmdkSparseExtent extent)
            throw new BlockException($"{FileName}: zero extents take no writes", Errno.Io);
        return extent.Allocate(GrainOf(block, extent));
    }

    private protected override void Link(long block, long host)
    {
        var extent = (VmdkSparseExtent)At(block * _grainSize);
        extent.Link(GrainOf(block, extent), host);
    }

    long GrainOf(long block, VmdkExtent extent) => block - extent.Start / _grainSize;

    private protected override void WriteTables()
    {
        foreach (VmdkExtent extent in _extents) (extent as VmdkSparseExtent)?.WriteTables();
    }

    private protected override async ValueTask FlushFilesAsync()
    {
        foreach (BlockEdge child in Children)
            if (child.Role != "backing") await child.Node.FlushAsync().ConfigureAwait(false);
    }

    /// <summary>A disk that lies over this one sees by the content id that it changed. "The Header" of the
    /// descriptor.</summary>
    private protected override void PrepareForWriting()
    {
        if (!_isUntouched) return;
        lock (Sync)
        {
            if (!_isUntouched) return;
            byte[] text = _descriptor.WithCid((uint)Random.Shared.Next());
            int padded = (text.Length + SectorSize - 1) / SectorSize * SectorSize;
            Array.Resize(ref text, padded);
            ScatterLists.Wait(File.WriteAsync(_descriptorAt, new ScatterList(text)));
            _isUntouched = false;
        }
    }

    private protected override async ValueTask WriteNewAsync(long offset, ScatterList data)
    {
        if (!IsStream)
        {
            await base.WriteNewAsync(offset, data).ConfigureAwait(false);
            return;
        }
        var grain = new byte[_grainSize];
        data.CopyTo(grain.AsSpan((int)(offset % _grainSize)));
        await WritePackedAsync(offset / _grainSize, grain).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public async ValueTask WriteCompressedAsync(long offset, ScatterList buffers)
    {
        if (!IsStream)
            throw new BlockException($"{FileName}: only streamOptimized images hold compressed grains",
                Errno.OpNotSupp);
        PrepareForWriting();
        var grain = new byte[_grainSize];
        buffers.CopyTo(grain);
        await WritePackedAsync(offset / _grainSize, grain).ConfigureAwait(false);
    }

    async ValueTask WritePackedAsync(long grain, byte[] data)
    {
        var extent = (VmdkSparseExtent)_extents[0];
        byte[] packed = extent.Pack(grain, data);
        long host;
        lock (Sync) host = extent.AllocatePacked(grain, packed.Length);
        await extent.File!.WriteAsync(host, new ScatterList(packed)).ConfigureAwait(false);
        lock (Sync) extent.Link(grain, host);
    }
}
