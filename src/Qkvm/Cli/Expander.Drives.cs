using Qkvm.Core.Devices;
using Qkvm.Core.Machine;

namespace Qkvm.Cli;

public sealed partial class Expander
{
    const int IdeUnitsPerBus = 2, IdeBuses = 2;

    readonly List<DriveConfig> _drives = [];
    readonly List<BlockdevConfig> _blockdevs = [];
    readonly SortedDictionary<int, string> _idePlaces = [];        // bus * 2 + unit → owner
    readonly Dictionary<string, int> _nextUnit = [];
    bool _snapshot;
    bool _defaultCdrom = true;

    /// <summary>-drive and the short forms that stand for it.</summary>
    sealed record DriveSpec
    {
        public string? File { get; init; }
        public string? Format { get; init; }
        public string Interface { get; init; } = "ide";
        public int? Index { get; init; }
        public bool IsCdrom { get; init; }
        public bool ReadOnly { get; init; }
        public bool? Snapshot { get; init; }
        public string? Id { get; init; }
        public string? Serial { get; init; }
        public string? Address { get; init; }
        public IReadOnlyList<OptionPair> Options { get; init; } = [];
        public required string Owner { get; init; }
    }

    static readonly string[] DriveOptions =
    [
        "cache", "aio", "discard", "detect-zeroes", "werror", "rerror", "cache.direct", "cache.no-flush", "cache.writeback",
        "copy-on-read", "locking", "throttling.bps-total", "throttling.iops-total", "file.locking", "file.driver", "file.filename", "driver", "node-name", "auto-read-only", "force-share",
    ];

    void AddDrive(string text, string owner)
    {
        var list = new KeyValueList(text, owner);
        string media = list.Take("media") ?? "disk";
        if (media is not ("disk" or "cdrom")) throw new ConfigurationException($"{owner}: media={media}: expects disk or cdrom");
        string interfaceName = list.Take("if") ?? "ide";
        int? index = list.TakeInt("index", 0, 255), bus = list.TakeInt("bus", 0, 255), unit = list.TakeInt("unit", 0, 255);
        if (index != null && (bus != null || unit != null)) throw new ConfigurationException($"{owner}: index= and bus=,unit= name the place twice: give one of them");
        if (bus != null || unit != null) index = (bus ?? 0) * UnitsPerBus(interfaceName) + (unit ?? 0);
        var spec = new DriveSpec
        {
            File = list.Take("file"),
            Format = list.Take("format"),
            Interface = interfaceName,
            Index = index,
            IsCdrom = media == "cdrom",
            ReadOnly = list.TakeBool("readonly") ?? list.TakeBool("read-only") ?? false,
            Snapshot = list.TakeBool("snapshot"),
            Id = list.Take("id"),
            Serial = list.Take("serial"),
            Address = list.Take("addr"),
            Owner = owner,
        };
        list.TakeBool("read-only");
        CheckId(spec.Id, owner);
        IReadOnlyList<OptionPair> rest = list.Rest;
        list.Close(DriveOptions);
        AddDrive(spec with { Options = rest });
    }

    static int UnitsPerBus(string interfaceName) => interfaceName switch { "ide" => IdeUnitsPerBus, "scsi" => 7, _ => int.MaxValue };

    void AddDrive(DriveSpec spec)
    {
        string kind = spec.IsCdrom ? "cd" : "hd";
        switch (spec.Interface)
        {
            case "ide":
                int place = spec.Index ?? Enumerable.Range(0, IdeBuses * IdeUnitsPerBus).FirstOrDefault(i => !_idePlaces.ContainsKey(i), -1);
                if (place < 0 || place >= IdeBuses * IdeUnitsPerBus)
                    throw new ConfigurationException($"{spec.Owner}: IDE has places for index 0 to 3; use if=virtio for more disks");
                if (_idePlaces.TryGetValue(place, out string? other))
                    throw new ConfigurationException($"{spec.Owner}: index={place} (bus={place / 2}, unit={place % 2}) is taken by {other}");
                _idePlaces[place] = spec.Owner;
                string ideId = spec.Id ?? $"ide{place / 2}-{kind}{place % 2}";
                AddBackend(spec, ideId);
                _devices.Add(new DeviceConfig($"ide-{kind}", null,
                    [new("bus", $"ide.{place / 2}"), new("unit", $"{place % 2}"), new("drive", ideId), .. SerialOf(spec)], spec.Owner));
                break;
            case "virtio":
                string virtioId = spec.Id ?? $"virtio{NextUnit("virtio", spec.Index)}";
                AddBackend(spec, virtioId);
                _devices.Add(new DeviceConfig("virtio-blk-pci", null,
                    [new("drive", virtioId), .. SerialOf(spec), .. spec.Address == null ? Array.Empty<OptionPair>() : [new("addr", spec.Address)]], spec.Owner));
                break;
            case "none":
                AddBackend(spec, spec.Id ?? $"none{NextUnit("none", spec.Index)}");
                break;
            case "scsi" or "floppy" or "pflash" or "mtd" or "sd" or "xen":
                throw new ConfigurationException($"{spec.Owner}: if={spec.Interface} is not built yet; use if=virtio, if=ide or if=none");
            default:
                throw new ConfigurationException($"{spec.Owner}: unsupported bus type '{spec.Interface}'{Suggestion.For(spec.Interface, ["ide", "virtio", "none"])}");
        }
    }

    int NextUnit(string kind, int? index)
    {
        int unit = index ?? _nextUnit.GetValueOrDefault(kind);
        _nextUnit[kind] = unit + 1;
        return unit;
    }

    static IEnumerable<OptionPair> SerialOf(DriveSpec spec) => spec.Serial == null ? [] : [new("serial", spec.Serial)];

    void AddBackend(DriveSpec spec, string id)
    {
        if (_drives.Exists(d => d.Id == id)) throw new ConfigurationException($"{spec.Owner}: duplicate id '{id}' for drive");
        _drives.Add(new DriveConfig(id, string.IsNullOrEmpty(spec.File) ? null : spec.File, spec.Format, spec.Owner)
        {
            ReadOnly = spec.ReadOnly || spec.IsCdrom,
            Snapshot = spec.Snapshot ?? false,
            IsCdrom = spec.IsCdrom,
            Serial = spec.Serial,
            Options = spec.Options,
        });
    }

    void AddBlockdev(string text, string owner)
    {
        var list = new KeyValueList(text, owner, "driver");
        string driver = list.Take("driver") ?? throw new ConfigurationException($"{owner}: names no driver: -blockdev driver=qcow2,node-name=…,file=…");
        string node = list.Take("node-name") ?? throw new ConfigurationException($"{owner}: needs node-name=");
        if (_blockdevs.Exists(b => b.NodeName == node)) throw new ConfigurationException($"{owner}: node-name={node} exists already");
        _blockdevs.Add(new BlockdevConfig(node, driver, list.Rest, owner));
    }

    void FinishDrives()
    {
        const int CdromPlace = 2;
        if (!_noDefaults && _defaultCdrom && !_idePlaces.ContainsKey(CdromPlace) && IsI440Fx)
            AddDrive(new DriveSpec { Index = CdromPlace, IsCdrom = true, Owner = "default CD-ROM" });
        if (_snapshot)
            for (int i = 0; i < _drives.Count; i++)
                if (_drives[i] is { File: not null, ReadOnly: false }) _drives[i] = _drives[i] with { Snapshot = true };
        _config = _config with { Drives = [.. _drives], Blockdevs = [.. _blockdevs] };
    }
}
