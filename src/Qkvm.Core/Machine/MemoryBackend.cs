using Qkvm.Host;

namespace Qkvm.Core.Machine;

/// <summary>Memory that -object or -mem-path made for the machine, or the machine for itself; who takes it for a board
/// disposes of it.</summary>
/// <param name="IsPreallocated">All pages exist before the guest runs.</param>
/// <param name="IsDumped">Part of the process's core dumps; null leaves it to the machine.</param>
/// <param name="IsMerged">Equal pages may become one; null leaves it to the machine.</param>
public sealed record MemoryBackend(GuestRam Ram, bool IsPreallocated = false, bool? IsDumped = null,
    bool? IsMerged = null) : IDisposable
{
    /// <summary>Bytes.</summary>
    public ulong Size => Ram.Size;

    /// <summary>The host keeps room for all of it.</summary>
    public bool IsReserved { get; init; } = true;

    /// <summary>Where the host takes its pages, and of which of its nodes.</summary>
    public HostPolicy Policy { get; init; }
    public IReadOnlyList<int> HostNodes { get; init; } = [];

    /// <summary>Over a file that stays as it is: nothing that can be written.</summary>
    public bool IsReadOnly { get; init; }

    /// <summary>Makes it as users wish.</summary>
    /// <param name="error">Of whose memory it is to be.</param>
    /// <param name="isDumped">Where the object does not say; and so on.</param>
    /// <exception cref="ConfigurationException">This host cannot.</exception>
    public void Prepare(Func<string, Exception> error, bool isDumped = true, bool isMerged = false,
        bool isPreallocated = false)
    {
        if (IsReadOnly)
            throw error($"the memory '{Ram.Name}' is read-only; give it rom=off, and the guest writes to pages of its "
                + "own");
        if (!(IsDumped ?? isDumped)) Ram.ExcludeFromDumps();
        if ((IsMerged ?? isMerged) && !Ram.AllowMerging())
            throw error("this host's kernel cannot merge pages (CONFIG_KSM); leave mem-merge=on out");
        if ((isPreallocated || IsPreallocated) && !Ram.Populate())
            throw error($"this host cannot give {Ram.Size >> 20} MiB at once (Linux 5.14 is needed); leave "
                + "-mem-prealloc or prealloc=on out");
    }

    /// <summary>The guest has it.</summary>
    public bool IsMapped { get; set => field = (WasMapped |= value) && value; }

    /// <summary>It is of the machine's own memory.</summary>
    public bool IsMachines { get; set; }

    /// <summary>Somebody has it: nobody else may.</summary>
    public bool IsTaken => IsMapped || IsMachines;

    /// <summary>The guest had it while the machine ran: requests in flight may still be about it.</summary>
    bool WasMapped { get; set; }

    public void Dispose()
    {
        if (WasMapped) Ram.Retire();
        else Ram.Dispose();
    }
}
