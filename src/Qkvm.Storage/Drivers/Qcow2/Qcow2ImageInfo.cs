using Qkvm.Core.Block;

namespace Qkvm.Storage.Drivers.Qcow2;

/// <summary>What the first cluster of an image says: read before the image is opened, to find its backing
/// file.</summary>
public sealed class Qcow2ImageInfo
{
    Qcow2ImageInfo(Qcow2Header header, Qcow2Extensions extensions, string name, string? backingFile) =>
        (Header, Extensions, Name, BackingFile) = (header, extensions, name, backingFile);

    internal Qcow2Header Header { get; }
    internal Qcow2Extensions Extensions { get; }
    public string Name { get; }
    public long Size => Header.Size;
    public int ClusterSize => Header.ClusterSize;
    public string Compatibility => Header.Version == 2 ? "0.10" : "1.1";
    public int RefcountBits => 1 << Header.RefcountOrder;
    public bool LazyRefcounts => (Header.Compatible & Qcow2Features.LazyRefcounts) != 0;
    public bool IsDirty => (Header.Incompatible & Qcow2Features.Dirty) != 0;
    public bool IsCorrupt => (Header.Incompatible & Qcow2Features.Corrupt) != 0;
    public bool HasExtendedL2 => Header.IsExtendedL2;
    public string CompressionType => Header.CompressionType == 1 ? "zstd" : "zlib";

    /// <summary>As written in the image, or null.</summary>
    public string? BackingFile { get; internal set; }
    public string? BackingFormat => Extensions.BackingFormat;

    /// <param name="name">The image, for messages.</param>
    /// <exception cref="Devices.ConfigurationException">It is no qcow2 image, or a damaged one.</exception>
    public static Qcow2ImageInfo Read(BlockDriver file, string name)
    {
        var start = new byte[Qcow2Header.LongestLength];
        Fill(file, start);
        Qcow2Header header = Qcow2Header.ReadFrom(start, name);
        var cluster = new byte[header.ClusterSize];
        Fill(file, cluster);
        Qcow2Extensions extensions = Qcow2Extensions.ReadFrom(cluster, header, name);
        return new Qcow2ImageInfo(header, extensions, name, header.BackingLength > 0 ? header.BackingName(cluster)
            : null);
    }

    static void Fill(BlockDriver file, Memory<byte> data)
    {
        int inside = (int)Math.Min(file.Length, data.Length);
        if (inside > 0) ScatterLists.Wait(file.ReadAsync(0, new ScatterList(data[..inside])));
    }
}
