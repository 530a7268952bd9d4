using System.Buffers.Binary;
using Qkvm.Core.Block;
using Qkvm.Storage.Drivers;
using Qkvm.Storage.Graph;

namespace Qkvm.Tests.Extending;

/// <summary>-blockdev numbered: a disk each of whose sectors holds its own number, for tests of what reads
/// disks.</summary>
public sealed class NumberedDriver(NodeOptions options, long length) : BlockNode(options)
{
    public static readonly BlockDriverModel Model = new("numbered", [Property.Size("size", 1 << 20, "bytes")],
        static (properties, parts) => new NumberedDriver(parts.Node, (long)properties.Size("size")))
    {
        IsProtocol = true,                                         // it lies over no other node
    };

    const int SectorSize = 512;

    public override string FormatName => Model.Name;
    public override string FileName => "numbers";
    public override long Length => length;

    // Permission and range have been checked: BlockNode does it for all drivers.
    protected override ValueTask ReadCore(long offset, ScatterList buffers)
    {
        var data = new byte[buffers.Length];
        for (int i = 0; i + sizeof(long) <= data.Length; i += sizeof(long))
            BinaryPrimitives.WriteInt64LittleEndian(data.AsSpan(i), (offset + i) / SectorSize);
        buffers.CopyFrom(data);
        return default;
    }

    protected override ValueTask WriteCore(long offset, ScatterList buffers) => default;
    protected override ValueTask DiscardCore(long offset, long length) => default;
    protected override ValueTask WriteZeroesCore(long offset, long length, bool mayUnmap) => default;
    public override ValueTask FlushAsync() => default;
    public override ValueTask DisposeAsync() => default;
}
