using Qkvm.Core.Block;
using Qkvm.Core.Block.Throttling;
using Qkvm.Host.Sockets;
using Qkvm.Storage.Drivers;

namespace Qkvm.Storage.Graph;

/// <summary>A block driver as -blockdev and -drive format= name it.</summary>
public sealed record BlockDriverModel : Model<NodeParts, BlockDriver>
{
    /// <summary>What every node takes; the factory reads these before it knows the driver.</summary>
    static readonly Property[] Common =
    [
        Property.Text("driver"), Property.Text("node-name", help: "name to refer to it by"),
        Property.Bool("read-only", false), Property.Bool("auto-read-only", false,
            "read-only where writing is not allowed"),
        Property.Bool("force-share", false, "take no image locks; read-only"),
        Property.Enum("discard", null, ["ignore", "off", "unmap", "on"]),
        Property.Enum("detect-zeroes", "off", ["off", "on", "unmap"]),
        Property.Tree("cache", "direct=on|off, no-flush=on|off, writeback=on|off"),
    ];

    /// <param name="own">Beside what every node takes.</param>
    public BlockDriverModel(string name, Property[] own, Func<Properties, NodeParts, BlockDriver> create)
        : base(name, [.. own, .. Common], create) { }

    /// <summary>A driver that QEMU has and we have not.</summary>
    public static BlockDriverModel Missing(string name, string why) =>
        new(name, [], static (_, _) => throw new InvalidOperationException("not built")) { NotBuilt = why };

    /// <summary>It reaches the data itself; all others lie over a child, <c>file</c>.</summary>
    public bool IsProtocol { get; init; }

    /// <summary>Of a protocol, what stands before the colon of file names that it opens: "nbd", "nbd+unix".</summary>
    public string[] Prefixes { get; init; } = [];

    /// <summary>Makes options of such a name.</summary>
    public Action<string, Options> ParseFileName { get; init; } = static (name, options) =>
        options.Add("filename", name);

    /// <summary>What blockdev-reopen can change of its own options; * for all.</summary>
    public string[] Reopenable { get; init; } = [];

    /// <summary>How it makes images; null where it only opens them.</summary>
    public ImageCreation? Creation { get; init; }

    /// <summary>Its nodes are <see cref="Qkvm.Core.Block.Images.ICompressedWrites"/>.</summary>
    public bool CanCompress { get; init; }

    /// <summary>Its nodes are <see cref="Qkvm.Core.Block.Images.IBitmaps"/>.</summary>
    public bool KeepsBitmaps { get; init; }

    /// <summary>What its nodes, which are <see cref="Qkvm.Core.Block.Images.IAmendable"/>, can change of an
    /// image.</summary>
    public Property[] AmendOptions { get; init; } = [];
}

/// <summary>What a node is made of beside its own properties.</summary>
public sealed class NodeParts
{
    internal NodeParts(BlockFactory factory, Options options, Surroundings around, NodeOptions node, BlockDriver? child,
        bool isGuess) =>
        (Factory, Options, Around, Node, _child, IsGuess) = (factory, options, around, node, child, isGuess);

    readonly BlockDriver? _child;

    internal readonly Surroundings Around;

    internal BlockFactory Factory { get; }
    internal Options Options { get; }
    public NodeOptions Node { get; }

    /// <summary>Nobody named the format: it was guessed from the contents.</summary>
    internal bool IsGuess { get; }

    /// <summary>It is opened to be checked: damage that a check may mend is no reason to refuse it.</summary>
    public bool IsChecked => Around.IsChecked;

    /// <summary>The node below a format.</summary>
    public BlockDriver File => _child ?? throw new InvalidOperationException("a protocol has no file below it");

    /// <summary>The node below an overlay: what the user said of it, else what the image says; null for none.</summary>
    /// <param name="file">As written in the image, or null.</param>
    public BlockDriver? OpenBacking(string? file, string? format) => Factory.OpenBacking(file, format, this);

    /// <summary>Another file that the image consists of: an extent, an external data file. Null where nobody is going
    /// to read the disk, as for <c>info</c>: what an image names is not opened without need.</summary>
    /// <param name="role">The option by which the user may name it, "data-file"; the child's role too.</param>
    /// <param name="file">As written in the image.</param>
    public BlockDriver? OpenExtent(string role, string file) => Factory.OpenExtent(role, file, this);

    /// <summary>What -object secret of that id holds.</summary>
    public byte[] Secret(string id) => Factory.Secret(id);

    /// <summary>A new member of the throttle group of a name; null: there is no such group.</summary>
    public ThrottleMember? JoinThrottle(string group) => Factory.JoinThrottle(group);

    /// <summary>The object that tls-creds= names.</summary>
    public TlsCredentials Credentials(string id, bool isServer) => Factory.CredentialsOf(id, isServer);
}
