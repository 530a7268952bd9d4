using Qkvm.Core.Block;
using Qkvm.Core.Block.Throttling;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Hw.Storage;
using Qkvm.Machines;
using Qkvm.Machines.Pc;

namespace Qkvm.Cli;

public sealed partial class Expander
{
    readonly List<DriveConfig> _drives = [];
    readonly List<(DriveSpec Spec, int Place)> _driveSpecs = [];   // and where among the devices they stood
    readonly List<BlockdevConfig> _blockdevs = [];
    readonly SortedDictionary<int, string> _idePlaces = [];        // index → owner
    readonly SortedSet<int> _floppies = [];                        // by their units
    readonly Dictionary<string, int> _nextUnit = [];
    bool _snapshot;

    /// <summary>-drive and the short forms that stand for it.</summary>
    sealed record DriveSpec(Options Options)
    {
        public string? File { get; init; }
        public string? Format { get; init; }
        public string Interface { get; init; } = Ide;
        public int? Index { get; init; }
        public (int Bus, int Unit)? BusUnit { get; init; }
        public bool IsCdrom { get; init; }
        public bool ReadOnly { get; init; }
        public bool? Snapshot { get; init; }
        public string? Id { get; init; }
        public string? Serial { get; init; }
        public ErrorPolicy OnReadError { get; init; }
        public ErrorPolicy OnWriteError { get; init; }
        public string? Address { get; init; }
        public ThrottleLimits? Limits { get; init; }
        public string? ThrottleGroup { get; init; }
        public string Owner => Options.Owner;
    }

    const string Ide = "ide", Virtio = "virtio", NoInterface = "none", Flash = "pflash",
        Floppy = FloppyDrive.DriverName;

    /// <summary>What -drive takes beside what block drivers take.</summary>
    static readonly string[] DriveOptions =
    [
        "format", "aio", "werror", "rerror", "media", "if", "index", "bus", "unit", "file", "readonly", "snapshot",
        "copy-on-read", "id", "serial", "addr",
    ];

    /// <summary>What if=none would make of it; another interface is refused, as it means a device.</summary>
    public static DriveConfig DriveWithoutDevice(string words)
    {
        string[] types = [NoInterface, Ide, "scsi", Floppy, Flash, "mtd", "sd", Virtio, "xen"];
        DriveSpec spec = SpecOf(words, "drive_add");
        if (!spec.Options.Has("file") && !spec.Options.Has("driver"))
            throw new ConfigurationException("Must specify either driver or file");
        if (spec.Interface != NoInterface)
            throw new ConfigurationException($"Can't hot-add drive to type {Array.IndexOf(types, spec.Interface)}");
        return Drive(spec, spec.Id ?? $"{NoInterface}0");
    }

    void AddDrive(string text, string owner) => AddDrive(SpecOf(text, owner));

    static DriveSpec SpecOf(string text, string owner)
    {
        Options options = Options.Parse(text, owner);
        CheckNames(options);
        string media = options.Text("media") ?? "disk";
        if (media is not ("disk" or "cdrom")) throw options.Error($"media={media}: expects disk or cdrom");
        string interfaceName = options.Text("if") ?? Ide;
        int? index = options.Int("index", 0, 255), bus = options.Int("bus", 0, 255), unit = options.Int("unit", 0, 255);
        if (index != null && (bus != null || unit != null)) throw options.Error("index= and bus=,unit= name the "
            + "place twice: give one of them");
        bool? readOnly = options.Bool("readonly"), alsoReadOnly = options.Bool("read-only");
        string? id = options.Text("id");
        Identifier.Check(id, owner);
        return new DriveSpec(options)
        {
            File = options.Text("file"),
            Format = options.Text("format"),
            Interface = interfaceName,
            Index = index,
            BusUnit = bus != null || unit != null ? (bus ?? 0, unit ?? 0) : null,
            IsCdrom = media == "cdrom",
            ReadOnly = readOnly ?? alsoReadOnly ?? false,
            Snapshot = options.Bool("snapshot"),
            Id = id,
            Serial = options.Text("serial"),
            OnReadError = PolicyOf(options, "rerror", ErrorPolicy.Report),
            OnWriteError = PolicyOf(options, "werror", ErrorPolicy.Enospc),
            Address = options.Text("addr"),
            Limits = DriveThrottle.LimitsOf(options),
            ThrottleGroup = DriveThrottle.GroupOf(options),
        };
    }

    /// <summary>Misspelt names are told before anything is opened.</summary>
    static void CheckNames(Options options)
    {
        string[] known = [.. DriveOptions, .. DriveThrottle.Names,
            .. Catalogue.BlockDrivers.Models.SelectMany(m => m.Properties).Select(p => p.Name).Distinct()];
        foreach (string name in options.Names)
            if (!known.Contains(name)) throw options.Error($"invalid parameter '{name}'{Suggestion.For(name, known)}");
    }

