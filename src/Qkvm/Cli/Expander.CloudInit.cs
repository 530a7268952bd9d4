using Qkvm.Core.Machine;
using Qkvm.Hw.Virtio;
using Qkvm.Machines;
using Qkvm.Storage.Drivers.CloudInit;

namespace Qkvm.Cli;

/// <summary>-cloud-init: the block driver of that name, on a disk behind the others.</summary>
public sealed partial class Expander
{
    const string SeedId = "cloud-init";

    Options? _cloudInit;

    void TakeCloudInit(string text, string owner)
    {
        if (_cloudInit != null) throw new ConfigurationException($"{owner}: {_cloudInit.Owner} is there already");
        _cloudInit = Options.Parse(text, owner);
        string[] known = [.. CloudInitDriver.Own.Select(property => property.Name)];
        foreach (string name in _cloudInit.Names)
            if (!known.Contains(name))
                throw _cloudInit.Error($"invalid parameter '{name}'{Suggestion.For(name, known)}");
    }

    void AddCloudInit()
    {
        if (_cloudInit == null) return;
        Options options = Options.Of(_cloudInit.Owner, [.. _cloudInit.Rest, new("driver", CloudInitDriver.Model.Name)]);
        VideoKind bus = _machine?.Defaults.Video ?? VideoKind.Pci; // what the screen sits on, disks do
        var spec = new DriveSpec(options) { Id = SeedId, ReadOnly = true };
        AddDrive(bus switch
        {
            VideoKind.Pci => spec with { Interface = Virtio },
            VideoKind.Isa => spec with { Interface = Ide },
            _ => spec with { Interface = NoInterface },
        });
        if (bus == VideoKind.None)
            _devices.Add(new DeviceConfig(VirtioBlk.Models[^1].Name, null, [new("drive", SeedId)], options.Owner));
    }
}
