namespace Qkvm.Core.Block.Images;

/// <summary>What a check may mend.</summary>
[Flags]
public enum Repair { None = 0, Leaks = 1, Errors = 2, All = Leaks | Errors }

/// <summary>A driver whose image can be compared with itself.</summary>
public interface ICheckable
{
    /// <param name="repair">The node is writable unless None.</param>
    /// <param name="report">Takes a line for each finding: <c>Leaked cluster 6 refcount=1 reference=0</c>.</param>
    /// <exception cref="BlockException">The check itself failed.</exception>
    ValueTask<CheckResult> CheckAsync(Repair repair, Action<string> report);
}

/// <summary>What a check found, by QMP's names of ImageCheck; null where the format has no such number.</summary>
/// <param name="CheckErrors">Places that could not be examined.</param>
/// <param name="Corruptions">That are left: those that were mended count as fixed.</param>
public sealed record CheckResult(long CheckErrors = 0, long Corruptions = 0, long Leaks = 0, long CorruptionsFixed = 0,
    long LeaksFixed = 0, long? ImageEndOffset = null, long? TotalClusters = null, long? AllocatedClusters = null,
    long? FragmentedClusters = null, long? CompressedClusters = null);
