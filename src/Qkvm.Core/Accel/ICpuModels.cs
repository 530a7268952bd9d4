namespace Qkvm.Core.Accel;

/// <summary>A model that -cpu can name, as query-cpu-definitions tells of it.</summary>
/// <param name="UnavailableFeatures">Of the model's, those that this host cannot give: QEMU's names.</param>
/// <param name="Static">The same everywhere and for ever.</param>
/// <param name="MigrationSafe">The same on every host that has its features.</param>
public sealed record CpuDefinition(string Name, string Typename, IReadOnlyList<string> UnavailableFeatures,
    bool Static, bool MigrationSafe, bool Deprecated, string? AliasOf);

/// <summary>What a guest sees of a processor.</summary>
/// <param name="Features">All that can be named, and whether they are on.</param>
/// <param name="Level">The highest basic leaf of CPUID, and the highest extended one.</param>
/// <param name="Missing">Asked for, and not to be had here.</param>
public sealed record CpuView(IReadOnlyList<KeyValuePair<string, bool>> Features, string Vendor, string ModelId,
    int Family, int Model, int Stepping, uint Level, uint ExtendedLevel, int PhysicalBits,
    IReadOnlyList<string> Missing);

/// <summary>The processors that an accelerator can show.</summary>
public interface ICpuModels
{
    IReadOnlyList<CpuDefinition> Definitions { get; }

    /// <exception cref="ConfigurationException">No such model, feature or value.</exception>
    CpuView Expand(CpuSetup setup);
}
