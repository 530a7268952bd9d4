namespace Qkvm.Host;

// SAFETY: structures live on the stack for the time of one call. What the kernel writes to later are eventfds and the
// memory that it was given, which is taken from it before it goes.
/// <inheritdoc cref="IVhostFile"/>
public sealed unsafe class VhostFile : IVhostFile
{
    const uint GetFeatures = 0x8008AF00, PutFeatures = 0x4008AF00, SetOwner = 0xAF01, SetMemTable = 0x4008AF03,
        SetVringNum = 0x4008AF10, SetVringAddr = 0x4028AF11, SetVringBase = 0x4008AF12, SetVringKick = 0x4008AF20,
        SetVringCall = 0x4008AF21, PutGuestCid = 0x4008AF60, SetRunning = 0x4004AF61;
    const int GetFlags = 3, SetFlags = 4;

    readonly int _fd;

    VhostFile(int fd)
    {
        _fd = fd;
        try
        {
            Control(SetOwner, null, "become the owner");
            ulong features;
            Control(GetFeatures, &features, "get its features");
            Features = features;
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <exception cref="HostException">There is no such device, or it is another's.</exception>
    public static VhostFile Open(string path)
    {
        int fd = Libc.open(path, Libc.ORdWr | Libc.OCloexec, 0);
        return fd >= 0 ? new VhostFile(fd) : throw new HostException("failed to open vhost device", Libc.Errno);
    }

    /// <summary>One that another program opened.</summary>
    /// <exception cref="HostException">It is none.</exception>
    public static VhostFile Inherit(int fd)
    {
        int flags = Libc.fcntl(fd, GetFlags, 0);
        if (flags < 0 || Libc.fcntl(fd, SetFlags, flags | Libc.ONonBlock) < 0)
            throw new HostException("unable to set non-blocking mode", Libc.Errno);
        return new VhostFile(fd);
    }

    public ulong Features { get; }

    public void SetFeatures(ulong features) => Control(PutFeatures, &features, "set its features");

    public void SetMemory(ReadOnlySpan<VhostMemory> memory)
    {
        const int header = 8, entry = 32;                          // struct vhost_memory
        var table = new ulong[(header + entry * memory.Length) / sizeof(ulong)];
        table[0] = (ulong)memory.Length;
        for (int i = 0; i < memory.Length; i++)
            (table[4 * i + 1], table[4 * i + 2], table[4 * i + 3]) =
                (memory[i].Address, memory[i].Size, memory[i].HostAddress);
        fixed (ulong* at = table) Control(SetMemTable, at, "give it memory");
    }

    public void SetRing(int ring, int size, uint position, VhostRingPlaces places)
    {
        State(SetVringNum, ring, (uint)size, "set a ring's size");
        State(SetVringBase, ring, position, "set a ring's position");
        ulong* address = stackalloc ulong[5]
            { (uint)ring, places.Descriptors, places.DeviceArea, places.DriverArea, 0 };
        Control(SetVringAddr, address, "set a ring's place");
    }

    public void SetSignals(int ring, WakeEvent call, WakeEvent kick)
    {
        State(SetVringCall, ring, (uint)call.Fd, "set a ring's signals");
        State(SetVringKick, ring, (uint)kick.Fd, "set a ring's signals");
    }

    public void SetGuestCid(ulong cid) => Control(PutGuestCid, &cid, "set guest cid");

    public void SetVsockRunning(bool isRunning)
    {
        int value = isRunning ? 1 : 0;
        Control(SetRunning, &value, "start or stop it");
    }

    public void Dispose() => Libc.close(_fd);

    /// <summary>struct vhost_vring_state and vhost_vring_file.</summary>
    void State(uint request, int ring, uint value, string what)
    {
        ulong state = (uint)ring | (ulong)value << 32;
        Control(request, &state, what);
    }

    void Control(uint request, void* argument, string what)
    {
        if (Libc.DeviceControl(_fd, request, argument) < 0) throw new HostException($"unable to {what}", Libc.Errno);
    }
}
