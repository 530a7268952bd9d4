using System.Buffers;
using System.Runtime.CompilerServices;

namespace Qkvm.Host;

/// <summary>Where a host takes pages of memory; the values are of mbind(2).</summary>
public enum HostPolicy { Default, Preferred, Bind, Interleave }

/// <summary>A block of guest memory: one mapping, aligned to a huge page where it is as large, never moved. Private and
/// zero at first, or over a file.</summary>
/// <remarks>Accelerators use <see cref="Pointer"/>; all others use the checked accessors. Whoever writes through
/// <see cref="Span"/> or <see cref="Memory"/> calls <see cref="MarkWritten"/> afterwards, so that translated code and
/// dirty logs see it; the Write methods do that themselves.</remarks>
public sealed unsafe class GuestRam : IDisposable
{
    public const int PageShift = 12, PageSize = 1 << PageShift;

    /// <summary>Page flag: an accelerator has decoded code from this page.</summary>
    public const byte CodePage = 1;

    /// <summary>Page flag: a dirty log wants to hear of the next write.</summary>
    public const byte WatchedPage = 2;

    const uint HugePage = 2 << 20;
    const int AdviseHugePages = 14, AdviseDontNeed = 4, AdviseRemove = 9, AdviseMergeable = 12,
        AdviseDontDump = 16, AdvisePopulateWrite = 23;
    const int WindowShift = 30;                                    // windows overlap: any buffer up to 1 GiB fits one

    readonly byte* _pageFlags;
    readonly Window[] _windows;
    readonly void* _mapping;
    readonly nuint _reserved;
    bool _isRetired;

    /// <param name="file">What it is mapped over, of at least as many bytes, and disposed of with it; null for memory
    /// of this process alone.</param>
    /// <exception cref="HostException">The host cannot map it; <paramref name="file"/> stays the caller's.</exception>
    public GuestRam(string name, ulong size, MemoryFile? file = null)
    {
        ulong pageSize = file?.PageSize ?? PageSize;
        if (size == 0 || size % pageSize != 0)
            throw new ArgumentException($"{name}: {size} is no multiple of {pageSize} bytes");
        (Name, Size, File) = (name, size, file);
        // Room to begin at a huge page. Anonymous memory where no file is asked for: its faults cost less, and hosts
        // give it huge pages.
        nuint alignment = (nuint)Math.Max(Math.Max(pageSize, file?.Alignment ?? 0), size >= HugePage ? HugePage : 0);
        _reserved = (nuint)size + (alignment > PageSize ? alignment : 0);
        _mapping = Libc.mmap(null, _reserved, file == null ? Libc.ProtRead | Libc.ProtWrite : Libc.ProtNone,
            Libc.MapPrivate | Libc.MapAnonymous | Libc.MapNoReserve, -1, 0);
        if (_mapping == (void*)-1)
            throw new HostException($"cannot allocate {size >> 20} MiB of guest memory", Libc.Errno);
        Pointer = (byte*)(((nuint)_mapping + alignment - 1) & ~(alignment - 1));
        if (file != null) MapFile(file);
        // In a virtual machine they rest on small ones: they cost their zeroing and save nothing.
        if (size >= HugePage && file == null && !HostFeatures.IsVirtual)
            Libc.madvise(Pointer, (nuint)size, AdviseHugePages);
        _pageFlags = (byte*)Libc.mmap(null, (nuint)(size >> PageShift), Libc.ProtRead | Libc.ProtWrite,
            Libc.MapPrivate | Libc.MapAnonymous | Libc.MapNoReserve, -1, 0);
        if (_pageFlags == (void*)-1) throw new HostException("cannot map page flags", Libc.Errno);
        _windows = new Window[(int)((size - 1) >> WindowShift) + 1];
        for (int i = 0; i < _windows.Length; i++)
        {
            ulong start = (ulong)i << WindowShift;
            _windows[i] = new Window(Pointer + start, (int)Math.Min(size - start, int.MaxValue));
        }
    }

    public string Name { get; }

    /// <summary>Bytes.</summary>
    public ulong Size { get; }

    /// <summary>What it is mapped over, or null.</summary>
    public MemoryFile? File { get; }

    /// <summary>The host address of offset 0; valid until Dispose.</summary>
    public byte* Pointer { get; private set; }

    /// <summary>The same as a number, for people.</summary>
    public ulong HostAddress => (ulong)Pointer;

