using Qkvm.Host;

namespace Qkvm.Accel.Tcg.Translator;

// SAFETY: one mapping for all that a vCPU's translated code uses, unmapped after the vCPU's thread has ended.
/// <summary>One vCPU's memory below 2 GiB, so that emitted code names any of it by a 32-bit number: the vCPU's state
/// first, then data (slots, records, look-up tables), then code. Code is a memfd mapped twice: no page is writable and
/// executable at once.</summary>
sealed unsafe class CodeRegion : IDisposable
{
    const int Map32Bit = 0x40, PageSize = 4096;

    readonly byte* _base;
    readonly nuint _size;
    readonly int _dataSize;
    int _dataUsed, _slotsFrom;
    int _dataKept;

    /// <param name="stateSize">Bytes at the start, zeroed, that stay for good.</param>
    /// <param name="dataSize">Bytes of data, the state's included.</param>
    /// <param name="codeSize">Bytes of code.</param>
    public CodeRegion(int stateSize, int dataSize, int codeSize)
    {
        (_dataSize, CodeSize) = (dataSize, codeSize);
        _size = (nuint)(dataSize + codeSize);
        _base = Reserve(_size);
        Check(Libc.mmap(_base, (nuint)dataSize, Libc.ProtRead | Libc.ProtWrite,
            Libc.MapPrivate | Libc.MapAnonymous | Libc.MapNoReserve | Libc.MapFixed, -1, 0));
        int fd = Libc.memfd_create("translations", Libc.MfdCloexec);
        if (fd < 0 || Libc.ftruncate(fd, codeSize) < 0)
            throw new HostException("no memory for translated code", Libc.Errno);
        Executable = _base + dataSize;
        Check(Libc.mmap(Executable, (nuint)codeSize, Libc.ProtRead | Libc.ProtExec, Libc.MapShared | Libc.MapFixed,
            fd, 0));
        Writable =
            (byte*)Check(Libc.mmap(null, (nuint)codeSize, Libc.ProtRead | Libc.ProtWrite, Libc.MapShared, fd, 0));
        Libc.close(fd);                                             // the mappings stay
        _slotsFrom = dataSize;
        _dataUsed = _dataKept = stateSize + PageSize - 1 & -PageSize;
    }

    public byte* State => _base;
    public byte* Executable { get; }
    public byte* Writable { get; }
    public int CodeSize { get; }

    public int DataSize => _dataSize;

    /// <summary>Bytes of data handed out.</summary>
    public int DataUsed => _dataUsed + _dataSize - _slotsFrom;

    /// <summary>Zeroed data; null when there is no more.</summary>
    public byte* Allocate(int size, int alignment)
    {
        int at = _dataUsed + alignment - 1 & -alignment;
        if (at + size > _slotsFrom) return null;
        _dataUsed = at + size;
        return _base + at;
    }

    /// <summary>An empty slot; null when there is no more data.</summary>
    public Slot* AllocateSlot()
    {
        int at = _slotsFrom - sizeof(Slot);
        if (at < _dataUsed) return null;
        _slotsFrom = at;
        var slot = (Slot*)(_base + at);
        slot->Tag = Slot.Empty;
        return slot;
    }

    /// <summary>What has been allocated so far outlives <see cref="Forget"/>.</summary>
    public void Keep() => _dataKept = _dataUsed;

    /// <summary>Gives back, and to the host, all data allocated since <see cref="Keep"/>.</summary>
    public void Forget()
    {
        const int dontNeed = 4;
        int from = _dataKept + PageSize - 1 & -PageSize;
        new Span<byte>(_base + _dataKept, from - _dataKept).Clear();
        Libc.madvise(_base + from, (nuint)(_dataSize - from), dontNeed);
        _dataUsed = _dataKept;
        _slotsFrom = _dataSize;
    }

    public void Dispose()
    {
        Libc.munmap(_base, _size);
        Libc.munmap(Writable, (nuint)CodeSize);
    }

    static byte* Reserve(nuint size)
    {
        const int fixedNoReplace = 0x100000, privateReserve = Libc.MapPrivate | Libc.MapAnonymous | Libc.MapNoReserve;
        void* at = Libc.mmap(null, size, Libc.ProtNone, privateReserve | Map32Bit, -1, 0);
        if ((nint)at != -1) return (byte*)at;
        // That flag looks in the second GiB only.
        const ulong start = 0x1000000, end = 0x7FFF0000, step = 0x100000;
        for (ulong hint = start; hint + size < end; hint += step)
        {
            at = Libc.mmap((void*)hint, size, Libc.ProtNone, privateReserve | fixedNoReplace, -1, 0);
            if ((ulong)at == hint) return (byte*)at;
            if ((nint)at != -1) Libc.munmap(at, size);
        }
        throw new HostException($"no room for {size >> 20} MiB of translated code below 2 GiB", Libc.Errno);
    }

    static void* Check(void* at) => (nint)at != -1 ? at
        : throw new HostException("cannot map memory for translated code", Libc.Errno);
}
