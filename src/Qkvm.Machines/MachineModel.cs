using Qkvm.Core.Accel;
using Qkvm.Core.Devices;
using Qkvm.Core.Logging;
using Qkvm.Core.Machine;
using Qkvm.Core.Time;
using Qkvm.Host;
using Qkvm.Machines.Pc;

namespace Qkvm.Machines;

/// <summary>What a board is built over.</summary>
/// <param name="Devices">All that -device can name.</param>
/// <param name="DataLoop">The loop that moves data where users name none.</param>
public sealed record BoardParts(MachineConfig Config, IAccelerator Accelerator, MachineBackends Backends,
    Catalogue<DeviceModel> Devices,
    IVirtualClock Clock, EventLoop Loop, MachineLock Lock, Func<IoLoop> DataLoop,
    IMachineRequests Requests)
{
    public MachineLog? Log { get; init; }

    /// <summary>Makes threads that are one device's; null: the data loop does their work.</summary>
    public Func<string, IoThread>? NewThread { get; init; }

    /// <summary>The drives or nodes of its flash chips, by their numbers; null for a chip that is left out.</summary>
    public IReadOnlyList<string?> Flash { get; init; } = [];

    /// <summary>Of the processors' addresses; null: those of most.</summary>
    public AddressLimits? Limits { get; init; }
}

/// <summary>What short forms of options mean on a machine.</summary>
/// <param name="NetworkCard">What -nic and -net nic make without model=.</param>
/// <param name="VideoAddress">The slot of -vga's card.</param>
/// <param name="CdromPlace">Bus * units + unit of the default CD-ROM; null for none.</param>
public sealed record MachineDefaults(string NetworkCard, string VideoAddress, int? CdromPlace = null)
{
    /// <summary>What -smp leaves open is sockets, and not cores: as before QEMU 6.2.</summary>
    public bool PrefersSockets { get; init; }

    /// <summary>Of those that users do not name.</summary>
    public bool HasDevices { get; init; } = true;

    /// <summary>Of the onboard controller: its buses, and the drives on one.</summary>
    public int IdeBuses { get; init; } = 2;
    public int IdeUnits { get; init; } = 2;

    /// <summary>-numa node,mem= divides the memory: as before QEMU 5.1.</summary>
    public bool TakesNumaSizes { get; init; }

    /// <summary>vCPUs may come while the machine runs.</summary>
    public bool HasHotPluggableCpus { get; init; }

    /// <summary>vCPUs that there can be.</summary>
    public int MaxCpus { get; init; } = 255;

    /// <summary>What -cpu names by default; null for what all machines have.</summary>
    public string? Cpu { get; init; }

    /// <summary>Of the RAM's memory backend.</summary>
    public string RamId { get; init; } = "pc.ram";

    /// <summary>It has <see cref="NetworkCard"/> without being asked.</summary>
    public bool HasNetworkCard { get; init; } = true;

    /// <summary>There is a parallel port.</summary>
    public bool HasParallel { get; init; } = true;

    /// <summary>What -usb stands for: models and properties, in the order of creation.</summary>
    public IReadOnlyList<(DeviceModel Model, OptionPair[] Properties)> Usb { get; init; } = [];

    public VideoKind Video { get; init; } = VideoKind.Pci;
    public FloppySupport Floppies { get; init; }
}

/// <summary>Whether a machine has a diskette controller; on demand: once there is a drive for it.</summary>
public enum FloppySupport { None, OnDemand, OnBoard }

/// <summary>What -vga can give a machine.</summary>
public enum VideoKind { None, Isa, Pci }

/// <summary>A machine as -machine names it: what it has by default, what it takes, how its board is made.</summary>
public sealed record MachineModel : Model<BoardParts, Board>
{
    /// <summary>What every machine takes; the command line reads them before there is one.</summary>
    static readonly Property[] Common =
    [
        Property.Text("accel", help: "accelerators in the order to try: kvm:tcg"),
        Property.Enum("kernel-irqchip", null, ["on", "off", "split"], "of KVM"),
        Property.Object("memory-backend", "the guest's memory: -object memory-backend-ram,id=…"),
        Property.Bool("dump-guest-core", true, "the guest's memory is part of core dumps"),
        Property.OnOffAuto("mem-merge", "equal pages of memory may become one"),
        Property.OnOffAuto("graphics", "the firmware is told that there is a screen"),
    ];

    public MachineModel(string name, MachineDefaults defaults, Property[] own, Func<Properties, BoardParts,
        Board> create)
        : base(name, [.. own, .. Common], create) => Defaults = defaults;

    /// <summary>A machine that QEMU has and we have not.</summary>
    public static MachineModel Missing(string name, MachineDefaults defaults, params string[] aliases) =>
        new(name, defaults, [], static (_, _) =>
            throw new InvalidOperationException("not built")) { NotBuilt = "is not built yet; use pc",
                Aliases = aliases };

    public MachineDefaults Defaults { get; }

    /// <summary>What -global can say of its chips: DRIVER.PROPERTY.</summary>
    public IReadOnlyList<string> ChipGlobals { get; init; } = [];

    /// <summary>-machine's own choice.</summary>
    public bool IsDefault { get; init; }

    public MachineInfo Info => new(Defaults.HasHotPluggableCpus, Name, Defaults.TakesNumaSizes,
        Defaults.HasDevices ? $"{Defaults.Cpu ?? new CpuConfig().Model}-x86_64-cpu" : null, IsDefault ? true : null,
        Defaults.MaxCpus, Deprecated: false, Defaults.HasDevices ? Defaults.RamId : "ram", Aliases.FirstOrDefault());

    public override string HelpLine =>
        string.Concat(Aliases.Select(alias => $"{alias,-20} {Description} (alias of {Name})\n"))
            + $"{Name,-20} {Description}";
}
