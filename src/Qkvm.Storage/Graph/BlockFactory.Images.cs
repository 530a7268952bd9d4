using Qkvm.Core.Block;
using Qkvm.Host;
using Qkvm.Storage.Drivers;
using Qkvm.Storage.Drivers.File;
using Qkvm.Storage.Drivers.Qcow2;
using Qkvm.Storage.Images;

namespace Qkvm.Storage.Graph;

/// <summary>Images for tools, and images that are made.</summary>
public sealed partial class BlockFactory
{
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
}
