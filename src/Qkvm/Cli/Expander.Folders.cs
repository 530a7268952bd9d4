using Qkvm.Core.Machine;
using Qkvm.Hw.Virtio;

namespace Qkvm.Cli;

/// <summary>Folders that guests share with the host: -fsdev and -virtfs.</summary>
public sealed partial class Expander
{
    const string Driver = "fsdriver", TagOption = "mount_tag", UsageOfShare = "Usage: -virtfs "
        + "fsdriver,mount_tag=tag[,path=…,security_model=…]";

    void AddFolder(string text, string owner)
    {
        Options options = Options.Parse(text, owner, Driver);
        string driver = options.Text(Driver)
            ?? throw new ConfigurationException($"{owner}: fsdev: No fsdriver specified; write local first");
        string id = options.Text("id") ?? throw new ConfigurationException($"{owner}: fsdev: No id specified; give "
            + "id=ID");
        Identifier.Check(id, owner);
        AddFolder(id, driver, options);
    }

    void AddFolder(string id, string driver, Options options)
    {
        if (_config.Folders.Any(folder => folder.Id == id))
            throw new ConfigurationException($"{options.Owner}: Duplicate ID '{id}' for fsdev");
        driver = Catalogue.FileSystems.Known(driver, options.Owner).Name;
        _config = _config with { Folders = [.. _config.Folders, new FolderConfig(id, driver, options)] };
    }

    /// <summary>A folder and its device; its id is its tag unless it has one.</summary>
    void AddShare(string text, string owner)
    {
        Options options = Options.Parse(text, owner, Driver);
        string driver = options.Text(Driver) ?? throw new ConfigurationException($"{owner}: {UsageOfShare}");
        string tag = options.Text(TagOption) ?? throw new ConfigurationException($"{owner}: {UsageOfShare}");
        string id = options.Text("id") ?? tag;
        AddFolder(id, driver, options);
        _devices.Add(new DeviceConfig(Virtio9p.Models[0].Name, null, [new("fsdev", id), new(TagOption, tag)], owner));
    }
}
