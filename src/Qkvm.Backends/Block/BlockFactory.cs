using Qkvm.Backends.Block.File;
using Qkvm.Backends.Block.Qcow2;
using Qkvm.Backends.Block.Raw;
using Qkvm.Core.Block;
using Qkvm.Core.Devices;
using Qkvm.Host;

namespace Qkvm.Backends.Block;

/// <summary>A drive's node and what its block backend needs to know.</summary>
/// <param name="Root">Null for an empty drive.</param>
/// <param name="WriteCache">Goes to <see cref="BlockBackend.WriteCache"/>.</param>
public sealed record OpenedDrive(BlockDriver? Root, bool WriteCache, bool ReadOnly, string Description);

/// <summary>Makes block nodes of what -drive and -blockdev say, and keeps those that have names.</summary>
/// <remarks>Named nodes belong to the factory, others to their parents; disposing twice does no harm. Deviation: image
/// locks are taken when a node gets its first user, by read-only=, not by the needs of the device.</remarks>
/// <param name="warn">Takes a line for the user.</param>
public sealed class BlockFactory(Action<string> warn) : IAsyncDisposable
{
    const int MaxChain = 200;

    static readonly string[] CommonKeys = ["driver", "node-name", "read-only", "auto-read-only", "discard", "detect-zeroes", "cache", "force-share"];
    static readonly string[] FileKeys = ["filename", "locking", "aio", "aio-max-batch", "drop-cache", "x-check-cache-dropped"];
    static readonly string[] RawKeys = ["file", "offset", "size"];

    /// <summary>Tuning that this driver does not need is taken and has no effect.</summary>
    static readonly string[] Qcow2Keys =
    [
        "file", "backing", "lazy-refcounts", "pass-discard-request", "pass-discard-snapshot", "pass-discard-other", "overlap-check",
        "cache-size", "l2-cache-size", "l2-cache-entry-size", "refcount-cache-size", "cache-clean-interval",
    ];

    readonly Dictionary<string, BlockDriver> _named = new(StringComparer.Ordinal);
    readonly List<BlockDriver> _opened = [];
    readonly HashSet<string> _usedAsChild = new(StringComparer.Ordinal);
    int _nextNode = 100;

    /// <summary>Nodes with names of the user's, in the order of their making.</summary>
    public IReadOnlyList<BlockDriver> Nodes => _opened;

    public BlockDriver? Find(string nodeName) => _named.GetValueOrDefault(nodeName);

    /// <summary>-blockdev and blockdev-add: driver and node-name are needed.</summary>
    /// <param name="owner">The option as typed, for messages: <c>-blockdev driver=raw,…</c>.</param>
    public BlockDriver AddNode(string owner, BlockdevOptions options) => Named(owner, () =>
    {
        if (options.Text("driver") == null) throw new ConfigurationException("Parameter 'driver' is missing");
        if (options.Text("node-name") == null) throw new ConfigurationException("'node-name' must be specified for the root node");
        return Open(options, default(Surroundings) with { Cache = CacheMode.Default, AsUser = true, Owner = owner });
    });

    /// <summary>blockdev-del: closes a named node.</summary>
    public async ValueTask RemoveNodeAsync(string nodeName)
    {
        if (!_named.Remove(nodeName, out BlockDriver? node)) throw new ConfigurationException($"Cannot find node '{nodeName}'");
        _opened.Remove(node);
        await node.DisposeAsync().ConfigureAwait(false);
    }