    /// <summary>One byte a page: <see cref="CodePage"/> and <see cref="WatchedPage"/>; for accelerators.</summary>
    public byte* PageFlags => _pageFlags;

    /// <summary>In a flagged page a device or a monitor has written: (this block, offset, bytes), all within the page.
    /// Any thread.</summary>
    public event Action<GuestRam, ulong, int>? FlaggedPageWritten;

    public Span<byte> Span(ulong offset, int length)
    {
        Check(offset, length);
        // SAFETY: checked against Size; the mapping outlives all users
        return new Span<byte>(Pointer + offset, length);
    }

    /// <summary>The same bytes as memory that may wait for I/O. At most 1 GiB; allocates nothing.</summary>
    public Memory<byte> Memory(ulong offset, int length)
    {
        Check(offset, length);
        return _windows[(int)(offset >> WindowShift)].Slice((int)(offset & ((1UL << WindowShift) - 1)), length);
    }

    /// <summary>Reads 1, 2, 4 or 8 bytes, little endian; aligned accesses are atomic.</summary>
    public ulong Read(ulong offset, int size)
    {
        Check(offset, size);
        byte* at = Pointer + offset;
        return size switch
        {
            1 => Volatile.Read(ref *at),
            2 => Volatile.Read(ref *(ushort*)at),
            4 => Volatile.Read(ref *(uint*)at),
            8 => Volatile.Read(ref *(ulong*)at),
            _ => throw new ArgumentOutOfRangeException(nameof(size)),
        };
    }

    /// <summary>Writes 1, 2, 4 or 8 bytes, little endian; aligned accesses are atomic.</summary>
    public void Write(ulong offset, int size, ulong value)
    {
        Check(offset, size);
        byte* at = Pointer + offset;
        switch (size)
        {
            case 1: Volatile.Write(ref *at, (byte)value); break;
            case 2: Volatile.Write(ref *(ushort*)at, (ushort)value); break;
            case 4: Volatile.Write(ref *(uint*)at, (uint)value); break;
            case 8: Volatile.Write(ref *(ulong*)at, value); break;
            default: throw new ArgumentOutOfRangeException(nameof(size));
        }
        MarkWritten(offset, (ulong)size);
    }

    /// <summary>Tells accelerators and dirty logs that these bytes changed.</summary>
    public void MarkWritten(ulong offset, ulong length)
    {
        if (length == 0) return;
        for (ulong page = offset >> PageShift, last = (offset + length - 1) >> PageShift; page <= last; page++)
        {
            if (_pageFlags[page] == 0) continue;
            ulong from = Math.Max(offset, page << PageShift), end = Math.Min(offset + length, (page + 1) << PageShift);
            FlaggedPageWritten?.Invoke(this, from, (int)(end - from));
        }
    }

    /// <summary>Sets or clears <see cref="WatchedPage"/> of a page. Any thread.</summary>
    public void Watch(ulong page, bool on)
    {
        Check(page << PageShift, PageSize);
        ref byte flags = ref _pageFlags[page];
        byte seen = Volatile.Read(ref flags);
        while (true)
        {
            byte wanted = (byte)(on ? seen | WatchedPage : seen & ~WatchedPage),
                was = Interlocked.CompareExchange(ref flags, wanted, seen);
            if (was == seen) return;
            seen = was;
        }
    }

    /// <summary>The same for all pages.</summary>
    public void WatchAll(bool on)
    {
        for (ulong page = 0; page < Size >> PageShift; page++) Watch(page, on);
    }

    /// <summary>Gives whole pages back to the host; they read as zeros afterwards. Pages that are private over a file
    /// stay: the file's contents would show.</summary>
    public void Discard(ulong offset, ulong length)
    {
        if (offset % PageSize != 0 || length % PageSize != 0 || offset > Size || length > Size - offset)
            throw new ArgumentOutOfRangeException(nameof(offset), $"{Name}: {length:x} bytes at {offset:x} of " +
                $"{Size:x}");
        if (length == 0 || File is { IsShared: false }) return;
        // SAFETY: checked; a refusal costs memory alone
        if (Libc.madvise(Pointer + offset, (nuint)length, File == null ? AdviseDontNeed : AdviseRemove) < 0) return;
        MarkWritten(offset, length);
    }

    /// <summary>Core dumps of the process go without it.</summary>
    public void ExcludeFromDumps() => Libc.madvise(Pointer, (nuint)Size,
        AdviseDontDump); // SAFETY: the whole block; a refusal makes dumps larger

