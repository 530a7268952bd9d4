using System.Collections.Concurrent;
using Qkvm.Core.Block;
using Qkvm.Core.Block.Throttling;
using Qkvm.Core.Devices;
using Qkvm.Host;
using Qkvm.Host.Sockets;
using Qkvm.Storage.Drivers;
using Qkvm.Storage.Drivers.File;
using Qkvm.Storage.Drivers.Qcow2;
using Qkvm.Storage.Drivers.Raw;
using Qkvm.Storage.Images;

namespace Qkvm.Storage.Graph;

/// <summary>A drive's node and what its block backend needs to know.</summary>
/// <param name="Root">Null for an empty drive.</param>
/// <param name="WriteCache">Goes to <see cref="BlockBackend.WriteCache"/>.</param>
public sealed record OpenedDrive(BlockDriver? Root, bool WriteCache, bool ReadOnly, string Description);

/// <summary>Makes block nodes of what -drive and -blockdev say, and keeps those that have names.</summary>
/// <remarks>Named nodes belong to the factory, others to their users; disposing twice does no harm. Image locks follow
/// what the users of a file need.</remarks>
/// <param name="drivers">All that driver= and format= can name.</param>
/// <param name="warn">Takes a line for the user.</param>
public sealed class BlockFactory(Catalogue<BlockDriverModel> drivers, Action<string> warn) : IAsyncDisposable
{
    const int MaxChain = 200;

    readonly ConcurrentDictionary<string, BlockDriver> _named = new(StringComparer.Ordinal);
    readonly List<BlockDriver> _opened = [];
    int _nextNode = 100;

    /// <summary>Nodes with names of the user's, in the order of their making.</summary>
    public IReadOnlyList<BlockDriver> Nodes { get { lock (_opened) return [.. _opened]; } }

    public BlockDriver? Find(string nodeName) => _named.GetValueOrDefault(nodeName);

    /// <summary>-blockdev and blockdev-add: driver and node-name are needed.</summary>
    public BlockDriver AddNode(Options options) => Named(options, () =>
    {
        if (options.Text("driver") == null) throw options.Error("Parameter 'driver' is missing");
        if (options.Text("node-name") == null) throw options.Error("'node-name' must be specified for the root node");
        return Open(options, null, default(Surroundings) with { Cache = CacheMode.Default, AsUser = true,
            Owner = options.Owner });
    }, static node => node);

    /// <summary>blockdev-del: closes a named node.</summary>
    public async ValueTask RemoveNodeAsync(string nodeName)
    {
        BlockDriver node = Find(nodeName)
            ?? throw new ConfigurationException($"Failed to find node with node-name='{nodeName}'");
        if (node.Edges.Count > 0) throw new ConfigurationException($"Node {nodeName} is in use");
        _named.TryRemove(nodeName, out _);
        lock (_opened) _opened.Remove(node);
        await node.DisposeAsync().ConfigureAwait(false);
    }

    /// <summary>-drive: its block options, without if=, media=, id= and other names of the device side. Beside those of
    /// -blockdev it takes file= and format=, cache=, aio=, readonly=, snapshot=.</summary>
    public OpenedDrive OpenDrive(Options options) => Named(options, () =>
    {
        CacheMode cache = CacheMode.Of(options, CacheMode.Default);
        bool isSnapshot = options.Bool("snapshot") ?? false;
        bool readOnly = options.Bool("readonly") ?? options.Bool("read-only") ?? false;
        bool copiesOnRead = options.Bool("copy-on-read") ?? false;
        string? driver = options.Text("driver"), format = options.Text("format") ?? driver;
        string? fileName = options.Text("file") ?? options.Text("filename");
        if (fileName == "" || (fileName == null && options.Nested("file") == null && format == null))
            return new OpenedDrive(null, cache.Writeback, readOnly, "");

        var surroundings = new Surroundings { Cache = cache, ReadOnly = readOnly || isSnapshot, AsUser = true,
            Owner = options.Owner };
        BlockDriver root;
        if (fileName == null || Find(fileName) != null) root = Open(options, format, surroundings);
        else if (fileName.StartsWith("json:", StringComparison.Ordinal))
            root = Open(Options.ParseJson(fileName[5..], options.Owner), null, surroundings);
        else if (format != null && drivers.Find(format) is { IsProtocol: true })
        {
            options.Add("filename", fileName);
            root = Open(options, format, surroundings);
        }
        else
        {
            Options own = options.Nested("file") ?? new Options(options.Owner);
            if (options.Text("aio") is { } aio) own.Add("aio", aio);
            root = OpenOver(OpenPath(fileName, own, surroundings.For(options) with { Discard = true }), options, format,
                surroundings);
        }
        if (isSnapshot) root = Overlay(root, options);
        if (copiesOnRead && !root.IsReadOnly && root is BlockNode node) node.CopiesOnRead = true;
        else if (copiesOnRead) warn($"{options.Owner}: disabling copy-on-read on read-only drive");
        string description = fileName ?? (root as BlockNode)?.FileName ?? "";
        return new OpenedDrive(root, cache.Writeback, readOnly, description);
    }, static drive => drive.Root);