    /// <summary>What to do about errors of the host's disk.</summary>
    static ErrorPolicy PolicyOf(Options options, string name, ErrorPolicy automatic) => options.Text(name) switch
    {
        null => automatic,
        "report" => ErrorPolicy.Report,
        "ignore" => ErrorPolicy.Ignore,
        "stop" => ErrorPolicy.Stop,
        "enospc" when automatic == ErrorPolicy.Enospc => ErrorPolicy.Enospc,
        var other => throw options.Error($"{name}={other}: expects report, ignore"
            + (automatic == ErrorPolicy.Enospc ? ", stop or enospc" : " or stop")),
    };

    void AddDrive(DriveSpec spec)
    {
        CheckInterface(spec);
        _driveSpecs.Add((spec, _devices.Count));
    }

    static void CheckInterface(DriveSpec spec)
    {
        if (spec.Interface is Flash or Floppy)
            foreach (string policy in (string[])["werror", "rerror"])
                if (spec.Options.Has(policy))
                    throw spec.Options.Error($"{policy} is not supported by this bus type; if=ide, if=virtio and "
                        + "if=none take it");
        switch (spec.Interface)
        {
            case Ide or Virtio or NoInterface or Flash or Floppy: break;
            case "scsi":
                const int unitsOfBus = 7;
                (int bus, int unit) = spec.BusUnit ?? Math.DivRem(spec.Index ?? 0, unitsOfBus);
                throw new ConfigurationException($"{spec.Owner}: machine type does not support if=scsi,"
                    + $"bus={bus},unit={unit}; use if=none,id=ID with "
                    + "-device virtio-scsi-pci -device scsi-hd,drive=ID");
            case "mtd" or "sd" or "xen":
                throw new ConfigurationException($"{spec.Owner}: if={spec.Interface} is not built yet; use " +
                    "if=virtio, if=ide or if=none");
            default:
                throw new ConfigurationException($"{spec.Owner}: unsupported bus type '{spec.Interface}'"
                    + Suggestion.For(spec.Interface, [.. Catalogue.DriveInterfaces.Select(i => i.Name), NoInterface,
                        Flash]));
        }
    }

    /// <summary>Once the machine is known, whose buses IDE drives sit on.</summary>
    void MakeDrive(DriveSpec spec, int at)
    {
        switch (spec.Interface)
        {
            case Ide:
                MakeIdeDrive(spec, at, _machine?.Defaults ?? PcMachine.Model.Defaults);
                break;
            case Virtio:
                AddFrontend(spec, at, spec.Id ?? $"virtio{NextUnit(Virtio, UnitOf(spec))}", []);
                break;
            case NoInterface:
                AddBackend(spec, spec.Id ?? $"none{NextUnit(NoInterface, UnitOf(spec))}");
                break;
            case Flash: MakeFlash(spec); break;
            case Floppy: MakeFloppy(spec, at, _machine?.Defaults ?? PcMachine.Model.Defaults); break;
        }
    }

    /// <summary>The backend, and -machine's option that gives it to a chip.</summary>
    void MakeFlash(DriveSpec spec)
    {
        string[] units = SystemFlash.Units;
        int unit = UnitOf(spec) ?? Array.FindIndex(units, name => !_machineOptions.Has(name));
        if (unit < 0 || unit >= units.Length || spec.BusUnit is { Bus: not 0 })
            throw new ConfigurationException($"{spec.Owner}: the machine has {units.Length} flash chips: unit=0 with "
                + "the firmware, unit=1 with its variables");
        if (_machineOptions.Has(units[unit]))
            throw new ConfigurationException($"{spec.Owner}: flash unit={unit} is taken by "
                + $"-machine {units[unit]}= or another drive");
        string id = spec.Id ?? units[unit];
        AddBackend(spec, id);
        _machineOptions = Options.Of(_machineOptions.Owner, [.. _machineOptions.Rest, new(units[unit], id)]);
    }

    void MakeIdeDrive(DriveSpec spec, int at, MachineDefaults machine)
    {
        if (machine.IdeBuses == 0)
            throw new ConfigurationException($"{spec.Owner}: the machine has no IDE; give -drive if=none,id=X,… and a "
                + "-device such as virtio-blk-device,drive=X");
        int units = machine.IdeUnits, places = machine.IdeBuses * units;
        int place = spec.Index ?? (spec.BusUnit is { } named ? named.Bus * units + named.Unit
            : Enumerable.Range(0, places).FirstOrDefault(i => !_idePlaces.ContainsKey(i), -1));
        if (place < 0 || place >= places || spec.BusUnit?.Unit >= units)
            throw new ConfigurationException($"{spec.Owner}: IDE has places for index 0 to {places - 1}, "
                + $"{units} a bus; use if=virtio for more disks");
        int bus = place / units, unit = place % units;
        if (_idePlaces.TryGetValue(place, out string? other))
            throw new ConfigurationException($"{spec.Owner}: index={place} (bus={bus}, unit={unit}) is taken by "
                + other);
        _idePlaces[place] = spec.Owner;
        AddFrontend(spec, at, spec.Id ?? $"ide{bus}-{(spec.IsCdrom ? "cd" : "hd")}{unit}",
            [new("bus", $"ide.{bus}"), new("unit", $"{unit}")]);
    }

