using System.Buffers.Binary;
using Qkvm.Core.Net;
using Qkvm.Core.State;

namespace Qkvm.Hw.Virtio;

/// <summary>A received frame's hash and what it was made of. Virtio 1.2, section 5.1.6.4.3.</summary>
/// <param name="Report">VIRTIO_NET_HASH_REPORT_*; 0: no hash.</param>
readonly record struct FlowHash(uint Value, ushort Report);

/// <summary>Which hash received frames get, and which queue that leads them to. Virtio 1.2, sections 5.1.6.4.3 and
/// 5.1.6.5.7.1.</summary>
/// <remarks>Immutable, and so usable from any thread. Deviation: QEMU takes packets without extension headers for such
/// with, where a driver allows both; here the specification rules.</remarks>
sealed class VirtioNetSteering
{
    public const int MostKey = 40, MostEntries = 128;

    // hash_types; a report is the number of the bit and one
    const uint Ip4 = 1, Tcp4 = 2, Udp4 = 4, Ip6 = 8, Tcp6 = 0x10, Udp6 = 0x20, Ip6Ex = 0x40, Tcp6Ex = 0x80,
        Udp6Ex = 0x100;
    public const uint SupportedTypes = 0x1FF;

    const int Ports = 4, Ip4Addresses = 8, Ip6Addresses = 32;

    readonly uint _types;
    readonly bool _steers;
    readonly ushort _unclassified;
    readonly ushort[] _table;
    readonly byte[] _key;
    readonly ToeplitzHash _hash;

    VirtioNetSteering(uint types, bool steers, ushort unclassified, ushort[] table, byte[] key)
    {
        (_types, _steers, _unclassified, _table, _key) = (types, steers, unclassified, table, key);
        _hash = new ToeplitzHash(key);
    }

    /// <summary>Reads struct virtio_net_rss_config, or virtio_net_hash_config, which has no table.</summary>
    /// <param name="queues">That there are for receiving.</param>
    /// <param name="pairs">max_tx_vq; 0 in a hash configuration.</param>
    /// <returns>Null where the driver's numbers are wrong.</returns>
    public static VirtioNetSteering? Read(ReadOnlySpan<byte> data, bool steers, int queues, out int pairs)
    {
        const int TableStart = 8;
        pairs = 0;
        if (data.Length < TableStart) return null;
        uint types = BinaryPrimitives.ReadUInt32LittleEndian(data);
        int entries = steers ? BinaryPrimitives.ReadUInt16LittleEndian(data[4..]) + 1 : 1;
        ushort unclassified = steers ? BinaryPrimitives.ReadUInt16LittleEndian(data[6..]) : (ushort)0;
        int keyAt = TableStart + (steers ? 2 * entries + 2 : 4);   // a hash configuration has four words reserved
        if ((types & ~SupportedTypes) != 0 || entries > MostEntries || !int.IsPow2(entries)
            || unclassified >= queues || data.Length <= keyAt) return null;
        var table = new ushort[entries];
        for (int i = 0; steers && i < entries; i++)
        {
            table[i] = BinaryPrimitives.ReadUInt16LittleEndian(data[(TableStart + 2 * i)..]);
            if (table[i] >= queues) return null;
        }
        if (steers) pairs = BinaryPrimitives.ReadUInt16LittleEndian(data[(keyAt - 2)..]);
        int keyLength = data[keyAt];
        if (keyLength > MostKey || data.Length < keyAt + 1 + keyLength) return null;
        return new(types, steers, unclassified, table, data.Slice(keyAt + 1, keyLength).ToArray());
    }

    /// <summary>Something is hashed: without it frames go where their backend puts them, as in QEMU.</summary>
    public bool IsUseful => _types != 0;

    /// <summary>Else frames only get their hash.</summary>
    public bool Steers => _steers;

    public int QueueOf(FlowHash flow) =>
        flow.Report == 0 ? _unclassified : _table[flow.Value & (uint)(_table.Length - 1)];