    /// <summary>The kernel may let equal pages of this and other processes be one. False where it cannot.</summary>
    public bool AllowMerging() => Libc.madvise(Pointer, (nuint)Size, AdviseMergeable) == 0; // SAFETY: the whole block

    /// <summary>Has the host take its pages of some of its NUMA nodes: mbind(2).</summary>
    /// <param name="nodes">Below 128.</param>
    /// <exception cref="HostException">The host cannot.</exception>
    public void Bind(HostPolicy policy, IReadOnlyList<int> nodes)
    {
        const uint Strict = 1, Move = 2;
        const int MostNodes = 128, BitsOfWord = 64;
        ulong* mask = stackalloc ulong[MostNodes / BitsOfWord + 1];
        new Span<ulong>(mask, MostNodes / BitsOfWord + 1).Clear();
        foreach (int node in nodes) mask[node / BitsOfWord] |= 1UL << node % BitsOfWord;
        // SAFETY: the whole block, and a mask that is read during the call; contents stay
        if (Libc.mbind(Pointer, (nuint)Size, (int)policy, mask, MostNodes + 1, Strict | Move) < 0)
            throw new HostException("cannot bind memory to host NUMA nodes", Libc.Errno);
    }

    /// <summary>Makes all pages exist now. False where the host has too few.</summary>
    public bool Populate() => Populate(0, Size);

    /// <summary>The same for some of them.</summary>
    public bool Populate(ulong offset, ulong length)
    {
        if (offset > Size || length > Size - offset) throw new ArgumentOutOfRangeException(nameof(offset));
        // SAFETY: checked; contents stay
        return Libc.madvise(Pointer + offset, (nuint)length, AdvisePopulateWrite) == 0;
    }

    /// <summary>Gives the memory back to the host, and lets the addresses be: what still reads or writes there finds
    /// memory of nobody's.</summary>
    public void Retire()
    {
        if (Pointer == null || _isRetired) return;
        _isRetired = true;
        // SAFETY: within what this block has reserved, and it stays mapped
        Libc.mmap(_mapping, _reserved, Libc.ProtRead | Libc.ProtWrite,
            Libc.MapPrivate | Libc.MapAnonymous | Libc.MapNoReserve | Libc.MapFixed, -1, 0);
        LeaveFile();
    }

    public void Dispose()
    {
        if (Pointer == null) return;
        LeaveFile();
        Libc.munmap(_mapping, _reserved);
        Libc.munmap(_pageFlags, (nuint)(Size >> PageShift));
        Pointer = null;
    }

    void LeaveFile()
    {
        if (!_isRetired && File is { IsShared: true, IsDiscarded: true })
            Libc.madvise(Pointer, (nuint)Size, AdviseRemove);
        File?.Dispose();
    }

    /// <summary>Huge pages are set aside at once: one that is missing later would end the process.</summary>
    void MapFile(MemoryFile file)
    {
        int flags = (file.IsShared ? Libc.MapShared : Libc.MapPrivate)
            | (file.HasHugePages && file.IsReserved ? 0 : Libc.MapNoReserve) | Libc.MapFixed;
        // SAFETY: within what this block has reserved
        if (Libc.mmap(Pointer, (nuint)Size, Libc.ProtRead | Libc.ProtWrite, flags, file.Fd, (long)file.Offset)
            != (void*)-1) return;
        int errno = Libc.Errno;
        Libc.munmap(_mapping, _reserved);
        throw new HostException($"cannot map {Size >> 20} MiB of it as guest memory", errno);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    void Check(ulong offset, int length)
    {
        if (length < 0 || offset > Size || (ulong)length > Size - offset) OutOfRange(offset, length);
    }

    void OutOfRange(ulong offset, int length) =>
        throw new ArgumentOutOfRangeException(nameof(offset), $"{Name}: {length} bytes at {offset:x} of {Size:x}");

    /// <summary>Up to 2 GiB of the block as managed memory that is pinned by nature.</summary>
    sealed class Window(byte* start, int length) : MemoryManager<byte>
    {
        public Memory<byte> Slice(int at, int count) => CreateMemory(at, count);
        public override Span<byte> GetSpan() => new(start, length);
        public override MemoryHandle Pin(int elementIndex = 0) => new(start + elementIndex);
        public override void Unpin() { }
        protected override void Dispose(bool disposing) { }
    }
}
