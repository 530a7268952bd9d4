using Qkvm.Core.Block;
using Qkvm.Core.Block.Throttling;
using Qkvm.Host.Sandboxing;

namespace Qkvm.Core.Machine;

/// <summary>What the command line asked for, expanded: every short form (-hda, -cdrom, -net, -serial, -monitor …) has
/// become the same backend and device records that -blockdev, -chardev, -netdev and -device make. Boards build from
/// it.</summary>
public sealed record MachineConfig
{
    /// <summary>The machine's full name; the alias "pc" has been resolved.</summary>
    public string MachineType { get; init; } = "";

    /// <summary>-machine's other options: hpet=off, vmport=on, usb=on …</summary>
    public Options MachineOptions { get; init; } = new("-machine");

    /// <summary>-machine kernel-irqchip=, which is the accelerator's: "on", "off", "split"; null where not
    /// given.</summary>
    public string? KernelIrqChip { get; init; }

    /// <summary>In the order to try.</summary>
    public IReadOnlyList<AcceleratorConfig> Accelerators { get; init; } = [];

    public MemoryConfig Memory { get; init; } = new(128UL << 20);
    public CpuConfig Cpu { get; init; } = new();
    public CpuTopology Topology { get; init; } = new();

    /// <summary>-numa.</summary>
    public NumaConfig Numa { get; init; } = new();
    public FirmwareConfig Firmware { get; init; } = new();

    /// <summary>-kernel, -initrd, -append; null boots from disks.</summary>
    public KernelConfig? Kernel { get; init; }

    public BootConfig Boot { get; init; } = new();
    public RtcConfig Rtc { get; init; } = new();

    /// <summary>-name; empty for none.</summary>
    public string Name { get; init; } = "";
    public Guid Uuid { get; init; }

    /// <summary>-name process=: what ps and top show; null leaves it.</summary>
    public string? ProcessName { get; init; }

    /// <summary>-msg timestamp= and guest-name=: what stands in front of each line on stderr.</summary>
    public bool HasTimestamps { get; init; }
    public bool NamesGuest { get; init; }

    /// <summary>-overcommit mem-lock=on: all memory stays in RAM.</summary>
    public bool LocksMemory { get; init; }

    /// <summary>-echr: the byte that commands to a shared terminal begin with; ctrl-a.</summary>
    public byte Escape { get; init; } = 1;

    /// <summary>-action, -no-reboot and -no-shutdown.</summary>
    public GuestActions Actions { get; init; } = new();

    /// <summary>-S.</summary>
    public bool StartPaused { get; init; }

    /// <summary>-no-hpet and -no-acpi; -machine hpet= and acpi= say the same.</summary>
    public bool Hpet { get; init; } = true;

    /// <summary>SMBIOS 3.0 with its entry point of 64 bits, instead of 2.8.</summary>
    public bool HasWideSmbios { get; init; }

    /// <summary>Processors have system management mode, and the chipset memory and interrupts for it.</summary>
    public bool Smm { get; init; }

    /// <summary>-machine nvdimm=on; null: off.</summary>
    public NvdimmConfig? Nvdimm { get; init; }
    public bool Acpi { get; init; } = true;

    /// <summary>-vga's kind: "std", "virtio", "none" … Its device is among <see cref="Devices"/> already.</summary>
    public string Vga { get; init; } = "std";

    /// <summary>-nographic, -machine graphics=off: the firmware is told that there is no screen.</summary>
    public bool NoGraphic { get; init; }

    /// <summary>In the order of creation, defaults (-vga, network card, CD-ROM …) included.</summary>
    public IReadOnlyList<DeviceConfig> Devices { get; init; } = [];

    public IReadOnlyList<DriveConfig> Drives { get; init; } = [];

    /// <summary>-blockdev, in order; a drive with a file makes its nodes by itself.</summary>
    public IReadOnlyList<BlockdevConfig> Blockdevs { get; init; } = [];

    /// <summary>-add-fd.</summary>
    public IReadOnlyList<FdConfig> Fds { get; init; } = [];
    public IReadOnlyList<ChardevConfig> Chardevs { get; init; } = [];
    public IReadOnlyList<NetdevConfig> Netdevs { get; init; } = [];
    public IReadOnlyList<TpmConfig> Tpms { get; init; } = [];
    public IReadOnlyList<FolderConfig> Folders { get; init; } = [];
    /// <summary>The audiodev of the PC's speaker; null: it is silent.</summary>
    public NamedOption? SpeakerAudio { get; init; }
    public IReadOnlyList<AudioConfig> Audiodevs { get; init; } = [];
    public IReadOnlyList<ObjectConfig> Objects { get; init; } = [];

    /// <summary>The chardev of each COM port in order; null for a port that is left out (-serial none).</summary>
    public IReadOnlyList<string?> Serials { get; init; } = [];

