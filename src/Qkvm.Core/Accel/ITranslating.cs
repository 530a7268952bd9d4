namespace Qkvm.Core.Accel;

/// <summary>An accelerator that translates guest code: "info jit".</summary>
public interface ITranslating
{
    /// <summary>One for each vCPU.</summary>
    IReadOnlyList<TranslatorStatistics> Statistics { get; }
}

/// <summary>What one vCPU's translator has done since power-on, and what it holds.</summary>
/// <param name="Blocks">Blocks translated.</param>
/// <param name="CodeBytes">Host code in the cache, of <paramref name="CodeLimit"/>.</param>
/// <param name="DataBytes">What is known of blocks and of their memory accesses, of
/// <paramref name="DataLimit"/>.</param>
/// <param name="Evictions">How often the cache was full and emptied.</param>
/// <param name="Links">Direct jumps that lead from block to block since.</param>
/// <param name="FastMisses">Accesses whose own check failed and whose page was found in the TLB.</param>
/// <param name="Misses">Accesses whose page had to be looked for further.</param>
public readonly record struct TranslatorStatistics(long Blocks, int CodeBytes, int CodeLimit, int DataBytes,
    int DataLimit, int Evictions, long Links,
    long FastMisses, long Misses);