    /// <summary>-drive: its block options, without if=, media=, id= and other keys of the device side. Beside those of
    /// -blockdev it takes file= and format=, cache=, readonly=, snapshot=.</summary>
    /// <param name="owner">The option as typed, for messages: <c>-drive file=a.img</c>.</param>
    public OpenedDrive OpenDrive(string owner, BlockdevOptions options) => Named(owner, () =>
    {
        CacheMode cache = CacheMode.Of(options, CacheMode.Default);
        bool isSnapshot = options.Bool("snapshot", false);
        bool readOnly = options.Bool("readonly", options.Bool("read-only", false));
        if (options.Text("format") is { } format) options = options.With("driver", format);
        foreach (string key in (string[])["format", "snapshot", "readonly", "read-only", "cache"]) options = options.Without(key);
        string? fileName = options.Text("file") ?? options.Text("filename");
        if (fileName == "" || (fileName == null && options.Nested("file") == null && !options.Has("driver")))
            return new OpenedDrive(null, cache.Writeback, readOnly, "");

        var surroundings = new Surroundings { Cache = cache, ReadOnly = readOnly || isSnapshot, AsUser = true, Owner = owner };
        BlockDriver root;
        if (fileName == null || Find(fileName) != null) root = Open(options, surroundings);
        else if (fileName.StartsWith("json:", StringComparison.Ordinal))
            root = Open(BlockdevOptions.FromJson(fileName[5..]), surroundings);
        else
        {
            bool isProtocol = options.Text("driver") is "file" or "host_device";
            BlockdevOptions own = options.Nested("file") ?? BlockdevOptions.FromPairs([]);
            options = options.Without("file").Without("filename");
            root = isProtocol ? Open(options.With("filename", fileName), surroundings)
                : OpenOver(OpenPath(fileName, own, surroundings.For(options) with { Discard = true }), options, surroundings);
        }
        if (isSnapshot) root = Overlay(root, options);
        string description = fileName ?? (root as BlockNode)?.FileName ?? "";
        return new OpenedDrive(root, cache.Writeback, readOnly, description);
    });

    public async ValueTask DisposeAsync()
    {
        for (int i = _opened.Count - 1; i >= 0; i--) await _opened[i].DisposeAsync().ConfigureAwait(false);
        _opened.Clear();
        _named.Clear();
    }

    /// <summary>A node of an options tree.</summary>
    BlockDriver Open(BlockdevOptions options, Surroundings around)
    {
        around = around.For(options);
        string? driver = options.Text("driver");
        if (driver is "file" or "host_device")
        {
            CheckKeys(options, driver, FileKeys);
            string path = options.Text("filename") ?? throw new ConfigurationException($"driver={driver} needs filename=");
            FileDriver file = OpenFile(path, driver, options, around);
            if (!around.IsChild) Lock(file, ImageUse.Raw(file.IsReadOnly), around with { ReadOnly = file.IsReadOnly });
            return Register(file, options);
        }
        if (driver is not (null or "raw" or "qcow2")) throw UnknownDriver(driver);
        return OpenOver(OpenChild(options, "file", around with { IsChild = true, Discard = true }), options, around);
    }

    /// <summary>A format node over its file, guessed where the user names none.</summary>
    BlockDriver OpenOver(BlockDriver file, BlockdevOptions options, Surroundings around)
    {
        try
        {
            around = around.For(options);
            if (file.IsReadOnly && !around.ReadOnly)
            {
                if (!around.AutoReadOnly) throw new ConfigurationException($"'{NameOf(file)}' is read-only; give read-only=on here as well");
                around = around with { ReadOnly = true };
            }
            string? driver = options.Text("driver");
            bool isGuess = driver == null;
            driver ??= Probe(file) ?? "raw";
            if (driver == "raw" && isGuess && !around.ReadOnly) WarnOfGuess(NameOf(file), around);
            return driver switch
            {
                "raw" => OpenRaw(file, options, around, isGuess),
                "qcow2" => OpenQcow2(file, options, around),
                _ => throw (isGuess ? Foreign(NameOf(file), driver) : UnknownDriver(driver)),
            };
        }
        catch
        {
            DisposeUnnamed(file);
            throw;
        }
    }

    BlockDriver OpenRaw(BlockDriver file, BlockdevOptions options, Surroundings around, bool isGuess)
    {
        CheckKeys(options, "raw", RawKeys);
        Lock(file, ImageUse.Raw(around.ReadOnly), around);
        long offset = options.Size("offset") ?? 0;
        long? size = options.Size("size");
        if (offset > file.Length || size > file.Length - offset)
            throw new ConfigurationException($"offset={offset} and size={size} do not lie inside the {file.Length} bytes of '{NameOf(file)}'");
        if (size is { } bytes && bytes % 512 != 0) throw new ConfigurationException("Specified size is not multiple of 512");
        return Register(new RawDriver(file, around.Node(NewName(options)), offset, size, isGuess && !around.ReadOnly), options);
    }

    BlockDriver OpenQcow2(BlockDriver file, BlockdevOptions options, Surroundings around)
    {
        CheckKeys(options, "qcow2", Qcow2Keys);
        string name = NameOf(file);
        if (Probe(file) is not "qcow2" and var other)
            throw new ConfigurationException($"Could not open '{name}': Image is not in qcow2 format; it looks like '{other ?? "raw"}'");
        Lock(file, ImageUse.Format(around.ReadOnly), around);
        Qcow2ImageInfo info = Qcow2ImageInfo.Read(file, name);
        BlockDriver? backing = OpenBacking(info, options, around);
        try { return Register(new Qcow2Driver(file, info, around.Node(NewName(options)), backing), options); }
        catch
        {
            DisposeUnnamed(backing);
            throw;
        }
    }

