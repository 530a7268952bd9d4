using System.Buffers;
using System.Threading.Tasks.Sources;

namespace Qkvm.Host;

/// <summary>Requests to files by io_uring: they are started by one system call together and complete on the thread that
/// made the ring,
/// which alone may use it. Documentation: io_uring(7).</summary>
/// <remarks>Results are what the system call returned, or a negative errno. Pieces of memory stay pinned until
/// completion.</remarks>
public sealed unsafe class IoRing : IDisposable
{
    public const int Capacity = 256;                               // requests in flight

    /// <summary>Pieces that one request may have.</summary>
    public const int MaxPieces = 64;

    const long SqOffset = 0, CqOffset = 0x8000000, SqeOffset = 0x10000000;

    readonly Operation[] _operations = new Operation[Capacity];
    readonly Stack<Operation> _free = new(Capacity);
    readonly byte* _sq, _cq;
    readonly nuint _sqSize, _cqSize, _sqeSize;
    readonly RingSubmission* _submissions;
    readonly uint* _sqTail, _sqArray, _cqHead, _cqTail;
    readonly RingCompletion* _completions;
    readonly uint _sqMask, _cqMask;
    uint _prepared;

    IoRing(int fd, in RingParameters made)
    {
        Fd = fd;
        _sqSize = made.SqArray + made.SqEntries * sizeof(uint);
        _cqSize = (nuint)(made.CqCqes + made.CqEntries * sizeof(RingCompletion));
        _sqeSize = (nuint)(made.SqEntries * sizeof(RingSubmission));
        _sq = Map(_sqSize, SqOffset);
        _cq = Map(_cqSize, CqOffset);
        _submissions = (RingSubmission*)Map(_sqeSize, SqeOffset);
        // SAFETY: the kernel's own offsets into mappings of the sizes it gave.
        _sqTail = (uint*)(_sq + made.SqTail);
        _sqArray = (uint*)(_sq + made.SqArray);
        _cqHead = (uint*)(_cq + made.CqHead);
        _cqTail = (uint*)(_cq + made.CqTail);
        _completions = (RingCompletion*)(_cq + made.CqCqes);
        (_sqMask, _cqMask) = (*(uint*)(_sq + made.SqMask), *(uint*)(_cq + made.CqMask));
        for (int i = Capacity - 1; i >= 0; i--) _free.Push(_operations[i] = new Operation(i, _free));
    }

    /// <summary>Readable while completions wait.</summary>
    public int Fd { get; }

    /// <summary>Null where the kernel has no io_uring, or forbids it.</summary>
    public static IoRing? Create()
    {
        RingParameters parameters = default;
        int fd = Libc.io_uring_setup(Capacity, &parameters);
        if (fd < 0) return null;
        try { return new IoRing(fd, parameters); }
        catch (HostException)
        {
            Libc.close(fd);
            return null;
        }
    }

    /// <summary>Prepares a transfer, which starts with the next <see cref="Submit"/>. False where the ring is full or
    /// the pieces are too
    /// many: nothing is done then.</summary>
    public bool TryTransfer(HostFile file, bool isWrite, long offset, ReadOnlySpan<Memory<byte>> pieces,
        out ValueTask<int> result)
    {
        result = default;
        if (pieces.Length > MaxPieces || !_free.TryPop(out Operation? operation)) return false;
        Iovec* vector = operation.Pin(pieces);
        result = Prepare(operation, new RingSubmission
        {
            Operation = isWrite ? RingSubmission.WriteVector
                : RingSubmission.ReadVector, Fd = file.Fd, Offset = (ulong)offset,
            Address = (ulong)vector, Length = (uint)pieces.Length,
        });
        return true;
    }

    /// <summary>fdatasync.</summary>
    public bool TrySync(HostFile file, out ValueTask<int> result)
    {
        result = default;
        if (!_free.TryPop(out Operation? operation)) return false;
        result = Prepare(operation,
            new RingSubmission { Operation = RingSubmission.Sync, Fd = file.Fd,
            OperationFlags = RingSubmission.SyncData });
        return true;
    }

    /// <summary>Starts all that was prepared.</summary>
    public void Submit()
    {
        while (_prepared > 0)
        {
            int taken = Libc.io_uring_enter(Fd, _prepared, 0, 0);
            if (taken > 0) _prepared -= (uint)taken;
            // the kernel lacks memory now: the next call tries again
            else if (Libc.Errno != Libc.EIntr) return;
        }
    }

    /// <summary>Runs what waits for requests that have completed; false if none had.</summary>
    public bool Reap()
    {
        uint head = *_cqHead;
        bool any = false;
        while (head != Volatile.Read(ref *_cqTail))
        {
            RingCompletion completion = _completions[head & _cqMask];
            Volatile.Write(ref *_cqHead, ++head);
            any = true;
            _operations[completion.UserData].Complete(completion.Result);
        }
        return any;
    }

    public void Dispose()
    {
        Libc.munmap(_sq, _sqSize);
        Libc.munmap(_cq, _cqSize);
        Libc.munmap(_submissions, _sqeSize);
        Libc.close(Fd);
    }

    ValueTask<int> Prepare(Operation operation, RingSubmission submission)
    {
        submission.UserData = (ulong)operation.Index;
        uint tail = *_sqTail, slot = tail & _sqMask;
        _submissions[slot] = submission;
        _sqArray[slot] = slot;
        Volatile.Write(ref *_sqTail, tail + 1);
        _prepared++;
        return operation.Begin();
    }

    byte* Map(nuint size, long offset)
    {
        void* mapped = Libc.mmap(null, size, Libc.ProtRead | Libc.ProtWrite, Libc.MapShared, Fd, offset);
        return mapped == (void*)-1 ? throw new HostException("cannot map a ring", Libc.Errno) : (byte*)mapped;
    }

    /// <summary>A request in flight; reused, so that steady traffic allocates nothing.</summary>
    sealed class Operation(int index, Stack<Operation> free) : IValueTaskSource<int>
    {
        readonly Iovec[] _vector = GC.AllocateArray<Iovec>(MaxPieces, pinned: true);
        readonly MemoryHandle[] _pins = new MemoryHandle[MaxPieces];
        ManualResetValueTaskSourceCore<int> _source;
        int _pinned;

        public int Index => index;

        public Iovec* Pin(ReadOnlySpan<Memory<byte>> pieces)
        {
            for (_pinned = 0; _pinned < pieces.Length; _pinned++)
            {
                _pins[_pinned] = pieces[_pinned].Pin();
                _vector[_pinned] = new Iovec { Base = _pins[_pinned].Pointer, Length = (nuint)pieces[_pinned].Length };
            }
            // SAFETY: the array is pinned for good
            return (Iovec*)System.Runtime.CompilerServices.Unsafe.AsPointer(ref _vector[0]);
        }

        public ValueTask<int> Begin()
        {
            _source.Reset();
            return new ValueTask<int>(this, _source.Version);
        }

        public void Complete(int result)
        {
            while (_pinned > 0) _pins[--_pinned].Dispose();
            _source.SetResult(result);
        }

        public int GetResult(short token)
        {
            int result = _source.GetResult(token);
            free.Push(this);
            return result;
        }

        public ValueTaskSourceStatus GetStatus(short token) => _source.GetStatus(token);

        public void OnCompleted(Action<object?> continuation, object? state, short token,
            ValueTaskSourceOnCompletedFlags flags) =>
            _source.OnCompleted(continuation, state, token, flags);
    }
}
