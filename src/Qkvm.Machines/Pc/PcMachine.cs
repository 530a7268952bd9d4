using Qkvm.Core.Machine;
using Qkvm.Host;
using Qkvm.Hw.Net;

namespace Qkvm.Machines.Pc;

/// <summary>The i440FX PC as -machine names it.</summary>
public static class PcMachine
{
    static readonly Property[] Options =
    [
        Property.Bool("hpet", true, "high precision event timer"),
        Property.OnOffAuto("acpi", "tables, and the PIIX4's power management"),
        Property.Missing("usb", "off"), Property.Missing("smm", Property.Auto,
            "give smm=off: the guest gets no system management mode"),
        Property.Missing("vmport", Property.Auto), Property.Missing("nvdimm", "off"),
        Property.Missing("hmat", "off"),
        Property.Missing("pit", "on"), Property.Missing("i8042", "on"), Property.Missing("fd-bootchk", "on"),
        Property.Missing("max-ram-below-4g"), Property.Missing("pflash0"), Property.Missing("pflash1"),
        Property.Missing("pcspk-audiodev"),
        Property.Missing("confidential-guest-support"), Property.Missing("memory-encryption"),
        Property.Missing("suppress-vmdesc", "off"),
    ];

    /// <summary>The newest first.</summary>
    public static readonly MachineModel[] Versions = [.. PcVersion.All().Select(Of)];

    public static readonly MachineModel Model = Versions[0];

    static MachineModel Of(PcVersion version, int age)
    {
        string name = $"pc-i440fx-{version.Name}";
        var defaults = new MachineDefaults(NetworkCard: E1000.Model.Name, VideoAddress: "0x2", CdromPlace: 2)
            { PrefersSockets = version.PrefersSockets };
        return new(name, defaults, Options, (properties, parts) => Create(properties, parts, name, version))
        {
            Aliases = age == 0 ? ["pc"] : [],
            IsDefault = age == 0,
            Description = "Standard PC (i440FX + PIIX, 1996)" + (age == 0 ? " (default)" : ""),
        };
    }

    static PcBoard Create(Properties properties, BoardParts parts, string name, PcVersion version)
    {
        MachineConfig config = parts.Config;
        MemoryBackend memory = properties.Text("memory-backend") is { } id
            ? parts.Backends.FindObject<MemoryBackend>(id, "memory", properties.Owner)
                : new MemoryBackend(new GuestRam("pc.ram", config.Memory.Size));
        if (memory.Size != config.Memory.Size)
            throw properties.Error($"memory-backend={properties.Text("memory-backend")} has {memory.Size >> 20} MiB, "
                + $"-m says {config.Memory.Size >> 20} MiB; give both the same");
        Prepare(memory, properties, config.Memory.IsPreallocated);
        return new PcBoard(parts with
        {
            Config = config with
            {
                MachineType = name,
                Globals = [.. version.Compat, .. config.Globals],
                Cpu = version.Apply(config.Cpu),
                Hpet = config.Hpet && properties.Bool("hpet"),
                Acpi = config.Acpi && properties.OnOffAuto("acpi") != false,
                NoGraphic = config.NoGraphic || properties.OnOffAuto("graphics") == false,
            },
        }, memory);
    }

    static void Prepare(MemoryBackend memory, Properties properties, bool preallocated)
    {
        GuestRam ram = memory.Ram;
        if (!(memory.IsDumped ?? properties.Bool("dump-guest-core"))) ram.ExcludeFromDumps();
        if ((memory.IsMerged ?? properties.OnOffAuto("mem-merge")) == true && !ram.AllowMerging())
            throw properties.Error("this host's kernel cannot merge pages (CONFIG_KSM); leave mem-merge=on out");
        if ((preallocated || memory.IsPreallocated) && !ram.Populate())
            throw new ConfigurationException($"-mem-prealloc: this host cannot give {ram.Size >> 20} MiB at once "
                + "(Linux 5.14 is needed)");
    }
}