    public async ValueTask DisposeAsync()
    {
        for (int i = _opened.Count - 1; i >= 0; i--) await _opened[i].DisposeAsync().ConfigureAwait(false);
        _opened.Clear();
        _named.Clear();
    }

    /// <summary>A node of an options tree.</summary>
    /// <param name="driver">Named elsewhere than in the options; null for there.</param>
    BlockDriver Open(Options options, string? driver, Surroundings around)
    {
        around = around.For(options);
        driver ??= options.Text("driver");
        if (driver == null || drivers.Get(driver, options.Owner) is not { IsProtocol: true } protocol)
            return OpenOver(OpenChild(options, "file", around with { Discard = true }), options, driver,
                around);
        return Make(protocol, options, around, null);
    }

    /// <summary>A format node over its file, guessed where the user names none.</summary>
    BlockDriver OpenOver(BlockDriver file, Options options, string? driver, Surroundings around)
    {
        try
        {
            around = around.For(options);
            if (file.IsReadOnly && !around.ReadOnly)
            {
                if (!around.AutoReadOnly)
                    throw new ConfigurationException($"'{NameOf(file)}' is read-only; give read-only=on here as well");
                around = around with { ReadOnly = true };
            }
            driver ??= options.Text("driver");
            if (driver != null) return Make(drivers.Get(driver, options.Owner), options, around, file);
            string guess = Probe(file) ?? RawDriver.Model.Name;
            if (guess == RawDriver.Model.Name && !around.ReadOnly) WarnOfGuess(NameOf(file), around);
            return Make(drivers.Find(guess) ?? throw Foreign(NameOf(file), guess), options, around, file,
                isGuess: true);
        }
        catch
        {
            DisposeUnnamed(file);
            throw;
        }
    }

    /// <summary>A node of a driver, known by its name from now on.</summary>
    BlockDriver Make(BlockDriverModel driver, Options options, Surroundings around, BlockDriver? file,
        bool isGuess = false)
    {
        string? name = options.Text("node-name");
        var parts = new NodeParts(this, options, around, around.Node(name ?? NewName()), file, isGuess);
        BlockDriver made = driver.Create(new Properties(driver, options), parts);
        if (made is BlockNode node) node.Given = [.. options.All];
        return Register(made, name);
    }

    /// <summary>backing=NODE, backing=null, backing.…, or what the header says.</summary>
    internal BlockDriver? OpenBacking(string? fileName, string? format, NodeParts parts)
    {
        (Options options, Surroundings around) = (parts.Options, parts.Around);
        string image = NameOf(parts.File);
        Surroundings below = around with { ReadOnly = true, Discard = false, AsUser = false,
            Depth = around.Depth + 1 };
        if (options.IsNull("backing") || options.Text("backing") == "") return null;
        Options? nested = options.Nested("backing");
        if (options.Text("backing") != null) return OpenChild(options, "backing", below);
        if (nested != null && (nested.Has("file") || nested.Has("filename")))
            return OpenChild(options, "backing", below with { AsUser = true });
        if (fileName == null || around.IsAlone) return null;
        try
        {
            if (around.Depth >= MaxChain)
                throw new ConfigurationException($"the chain of backing files is longer than {MaxChain}");
            nested ??= new Options(options.Owner);
            string path = RelativeTo(image, fileName);
            below = below with { Chain = [.. around.Chain ?? [], Identity(image)] };
            if (below.Chain.Contains(Identity(path)))
                throw new ConfigurationException($"Backing file '{path}' creates an infinite loop");
            Options own = nested.Nested("file") ?? new Options(options.Owner);
            return OpenOver(OpenPath(path, own, below), nested, nested.Text("driver") ?? format, below);
        }
        catch (ConfigurationException e) when (around.IsTool)
        {
            string top = around.Depth == 0 ? $"Could not open '{image}': " : "";
            throw new ConfigurationException($"{top}Could not open backing file: {e.Message}", e);
        }
        catch (ConfigurationException e)
        {
            throw new ConfigurationException($"Could not open backing file of '{image}': {e.Message}", e);
        }
    }

