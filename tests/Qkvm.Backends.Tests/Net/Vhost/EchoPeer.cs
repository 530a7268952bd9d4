using System.Buffers.Binary;
using System.IO.MemoryMappedFiles;
using Microsoft.Win32.SafeHandles;
using Qkvm.Backends.Vhost;
using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Tests.Net.Vhost;

/// <summary>A vhost-user back-end that sends each frame back, over split rings; the protocol is restated here. It maps
/// the memory that it is given and knows nothing else of the machine.</summary>
sealed class EchoPeer : IDisposable
{
    const ulong Version1 = 1UL << 32, Protocol = 1UL << 30;

    readonly string _path;
    readonly Thread _thread;
    readonly List<(ulong Guest, ulong Size, ulong User, MemoryMappedViewAccessor View, ulong Offset)> _memory = [];
    readonly Ring[] _rings = [new(), new()];
    readonly List<IDisposable> _held = [];
    volatile bool _isOver;
    StreamSocket? _socket;
    volatile StreamSocket? _notices;

    sealed class Ring
    {
        public uint Size, Next, Enabled;
        public ulong Descriptors, Used, Available;
        public FileStream? Call, Kick;
    }

    public EchoPeer(string path)
    {
        _path = path;
        _thread = new Thread(Run) { IsBackground = true };
    }

    /// <summary>Looks for the front-end from now on.</summary>
    public EchoPeer Start()
    {
        _thread.Start();
        return this;
    }

    public ulong Features { get; init; } = Version1 | Protocol;
    public ulong ProtocolFeatures { get; init; } = 9;
    public ulong Queues { get; init; } = 1;

    /// <summary>Answers a request with other bytes than it should; null for the right ones.</summary>
    public Func<VhostUserRequest, byte[]?> Lie { get; init; } = static _ => null;

    /// <summary>Of a device whose configuration it keeps.</summary>
    public byte[] Config { get; set; } = [];

    /// <summary>Says something unasked.</summary>
    /// <param name="answer">As long as what it waits for afterwards.</param>
    public void Say(ReadOnlySpan<byte> message, Span<byte> answer)
    {
        StreamSocket notices = _notices!;
        notices.Write(message);
        for (int have = 0; have < answer.Length;)
        {
            int n = notices.Read(answer[have..]);
            if (n > 0) have += n;
            else if (n != -Libc.EAgain) throw new IOException("hung up");
            else notices.Wait(forRoom: false, 1000);
        }
    }

    /// <summary>The channel for it was given.</summary>
    public bool CanSpeak => _notices != null;

    /// <summary>All requests, with their payloads.</summary>
    public List<(VhostUserRequest Request, byte[] Payload)> Heard { get; } = [];

    /// <summary>It goes without a word.</summary>
    public void Dispose()
    {
        _isOver = true;
        _thread.Join();
    }

    public static byte[] Reply(VhostUserRequest request, ulong value, uint flags = 5, uint size = 8)
    {
        var raw = new byte[20];
        BinaryPrimitives.WriteUInt32LittleEndian(raw, (uint)request);
        BinaryPrimitives.WriteUInt32LittleEndian(raw.AsSpan(4), flags);
        BinaryPrimitives.WriteUInt32LittleEndian(raw.AsSpan(8), size);
        BinaryPrimitives.WriteUInt64LittleEndian(raw.AsSpan(12), value);
        return raw;
    }

    void Run()
    {
        while (_socket == null && !_isOver)
        {
            try { _socket = Connector.Connect(new UnixAddress(_path)); }
            catch (HostException) { Thread.Sleep(20); }
        }
        try
        {
            while (!_isOver && TryRead(12, out byte[] header))
            {
                uint size = BinaryPrimitives.ReadUInt32LittleEndian(header.AsSpan(8));
                if (!TryRead((int)size, out byte[] payload)) break;
                var request = (VhostUserRequest)BinaryPrimitives.ReadUInt32LittleEndian(header);
                lock (Heard) Heard.Add((request, payload));
                bool wantsReply = (header[4] & 8) != 0;
                if (request == VhostUserRequest.GetConfig)
                {
                    Write(Lie(request) ?? [.. Reply(request, 0, size: (uint)payload.Length)[..12], .. payload[..12],
                        .. Config]);
                    continue;
                }
                if (Answer(request, payload) is { } value || wantsReply && (value = 0) == 0)
                    Write(Lie(request) ?? Reply(request, value));
            }
        }
        finally
        {
            _socket?.Dispose();
            _notices?.Dispose();
            foreach (IDisposable one in _held) one.Dispose();
        }
    }

    void Write(byte[] data)
    {
        for (int at = 0; at < data.Length;)
        {
            int n = _socket!.Write(data.AsSpan(at));
            if (n > 0) at += n;
            else if (n != -Libc.EAgain || _isOver) return;
            else _socket.Wait(forRoom: true, 10);
        }
    }

    /// <summary>Serves the rings while it waits.</summary>
    bool TryRead(int count, out byte[] data)
    {
        data = new byte[count];
        for (int have = 0; have < count && !_isOver;)
        {
            int n = _socket!.Read(data.AsSpan(have));
            if (n > 0) have += n;
            else if (n != -Libc.EAgain) return false;
            else if (!_socket.Wait(forRoom: false, 5)) Echo();
        }
        return !_isOver;
    }

