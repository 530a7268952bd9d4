namespace Qkvm.Core.Memory;

/// <summary>An IOMMU's view of one bus master: which of guest memory's addresses its own are.</summary>
public interface IDmaTranslation
{
    /// <summary>From any thread. False where the access is not allowed: the fault is on record then.</summary>
    /// <param name="length">Bytes from there on that follow each other in guest memory, too; at least one.</param>
    bool TryTranslate(ulong address, bool write, out ulong translated, out ulong length);
}