    /// <summary>ROLE=NODE, ROLE.…, or what the image says. It is a protocol's node: it holds bytes as they
    /// are.</summary>
    internal BlockDriver? OpenExtent(string role, string fileName, NodeParts parts)
    {
        Surroundings below = parts.Around with { Discard = true, AsUser = false };
        Options? options = parts.Options;
        for (int dot; options != null && (dot = role.IndexOf('.')) > 0; role = role[(dot + 1)..])
            options = options.Nested(role[..dot]);
        if (options?.Text(role) != null) return OpenChild(options, role, below);
        if (options?.Nested(role) != null) return OpenChild(options, role, below with { AsUser = true });
        if (parts.Around.IsUnread) return null;
        string image = NameOf(parts.File);
        return OpenPath(RelativeTo(image, fileName), new Options(parts.Options.Owner), below);
    }

    /// <summary>What -object secret of an id holds.</summary>
    public Func<string, byte[]?> Secrets { get; set; } = static _ => null;

    /// <summary>The credentials that -object tls-creds-x509 of an id has; null for none.</summary>
    public Func<string, TlsCredentials?> Credentials { get; set; } = static _ => null;

    /// <summary>A new member of the throttle group of a name; null: there is no such group.</summary>
    public Func<string, ThrottleMember?> JoinThrottle { get; set; } = static _ => null;

    /// <exception cref="ConfigurationException">There is no such object, or it is for the other end.</exception>
    public TlsCredentials CredentialsOf(string id, bool isServer)
    {
        TlsCredentials found = Credentials(id)
            ?? throw new ConfigurationException($"No TLS credentials with id '{id}'");
        return found.IsServer == isServer ? found : throw new ConfigurationException(
            $"Expecting TLS credentials with a {(isServer ? "server" : "client")} endpoint");
    }

    /// <summary>What -object secret of that id holds.</summary>
    public byte[] Secret(string id) =>
        Secrets(id) ?? throw new ConfigurationException($"No secret with id '{id}'");

    /// <summary>An image for a tool: nobody's guest writes to it.</summary>
    /// <param name="path">As typed: a file, PROTOCOL:…, json:….</param>
    public BlockDriver OpenImage(string path, ImageOpening how)
    {
        if (path.StartsWith("json:", StringComparison.Ordinal))
            return OpenImage(Options.ParseJson(path[5..], path), how);
        Options options = Options.Of(path, how.Own);
        foreach (NewExtent extent in how.Extents) options.Add($"{extent.Role}.filename", extent.Place);
        Surroundings around = how.Around(path);
        if (how.Format is { } format && drivers.Find(format) is { IsProtocol: true } protocol)
        {
            options.Add("filename", path);
            return Make(protocol, options, around, null);
        }
        BlockDriver file;
        try { file = OpenPath(path, new Options(path), around with { Discard = true }); }
        catch (ConfigurationException e)
        {
            throw new ConfigurationException($"Could not open '{path}': {e.Message}", e);
        }
        return OpenOver(file, options, how.Format, around);
    }

    /// <summary>--image-opts.</summary>
    public BlockDriver OpenImage(Options options, ImageOpening how)
    {
        BlockDriver node = Open(options, how.Format, how.Around(options.Owner));
        try { options.Close(); }
        catch
        {
            DisposeUnnamed(node);
            throw;
        }
        return node;
    }

    /// <summary>A file of the host as an empty one, made where there is none; a device as it is.</summary>
    public FileDriver CreateFile(string path, bool noFlush = false)
    {
        (string protocol, string name) = Protocol(path);
        if (protocol != FileDriver.Model.Name)
            throw new ConfigurationException($"Protocol driver '{protocol}' does not support image creation");
        return HostImage.Create(name, new NodeOptions(NewName()) { Discard = true }, noFlush);
    }

    /// <summary>A child by name or by its own options.</summary>
    BlockDriver OpenChild(Options options, string key, Surroundings around)
    {
        if (options.Nested(key) is { } nested)
            return !nested.Has("driver") && nested.Text("filename") is { } path ? OpenPath(path, nested, around)
                : Open(nested, null, around);
        string name = options.Text(key) ?? throw new ConfigurationException($"driver={options.Text("driver")} needs " +
            $"{key}=NODE or {key}.filename=PATH");
        BlockDriver node = Find(name)
            ?? throw new ConfigurationException($"Cannot find device='{name}' nor node-name='{name}'");
        return node;
    }

