using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;

namespace Qkvm.Host;

/// <summary>One queue of a tap interface: Ethernet frames by read and write, non-blocking. The kernel's
/// Documentation/networking/tuntap.rst.</summary>
public sealed unsafe class TapDevice : IDisposable
{
    public const string CloneDevice = "/dev/net/tun";
    public const int NameLength = 15;

    const int OpenReadWriteNonBlockCloexec = 0x80802, GetFlags = 3, SetFlags = 4, NonBlock = 0x800;
    const nuint SetInterface = 0x400454CA, GetInterface = 0x800454D2, SetOffload = 0x400454D0,
        GetHeaderSize = 0x800454D7;
    const int InterfaceRequestLength = 40, FlagsOffset = 16;       // struct ifreq
    const ushort Tap = 0x0002, NoPacketInformation = 0x1000, VirtioHeader = 0x4000;
    const int MaxHeader = 64;

    readonly byte[]? _withHeader;                                  // for an inherited descriptor with IFF_VNET_HDR
    readonly int _headerLength;

    TapDevice(int fd, string name, int headerLength)
    {
        (Fd, Name, _headerLength) = (fd, name, headerLength);
        if (headerLength > 0) _withHeader = new byte[headerLength + 0x10000];
    }

    public int Fd { get; }

    /// <summary>The interface's name: "tap0".</summary>
    public string Name { get; }

    /// <summary>Opens /dev/net/tun; the errno tells why not.</summary>
    public static int OpenClone(out int errno)
    {
        int fd = Libc.open(CloneDevice, OpenReadWriteNonBlockCloexec, 0);
        errno = fd < 0 ? Libc.Errno : 0;
        return fd;
    }

    /// <summary>Makes the descriptor that interface, which is created if it does not exist. It owns the descriptor on
    /// success.</summary>
    /// <param name="name">"tap%d" lets the kernel choose the number.</param>
    public static TapDevice? Configure(int fd, string name, out int errno)
    {
        Span<byte> request = stackalloc byte[InterfaceRequestLength];
        request.Clear();
        Encoding.UTF8.GetBytes(name.AsSpan(0, Math.Min(name.Length, NameLength)), request[..NameLength]);
        BinaryPrimitives.WriteUInt16LittleEndian(request[FlagsOffset..], Tap | NoPacketInformation);
        errno = Ioctl(fd, SetInterface, request);
        return errno == 0 ? new TapDevice(fd, NameIn(request), 0) : null;
    }

    /// <summary>Takes over a descriptor that another program opened: fd=.</summary>
    public static TapDevice? Inherit(int fd, out int errno)
    {
        Span<byte> request = stackalloc byte[InterfaceRequestLength];
        request.Clear();
        errno = Ioctl(fd, GetInterface, request);
        if (errno != 0) return null;
        int flags = Libc.FileFlags(fd, GetFlags, 0);
        if (flags < 0 || Libc.FileFlags(fd, SetFlags, flags | NonBlock) < 0)
        {
            errno = Libc.Errno;
            return null;
        }
        int header = 0;
        if ((BinaryPrimitives.ReadUInt16LittleEndian(request[FlagsOffset..]) & VirtioHeader) != 0)
        {
            // We take no offloads: frames come whole and checksummed, behind a header of zeros.
            Libc.DeviceControl(fd, SetOffload, null);
            if (Libc.DeviceControl(fd, GetHeaderSize, &header) < 0 || header is < 0 or > MaxHeader) header = 10;
        }
        return new TapDevice(fd, NameIn(request), header);
    }

    /// <summary>One frame, or 0 if there is none now.</summary>
    public int Read(Span<byte> frame)
    {
        Span<byte> target = _withHeader ?? frame;
        nint count;
        // SAFETY: at most target.Length bytes
        fixed (byte* at = target) count = Libc.read(Fd, at, (nuint)target.Length);
        if (count <= _headerLength) return 0;
        if (_withHeader == null) return (int)count;
        int length = Math.Min((int)count - _headerLength, frame.Length);
        _withHeader.AsSpan(_headerLength, length).CopyTo(frame);
        return length;
    }

    /// <summary>False if the kernel did not take it now.</summary>
    public bool Write(ReadOnlySpan<byte> frame)
    {
        ReadOnlySpan<byte> source = frame;
        if (_withHeader != null)
        {
            if (frame.Length > _withHeader.Length - _headerLength) return false;
            _withHeader.AsSpan(0, _headerLength).Clear();
            frame.CopyTo(_withHeader.AsSpan(_headerLength));
            source = _withHeader.AsSpan(0, _headerLength + frame.Length);
        }
        // SAFETY: source.Length bytes
        fixed (byte* at = source) return Libc.write(Fd, at, (nuint)source.Length) == source.Length;
    }

    public void Dispose() => Libc.close(Fd);

    static int Ioctl(int fd, nuint request, Span<byte> argument)
    {
        // SAFETY: a whole struct ifreq
        fixed (byte* at = argument) return Libc.DeviceControl(fd, request, at) < 0 ? Libc.Errno : 0;
    }

    static string NameIn(ReadOnlySpan<byte> request)
    {
        ReadOnlySpan<byte> name = request[..(NameLength + 1)];
        int end = name.IndexOf((byte)0);
        return Encoding.UTF8.GetString(end < 0 ? name : name[..end]);
    }
}

public static unsafe partial class Libc
{
    public const int EPerm = 1, ENoEnt = 2, ENxIo = 6, EBadF = 9, EAccess = 13, EBusy = 16, ENoDev = 19;

    [LibraryImport(Library, EntryPoint = "ioctl", SetLastError = true)]
    internal static partial int DeviceControl(int fd, nuint request, void* argument);

    [LibraryImport(Library, EntryPoint = "fcntl", SetLastError = true)]
    internal static partial int FileFlags(int fd, int command, int flags);
}