    ulong? Answer(VhostUserRequest request, byte[] payload)
    {
        ulong first = payload.Length >= 8 ? BinaryPrimitives.ReadUInt64LittleEndian(payload) : 0;
        uint value = (uint)(first >> 32);
        Ring ring = _rings[first & 1];
        switch (request)
        {
            case VhostUserRequest.GetFeatures: return Features;
            case VhostUserRequest.GetProtocolFeatures: return ProtocolFeatures;
            case VhostUserRequest.GetQueueNum: return Queues;
            case VhostUserRequest.GetVringBase:
                ring.Enabled = 0;
                return (first & uint.MaxValue) | (ulong)ring.Next << 32;
            case VhostUserRequest.SetVringNum: ring.Size = value; break;
            case VhostUserRequest.SetVringBase: ring.Next = value; break;
            case VhostUserRequest.SetVringEnable: ring.Enabled = value; break;
            case VhostUserRequest.SetVringCall: ring.Call = Taken(); break;
            case VhostUserRequest.SetVringKick: ring.Kick = Taken(); break;
            case VhostUserRequest.SetBackendReqFd: _notices = new StreamSocket(_socket!.TakeDescriptor()); break;
            case VhostUserRequest.SetVringAddr:
                ring.Descriptors = BinaryPrimitives.ReadUInt64LittleEndian(payload.AsSpan(8));
                ring.Used = BinaryPrimitives.ReadUInt64LittleEndian(payload.AsSpan(16));
                ring.Available = BinaryPrimitives.ReadUInt64LittleEndian(payload.AsSpan(24));
                break;
            case VhostUserRequest.SetMemTable:
                for (int i = 0; i < (int)first; i++) Map(payload.AsSpan(8 + 32 * i));
                break;
        }
        return null;
    }

    FileStream Taken()
    {
        var stream = new FileStream(new SafeFileHandle(_socket!.TakeDescriptor(), ownsHandle: true),
            FileAccess.ReadWrite, 0);
        _held.Add(stream);
        return stream;
    }

    void Map(ReadOnlySpan<byte> region)
    {
        FileStream file = Taken();
        var mapped = MemoryMappedFile.CreateFromFile(file, null, 0, MemoryMappedFileAccess.ReadWrite,
            HandleInheritability.None, leaveOpen: true);
        _held.Insert(0, mapped);
        _memory.Add((BinaryPrimitives.ReadUInt64LittleEndian(region),
            BinaryPrimitives.ReadUInt64LittleEndian(region[8..]),
            BinaryPrimitives.ReadUInt64LittleEndian(region[16..]), mapped.CreateViewAccessor(),
            BinaryPrimitives.ReadUInt64LittleEndian(region[24..])));
    }

    (MemoryMappedViewAccessor View, long At) User(ulong address)
    {
        var region = _memory.First(r => address >= r.User && address < r.User + r.Size);
        return (region.View, (long)(address - region.User + region.Offset));
    }

    (MemoryMappedViewAccessor View, long At) Guest(ulong address)
    {
        var region = _memory.First(r => address >= r.Guest && address < r.Guest + r.Size);
        return (region.View, (long)(address - region.Guest + region.Offset));
    }

    ushort Read16(ulong address)
    {
        var (view, at) = User(address);
        return view.ReadUInt16(at);
    }

    void Echo()
    {
        Ring transmit = _rings[1], receive = _rings[0];
        if (transmit.Enabled == 0 || receive.Enabled == 0 || transmit.Kick == null) return;
        while (Read16(transmit.Available + 2) != (ushort)transmit.Next)
        {
            var frame = new byte[Length(transmit, out ulong from)];
            var (view, at) = Guest(from);
            view.ReadArray(at, frame, 0, frame.Length);
            Use(transmit, 0);
            if (Read16(receive.Available + 2) == (ushort)receive.Next) continue;
            Length(receive, out ulong to);
            (view, at) = Guest(to);
            view.WriteArray(at, frame, 0, frame.Length);
            Use(receive, (uint)frame.Length);
        }
    }

    /// <summary>Of the next chain, which is one buffer here.</summary>
    uint Length(Ring ring, out ulong address)
    {
        ushort head = Read16(ring.Available + 4 + 2 * (ring.Next % ring.Size));
        var (view, at) = User(ring.Descriptors + 16ul * head);
        address = view.ReadUInt64(at);
        return view.ReadUInt32(at + 8);
    }

    void Use(Ring ring, uint written)
    {
        ushort index = Read16(ring.Used + 2);
        var (view, at) = User(ring.Used + 4 + 8 * (index % ring.Size));
        view.Write(at, (uint)Read16(ring.Available + 4 + 2 * (ring.Next % ring.Size)));
        view.Write(at + 4, written);
        (view, at) = User(ring.Used + 2);
        view.Write(at, (ushort)(index + 1));
        ring.Next++;
        ring.Call!.Write([1, 0, 0, 0, 0, 0, 0, 0]);
    }
}