    public FlowHash HashOf(ReadOnlySpan<byte> frame)
    {
        FrameLayout layout = FrameLayout.Of(frame);
        if (layout.Network == 0) return default;
        Span<byte> input = stackalloc byte[ToeplitzHash.LongestInput];
        layout.IpAddresses(frame).CopyTo(input);
        if (!layout.IsIp6)
        {
            return Finish(input, Ip4Addresses, frame, layout.Transport, layout.Protocol, layout.End, Tcp4, Udp4, Ip4);
        }
        Ip6Extensions more = Ip6Extensions.Of(frame, layout);
        if (more.Any)
        {
            Span<byte> real = stackalloc byte[ToeplitzHash.LongestInput];
            input.CopyTo(real);
            if (more.HomeAddress > 0) frame.Slice(more.HomeAddress, Ip6Addresses / 2).CopyTo(real);
            if (more.FinalTarget > 0)
                frame.Slice(more.FinalTarget, Ip6Addresses / 2).CopyTo(real[(Ip6Addresses / 2)..]);
            FlowHash flow = Finish(real, Ip6Addresses, frame, more.Transport, more.Protocol, layout.End,
                Tcp6Ex, Udp6Ex, Ip6Ex);
            if (flow.Report != 0) return flow;
        }
        return Finish(input, Ip6Addresses, frame, more.Transport, more.Protocol, layout.End, Tcp6, Udp6, Ip6);
    }

    /// <summary>The most that the driver allows of these: ports of TCP, of UDP, addresses alone.</summary>
    FlowHash Finish(Span<byte> input, int addresses, ReadOnlySpan<byte> frame, int transport, byte protocol, int end,
        uint tcp, uint udp, uint ip)
    {
        uint type = protocol switch { FrameLayout.Tcp => tcp, FrameLayout.Udp => udp, _ => 0 } & _types;
        if (type != 0 && transport != 0 && transport + Ports <= end)
        {
            frame.Slice(transport, Ports).CopyTo(input[addresses..]);
            addresses += Ports;
        }
        else type = ip & _types;
        if (type == 0) return default;
        return new FlowHash(_hash.Of(input[..addresses]), (ushort)(uint.TrailingZeroCount(type) + 1));
    }

    /// <param name="steering">Null, saved as no types.</param>
    /// <param name="queues">That there are for receiving.</param>
    public static void Exchange(StateStream state, ref VirtioNetSteering? steering, int queues)
    {
        uint types = steering?._types ?? 0;
        bool steers = steering?._steers ?? false;
        ushort unclassified = steering?._unclassified ?? 0;
        int entries = steering?._table.Length ?? 1, keyLength = steering?._key.Length ?? 0;
        var table = new byte[2 * MostEntries];
        var key = new byte[MostKey];
        for (int i = 0; i < steering?._table.Length; i++)
            BinaryPrimitives.WriteUInt16LittleEndian(table.AsSpan(2 * i), steering._table[i]);
        steering?._key.CopyTo(key, 0);
        state.Field("types", ref types);
        state.Field("steers", ref steers);
        state.Field("unclassified", ref unclassified);
        state.Field("entries", ref entries);
        state.Block("table", table);
        state.Field("key-length", ref keyLength);
        state.Block("key", key);
        if (!state.IsLoading) return;
        if ((types & ~SupportedTypes) != 0 || entries is < 1 or > MostEntries || !int.IsPow2(entries)
            || keyLength is < 0 or > MostKey || unclassified >= queues)
            throw state.Refuse("types", "impossible steering");
        var indices = new ushort[entries];
        for (int i = 0; i < entries; i++)
        {
            indices[i] = BinaryPrimitives.ReadUInt16LittleEndian(table.AsSpan(2 * i));
            if (indices[i] >= queues) throw state.Refuse("table", $"queue {indices[i]} of {queues}");
        }
        steering = types == 0 ? null : new(types, steers, unclassified, indices, key[..keyLength]);
    }
}