    /// <summary>A machine without the controller, but with a place for it, gets one.</summary>
    void MakeFloppy(DriveSpec spec, int at, MachineDefaults machine)
    {
        int unit = UnitOf(spec) ?? Enumerable.Range(0, I82078.Drives).FirstOrDefault(i => !_floppies.Contains(i), -1);
        if (machine.Floppies == FloppySupport.None || unit is < 0 or >= I82078.Drives)
            throw new ConfigurationException($"{spec.Owner}: machine type does not support if=floppy,bus=0,unit={unit}"
                + (machine.Floppies == FloppySupport.None ? "; use pc or q35" : $"; units are 0 and 1"));
        if (!_floppies.Add(unit)) throw new ConfigurationException($"{spec.Owner}: index={unit} is taken by another "
            + "floppy disk");
        if (machine.Floppies == FloppySupport.OnDemand && _floppies.Count == 1)
            _devices.Insert(at++, new DeviceConfig(I82078.Model.Name, null, [], spec.Owner));
        AddFrontend(spec, at, spec.Id ?? $"floppy{unit}", [new("unit", $"{unit}")]);
    }

    /// <summary>The backend, and the device that the interface stands for.</summary>
    void AddFrontend(DriveSpec spec, int at, string id, OptionPair[] place)
    {
        AddBackend(spec, id);
        (_, DeviceModel disk, DeviceModel? cdrom) = Catalogue.DriveInterfaces.First(i => i.Name == spec.Interface);
        List<OptionPair> properties = [.. place, new("drive", id)];
        if (spec.Serial != null) properties.Add(new("serial", spec.Serial));
        if (spec.Address != null) properties.Add(new("addr", spec.Address));
        DeviceModel model = spec.IsCdrom ? cdrom ?? disk : disk;
        _devices.Insert(at, new DeviceConfig(model.Name, null, properties, spec.Owner));
    }

    /// <summary>Of an interface without buses: a bus counts for so many that only 0 has a meaning.</summary>
    static int? UnitOf(DriveSpec spec) => spec.Index ?? spec.BusUnit?.Unit;

    int NextUnit(string kind, int? index)
    {
        int unit = index ?? _nextUnit.GetValueOrDefault(kind);
        _nextUnit[kind] = unit + 1;
        return unit;
    }

    void AddBackend(DriveSpec spec, string id)
    {
        if (_drives.Exists(d => d.Id == id))
            throw new ConfigurationException($"{spec.Owner}: duplicate id '{id}' for drive");
        _drives.Add(Drive(spec, id));
    }

    static DriveConfig Drive(DriveSpec spec, string id) => new(id, string.IsNullOrEmpty(spec.File) ? null : spec.File,
        spec.Format, spec.Options)
    {
        ReadOnly = spec.ReadOnly || spec.IsCdrom,
        Snapshot = spec.Snapshot ?? false,
        IsCdrom = spec.IsCdrom,
        Serial = spec.Serial,
        OnReadError = spec.OnReadError,
        OnWriteError = spec.OnWriteError,
        Limits = spec.Limits,
        ThrottleGroup = spec.ThrottleGroup,
    };

    void AddBlockdev(string text, string owner)
    {
        Options options = Options.Parse(text, owner, "driver");
        string driver = options.Text("driver")
            ?? throw options.Error("names no driver: -blockdev driver=qcow2,node-name=…,file=…");
        string node = options.Required("node-name");
        if (_blockdevs.Exists(b => b.NodeName == node)) throw options.Error($"node-name={node} exists already");
        _blockdevs.Add(new BlockdevConfig(node, Catalogue.BlockDrivers.Known(driver, owner).Name, options));
    }

    void MakeDrives()
    {
        int before = _devices.Count;
        foreach ((DriveSpec spec, int at) in _driveSpecs) MakeDrive(spec, at + _devices.Count - before);
    }

    void FinishDrives()
    {
        if (!_noDefaults && !_replaced.HasFlag(DefaultDevice.Cdrom) && _machine?.Defaults.CdromPlace is { } place
            && !_idePlaces.ContainsKey(place))
            MakeDrive(new DriveSpec(new Options("default CD-ROM")) { Index = place, IsCdrom = true }, _devices.Count);
        if (!_noDefaults && !_replaced.HasFlag(DefaultDevice.Floppy) && _floppies.Count == 0
            && _machine?.Defaults.Floppies == FloppySupport.OnBoard)
            MakeDrive(new DriveSpec(new Options("default floppy drive")) { Interface = Floppy }, _devices.Count);
        if (_snapshot)
            for (int i = 0; i < _drives.Count; i++)
                if (_drives[i] is { File: not null, ReadOnly: false }) _drives[i] = _drives[i] with { Snapshot = true };
        _config = _config with { Drives = [.. _drives], Blockdevs = [.. _blockdevs] };
    }
}