    /// <summary>A file name as users type them: plain or with file: in front.</summary>
    BlockDriver OpenPath(string path, Options options, Surroundings around)
    {
        string typed = path;
        (string protocol, path) = Protocol(path);
        if (drivers.Models.FirstOrDefault(one => one.Prefixes.Contains(protocol)) is { } known)
            return OpenNamed(known, typed, options, around);
        if (protocol == "json" && !around.AsUser)
            throw new ConfigurationException("a json: file name is only taken from the command line, never from " +
                "an image");
        if (drivers.Known(protocol)?.NotBuilt is { } why)
            throw new ConfigurationException($"Protocol '{protocol}' {why}");
        if (protocol != FileDriver.Model.Name)
            throw new ConfigurationException($"Unknown protocol '{protocol}'; for a file of that name give " +
                $"file:{protocol}:{path} or ./{protocol}:{path}");
        BlockDriverModel driver = options.Text("driver") is { } name ? drivers.Get(name, options.Owner)
            : HostFile.TryStatus(path, out FileStatus status, out _) && status.IsBlockDevice ? FileDriver.HostDevice
                : FileDriver.Model;
        options.Add("filename", path);
        return Make(driver, options, around.For(options), null);
    }

    /// <summary>A file name that is for one protocol alone.</summary>
    BlockDriver OpenNamed(BlockDriverModel driver, string name, Options options, Surroundings around)
    {
        options.Text("driver");
        driver.ParseFileName(name, options);
        return Make(driver, options, around.For(options), null);
    }

    /// <summary>What stands before a colon, unless a slash comes first, and what stands behind it.</summary>
    static (string Protocol, string Path) Protocol(string path)
    {
        int colon = path.IndexOf(':'), slash = path.IndexOf('/');
        return colon > 0 && (slash < 0 || colon < slash) ? (path[..colon], path[(colon + 1)..])
            : (FileDriver.Model.Name, path);
    }

    /// <summary>snapshot=on: writes go to a file that vanishes with the process.</summary>
    BlockDriver Overlay(BlockDriver root, Options options)
    {
        string directory = Environment.GetEnvironmentVariable("TMPDIR") is { Length: > 0 } given ? given : "/var/tmp";
        string path = Path.Combine(directory, $"vl.{Guid.NewGuid():N}");
        HostFile host = HostFile.Open(path, Libc.ORdWr | Libc.OCreat | Libc.OExcl, out int errno)
                        ?? throw new ConfigurationException($"Could not create the temporary overlay '{path}': " +
                        $"{Libc.Message(errno)}; set TMPDIR to a directory with room");
        System.IO.File.Delete(path);
        var file = new FileDriver(host, new NodeOptions(NewName()) { Discard = true }, noFlush: true);
        Qcow2Image.FormatAsync(file, path, root.Length, new Qcow2CreateOptions()).GetAwaiter().GetResult();
        var node = new NodeOptions(NewName()) { Discard = options.Text("discard") is "unmap" or "on" };
        return new Qcow2Driver(file, path, node, _ => root);
    }

    /// <summary>An image that is to lie over a node, with its policy of discards: it names that, and lies over nothing
    /// yet.</summary>
    /// <param name="isExisting">It is there already.</param>
    /// <param name="nodeName">Null: the user gives it none.</param>
    public Task<BlockDriver> MakeOverlayAsync(BlockDriver below, string path, string format, string? nodeName,
        bool isExisting) => MakeImageAsync(below.Length, below, path, format, nodeName, isExisting,
            Discards(below));

    static bool Discards(BlockDriver node) => node is BlockNode { Treatment.Discard: true };

