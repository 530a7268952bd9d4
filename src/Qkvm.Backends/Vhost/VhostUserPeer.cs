using System.Buffers.Binary;
using Qkvm.Core.Virtio;
using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Vhost;

/// <summary>One back-end at the other end of a connection: what it can do, and the rings that it serves.</summary>
/// <remarks>All of it waits for the peer; one thread at a time.</remarks>
sealed class VhostUserPeer : IDisposable
{
    const ulong ProtocolFeatures = 1UL << 30;                      // VHOST_USER_F_PROTOCOL_FEATURES
    const VhostUserProtocol Known = VhostUserProtocol.Mq | VhostUserProtocol.ReplyAck;

    /// <summary>Of devices whose configuration the peer keeps.</summary>
    const VhostUserProtocol Configuring = VhostUserProtocol.Config | VhostUserProtocol.BackendReq;

    // Rings are named by addresses of the front-end's process. Here these are the guest's, moved out of the way of
    // null: no peer learns where we are.
    const ulong FrontEnd = 1UL << 46;

    const int ConfigHeader = 12;                                   // struct vhost_user_config: offset, size, flags

    readonly VhostUserChannel _channel;
    readonly ulong _features;
    readonly int _configSize;
    readonly HashSet<int> _serving = [];

    /// <summary>Negotiates.</summary>
    /// <param name="configSize">Of the structure that it must keep; 0 where it need not.</param>
    /// <exception cref="VhostUserException">The peer fails.</exception>
    public VhostUserPeer(StreamSocket socket, int configSize = 0)
    {
        _channel = new VhostUserChannel(socket);
        _configSize = configSize;
        try
        {
            _features = _channel.Ask(VhostUserRequest.GetFeatures);
            VhostUserProtocol protocol = VhostUserProtocol.None;
            if (HasProtocol)
            {
                protocol = (VhostUserProtocol)_channel.Ask(VhostUserRequest.GetProtocolFeatures)
                    & (configSize > 0 ? Known | Configuring : Known);
                _channel.Tell(VhostUserRequest.SetProtocolFeatures, (ulong)protocol);
                if ((protocol & VhostUserProtocol.Mq) != 0)
                    MaxQueues = (int)Math.Min(_channel.Ask(VhostUserRequest.GetQueueNum), int.MaxValue);
            }
            _channel.Tell(VhostUserRequest.SetOwner, []);
            _channel.Acknowledges = (protocol & VhostUserProtocol.ReplyAck) != 0;
            if (configSize == 0) return;
            if ((protocol & VhostUserProtocol.Config) == 0)
                throw new VhostUserException("the peer does not tell of the device's configuration");
            Config = GetConfig();
            if ((protocol & VhostUserProtocol.BackendReq) != 0) OpenNotices();
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public ulong Features => _features & ~ProtocolFeatures;

    /// <summary>Or pairs of them, of a network; null: it does not say.</summary>
    public int? MaxQueues { get; }

    /// <summary>The device's configuration structure at first.</summary>
    public byte[] Config { get; } = [];

    public int Fd => _channel.Fd;

    /// <summary>By which it says that the configuration changed; null where it cannot.</summary>
    public VhostUserNotices? Notices { get; private set; }

    /// <summary>It has failed, and is asked nothing more.</summary>
    public bool IsDead { get; set; }

    bool HasProtocol => (_features & ProtocolFeatures) != 0;

    public void Start(ulong features, IReadOnlyList<VhostRegion> memory)
    {
        _channel.Tell(VhostUserRequest.SetFeatures, features & Features | _features & ProtocolFeatures);
        SetMemory(memory);
    }

    public void SetMemory(IReadOnlyList<VhostRegion> memory)
    {
        const int count = 8, entry = 32;
        var table = new byte[count + entry * memory.Count];
        BinaryPrimitives.WriteInt32LittleEndian(table, memory.Count);
        for (int i = 0; i < memory.Count; i++)
        {
            Span<byte> region = table.AsSpan(count + entry * i);
            BinaryPrimitives.WriteUInt64LittleEndian(region, memory[i].Address);
            BinaryPrimitives.WriteUInt64LittleEndian(region[8..], memory[i].Size);
            BinaryPrimitives.WriteUInt64LittleEndian(region[16..], FrontEnd + memory[i].Address);
            BinaryPrimitives.WriteUInt64LittleEndian(region[24..], memory[i].Offset);
        }
        _channel.Tell(VhostUserRequest.SetMemTable, table, [.. memory.Select(region => region.File!.Fd)]);
    }

    public void StartRing(VhostRing ring, uint position, bool isEnabled)
    {
        _channel.Tell(VhostUserRequest.SetVringNum, ring.Index, (uint)ring.Size);
        _channel.Tell(VhostUserRequest.SetVringBase, ring.Index, position);
        Span<byte> address = stackalloc byte[40];                  // struct vhost_vring_addr
        address.Clear();
        BinaryPrimitives.WriteInt32LittleEndian(address, ring.Index);
        BinaryPrimitives.WriteUInt64LittleEndian(address[8..], FrontEnd + ring.Descriptors);
        BinaryPrimitives.WriteUInt64LittleEndian(address[16..], FrontEnd + ring.DeviceArea);
        BinaryPrimitives.WriteUInt64LittleEndian(address[24..], FrontEnd + ring.DriverArea);
        _channel.Tell(VhostUserRequest.SetVringAddr, address);
        _channel.Tell(VhostUserRequest.SetVringCall, ring.Index, ring.Call);
        _channel.Tell(VhostUserRequest.SetVringKick, ring.Index, ring.Kick);
        _serving.Add(ring.Index);
        Enable(ring.Index, isEnabled);
    }

    /// <summary>Without protocol features all rings are, always.</summary>
    public void Enable(int ring, bool isEnabled)
    {
        if (HasProtocol) _channel.Tell(VhostUserRequest.SetVringEnable, ring, isEnabled ? 1u : 0);
    }

    /// <summary>The peer uses the ring no more.</summary>
    public void StopRing(int ring)
    {
        if (!_serving.Remove(ring)) return;
        Span<byte> payload = stackalloc byte[sizeof(ulong)];
        BinaryPrimitives.WriteUInt64LittleEndian(payload, (uint)ring);
        _channel.Ask(VhostUserRequest.GetVringBase, payload);
    }

    public byte[] GetConfig()
    {
        Span<byte> question = stackalloc byte[ConfigHeader + _configSize];
        question.Clear();
        BinaryPrimitives.WriteInt32LittleEndian(question[4..], _configSize);
        return _channel.Ask(VhostUserRequest.GetConfig, question, question.Length)[ConfigHeader..].ToArray();
    }

    /// <param name="offset">In the structure, which the data are a part of.</param>
    public void SetConfig(int offset, ReadOnlySpan<byte> data)
    {
        Span<byte> payload = stackalloc byte[ConfigHeader + data.Length];
        payload.Clear();
        BinaryPrimitives.WriteInt32LittleEndian(payload, offset);
        BinaryPrimitives.WriteInt32LittleEndian(payload[4..], data.Length);
        data.CopyTo(payload[ConfigHeader..]);
        _channel.Tell(VhostUserRequest.SetConfig, payload);
    }

    public void Dispose()
    {
        _channel.Dispose();
        Notices?.Dispose();
    }

    void OpenNotices()
    {
        (StreamSocket ours, int theirs) = StreamSocket.InheritablePair();
        Notices = new VhostUserNotices(ours);
        try { _channel.Tell(VhostUserRequest.SetBackendReqFd, [], [theirs]); }
        finally { Libc.close(theirs); }
    }
}