    /// <summary>The chardev of each printer port in order.</summary>
    public IReadOnlyList<string?> Parallels { get; init; } = [];

    /// <summary>-debugcon's chardev (port E9h).</summary>
    public string? DebugCon { get; init; }

    public IReadOnlyList<MonitorConfig> Monitors { get; init; } = [];
    public IReadOnlyList<DisplayConfig> Displays { get; init; } = [];

    /// <summary>-metrics, each with its address.</summary>
    public IReadOnlyList<MetricsConfig> Metrics { get; init; } = [];
    public IReadOnlyList<GlobalConfig> Globals { get; init; } = [];
    public IReadOnlyList<SmbiosConfig> Smbios { get; init; } = [];

    /// <summary>-acpitable, each with its fields.</summary>
    public IReadOnlyList<Options> AcpiTables { get; init; } = [];
    public IReadOnlyList<FwCfgConfig> FwCfg { get; init; } = [];

    /// <summary>-incoming's address, or null.</summary>
    public string? Incoming { get; init; }

    /// <summary>-loadvm's tag, or null.</summary>
    public string? LoadVm { get; init; }

    /// <summary>-gdb's chardev ("tcp::1234" expanded), or null.</summary>
    public string? GdbChardev { get; init; }

    /// <summary>-chroot's directory, -runas' user or uid:gid.</summary>
    public NamedOption? Root { get; init; }
    public NamedOption? RunAs { get; init; }

    /// <summary>-sandbox; null: off.</summary>
    public SandboxRules? Sandbox { get; init; }

    public string? PidFile { get; init; }
    public bool Daemonize { get; init; }

    /// <summary>-d's items, and -D's file or null for stderr.</summary>
    public IReadOnlyList<string> LogItems { get; init; } = [];
    public string? LogFile { get; init; }

    /// <summary>-dfilter's arguments, and the patterns of -trace.</summary>
    public IReadOnlyList<string> LogFilters { get; init; } = [];
    public IReadOnlyList<string> TracePatterns { get; init; } = [];

    /// <summary>-trace events=: files with one pattern on each line.</summary>
    public IReadOnlyList<string> TraceLists { get; init; } = [];

    /// <summary>-perfmap: symbols of translated code for Linux perf.</summary>
    public bool PerfMap { get; init; }
}

/// <param name="Options">thread=multi, tb-size=64 …</param>
public sealed record AcceleratorConfig(string Name, Options Options)
{
    public AcceleratorConfig(string name) : this(name, new Options($"-accel {name}")) { }
}

/// <summary>-m size=,slots=,maxmem=; bytes.</summary>
public sealed record MemoryConfig(ulong Size, ulong MaxSize = 0, int Slots = 0)
{
    /// <summary>-mem-prealloc: all pages exist before the guest runs.</summary>
    public bool IsPreallocated { get; init; }
}

/// <summary>-cpu model,+feature,-feature,property=value.</summary>
public sealed record CpuConfig(string Model = "qemu64")
{
    /// <summary>Feature name and whether it is switched on.</summary>
    public IReadOnlyList<KeyValuePair<string, bool>> Features { get; init; } = [];

    /// <summary>phys-bits=, vendor=, model-id=, hv-… with values.</summary>
    public IReadOnlyList<OptionPair> Properties { get; init; } = [];
}

/// <summary>-smp: MaxCpus = Sockets * Dies * Cores * Threads; Cpus of them are present.</summary>
public sealed record CpuTopology(int Cpus = 1, int Sockets = 1, int Dies = 1, int Cores = 1, int Threads = 1,
    int MaxCpus = 1)
{
    /// <summary>Where the processor of that index is; threads come first, then cores, dies and sockets.</summary>
    public (int Socket, int Die, int Core, int Thread) PlaceOf(int index)
    {
        int core = index / Threads, die = core / Cores;
        return (die / Dies, die % Dies, core % Cores, index % Threads);
    }
}

/// <summary>-bios (null for the machine's own) and the directories of -L, first wins.</summary>
public sealed record FirmwareConfig(string? Bios = null)
{
    public IReadOnlyList<string> SearchPaths { get; init; } = [];
}

public sealed record KernelConfig(string File, string? Initrd = null, string Append = "");

/// <summary>-boot. Order is letters of a (floppy), c (disk), d (CD-ROM), n (network).</summary>
public sealed record BootConfig(string Order = "cad", string? Once = null, bool Menu = false, bool Strict = false)
{
    public string? Splash { get; init; }

    /// <summary>Milliseconds.</summary>
    public ushort? SplashTime { get; init; }

    /// <summary>Milliseconds until the firmware reboots when nothing boots; -1 for never.</summary>
    public int? RebootTimeout { get; init; }
}

public enum RtcBase { Utc, LocalTime, Date }
public enum RtcClock { Host, RealTime, Virtual }

