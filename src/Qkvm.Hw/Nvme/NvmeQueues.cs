namespace Qkvm.Hw.Nvme;

/// <summary>A completion that waits for room in its queue.</summary>
readonly record struct NvmeCompletion(NvmeSubmissionQueue Source, ushort Command, ushort Status, uint Result);

/// <summary>A completion queue. NVMe 1.4, section 4.1.</summary>
/// <param name="size">Entries.</param>
sealed class NvmeCompletionQueue(int id, ulong address, int size, int vector, bool interrupts)
{
    public const int EntryLength = 16;

    public int Id => id;
    public ulong Address => address;
    public int Size => size;
    public int Vector => vector;
    public bool Interrupts => interrupts;
    public int Head;
    public int Tail;
    public bool Phase = true;

    /// <summary>Submission queues that name it.</summary>
    public int Users;
    public readonly Queue<NvmeCompletion> Waiting = new();

    public bool IsFull => (Tail + 1) % size == Head;
    public bool IsEmpty => Head == Tail;
}

/// <summary>A submission queue.</summary>
sealed class NvmeSubmissionQueue(int id, ulong address, int size, NvmeCompletionQueue completion)
{
    public int Id => id;
    public ulong Address => address;
    public int Size => size;
    public NvmeCompletionQueue Completion => completion;
    public int Head;
    public int Tail;

    /// <summary>Commands that were taken and have no completion in guest memory yet; the requests of events are
    /// not counted.</summary>
    public int Taken;                                              // not migrated: counted anew

    /// <summary>It stands in the line of those to be served.</summary>
    public bool IsInLine;                                          // not migrated: all are served after loading

    /// <summary>The command that deletes it waits for those taken.</summary>
    public ushort? DeletedBy;                                      // not migrated: nothing is in flight while saving
}
