using System.Runtime.CompilerServices;

namespace Qkvm.Accel.Tcg;

// SAFETY: an operand within a page of RAM is the host's address of it, which the block pins until it has ended.
/// <summary>A memory operand under LOCK. RAM within a page: the host's own locked instructions; what crosses pages or
/// is no RAM goes under one lock, which stores over two pages take too. Intel SDM vol. 3, section 9.1.2.</summary>
/// <remarks>Deviation: a locked access that crosses pages is atomic against other accesses that cross pages
/// only.</remarks>
unsafe ref struct AtomicCell<T> where T : unmanaged
{
    readonly Cpu _cpu;
    readonly byte* _host;
    readonly ulong _linear;
    bool _entered;

    /// <summary>Faults as a write before anything is taken.</summary>
    public AtomicCell(Cpu cpu, Insn* i) : this(cpu, cpu.LinearForWrite(i, sizeof(T)), i->Segment) { }

    public AtomicCell(Cpu cpu, ulong linear, int segment)
    {
        (_cpu, _linear) = (cpu, linear);
        _host = cpu.LockableHost(linear, sizeof(T), segment);
        if (_host != null) return;
        Monitor.Enter(BusLock.Instance);
        _entered = true;
    }

    public T Read() => _host != null ? *(T*)_host : ReadSlowly();

    /// <summary>Another vCPU may have taken the page away since it was looked up: the lock is not to stay with who
    /// faults.</summary>
    T ReadSlowly()
    {
        try
        {
            return _cpu.ReadLinear<T>(_linear);
        }
        catch
        {
            Release();
            throw;
        }
    }

    void WriteSlowly(T value)
    {
        try
        {
            _cpu.WriteLinear(_linear, value);
        }
        catch
        {
            Release();
            throw;
        }
    }

    /// <summary>False if another CPU changed the value meanwhile.</summary>
    public bool TryReplace(T old, T value)
    {
        if (_host == null)
        {
            WriteSlowly(value);
            return true;
        }
        if (sizeof(T) == 1)
            return Same(ref Unsafe.AsRef<byte>(_host), Unsafe.BitCast<T, byte>(value), Unsafe.BitCast<T, byte>(old));
        if (sizeof(T) == 2)
            return Same(ref Unsafe.AsRef<ushort>(_host), Unsafe.BitCast<T, ushort>(value),
                Unsafe.BitCast<T, ushort>(old));
        if (sizeof(T) == 4)
            return Same(ref Unsafe.AsRef<uint>(_host), Unsafe.BitCast<T, uint>(value), Unsafe.BitCast<T, uint>(old));
        return Same(ref Unsafe.AsRef<ulong>(_host), Unsafe.BitCast<T, ulong>(value), Unsafe.BitCast<T, ulong>(old));
    }

    public T Exchange(T value)
    {
        T old = Read();
        while (!TryReplace(old, value)) old = Read();
        return old;
    }

    public void Release()
    {
        if (!_entered) return;
        _entered = false;
        Monitor.Exit(BusLock.Instance);
    }

    static bool Same(ref byte at, byte value, byte old) => Interlocked.CompareExchange(ref at, value, old) == old;
    static bool Same(ref ushort at, ushort value, ushort old) => Interlocked.CompareExchange(ref at, value, old) == old;
    static bool Same(ref uint at, uint value, uint old) => Interlocked.CompareExchange(ref at, value, old) == old;
    static bool Same(ref ulong at, ulong value, ulong old) => Interlocked.CompareExchange(ref at, value, old) == old;
}

/// <summary>The bus lock of all vCPUs. Holds no data.</summary>
static class BusLock
{
    public static readonly object Instance = new();
}
