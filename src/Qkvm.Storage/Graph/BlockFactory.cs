using System.Collections.Concurrent;
using Qkvm.Core.Block;
using Qkvm.Storage.Drivers;
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
public sealed partial class BlockFactory(Catalogue<BlockDriverModel> drivers, Action<string> warn) : IAsyncDisposable
{
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
