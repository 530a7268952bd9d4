namespace Qkvm.Accel.Tcg.Model;

/// <summary>One of -cpu's models: identity and features. What the software CPU lacks of these is left out.</summary>
/// <param name="Level">Highest basic leaf of CPUID.</param>
/// <param name="ExtendedLevel">Highest extended leaf; 0: there is none.</param>
/// <param name="ReadFeatures">Makes <see cref="Features"/> when somebody asks; null: none.</param>
public sealed record CpuModel(string Name, string Vendor, string Text, int Family, int Model, int Stepping, uint Level,
    uint ExtendedLevel, Func<string>? ReadFeatures = null)
{
    public const string Amd = "AuthenticAMD", Intel = "GenuineIntel", Hygon = "HygonGenuine";

    string? _features;

    /// <summary>Their names, separated by blanks.</summary>
    public string Features => _features ??= ReadFeatures?.Invoke() ?? "";

    /// <summary>AMD's extensions to CPUID and SYSCALL: Hygon's processors are AMD's.</summary>
    public bool IsAmd => Vendor is Amd or Hygon;

    /// <summary>Leaf 1 EAX: extended family, extended model, family, model, stepping.</summary>
    public uint Signature
    {
        get
        {
            int family = Math.Min(Family, 15);
            return (uint)((Family - family) << 20 | Model >> 4 << 16 | family << 8 | (Model & 15) << 4 | Stepping);
        }
    }
}