/// <summary>-rtc. Date is the RTC's reading at the start for <see cref="RtcBase.Date"/>.</summary>
public sealed record RtcConfig(RtcBase Base = RtcBase.Utc, DateTime Date = default, RtcClock Clock = RtcClock.Host);

/// <summary>-device, or the device that a short form stands for.</summary>
public sealed record DeviceConfig(string Driver, string? Id, Options Properties)
{
    /// <param name="owner">Whose it is, for messages: "-device virtio-net-pci,id=net0" or "-cdrom debian.iso".</param>
    public DeviceConfig(string driver, string? id, IEnumerable<OptionPair> properties, string owner)
        : this(driver, id, Options.Of(owner, properties)) { }

    public string Owner => Properties.Owner;
}

/// <summary>-drive with its device already split off: a backend that a device takes by its id.</summary>
/// <param name="File">What to open; null for an empty drive.</param>
/// <param name="Format">"raw", "qcow2" …; null to probe.</param>
/// <param name="Options">cache=, aio=, discard=, detect-zeroes=, werror=, rerror= and the rest as given.</param>
public sealed record DriveConfig(string Id, string? File, string? Format, Options Options)
{
    public string Owner => Options.Owner;
    public bool ReadOnly { get; init; }
    public bool Snapshot { get; init; }
    public bool IsCdrom { get; init; }
    public string? Serial { get; init; }
    public ErrorPolicy OnReadError { get; init; } = ErrorPolicy.Report;
    public ErrorPolicy OnWriteError { get; init; } = ErrorPolicy.Enospc;
    public ThrottleLimits? Limits { get; init; }

    /// <summary>Of drives that share the limits; null: this one has its own.</summary>
    public string? ThrottleGroup { get; init; }
}

/// <summary>-blockdev, without driver= and node-name=.</summary>
public sealed record BlockdevConfig(string NodeName, string Driver, Options Options);

/// <summary>-chardev and what -serial, -monitor, -parallel … expand to. Backend: "stdio", "pty", "socket", "file"
/// …</summary>
public sealed record ChardevConfig(string Id, string Backend, Options Options)
{
    public string Owner => Options.Owner;

    /// <summary>mux=on: several frontends share it.</summary>
    public bool Mux { get; init; }
}

/// <summary>-netdev; Type: "user", "tap", "socket" …</summary>
public sealed record NetdevConfig(string Id, string Type, Options Options)
{

    public string Owner => Options.Owner;
}

/// <summary>-tpmdev; Type: "emulator".</summary>
public sealed record TpmConfig(string Id, string Type, Options Options)
{
    public string Owner => Options.Owner;
}

/// <summary>-fsdev; Driver: "local".</summary>
public sealed record FolderConfig(string Id, string Driver, Options Options)
{
    public string Owner => Options.Owner;
}

/// <summary>-audiodev; Driver: "wav".</summary>
public sealed record AudioConfig(string Id, string Driver, Options Options)
{
    public string Owner => Options.Owner;
}

/// <summary>-object; Type: "iothread", "rng-random", "memory-backend-ram" …</summary>
public sealed record ObjectConfig(string Type, string Id, Options Options)
{
    public string Owner => Options.Owner;
}

/// <summary>-add-fd: an inherited descriptor that becomes part of a set.</summary>
public sealed record FdConfig(int Fd, int Set, string? Opaque, string Owner);

/// <summary>A monitor on a chardev: HMP, or QMP where Control.</summary>
/// <param name="Owner">The option as typed, for messages.</param>
public sealed record MonitorConfig(string Chardev, bool Control, bool Pretty = false, string Owner = "-monitor");

/// <summary>-metrics.</summary>
/// <param name="Address">unix:PATH or tcp:HOST:PORT.</param>
public sealed record MetricsConfig(string Address, string Owner);

/// <summary>-display and -vnc; Kind: "none", "vnc", "curses" …</summary>
public sealed record DisplayConfig(string Kind, Options Options)
{
    public string Owner => Options.Owner;

    /// <summary>The address of -vnc: ":1", "unix:/path".</summary>
    public string Address { get; init; } = "";
}

/// <summary>-global driver.property=value.</summary>
public sealed record GlobalConfig(string Driver, string Property, string Value);

/// <summary>-smbios type=N,field=value … or file=.</summary>
public sealed record SmbiosConfig(int? Type, string? File, IReadOnlyList<OptionPair> Fields);

/// <summary>-fw_cfg name=,file= or string=.</summary>
public sealed record FwCfgConfig(string Name, string? File, string? Text);

/// <param name="Owner">The option as it was typed.</param>
public sealed record NamedOption(string Value, string Owner);

/// <summary>-machine nvdimm=on: there may be memory that outlasts the machine.</summary>
/// <param name="Capabilities">What nvdimm-persistence= says, as the NFIT tells it: 1 that caches are flushed at a loss
/// of power, 2 that memory controllers' queues are; 0: nothing.</param>
public sealed record NvdimmConfig(uint Capabilities);
