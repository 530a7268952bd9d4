using Qkvm.Core.Machine;
using Qkvm.Hw.Char;
using Qkvm.Hw.Virtio;
using Qkvm.Machines.Pc;

namespace Qkvm.Machines.Microvm;

/// <summary>The machine for guests that start fast, as -machine names it.</summary>
public static class MicrovmMachine
{
    const string ForceLegacy = $"{VirtioMmio.Driver}.{VirtioMmio.ForceLegacy}";

    static readonly Property[] Options =
    [
        Property.OnOffAuto("acpi", "tables and a power button; without them the kernel's command line names devices"),
        Property.OnOffAuto("pic", "the 8259 pair"),
        Property.OnOffAuto("pit", "the 8254 timer, and its gate at port 61h"),
        Property.OnOffAuto("rtc", "the MC146818 clock; auto: not under KVM"),
        Property.OnOffAuto("ioapic2", "a second I/O APIC, and 24 virtio-mmio transports on it; not without ACPI"),
        Property.OnOffAuto("pcie", "a PCI Express bus; auto is off"),
        Property.Bool(IsaSerial.Model.Name, true, "one serial port"),
        Property.Bool("x-option-roms", true, "firmware runs option ROMs"),
        Property.Bool("auto-kernel-cmdline", true, "without ACPI: virtio_mmio.device= of each device, for -kernel"),
        Property.Missing("usb", "off"), Property.Missing("smm", Property.Auto,
            "give smm=off: the guest gets no system management mode"),
        Property.Missing("confidential-guest-support"), Property.Missing("memory-encryption"),
        Property.Missing("suppress-vmdesc", "off"),
    ];

    public static readonly MachineModel Model = new("microvm", new MachineDefaults(NetworkCard: "", VideoAddress: "")
        {
            MaxCpus = 288,
            RamId = "microvm.ram",
            IdeBuses = 0,
            HasParallel = false,
            Video = VideoKind.None,
        }, Options, (properties, parts) => new MicrovmBoard(With(properties, parts), PcParts.Memory(properties, parts),
            PlanOf(properties, parts)))
        {
            Description = "microvm (i386)",
            ChipGlobals = [ForceLegacy, .. IsaChips.Globals],
        };

    static BoardParts With(Properties properties, BoardParts parts) => parts with
    {
        Config = parts.Config with
        {
            MachineType = Model.Name,
            Acpi = parts.Config.Acpi && properties.OnOffAuto("acpi") != false,
            Hpet = false,
            Cpu = parts.Accelerator.IsKernel ? parts.Config.Cpu : WithClock(parts.Config.Cpu),
            NoGraphic = parts.Config.NoGraphic || properties.OnOffAuto("graphics") == false,
        },
    };

    /// <summary>Without a chipset kernels have nothing to measure time by, and Linux starts no further than there: the
    /// software CPU tells it as KVM does. Deviation: QEMU's does not.</summary>
    static CpuConfig WithClock(CpuConfig cpu) => cpu with { Features = [new("kvm", true), .. cpu.Features] };

    static MicrovmPlan PlanOf(Properties properties, BoardParts parts)
    {
        bool acpi = parts.Config.Acpi && properties.OnOffAuto("acpi") != false;
        bool inKernel = parts.Accelerator.IrqChip != null;
        bool? second = properties.OnOffAuto("ioapic2");
        if (second == true && inKernel && acpi)
            throw properties.Error("ioapic2=on: KVM's interrupt controllers are one I/O APIC; leave it out");
        return new MicrovmPlan
        {
            IoApics = acpi && second != false && !inKernel ? 2 : 1,
            HasPic = properties.OnOffAuto("pic") != false,
            HasPit = properties.OnOffAuto("pit") != false,
            HasRtc = properties.OnOffAuto("rtc") ?? !parts.Accelerator.IsKernel,
            HasPcie = acpi && properties.OnOffAuto("pcie") == true,
            HasSerial = properties.Bool(IsaSerial.Model.Name),
            HasOptionRoms = properties.Bool("x-option-roms"),
            NamesDevices = !acpi && properties.Bool("auto-kernel-cmdline"),
            IsLegacy = IsLegacy(parts.Config.Globals),
        };
    }

    /// <summary>-global virtio-mmio.force-legacy=: on unless users say otherwise.</summary>
    static bool IsLegacy(IReadOnlyList<GlobalConfig> globals) =>
        globals.LastOrDefault(g => g is { Driver: VirtioMmio.Driver, Property: VirtioMmio.ForceLegacy })
            is not { } given || Core.Configuration.Options.Of("-global", [new(VirtioMmio.ForceLegacy, given.Value)])
                .Bool(VirtioMmio.ForceLegacy)!.Value;
}
