using Qkvm.Core.Block;
using Qkvm.Host;
using Qkvm.Storage.Drivers.File;

namespace Qkvm.Storage.Graph;

/// <summary>Nodes below others: by name, by their own options, by file names, or as an image names them.</summary>
public sealed partial class BlockFactory
{
    const int MaxChain = 200;

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
}
