using Qkvm.Core.Machine;

namespace Qkvm.Core.Accel;

/// <summary>What runs the guest, as -accel names it.</summary>
public sealed record AcceleratorModel(string Name, Property[] Properties, Func<Properties, MachineConfig,
    IAccelerator> Create)
    : Model<MachineConfig, IAccelerator>(Name, Properties, Create)
{
    /// <summary>An accelerator of other hosts: in a list to try it is passed over.</summary>
    public static AcceleratorModel Missing(string name) =>
        new(name, [], static (_, _) => throw new InvalidOperationException("not built")) { NotBuilt =
            "does not exist on this host" };
}
