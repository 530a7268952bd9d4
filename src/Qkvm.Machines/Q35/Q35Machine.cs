using Qkvm.Core.Devices;
using Qkvm.Hw.Net;
using Qkvm.Hw.Usb;
using Qkvm.Machines.Pc;

namespace Qkvm.Machines.Q35;

/// <summary>The Q35 PC as -machine names it.</summary>
public static class Q35Machine
{
    const string Oldest = "2.4";

    /// <summary>4.0 once more, with an interrupt controller that is not split under KVM: here neither is.</summary>
    const string Again = "4.0";

    /// <summary>The EHCI controller, then its companions.</summary>
    static readonly (DeviceModel Model, OptionPair[] Properties)[] s_usb =
    [
        (Ehci.Ich9, [new("addr", "1d.7"), new("multifunction", "on")]),
        .. Enumerable.Range(0, 3).Select(i => (Uhci.Models[2 + i], new OptionPair[] { new("addr", $"1d.{i}"),
            new("multifunction", "on"), new("masterbus", "usb-bus.0"), new("firstport", $"{i * 2}") })),
    ];

    /// <summary>The newest first, then those by Red Hat's names.</summary>
    public static readonly MachineModel[] Versions = [.. Names().Concat(PcVersion.RedHat("9.2.0", "7.3.0")).Select(Of)];

    static IEnumerable<(string Name, PcVersion Version)> Names()
    {
        foreach (PcVersion version in PcVersion.All())
        {
            if (version.Name == Again) yield return ($"{Again}.1", version);
            yield return (version.Name, version);
            if (version.Name == Oldest) yield break;
        }
    }

    static MachineModel Of((string Name, PcVersion Version) named, int age)
    {
        string name = $"pc-q35-{named.Name}";
        var defaults = new MachineDefaults(NetworkCard: E1000e.Model.Name, VideoAddress: "0x1", CdromPlace: 2)
        {
            PrefersSockets = named.Version.PrefersSockets,
            TakesNumaSizes = named.Version.TakesNumaSizes,
            HasHotPluggableCpus = true,
            Usb = s_usb,
            IdeBuses = 6,
            Floppies = FloppySupport.OnDemand,
            IdeUnits = 1,
            MaxCpus = 512,                                         // QEMU 7.2: 288
        };
        return new(name, defaults, PcParts.Options, (properties, parts) =>
            new Q35Board(PcParts.Of(properties, parts, name, named.Version), PcParts.Memory(properties, parts)))
        {
            Aliases = age == 0 ? ["q35"] : [],
            Description = "Standard PC (Q35 + ICH9, 2009)",
            ChipGlobals = [.. SystemFlash.Globals, .. IsaChips.Globals, .. Q35Board.Globals],
        };
    }
}
