using System.Buffers;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Net.User;

/// <summary>Puts fragments of the guest's packets together. RFC 791, section 3.2; RFC 8200, section 4.5; overlaps end
/// a packet, as RFC 5722 asks.</summary>
sealed class Fragments(UserStack stack)
{
    const int MaxPackets = 16, MaxPacket = 65535, MaxPieces = 128, Patience = 30_000;

    sealed class Packet(long expires)
    {
        public readonly byte[] Data = ArrayPool<byte>.Shared.Rent(MaxPacket);
        public readonly List<(int From, int To)> Pieces = [];
        public readonly long Expires = expires;
        public int Received;
        public int Length = -1;                                    // not known before the last fragment
    }

    readonly record struct Key(IpAddress Source, IpAddress Destination, uint Identification, IpProtocol Protocol);

    readonly Dictionary<Key, Packet> _packets = [];

    public int Count => _packets.Count;

    public void Input(in IpPacket fragment, ReadOnlySpan<byte> data, MacAddress from)
    {
        // RFC 8200: the upper protocol of later fragments is the first one's.
        var key = new Key(fragment.Source, fragment.Destination, fragment.Identification, fragment.Protocol);
        int start = fragment.FragmentOffset, end = start + data.Length;
        bool isLast = !fragment.HasMoreFragments;
        if (end > MaxPacket || data.Length == 0 || (!isLast && data.Length % 8 != 0)) { Drop(key); return; }
        if (!_packets.TryGetValue(key, out Packet? packet))
        {
            if (_packets.Count >= MaxPackets) Drop(_packets.MinBy(p => p.Value.Expires).Key);
            _packets[key] = packet = new Packet(stack.Now + Patience);
            stack.NeedClock();
        }
        if (packet.Pieces.Contains((start, end))) return;          // the same again
        bool overlaps = packet.Pieces.Exists(p => start < p.To && p.From < end);
        bool contradicts = packet.Length >= 0 && (isLast || end > packet.Length)
            || isLast && packet.Pieces.Exists(p => p.To > end);
        if (overlaps || contradicts || packet.Pieces.Count >= MaxPieces) { Drop(key); return; }
        data.CopyTo(packet.Data.AsSpan(start));
        packet.Pieces.Add((start, end));
        packet.Received += data.Length;
        if (isLast) packet.Length = end;
        if (packet.Received != packet.Length) return;
        _packets.Remove(key);
        stack.Input(fragment, packet.Data.AsSpan(0, packet.Length), from, isChecked: false);
        ArrayPool<byte>.Shared.Return(packet.Data);
    }

    public void Tick()
    {
        foreach ((Key key, Packet packet) in _packets)
            if (stack.Now >= packet.Expires) { Drop(key); return; } // the others next time
    }

    void Drop(Key key)
    {
        if (_packets.Remove(key, out Packet? packet)) ArrayPool<byte>.Shared.Return(packet.Data);
    }
}
