namespace Qkvm.Host;

// SAFETY: the byte lies on the stack for the time of the call.
/// <summary>A parallel port of the host, by its registers: Linux' ppdev, /dev/parport0. Spec: linux/ppdev.h.</summary>
public sealed unsafe class HostParallelPort : IDisposable
{
    const uint Read = 2u << 30, Write = 1u << 30, OneByte = 1 << 16, OneInt = 4 << 16, Type = 'p' << 8;
    const uint ReadStatus = Read | OneByte | Type | 0x81, ReadControl = Read | OneByte | Type | 0x83,
        WriteControl = Write | OneByte | Type | 0x84, ReadData = Read | OneByte | Type | 0x85,
        WriteData = Write | OneByte | Type | 0x86, Claim = Type | 0x8B, Release = Type | 0x8C,
        SetDirection = Write | OneInt | Type | 0x90;

    readonly int _fd;

    /// <exception cref="HostException">No such port, or another program has it.</exception>
    public HostParallelPort(string path)
    {
        _fd = Libc.open(path, Libc.ORdWr | Libc.ONonBlock | Libc.ONoCtty | Libc.OCloexec, 0);
        if (_fd < 0) throw new HostException($"cannot open '{path}'", Libc.Errno);
        if (Libc.ioctl(_fd, Claim, null) >= 0) return;
        int errno = Libc.Errno;
        Libc.close(_fd);
        throw new HostException($"cannot claim '{path}' as a parallel port", errno);
    }

    public byte Status => Get(ReadStatus);
    public byte Control { get => Get(ReadControl); set => Set(WriteControl, value); }
    public byte Data { get => Get(ReadData); set => Set(WriteData, value); }

    /// <summary>The data lines are read, instead of driven.</summary>
    public void SetInput(bool on)
    {
        int value = on ? 1 : 0;
        Libc.ioctl(_fd, SetDirection, &value);
    }

    public void Dispose()
    {
        Libc.ioctl(_fd, Release, null);
        Libc.close(_fd);
    }

    byte Get(uint request)
    {
        byte value = 0xFF;
        Libc.ioctl(_fd, request, &value);
        return value;
    }

    void Set(uint request, byte value) => Libc.ioctl(_fd, request, &value);
}
