using Qkvm.Core.Devices;
using Qkvm.Hw.Net;
using Qkvm.Hw.Usb;

namespace Qkvm.Machines.Pc;

/// <summary>The i440FX PC as -machine names it.</summary>
public static class PcMachine
{
    static readonly (DeviceModel Model, OptionPair[] Properties)[] s_usb = [(Uhci.Piix3, [new("addr", "1.2")])];

    /// <summary>The newest first, then those by Red Hat's names.</summary>
    public static readonly MachineModel[] Versions = [.. PcVersion.All().Select(version => (version.Name, version))
        .Concat(PcVersion.RedHat("7.6.0", "7.0.0")).Select(Of)];

    public static readonly MachineModel Model = Versions[0];

    static MachineModel Of((string Name, PcVersion Version) named, int age)
    {
        string name = $"pc-i440fx-{named.Name}";
        PcVersion version = named.Version;
        var defaults = new MachineDefaults(NetworkCard: E1000.Model.Name, VideoAddress: "0x2", CdromPlace: 2)
        {
            PrefersSockets = version.PrefersSockets,
            TakesNumaSizes = version.TakesNumaSizes,
            HasHotPluggableCpus = true,
            Usb = s_usb,
            Floppies = FloppySupport.OnBoard,
        };
        return new(name, defaults, PcParts.Options, (properties, parts) =>
            new PcBoard(PcParts.Of(properties, parts, name, version), PcParts.Memory(properties, parts)))
        {
            Aliases = age == 0 ? ["pc"] : [],
            IsDefault = age == 0,
            ChipGlobals = [.. SystemFlash.Globals, .. IsaChips.Globals, $"{PcBoard.PmDriver}.{PcBoard.RootHotPlug}",
                $"{PcBoard.PmDriver}.{PcBoard.BridgeHotPlug}", .. SleepStates.Globals(PcBoard.PmDriver)],
            Description = "Standard PC (i440FX + PIIX, 1996)" + (age == 0 ? " (default)" : ""),
        };
    }
}
