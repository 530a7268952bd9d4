using Qkvm.Hw.Net;

namespace Qkvm.Machines.Pc;

/// <summary>The i440FX PC as -machine names it.</summary>
public static class PcMachine
{
    /// <summary>The newest first.</summary>
    public static readonly MachineModel[] Versions = [.. PcVersion.All().Select(Of)];

    public static readonly MachineModel Model = Versions[0];

    static MachineModel Of(PcVersion version, int age)
    {
        string name = $"pc-i440fx-{version.Name}";
        var defaults = new MachineDefaults(NetworkCard: E1000.Model.Name, VideoAddress: "0x2", CdromPlace: 2)
            { PrefersSockets = version.PrefersSockets, HasHotPluggableCpus = true };
        return new(name, defaults, PcParts.Options, (properties, parts) =>
            new PcBoard(PcParts.Of(properties, parts, name, version), PcParts.Memory(properties, parts)))
        {
            Aliases = age == 0 ? ["pc"] : [],
            IsDefault = age == 0,
            ChipGlobals = [.. SystemFlash.Globals, .. ChipGlobals.SuspendProperties
                .Append(PcBoard.RootHotPlug).Append(PcBoard.BridgeHotPlug)
                .Select(name => $"{PcBoard.PmDriver}.{name}")],
            Description = "Standard PC (i440FX + PIIX, 1996)" + (age == 0 ? " (default)" : ""),
        };
    }
}