    /// <summary>backing=NODE, backing=null, backing.…, or what the header says.</summary>
    BlockDriver? OpenBacking(Qcow2ImageInfo info, BlockdevOptions options, Surroundings around)
    {
        Surroundings below = around with { IsChild = true, ReadOnly = true, Discard = false, AsUser = false, Depth = around.Depth + 1 };
        if (options.IsNull("backing") || options.Text("backing") == "") return null;
        BlockdevOptions? nested = options.Nested("backing");
        if (options.Text("backing") != null) return OpenChild(options, "backing", below);
        if (nested != null && (nested.Has("file") || nested.Has("filename"))) return OpenChild(options, "backing", below with { AsUser = true });
        if (info.BackingFile is not { } fileName) return null;
        try
        {
            if (around.Depth >= MaxChain) throw new ConfigurationException($"the chain of backing files is longer than {MaxChain}");
            nested ??= BlockdevOptions.FromPairs([]);
            if (!nested.Has("driver") && info.BackingFormat is { } format) nested = nested.With("driver", format);
            string path = RelativeTo(info.Name, fileName);
            below = below with { Chain = [.. around.Chain ?? [], Identity(info.Name)] };
            if (below.Chain.Contains(Identity(path))) throw new ConfigurationException($"Backing file '{path}' creates an infinite loop");
            return OpenOver(OpenPath(path, nested.Nested("file"), below), nested.Without("file"), below);
        }
        catch (ConfigurationException e)
        {
            throw new ConfigurationException($"Could not open backing file of '{info.Name}': {e.Message}", e);
        }
    }

    /// <summary>A child by name or by its own options.</summary>
    BlockDriver OpenChild(BlockdevOptions options, string key, Surroundings around)
    {
        if (options.Nested(key) is { } nested)
        {
            if (!nested.Has("driver") && nested.Text("filename") is { } path) return OpenPath(path, nested.Without("filename"), around);
            return Open(nested, around);
        }
        string name = options.Text(key) ?? throw new ConfigurationException($"driver={options.Text("driver")} needs {key}=NODE or {key}.filename=PATH");
        BlockDriver node = Find(name) ?? throw new ConfigurationException($"Cannot find device='{name}' nor node-name='{name}'");
        if (!around.ReadOnly && !_usedAsChild.Add(name)) throw new ConfigurationException($"node '{name}' is in use already");
        return node;
    }

    /// <summary>A file name as users type them: plain or with file: in front.</summary>
    FileDriver OpenPath(string path, BlockdevOptions? options, Surroundings around)
    {
        int colon = path.IndexOf(':'), slash = path.IndexOf('/');
        if (colon > 0 && (slash < 0 || colon < slash))
        {
            string protocol = path[..colon];
            if (protocol == "json" && !around.AsUser)
                throw new ConfigurationException("a json: file name is only taken from the command line, never from an image");
            if (protocol != "file")
                throw new ConfigurationException($"Unknown protocol '{protocol}'; for a file of that name give file:{path} or ./{path}");
            path = path[5..];
        }
        options ??= BlockdevOptions.FromPairs([]);
        string driver = options.Text("driver") ?? (HostFile.TryStatus(path, out FileStatus status, out _) && status.IsBlockDevice ? "host_device" : "file");
        CheckKeys(options, driver, FileKeys);
        return (FileDriver)Register(OpenFile(path, driver, options, around.For(options)), options);
    }

    FileDriver OpenFile(string path, string driver, BlockdevOptions options, Surroundings around)
    {
        if (options.Text("aio") is not (null or "threads" or "native" or "io_uring") and var aio)
            throw new ConfigurationException($"Parameter 'aio' does not accept value '{aio}'; there are threads, native and io_uring");
        HostFile file = HostImage.Open(path, driver, ref around.ReadOnly, around.AutoReadOnly, around.Cache.Direct);
        FileLocks? locks = options.Text("locking") switch
        {
            null or "auto" => new FileLocks(file, required: false),
            "on" => new FileLocks(file, required: true),
            "off" => null,
            string other => throw new ConfigurationException($"Parameter 'locking' does not accept value '{other}'; there are on, off and auto"),
        };
        return new FileDriver(file, around.Node(NewName(options)), around.Cache.NoFlush, locks);
    }

