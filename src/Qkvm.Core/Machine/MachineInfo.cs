namespace Qkvm.Core.Machine;

/// <summary>A machine type that users can name, as query-machines tells of it.</summary>
/// <param name="HotpluggableCpus">vCPUs can come while it runs.</param>
/// <param name="NumaMemSupported">-numa node,mem= is taken.</param>
/// <param name="IsDefault">Null where it is not.</param>
public sealed record MachineInfo(bool HotpluggableCpus, string Name, bool NumaMemSupported, string? DefaultCpuType,
    bool? IsDefault, int CpuMax, bool Deprecated, string DefaultRamId, string? Alias)
{
    /// <summary>Tables can be had.</summary>
    public bool Acpi => DefaultCpuType != null;
}
