using System.Buffers.Binary;
using Qkvm.Core.Block;
using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Net.User;

/// <summary>All TCP connections of the guest.</summary>
/// <remarks>A guest may open as many as it likes: the one that was idle longest makes room.</remarks>
sealed class TcpTable(UserStack stack)
{
    const long MaxBuffered = 64 << 20;

    /// <summary>Half of this process' descriptors at most: disks and monitors need some too.</summary>
    readonly int _maxConnections = (int)Math.Min(4096, HostProcess.MaxDescriptors / 2);

    readonly Dictionary<TcpKey, TcpConnection> _connections = [];
    readonly LinkedList<TcpConnection> _byIdleness = [];
    readonly Queue<TcpConnection> _queued = new();

    public BufferPool Buffers { get; } = new(MaxBuffered);

    public int Count => _connections.Count;

    public bool HasQueued => _queued.Count > 0;

    public IEnumerable<TcpConnection> All => _byIdleness;

    /// <summary>A segment from the guest. From any thread.</summary>
    /// <param name="head">The segment, at least its header.</param>
    /// <param name="segment">All of it.</param>
    public void Input(in IpPacket packet, ReadOnlySpan<byte> head, in ScatterList segment, MacAddress from,
        bool isChecked)
    {
        int length = (int)segment.Length;
        if (!TcpHeader.TryParse(head, length, out TcpHeader header)) return;
        if (!isChecked && !IsIntact(packet, segment)) return;
        var key = new TcpKey(new IpEndpoint(packet.Source, header.SourcePort),
            new IpEndpoint(packet.Destination, header.DestinationPort));
        int data = length - header.Length;
        if (_connections.TryGetValue(key, out TcpConnection? connection))
        {
            connection.Mac = from;
            if (connection.Input(header, segment.Slice(header.Length, data)))
            {
                Touch(connection);
                Queue(connection);
                return;
            }
        }
        if (header.Has(TcpFlags.Rst)) return;
        if (header.Has(TcpFlags.Syn) && !header.Has(TcpFlags.Ack)) Open(key, header, from);
        else if (header.Has(TcpFlags.Ack)) SendReset(key, from, header.Acknowledgment, 0, TcpFlags.Rst);
        else SendReset(key, from, 0, header.Sequence + (uint)data + (header.Has(TcpFlags.Fin) ? 1u : 0),
            TcpFlags.Rst | TcpFlags.Ack);
    }

    /// <summary>A client of a forwarded port: the guest is asked at once.</summary>
    public void Connect(IpEndpoint guest, IpEndpoint client, RelaySocket socket)
    {
        var key = new TcpKey(guest, client);
        while (_connections.ContainsKey(key))                      // clients of several loopback addresses
            key = key with { Remote = key.Remote with { Port = (ushort)Math.Max(key.Remote.Port + 1, 1024) } };
        stack.Neighbours.TryFind(guest.Address, out MacAddress mac);
        Add(new TcpConnection(stack, key, socket, TcpState.SynSent, mac, UserStack.Mtu));
    }

    /// <summary>The host could not connect: the guest hears why. RFC 1122, section 4.2.3.9.</summary>
    public void Refuse(TcpKey key, MacAddress mac, uint expected, int errno)
    {
        if (errno is Libc.ENetUnreach or Libc.EHostUnreach) stack.Icmp.Unreachable(key, mac, expected - 1, errno);
        else SendReset(key, mac, 0, expected, TcpFlags.Rst | TcpFlags.Ack);
    }

    /// <summary>A segment without data, outside what a connection sends in order.</summary>
    public void SendReset(TcpKey key, MacAddress to, uint sequence, uint acknowledgment, TcpFlags flags)
    {
        bool isV4 = key.Guest.Address.IsV4;
        Span<byte> frame = stackalloc byte[FrameWriter.HeadersLength(isV4) + TcpHeader.MinLength];
        FrameWriter.Ethernet(frame, to, stack.MacFor(isV4), isV4 ? EtherType.Ip4 : EtherType.Ip6);
        int at = FrameWriter.Ip(frame, key.Remote.Address, key.Guest.Address, IpProtocol.Tcp, TcpHeader.MinLength);
        Span<byte> segment = frame[at..];
        WriteHeader(segment, key, sequence, acknowledgment, flags, TcpHeader.MinLength);
        BinaryPrimitives.WriteUInt16BigEndian(segment[16..], FrameWriter.Payload(segment, key.Remote.Address,
            key.Guest.Address, IpProtocol.Tcp));
        stack.Wire.Send(frame);
    }

