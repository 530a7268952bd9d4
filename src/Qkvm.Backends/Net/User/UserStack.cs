using System.Buffers.Binary;
using System.Security.Cryptography;
using Qkvm.Core.Block;
using Qkvm.Core.Net;
using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Net.User;

/// <summary>The network that a guest sees behind its card: a router that gives addresses and goes on with the guest's
/// connections as this process' own.</summary>
/// <remarks>One lock covers all. The guest's frames come on any thread; sockets, timers and what goes to the guest are
/// the loop's (<see cref="OnLoop"/>).</remarks>
sealed partial class UserStack : IDisposable
{
    public const int Mtu = 1500;

    const int HeadLength = 256;                                    // Ethernet, IP and TCP with all their options
    const int LargestFrame = 65536 + FrameWriter.MaxHeaders;

    readonly Lock _lock = new();
    readonly Action _flush, _tick, _resume;
    readonly byte[] _head = new byte[HeadLength], _whole = new byte[LargestFrame];
    readonly TimeProvider _clock;
    readonly long _started;
    readonly ITimer _timer;
    bool _isFlushPosted, _isTicking, _isDisposed;

    public UserStack(UserNetOptions options, GuestTargets targets, INetPort port, IoLoop loop, TimeProvider clock)
    {
        (Options, Targets, Loop, _clock) = (options, targets, loop, clock);
        (_flush, _tick, _resume) = (Flush, Tick, Resume);
        _started = clock.GetTimestamp();
        Wire.Port = port;
        Routes = new Routes(options, Resolver = new Resolver(clock, options.ResolverFile));
        Neighbours = new Neighbours(this);
        Discovery = new NeighbourDiscovery(this);
        Tcp = new TcpTable(this);
        Udp = new UdpTable(this);
        Icmp = new Icmp(this);
        Dhcp = new Dhcp(this);
        Dhcp6 = new Dhcp6(this);
        Tftp = new Tftp(this);
        Fragments = new Fragments(this);
        _timer = clock.CreateTimer(_ => loop.Post(_tick), null, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
    }

    public UserNetOptions Options { get; }
    public GuestTargets Targets { get; }
    public IoLoop Loop { get; }
    public GuestWire Wire { get; } = new();
    public Resolver Resolver { get; }
    public Routes Routes { get; }
    public Neighbours Neighbours { get; }
    public NeighbourDiscovery Discovery { get; }
    public TcpTable Tcp { get; }
    public UdpTable Udp { get; }
    public Icmp Icmp { get; }
    public Dhcp Dhcp { get; }
    public Dhcp6 Dhcp6 { get; }
    public Tftp Tftp { get; }
    public Fragments Fragments { get; }

    /// <summary>Milliseconds.</summary>
    public long Now => (long)_clock.GetElapsedTime(_started).TotalMilliseconds + 1;

    /// <summary>Ours, from which all that is routed comes.</summary>
    public MacAddress Mac => MacOf(Options.Host);

    /// <summary>Of the router in IPv6: fe80::2.</summary>
    public MacAddress Mac6 => MacOf(new IpAddress(2));

    public MacAddress MacFor(bool isV4) => isV4 ? Mac : Mac6;

    /// <summary>For frames that are built and sent at once.</summary>
    public byte[] Scratch { get; } = new byte[LargestFrame];

    /// <summary>For packets as they come; used within one call.</summary>
    public Span<byte> Whole => _whole;

    public Memory<byte>[] Pieces { get; } = new Memory<byte>[64];

    /// <summary>libslirp's: 52:55 and the address, 52:56:00:00:00 and its last byte.</summary>
    public static MacAddress MacOf(IpAddress address) => new(address.IsV4 ? 0x5255ul << 32 | address.V4Bits
        : 0x5256ul << 32 | (byte)address.Bits);

    public bool IsOurs4(IpAddress address) => address == Options.Host || address == Options.Nameserver
        || Options.GuestForwards.Any(f => f.At.Address == address);

    /// <summary>Nobody can guess it. RFC 9293, section 3.4.1.</summary>
    public uint NewSequence()
    {
        Span<byte> bytes = stackalloc byte[4];
        RandomNumberGenerator.Fill(bytes);
        return BinaryPrimitives.ReadUInt32LittleEndian(bytes);
    }

    /// <summary>A frame from the guest. From any thread.</summary>
    public void Send(in NetHeader header, in ScatterList frame)
    {
        lock (_lock)
        {
            if (_isDisposed) return;
            Input(header.NeedsChecksum, frame);
            if (Tcp.HasQueued || Wire.HasWaiting) PostFlush();
        }
    }

    /// <summary>From any thread: the card has room again.</summary>
    public void PostResume() => Loop.Post(_resume);

    public void Accept(NetOffloads offloads)
    {
        lock (_lock) Wire.Offloads = offloads;
    }

    /// <summary>The port is not called any more when it returns; the rest the loop does.</summary>
    public void Dispose()
    {
        lock (_lock)
        {
            if (_isDisposed) return;
            _isDisposed = true;
            Wire.Port = null;
        }
        _timer.Dispose();
        Loop.Post(CloseAll);
    }

    /// <summary>The clock is looked at from time to time, until nothing waits for it.</summary>
    public void NeedClock()
    {
        if (_isTicking || _isDisposed) return;
        var period = TimeSpan.FromMilliseconds(100);
        _isTicking = true;
        _timer.Change(period, period);
    }

    /// <summary>Enters the lock on the loop's thread; what has become possible is done when it ends.</summary>
    public LoopScope OnLoop() => new(this);

    /// <summary>See <see cref="OnLoop"/>.</summary>
    public readonly ref struct LoopScope
    {
        readonly UserStack _stack;

        public LoopScope(UserStack stack)
        {
            _stack = stack;
            stack._lock.Enter();
            stack.Wire.IsOnLoop = true;
        }

        public void Dispose()
        {
            _stack.FlushNow();
            _stack.Wire.IsOnLoop = false;
            _stack._lock.Exit();
        }
    }

    void PostFlush()
    {
        if (_isFlushPosted) return;
        _isFlushPosted = true;
        Loop.Post(_flush);
    }

    void Flush()
    {
        using LoopScope scope = OnLoop();
        _isFlushPosted = false;
    }

    void Resume()
    {
        using LoopScope scope = OnLoop();
        Wire.IsBlocked = false;
    }

    void FlushNow()
    {
        Wire.Flush();
        Tcp.Flush();
        if (Tcp.HasQueued && !Wire.IsBlocked && !_isDisposed) PostFlush(); // its turn is over, but it has more
        if (Tcp.Count > 0) NeedClock();
    }

    void Tick()
    {
        using LoopScope scope = OnLoop();
        if (_isDisposed) return;
        Tcp.Tick();
        Udp.Tick();
        Icmp.Tick();
        Tftp.Tick();
        Fragments.Tick();
        if (Tcp.Count + Udp.Count + Icmp.Count + Tftp.Count + Fragments.Count > 0) return;
        _isTicking = false;
        _timer.Change(Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
    }

    void CloseAll()
    {
        using LoopScope scope = OnLoop();
        Tcp.Clear();
        Udp.Clear();
        Icmp.Clear();
        Tftp.Clear();
        Wire.Clear();
    }
}
