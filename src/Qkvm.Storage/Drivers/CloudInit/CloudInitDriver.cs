using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Drivers.CloudInit;

/// <summary>Protocol <c>cloud-init</c>: the disk that tells a cloud image about its machine, made in memory when it is
/// opened, for reading. Spec: cloud-init, data source NoCloud, "Source files".</summary>
/// <remarks>The same files make the same disk, and another instance of cloud-init where one of them has
/// changed.</remarks>
public sealed class CloudInitDriver : BlockNode
{
    /// <summary>What users say of it; -cloud-init takes the same.</summary>
    public static readonly Property[] Own =
    [
        Property.Text("user-data", help: "file: #cloud-config, a script, or what else cloud-init knows"),
        Property.Text("meta-data", help: "file: about the instance, in YAML"),
        Property.Text("vendor-data", help: "file: what user-data may overrule"),
        Property.Text("network-config", help: "file: the network, in YAML of netplan or cloud-init"),
        Property.Text("ssh-key", help: "file: public keys that may log in as the image's user"),
        Property.Text("hostname", help: "of the guest"),
        Property.Text("password", help: "of the image's user"),
        Property.Enum("seed", "iso", ["iso", "fat"], help: "the disk's file system"),
    ];

    public static readonly BlockDriverModel Model = new("cloud-init", Own, Create)
    {
        IsProtocol = true,
        Description = "user-data and meta-data for cloud-init, as a disk in memory, for reading",
    };

    readonly byte[] _image;

    CloudInitDriver(byte[] image, NodeOptions options) : base(options) => _image = image;

    static CloudInitDriver Create(Properties properties, NodeParts parts)
    {
        if (!parts.Node.ReadOnly && !parts.Around.AutoReadOnly)
            throw new ConfigurationException("a disk for cloud-init is for reading; give read-only=on");
        IReadOnlyList<SeedFile> files = Seed.Of(properties);
        byte[] image = properties.Text("seed") == "fat" ? FatSeed.Make(files) : IsoSeed.Make(files);
        return new CloudInitDriver(image, parts.Node with { ReadOnly = true });
    }

    public override string FormatName => Model.Name;
    public override string FileName => $"{Model.Name}://";
    public override long Length => _image.Length;
    public override ImageFacts Facts => new();

    public override ValueTask FlushAsync() => default;
    public override ValueTask DisposeAsync() => default;

    protected override ValueTask ReadCore(long offset, ScatterList buffers)
    {
        foreach (Memory<byte> piece in buffers)
        {
            _image.AsSpan((int)offset, piece.Length).CopyTo(piece.Span);
            offset += piece.Length;
        }
        return default;
    }

    protected override ValueTask WriteCore(long offset, ScatterList buffers) => throw ForReading();
    protected override ValueTask DiscardCore(long offset, long length) => throw ForReading();
    protected override ValueTask WriteZeroesCore(long offset, long length, bool mayUnmap) => throw ForReading();

    static BlockException ForReading() => new("a disk for cloud-init is for reading", Errno.Perm);
}
