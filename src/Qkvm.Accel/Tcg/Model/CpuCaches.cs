namespace Qkvm.Accel.Tcg.Model;

/// <summary>What a cache's leaves say of it: 4, 80000005h and 80000006h, 8000001Dh.</summary>
/// <param name="Associativity">Ways.</param>
/// <param name="Properties">Leaf 4 EDX: 1, WBINVD leaves other threads' alone; 2, inclusive; 4, indexed by a
/// hash.</param>
/// <param name="Sets">Of lines.</param>
/// <param name="IsSelfInitializing">Leaf 4 EAX bit 8.</param>
public readonly record struct CacheShape(uint Associativity, uint Sets, uint Properties = 0,
    bool IsSelfInitializing = false)
{
    public const uint Line = 64;

    public uint Kilobytes => Associativity * Sets * Line / 1024;
}

/// <summary>Caches of a model, as QEMU 7.2 shows them: those of its EPYC models, and those of all others.</summary>
public sealed record CpuCaches(CacheShape Data, CacheShape Code, CacheShape Second, CacheShape Third)
{
    const uint NotOthers = 1, InclusiveHashed = 6;

    /// <summary>Leaf 4 of models that bring none of their own.</summary>
    public static readonly CpuCaches Intel = new(new(8, 64, NotOthers, true), new(8, 64, NotOthers, true),
        new(16, 4096, NotOthers, true), new(16, 16384, InclusiveHashed, true));

    /// <summary>AMD's leaves of these.</summary>
    public static readonly CpuCaches Amd = new(new(2, 512, NotOthers, true), new(2, 512, NotOthers, true),
        new(16, 512), Intel.Third);

    static readonly CacheShape s_small = new(8, 64, NotOthers, true), s_second = new(8, 1024);

    static CpuCaches Zen(CacheShape code, uint thirdSets) =>
        new(s_small, code, s_second, new(16, thirdSets, InclusiveHashed, true));

    static readonly CpuCaches s_zen = Zen(new(4, 256, NotOthers, true), 8192), s_rome = Zen(s_small, 16384),
        s_milan = Zen(s_small, 32768);

    /// <summary>The model's own; null: it has none, and legacy-cache=off nothing to show.</summary>
    public static CpuCaches? Of(string model) => model switch
    {
        _ when model.StartsWith("EPYC-Milan", StringComparison.Ordinal) => s_milan,
        _ when model.StartsWith("EPYC-Rome", StringComparison.Ordinal) => s_rome,
        _ when model.StartsWith("EPYC", StringComparison.Ordinal)
            || model.StartsWith("Dhyana", StringComparison.Ordinal) => s_zen,
        _ => null,
    };
}
