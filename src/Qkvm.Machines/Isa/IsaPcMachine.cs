using Qkvm.Machines.Pc;

namespace Qkvm.Machines.Isa;

/// <summary>The PC/AT as -machine names it.</summary>
public static class IsaPcMachine
{
    public static readonly MachineModel Model = new("isapc", new MachineDefaults(NetworkCard: "ne2k_isa",
        VideoAddress: "", CdromPlace: 2)
        {
            MaxCpus = 1,
            Cpu = "486",
            Video = VideoKind.Isa,
            Floppies = FloppySupport.OnBoard,
            HasNetworkCard = false,
        }, PcParts.Options, static (properties, parts) =>
            new IsaPcBoard(PcParts.Of(properties, parts, "isapc", PcVersion.All().First()),
                PcParts.Memory(properties, parts)))
        { Description = "ISA-only PC", ChipGlobals = IsaChips.Globals };
}