    /// <summary>To the guest; window and checksum are 0.</summary>
    public static void WriteHeader(Span<byte> segment, TcpKey key, uint sequence, uint acknowledgment, TcpFlags flags,
        int length)
    {
        BinaryPrimitives.WriteUInt16BigEndian(segment, key.Remote.Port);
        BinaryPrimitives.WriteUInt16BigEndian(segment[2..], key.Guest.Port);
        BinaryPrimitives.WriteUInt32BigEndian(segment[4..], sequence);
        BinaryPrimitives.WriteUInt32BigEndian(segment[8..], (flags & TcpFlags.Ack) != 0 ? acknowledgment : 0);
        segment[12] = (byte)(length / 4 << 4);
        segment[13] = (byte)flags;
        segment[14..20].Clear();
    }

    /// <summary>It has something to do on the loop.</summary>
    public void Queue(TcpConnection connection)
    {
        if (connection.IsQueued) return;
        connection.IsQueued = true;
        _queued.Enqueue(connection);
    }

    /// <summary>Lets each that is queued go on once. On the loop.</summary>
    public void Flush()
    {
        for (int count = _queued.Count; count > 0; count--)
        {
            TcpConnection next = _queued.Dequeue();
            next.IsQueued = false;
            next.Service();
        }
    }

    public void Tick()
    {
        for (LinkedListNode<TcpConnection>? node = _byIdleness.First; node != null;)
        {
            TcpConnection connection = node.Value;
            node = node.Next;
            connection.Tick();
        }
    }

    public void Remove(TcpConnection connection)
    {
        _connections.Remove(connection.Key);
        _byIdleness.Remove(connection.Node);
    }

    /// <summary>A guest's address has become known.</summary>
    public void Resolved(IpAddress address)
    {
        foreach (TcpConnection connection in _byIdleness)
            if (connection.Key.Guest.Address == address) connection.Resolved();
    }

    public void Clear()
    {
        while (_byIdleness.First is { Value: var connection }) connection.Abort();
        Flush();
    }

    void Open(TcpKey key, in TcpHeader syn, MacAddress from)
    {
        int errno = Libc.EConnRefused;
        if (stack.Targets.TryConnect(key.Remote) is { } target)
        {
            Add(key, syn, from, target);
            return;
        }
        if (!stack.Routes.TryFind(key.Remote, isTcp: true, out IpEndpoint to)
            || RelaySocket.Open(RelayKind.Stream, to.Address.IsV4, out errno) is not { } socket)
        {
            Refuse(key, from, syn.Sequence + 1, errno);
            return;
        }
        errno = socket.Connect(to);
        if (errno is not (0 or Libc.EInProgress))
        {
            socket.Dispose();
            Refuse(key, from, syn.Sequence + 1, errno);
            return;
        }
        Add(key, syn, from, socket);
    }

    void Add(TcpKey key, in TcpHeader syn, MacAddress from, RelaySocket socket)
    {
        var connection = new TcpConnection(stack, key, socket, TcpState.Connecting, from, syn.SegmentSize);
        connection.Accept(syn);
        Add(connection);
    }

    void Add(TcpConnection connection)
    {
        if (_connections.Count >= _maxConnections) _byIdleness.First!.Value.Abort();
        _connections.Add(connection.Key, connection);
        _byIdleness.AddLast(connection.Node);
        Queue(connection);
    }

    void Touch(TcpConnection connection)
    {
        if (connection.Node.List == null || connection.Node.Next == null) return;
        _byIdleness.Remove(connection.Node);
        _byIdleness.AddLast(connection.Node);
    }

    static bool IsIntact(in IpPacket packet, in ScatterList segment)
    {
        var checksum = new Checksum();
        checksum.AddPseudoHeader(packet.Source, packet.Destination, IpProtocol.Tcp, (int)segment.Length);
        checksum.Add(segment);
        return checksum.Value == 0;
    }
}