    /// <summary>snapshot=on: writes go to a file that vanishes with the process.</summary>
    BlockDriver Overlay(BlockDriver root, BlockdevOptions options)
    {
        string directory = Environment.GetEnvironmentVariable("TMPDIR") is { Length: > 0 } given ? given : "/var/tmp";
        string path = Path.Combine(directory, $"vl.{Guid.NewGuid():N}");
        HostFile host = HostFile.Open(path, Libc.ORdWr | Libc.OCreat | Libc.OExcl, out int errno)
                        ?? throw new ConfigurationException($"Could not create the temporary overlay '{path}': {Libc.Message(errno)}; set TMPDIR to a directory with room");
        System.IO.File.Delete(path);
        var file = new FileDriver(host, new NodeOptions(NewName(null)) { Discard = true }, noFlush: true);
        Qcow2Image.FormatAsync(file, path, root.Length, new Qcow2CreateOptions()).GetAwaiter().GetResult();
        var node = new NodeOptions(NewName(null)) { Discard = options.Text("discard") is "unmap" or "on" };
        return new Qcow2Driver(file, Qcow2ImageInfo.Read(file, path), node, root);
    }

    void Lock(BlockDriver file, ImageUse use, Surroundings around)
    {
        if (around.ForceShare && !around.ReadOnly) throw new ConfigurationException("force-share=on can only be used with read-only images");
        (file as FileDriver)?.Lock(around.ForceShare ? ImageUse.Shared : use);
    }

    BlockDriver Register(BlockDriver node, BlockdevOptions options)
    {
        if (options.Text("node-name") is not { } name) return node;
        if (_named.TryAdd(name, node)) _opened.Add(node);
        else
        {
            node.DisposeAsync().AsTask().GetAwaiter().GetResult();
            throw new ConfigurationException($"Duplicate nodes with node-name='{name}'");
        }
        return node;
    }

    string NewName(BlockdevOptions? options) => options?.Text("node-name") ?? $"#block{_nextNode++}";

    void DisposeUnnamed(BlockDriver? node)
    {
        if (node != null && !_opened.Contains(node)) node.DisposeAsync().AsTask().GetAwaiter().GetResult();
    }

    void WarnOfGuess(string name, Surroundings around) =>
        warn($"{around.Owner}: '{name}' looks like a raw image; say format=raw, or the guest may not write another format's header to it");

    static string? Probe(BlockDriver file)
    {
        var head = new byte[ImageProbe.HeadSize];
        int inside = (int)Math.Min(head.Length, file.Length);
        if (inside > 0) ScatterLists.Wait(file.ReadAsync(0, new ScatterList(head.AsMemory(0, inside))));
        return ImageProbe.Detect(head);
    }

    static ConfigurationException Foreign(string name, string format) => new(
        $"'{name}' is a {format} image, which is not supported yet; convert it: qemu-img convert -O qcow2 '{name}' '{Path.ChangeExtension(name, "qcow2")}'");

    static ConfigurationException UnknownDriver(string driver) => new(
        $"Unknown driver '{driver}'; there are raw, qcow2, file and host_device. Images of other formats can be converted: " +
        "qemu-img convert -O qcow2 OLD NEW");

    static void CheckKeys(BlockdevOptions options, string driver, string[] own)
    {
        foreach (string key in options.Keys)
            if (!CommonKeys.Contains(key) && !own.Contains(key))
                throw new ConfigurationException($"Block {(driver is "file" or "host_device" ? "protocol" : "format")} '{driver}' does not support the option '{key}'");
    }

    static string NameOf(BlockDriver node) => (node as BlockNode)?.FileName ?? node.NodeName;

    /// <summary>A backing file's name counts from the directory of the image that names it.</summary>
    static string RelativeTo(string image, string name)
    {
        int colon = name.IndexOf(':'), slash = name.IndexOf('/');
        if (colon > 0 && (slash < 0 || colon < slash)) return name;
        return Path.Combine(Path.GetDirectoryName(image) ?? "", name);
    }

    static string Identity(string path) =>
        HostFile.TryStatus(path, out FileStatus status, out _) ? $"{status.Device}:{status.Inode}" : path;

    static T Named<T>(string owner, Func<T> open)
    {
        try { return open(); }
        catch (ConfigurationException e) { throw new ConfigurationException($"{owner}: {e.Message}", e); }
        catch (BlockException e) { throw new ConfigurationException($"{owner}: {e.Message}", e); }
    }
}
