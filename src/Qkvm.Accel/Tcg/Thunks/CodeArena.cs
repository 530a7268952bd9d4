using Qkvm.Host;

namespace Qkvm.Accel.Tcg.Thunks;

// SAFETY: both mappings have the same chunk and are never unmapped; what is added is checked against its end.
/// <summary>Memory for emitted code that stays for good: a memfd mapped twice, so that no page is writable and
/// executable at once. Grows by chunks up to <see cref="Limit"/>.</summary>
/// <remarks>Not thread-safe.</remarks>
sealed unsafe class CodeArena(string name)
{
    public const int Limit = 256 << 20;
    const int ChunkSize = 1 << 18, Alignment = 16;

    byte* _writable, _executable;
    int _used = ChunkSize, _total;

    /// <summary>Copies position-independent code of at most a chunk; where it can be called.</summary>
    public byte* Add(ReadOnlySpan<byte> code)
    {
        if (_used + code.Length > ChunkSize) Grow();
        byte* at = _executable + _used;
        code.CopyTo(new Span<byte>(_writable + _used, ChunkSize - _used));
        EmittedCode.Check(at, code.Length);
        _used += code.Length + Alignment - 1 & -Alignment;
        return at;
    }

    void Grow()
    {
        if (_total >= Limit) throw new HostException($"{name}: more than {Limit} bytes of code", 0);
        int fd = Libc.memfd_create(name, Libc.MfdCloexec);
        if (fd < 0 || Libc.ftruncate(fd, ChunkSize) < 0)
            throw new HostException($"{name}: no memory for code", Libc.Errno);
        _writable = Map(fd, Libc.ProtRead | Libc.ProtWrite);
        _executable = Map(fd, Libc.ProtRead | Libc.ProtExec);
        Libc.close(fd);                                             // the mappings stay
        _used = 0;
        _total += ChunkSize;
    }

    byte* Map(int fd, int protection)
    {
        byte* at = (byte*)Libc.mmap(null, ChunkSize, protection, Libc.MapShared, fd, 0);
        return at != (byte*)-1 ? at : throw new HostException($"{name}: cannot map code", Libc.Errno);
    }
}
