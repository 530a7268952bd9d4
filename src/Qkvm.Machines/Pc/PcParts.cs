using Qkvm.Core.Accel;
using Qkvm.Core.Machine;
using Qkvm.Host;
using Qkvm.Machines.Firmware;

namespace Qkvm.Machines.Pc;

/// <summary>What -machine says to every PC, and what a board of such a version is made of.</summary>
public static class PcParts
{
    /// <summary>firmware=uefi: flash with the distribution's firmware, which the program finds.</summary>
    public const string FirmwareOption = "firmware", Uefi = "uefi";
    const string SpeakerOption = "pcspk-audiodev", PersistenceOption = "nvdimm-persistence";

    internal static readonly Property[] Options =
    [
        Property.Bool("hpet", true, "high precision event timer"),
        Property.OnOffAuto("acpi", "tables, and the chipset's power management"),
        Property.OnOffAuto("smm", "system management mode; auto: on the software CPU"),
        Property.Enum("smbios-entry-point-type", "32", ["32", "64"], "32: SMBIOS 2.8, 64: SMBIOS 3.0"),
        Property.Bool("usb", false, "the chipset's USB controllers"),
        Property.Missing("vmport", Property.Auto), 
        Property.Bool("nvdimm", false, "there may be memory that outlasts the machine: -device nvdimm"),
        Property.Text(PersistenceOption, null, "what of it outlasts a loss of power: cpu or mem-ctrl"),
        Property.Bool("hmat", false, "the guest is told how fast its memory is: -numa hmat-lb"),
        Property.Missing("pit", "on"), Property.Missing("i8042", "on"), Property.Missing("fd-bootchk", "on"),
        Property.Missing("max-ram-below-4g"),
        Property.Enum(FirmwareOption, "bios", ["bios", Uefi], "uefi: the distribution's, with its variables beside the "
            + "first disk (ours)"),
        Property.Drive(SystemFlash.Units[0], "flash with the firmware: block backend or node"),
        Property.Drive(SystemFlash.Units[1], "flash with the firmware's variables"),
        Property.Audiodev(SpeakerOption, "what the PC speaker plays to"),
        Property.Missing("confidential-guest-support"), Property.Missing("memory-encryption"),
        Property.Missing("suppress-vmdesc", "off"),
    ];

    /// <summary>What -m, memory-backend= and -numa's memdev= give, prepared as users wish.</summary>
    internal static MachineRam Memory(Properties properties, BoardParts parts)
    {
        MachineConfig config = parts.Config;
        string[] ids = properties.Text("memory-backend") is { } named ? [named]
            : [.. config.Numa.Nodes.Select(node => node.Backend).OfType<string>()];
        var ram = new MachineRam(ids.Length > 0
            ? [.. ids.Select(id => parts.Backends.FindObject<MemoryBackend>(id, "memory", properties.Owner))]
            : [new MemoryBackend(new GuestRam("pc.ram", config.Memory.Size))]);
        if (ram.Size != config.Memory.Size)
            throw properties.Error($"memory-backend={string.Join('+', ids)} has {ram.Size >> 20} MiB, "
                + $"-m says {config.Memory.Size >> 20} MiB; give both the same");
        foreach (MemoryBackend memory in ram.Pieces)
        {
            memory.IsMachines = true;
            memory.Prepare(message => properties.Error(message), properties.Bool("dump-guest-core"),
                properties.OnOffAuto("mem-merge") == true, config.Memory.IsPreallocated);
        }
        return ram;
    }

    /// <summary>The parts, with what the version and -machine's options say.</summary>
    internal static BoardParts Of(Properties properties, BoardParts parts, string name, PcVersion version) => parts with
    {
        Config = parts.Config with
        {
            MachineType = name,
            Globals = [.. version.Compat, .. parts.Config.Globals],
            Cpu = WithIds(version.Apply(parts.Config.Cpu), parts),
            Hpet = parts.Config.Hpet && properties.Bool("hpet"),
            SpeakerAudio = properties.Text(SpeakerOption) is { } audio ? new NamedOption(audio, properties.Owner)
                : null,
            Smm = HasSmm(properties, parts.Accelerator),
            Nvdimm = NvdimmsOf(properties),
            Acpi = parts.Config.Acpi && properties.OnOffAuto("acpi") != false,
            HasWideSmbios = properties.Text("smbios-entry-point-type") == "64",
            NoGraphic = parts.Config.NoGraphic || properties.OnOffAuto("graphics") == false,
        },
        Flash = [.. SystemFlash.Units.Select(properties.Text)],
        Limits = LimitsOf(version.Apply(parts.Config.Cpu), parts.Accelerator, version),
    };

    static AddressLimits LimitsOf(CpuConfig cpu, IAccelerator accelerator, PcVersion version)
    {
        CpuView view = accelerator.CpuModels.Expand(new CpuSetup(cpu.Model, cpu.Features, 0, 1, 1, 1)
            { Properties = cpu.Properties });
        return new(view.PhysicalBits, version.KeepsHyperTransport && view.Vendor == "AuthenticAMD");
    }

    /// <summary>Ids beyond 8 bits need x2APIC, which models of the software CPU then have unless users say
    /// otherwise.</summary>
    static CpuConfig WithIds(CpuConfig cpu, BoardParts parts)
    {
        CpuTopology topology = parts.Config.Topology;
        if (topology.ApicId(topology.MaxCpus - 1) < byte.MaxValue) return cpu;
        if (parts.Accelerator.Apics is { HasWideIds: true }) return cpu;
        if (parts.Accelerator.IsKernel)
            throw new ConfigurationException($"-smp {topology.Cpus}: current -smp configuration requires kernel "
                + "irqchip and X2APIC API support; use -machine kernel-irqchip=split, -accel tcg, or 255 processors at "
                + "most");
        return cpu with { Features = [KeyValuePair.Create("x2apic", true), .. cpu.Features] };
    }

    /// <summary>What -bios says; nothing where flash has the firmware, which goes before it as in QEMU.</summary>
    internal static byte[] Bios(BoardParts parts)
    {
        FirmwareConfig firmware = parts.Config.Firmware;
        if (parts.Flash is not [string, ..]) return FirmwareImages.FindBios(firmware);
        if (firmware.Bios is { } unused)
            parts.Requests.Warn($"-bios {unused}: no effect, as the flash {SystemFlash.Units[0]} has the firmware");
        return [];
    }

    static NvdimmConfig? NvdimmsOf(Properties properties)
    {
        uint capabilities = properties.Text(PersistenceOption) switch
        {
            null => 0,
            "cpu" => 3,                                            // which take the queues with them
            "mem-ctrl" => 2,
            var other => throw properties.Error($"{PersistenceOption}={other}: unsupported option; cpu or mem-ctrl is "
                + "expected"),
        };
        return properties.Bool("nvdimm") ? new NvdimmConfig(capabilities) : null;
    }

    static bool HasSmm(Properties properties, IAccelerator accelerator)
    {
        bool? wanted = properties.OnOffAuto("smm");
        if (wanted == true && !accelerator.HasSmm)
            throw properties.Error("smm=on: System Management Mode not supported by this hypervisor: "
                + $"{accelerator.Name} has none here; use -accel tcg, or a firmware that does without and smm=off");
        // Deviation: auto is off under KVM: only firmware that keeps its variables by the mode gains anything from it.
        return wanted ?? accelerator.HasSmm && !accelerator.IsKernel;
    }
}