    /// <summary>An image for writing, made now or there already.</summary>
    /// <param name="length">Bytes of the disk.</param>
    /// <param name="below">What it names as its backing file; null: none.</param>
    /// <param name="format">Null: as it is found.</param>
    /// <param name="discards">Its node has discard=unmap.</param>
    /// <param name="hasChain">It lies over what it names; else over nothing yet.</param>
    public async Task<BlockDriver> MakeImageAsync(long length, BlockDriver? below, string path, string? format,
        string? nodeName, bool isExisting, bool discards, bool hasChain = false)
    {
        const string owner = "snapshot";
        if (nodeName != null && Find(nodeName) != null)
            throw new ConfigurationException($"Duplicate nodes with node-name='{nodeName}'");
        if (format != null && drivers.Find(format) == null && drivers.Known(format) == null)
            throw new ConfigurationException($"Unknown file format '{format}'");
        if (!isExisting)
        {
            ImageCreation creation = drivers.Get(format!, owner).Creation
                ?? throw new ConfigurationException($"Format driver '{format}' does not support image creation");
            var made = new Options(owner);
            made.Add("size", $"{length}");
            if (below != null)
            {
                if (creation.Properties.All(static one => one.Name != "backing_file"))
                    throw new ConfigurationException($"Backing file not supported for file format '{format}'");
                made.Add("backing_file", NameOf(below));
                made.Add("backing_fmt", below.FormatName);
            }
            await ImageMaker.CreateAsync(this, creation, path, null, length, new Properties(creation, made))
                .ConfigureAwait(false);
        }
        var options = new Options(owner);
        if (format != null) options.Add("driver", format);
        if (!hasChain && (format == null || drivers.Find(format)!.Properties.Any(static one => one.Name == "backing")))
            options.Add("backing", "");
        if (nodeName != null) options.Add("node-name", nodeName);
        if (discards) options.Add("discard", "unmap");
        Surroundings around = default(Surroundings) with { Cache = CacheMode.Default, AsUser = true, Owner = owner };
        return OpenOver(OpenPath(path, new Options(owner), around with { Discard = true }), options, format, around);
    }

    BlockDriver Register(BlockDriver node, string? name)
    {
        if (name == null) return node;
        if (_named.TryAdd(name, node))
        {
            node.IsNamed = true;
            lock (_opened) _opened.Add(node);
        }
        else
        {
            node.DisposeAsync().AsTask().GetAwaiter().GetResult();
            throw new ConfigurationException($"Duplicate nodes with node-name='{name}'");
        }
        return node;
    }

    string NewName() => $"#block{_nextNode++}";

    internal void DisposeUnnamed(BlockDriver? node)
    {
        if (node is { IsNamed: false }) node.DisposeAsync().AsTask().GetAwaiter().GetResult();
    }

    void WarnOfGuess(string name, Surroundings around)
    {
        if (!around.IsTool)
            warn($"{around.Owner}: '{name}' looks like a raw image; say format=raw, or the guest may not write " +
                "another format's header to it");
        else
            warn($"Image format was not specified for '{name}' and probing guessed raw.\n" +
                "         Automatically detecting the format is dangerous for raw images, write operations on block " +
                "0 will be restricted.\n         Specify the 'raw' format explicitly to remove the restrictions.");
    }

    internal static string? Probe(BlockDriver file)
    {
        var head = new byte[ImageProbe.HeadSize];
        int inside = (int)Math.Min(head.Length, file.Length);
        if (inside > 0) ScatterLists.Wait(file.ReadAsync(0, new ScatterList(head.AsMemory(0, inside))));
        return ImageProbe.Detect(head)
            ?? (NameOf(file).EndsWith(".dmg", StringComparison.Ordinal) ? "dmg" : null);
    }

    static ConfigurationException Foreign(string name, string format) => new(
        $"'{name}' is a {format} image, which is not supported yet; convert it: qemu-img convert -O qcow2 '{name}' " +
            $"'{Path.ChangeExtension(name, "qcow2")}'");

    internal static string NameOf(BlockDriver node) => (node as BlockNode)?.FileName ?? node.NodeName;

    /// <summary>A backing file's name counts from the directory of the image that names it.</summary>
    public static string RelativeTo(string image, string name)
    {
        int colon = name.IndexOf(':'), slash = name.IndexOf('/');
        if (colon > 0 && (slash < 0 || colon < slash)) return name;
        return Path.Combine(Path.GetDirectoryName(image) ?? "", name);
    }

    /// <summary>The same text for each name of a file.</summary>
    public static string Identity(string path) =>
        HostFile.TryStatus(path, out FileStatus status, out _) ? $"{status.Device}:{status.Inode}" : path;

    /// <summary>Runs what opens nodes: errors get the option in front, and what nobody took of it is refused.</summary>
    T Named<T>(Options options, Func<T> open, Func<T, BlockDriver?> root)
    {
        try
        {
            T opened = open();
            try { options.Close(); }
            catch
            {
                DisposeUnnamed(root(opened));
                throw;
            }
            return opened;
        }
        // Options and their properties say whose they are themselves.
        catch (ConfigurationException e) when (!e.Message.StartsWith($"{options.Owner}: ",
            StringComparison.Ordinal)) { throw options.Error(e.Message, e); }
        catch (BlockException e) { throw options.Error(e.Message, e); }
    }
}
