using Qkvm.Core.Block;
using Qkvm.Core.Devices;
using Qkvm.Core.State;

namespace Qkvm.Hw.Storage;

/// <summary>A drive for diskettes on an <see cref="I82078"/>, and what is in it.</summary>
public sealed class FloppyDrive : IDevice, IRemovable
{
    public const string DriverName = "floppy";

    /// <summary>Where the arm stops, whatever the disk has.</summary>
    const int LastTrack = 85;

    static readonly (string Name, FloppyType Type)[] s_types =
        [("144", FloppyType.Inch3), ("288", FloppyType.Inch3Extra), ("120", FloppyType.Inch5),
        ("none", FloppyType.None)];

    public static readonly DeviceModel Model = new(DriverName, BusKind.Floppy,
        [
            .. DiskProperties.Shared, Property.Enum("drive-type", "auto", [.. TypeNames, "auto"]),
            Property.Size("logical_block_size", 0), Property.Size("physical_block_size", 0),
        ],
        Create) { Category = DeviceCategory.Storage, Replaces = DefaultDevice.Floppy,
            Description = "virtual floppy drive" };

    readonly FloppyType? _wanted;
    readonly FloppyType _fallback;
    byte _track;
    bool _changed = true;

    /// <param name="wanted">Null: what the disk needs. None: there is no drive.</param>
    /// <param name="fallback">The type where the disk does not tell.</param>
    public FloppyDrive(BlockBackend backend, FloppyType? wanted, FloppyType fallback)
    {
        (Backend, _wanted, _fallback) = (backend, wanted, fallback);
        backend.MediumChanged += () =>
        {
            _changed = true;
            Look();
        };
        Look();
        Type = Format.Drive;
    }

    internal static IEnumerable<string> TypeNames => s_types.Select(type => type.Name);

    public string Name => Model.Name;
    public string BootPathEnd => $"/floppy@{Unit:x}";
    public BlockBackend Backend { get; }

    /// <summary>What it was when the machine was made; disks come and go.</summary>
    public FloppyType Type { get; }

    /// <summary>0 for A.</summary>
    public int Unit { get; internal set; }

    internal FloppyFormat Format { get; private set; }
    internal bool HasDisk => Backend.HasMedium;
    internal byte Track => _track;

    /// <summary>DSKCHG: a disk has come or gone since the arm moved over one.</summary>
    internal bool HasChanged => _changed || !HasDisk;

    /// <summary>Where a sector lies.</summary>
    /// <param name="sector">Counted from 1.</param>
    /// <returns>Bytes; -1: there is none.</returns>
    internal long Place(int track, int head, int sector)
    {
        if (track >= Format.Tracks || head >= Format.Heads || sector < 1 || sector > Format.Sectors) return -1;
        long at = ((long)(track * Format.Heads + head) * Format.Sectors + sector - 1) * FloppyFormat.SectorSize;
        return at + FloppyFormat.SectorSize <= Backend.Length ? at : -1;
    }

    internal void Seek(int track)
    {
        byte before = _track;
        _track = (byte)Math.Clamp(track, 0, LastTrack);
        if (_track != before && HasDisk) _changed = false;
    }

    public void Reset() => (_track, _changed) = (0, true);

    public void Exchange(StateStream state)
    {
        state.Field("track", ref _track);
        state.Field("changed", ref _changed);
        if (_track > LastTrack) throw state.Refuse("track", $"{_track} is beyond the last");
    }

    void Look() => Format = FloppyFormat.For(Backend.Length, _wanted, _fallback);

    static FloppyDrive Create(Properties properties, DeviceSite site)
    {
        foreach (string name in (string[])["logical_block_size", "physical_block_size"])
            if (properties.Size(name) is not (0 or FloppyFormat.SectorSize))
                throw properties.Error($"{name} must be {FloppyFormat.SectorSize} for a floppy disk");
        BlockBackend backend = DiskProperties.TakeShared(properties, properties.Text("drive") is { } id
            ? site.Drive(id) : new BlockBackend("", site.Board.Post));
        if (backend.Errors is { OnWrite: not (ErrorPolicy.Enospc or ErrorPolicy.Report) })
            throw properties.Error("fdc doesn't support drive option werror");
        if (backend.Errors is { OnRead: not ErrorPolicy.Report })
            throw properties.Error("fdc doesn't support drive option rerror");
        backend.Errors.OnWrite = ErrorPolicy.Report;
        var controller = (I82078)site.Bus.Wires!;
        return new FloppyDrive(backend, TypeOf(properties.Text("drive-type")), controller.Fallback);
    }

    /// <summary>Null for "auto".</summary>
    internal static FloppyType? TypeOf(string? name) =>
        Array.Find(s_types, type => type.Name == name) is { Name: not null } found ? found.Type : null;
}
