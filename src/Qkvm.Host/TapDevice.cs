using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;

namespace Qkvm.Host;

// SAFETY: the kernel reads and writes the structures and buffers during the call that is given them.
/// <summary>One queue of a tap interface: Ethernet frames by read and write, non-blocking. The kernel's
/// Documentation/networking/tuntap.rst and linux/if_tun.h.</summary>
public sealed unsafe class TapDevice : IDisposable
{
    public const string CloneDevice = "/dev/net/tun";
    public const int NameLength = 15;

    /// <summary>What TUNSETOFFLOAD lets the kernel leave undone in frames that are read.</summary>
    public const uint Checksum = 0x01, Tso4 = 0x02, Tso6 = 0x04, TsoEcn = 0x08, Uso4 = 0x20, Uso6 = 0x40;

    const int OpenReadWriteNonBlockCloexec = 0x80802, GetFlags = 3, SetFlags = 4, NonBlock = 0x800;
    const nuint SetInterface = 0x400454CA, GetFeatures = 0x800454CF, SetOffload = 0x400454D0,
        GetInterface = 0x800454D2, SetSendBuffer = 0x400454D4, GetHeaderSize = 0x800454D7, SetHeaderSize = 0x400454D8,
        SetQueue = 0x400454D9;
    const int InterfaceRequestLength = 40, FlagsOffset = 16;       // struct ifreq
    const ushort Tap = 0x0002, MultiQueue = 0x0100, AttachQueue = 0x0200, DetachQueue = 0x0400,
        NoPacketInformation = 0x1000, VirtioHeader = 0x4000;
    const int WantedHeader = 10, MaxHeader = 64;                   // struct virtio_net_hdr

    TapDevice(int fd, ReadOnlySpan<byte> request)
    {
        (Fd, Name) = (fd, NameIn(request));
        if ((FlagsIn(request) & VirtioHeader) == 0) return;
        int header = WantedHeader;
        Libc.DeviceControl(fd, SetHeaderSize, &header);
        if (Libc.DeviceControl(fd, GetHeaderSize, &header) < 0 || header is < WantedHeader or > MaxHeader)
            header = WantedHeader;
        HeaderLength = header;
    }

    public int Fd { get; }

    /// <summary>The interface's name: "tap0".</summary>
    public string Name { get; }

    /// <summary>Bytes before each frame, the first ten of which are a struct virtio_net_hdr; or 0.</summary>
    public int HeaderLength { get; }

    /// <summary>Opens /dev/net/tun; the errno tells why not.</summary>
    public static int OpenClone(out int errno)
    {
        int fd = Libc.open(CloneDevice, OpenReadWriteNonBlockCloexec, 0);
        errno = fd < 0 ? Libc.Errno : 0;
        return fd;
    }

    /// <summary>Makes the descriptor a queue of that interface, which is created if it does not exist. It owns the
    /// descriptor on success.</summary>
    /// <param name="name">"tap%d" lets the kernel choose the number.</param>
    /// <param name="withHeader">Frames have headers, where the kernel knows them.</param>
    /// <param name="isOneOfSeveral">More queues follow.</param>
    public static TapDevice? Configure(int fd, string name, bool withHeader, bool isOneOfSeveral, out int errno)
    {
        uint known;
        if (Libc.DeviceControl(fd, GetFeatures, &known) < 0) known = 0;
        ushort flags = Tap | NoPacketInformation;
        if (withHeader && (known & VirtioHeader) != 0) flags |= VirtioHeader;
        if (isOneOfSeveral) flags |= MultiQueue;
        Span<byte> request = stackalloc byte[InterfaceRequestLength];
        request.Clear();
        Encoding.UTF8.GetBytes(name.AsSpan(0, Math.Min(name.Length, NameLength)), request[..NameLength]);
        BinaryPrimitives.WriteUInt16LittleEndian(request[FlagsOffset..], flags);
        errno = Ioctl(fd, SetInterface, request);
        return errno == 0 ? new TapDevice(fd, request) : null;
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
        return new TapDevice(fd, request);
    }

    /// <summary>TUNSETOFFLOAD, for the whole interface; false: the kernel does not know one of them.</summary>
    public bool TrySetOffloads(uint offloads) => Libc.DeviceControl(Fd, SetOffload, (void*)offloads) == 0;

    /// <summary>Bytes that may wait in the kernel, TUNSETSNDBUF; returns an errno or 0.</summary>
    public int LimitSending(int bytes) => Libc.DeviceControl(Fd, SetSendBuffer, &bytes) < 0 ? Libc.Errno : 0;

    /// <summary>Lets one of several queues take frames, or not.</summary>
    public bool TryAttach(bool isAttached)
    {
        Span<byte> request = stackalloc byte[InterfaceRequestLength];
        request.Clear();
        BinaryPrimitives.WriteUInt16LittleEndian(request[FlagsOffset..], isAttached ? AttachQueue : DetachQueue);
        return Ioctl(Fd, SetQueue, request) == 0;
    }

    /// <summary>One header and frame; 0 if there is none now.</summary>
    public int Read(Span<byte> buffer)
    {
        fixed (byte* at = buffer) return (int)Math.Max(0, Libc.read(Fd, at, (nuint)buffer.Length));
    }

    public void Dispose() => Libc.close(Fd);

    static int Ioctl(int fd, nuint request, Span<byte> argument)
    {
        fixed (byte* at = argument) return Libc.DeviceControl(fd, request, at) < 0 ? Libc.Errno : 0;
    }

    static ushort FlagsIn(ReadOnlySpan<byte> request) =>
        BinaryPrimitives.ReadUInt16LittleEndian(request[FlagsOffset..]);

    static string NameIn(ReadOnlySpan<byte> request)
    {
        ReadOnlySpan<byte> name = request[..(NameLength + 1)];
        int end = name.IndexOf((byte)0);
        return Encoding.UTF8.GetString(end < 0 ? name : name[..end]);
    }
}

public static unsafe partial class Libc
{
    public const int EPerm = 1, ENoEnt = 2, ENxIo = 6, E2Big = 7, ENoExec = 8, EBadF = 9, EAccess = 13, EBusy = 16,
        ENoDev = 19;

    [LibraryImport(Library, EntryPoint = "ioctl", SetLastError = true)]
    internal static partial int DeviceControl(int fd, nuint request, void* argument);

    [LibraryImport(Library, EntryPoint = "fcntl", SetLastError = true)]
    public static partial int FileFlags(int fd, int command, int flags);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial nint writev(int fd, Iovec* pieces, int count);
}
