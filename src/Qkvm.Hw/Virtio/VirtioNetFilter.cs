using System.Buffers.Binary;
using Qkvm.Core.Net;
using Qkvm.Core.State;

namespace Qkvm.Hw.Virtio;

/// <summary>Which frames a virtio network device passes to its driver. Virtio 1.2, sections 5.1.6.5.1 to
/// 5.1.6.5.3.</summary>
/// <remarks>Not changed while frames pass it: who changes it takes a <see cref="Copy"/>.</remarks>
sealed class VirtioNetFilter
{
    const int MacLength = MacAddress.Length, TableEntries = 64, Vlans = 4096;
    const ushort VlanTag = 0x8100;

    readonly byte[] _mac = new byte[MacLength];                    // not migrated: the card's
    readonly byte[] _table = new byte[TableEntries * MacLength];   // unicast entries, then multicast
    readonly byte[] _vlans = new byte[Vlans / 8];
    bool _promiscuous = true;                                      // for drivers that know no control queue
    bool _allMulticast, _allUnicast, _noMulticast, _noUnicast, _noBroadcast;
    bool _unicastOverflow, _multicastOverflow;
    int _unicast, _multicast;

    public VirtioNetFilter() => Array.Fill(_vlans, (byte)0xFF);

    VirtioNetFilter(VirtioNetFilter other)
    {
        other._mac.CopyTo(_mac, 0);
        other._table.CopyTo(_table, 0);
        other._vlans.CopyTo(_vlans, 0);
        (_promiscuous, _allMulticast, _allUnicast) = (other._promiscuous, other._allMulticast, other._allUnicast);
        (_noMulticast, _noUnicast, _noBroadcast) = (other._noMulticast, other._noUnicast, other._noBroadcast);
        (_unicastOverflow, _multicastOverflow) = (other._unicastOverflow, other._multicastOverflow);
        (_unicast, _multicast) = (other._unicast, other._multicast);
    }

    public VirtioNetFilter Copy() => new(this);

    /// <summary>The card's own address.</summary>
    public void SetMac(ReadOnlySpan<byte> mac) => mac.CopyTo(_mac);

    /// <summary>Filtering by VLAN begins with a negotiated CTRL_VLAN: then nothing tagged passes until it was
    /// added.</summary>
    public void SetVlanFiltering(bool on) => Array.Fill(_vlans, on ? (byte)0 : (byte)0xFF);

    /// <summary>VIRTIO_NET_CTRL_RX; false for a command that does not exist.</summary>
    public bool SetMode(byte command, bool on)
    {
        switch (command)
        {
            case 0: _promiscuous = on; return true;
            case 1: _allMulticast = on; return true;
            case 2: _allUnicast = on; return true;
            case 3: _noMulticast = on; return true;
            case 4: _noUnicast = on; return true;
            case 5: _noBroadcast = on; return true;
            default: return false;
        }
    }

    /// <summary>VIRTIO_NET_CTRL_MAC_TABLE_SET: two counted tables; one that does not fit passes everything of its
    /// kind.</summary>
    public void SetTables(ReadOnlySpan<byte> unicast, ReadOnlySpan<byte> multicast)
    {
        _unicastOverflow = unicast.Length > _table.Length;
        _unicast = _unicastOverflow ? 0 : unicast.Length / MacLength;
        if (!_unicastOverflow) unicast.CopyTo(_table);
        _multicastOverflow = multicast.Length > _table.Length - _unicast * MacLength;
        _multicast = _multicastOverflow ? 0 : multicast.Length / MacLength;
        if (!_multicastOverflow) multicast.CopyTo(_table.AsSpan(_unicast * MacLength));
    }

    public bool SetVlan(ushort id, bool pass)
    {
        if (id >= Vlans) return false;
        byte bit = (byte)(1 << (id & 7));
        if (pass) _vlans[id >> 3] |= bit;
        else _vlans[id >> 3] &= (byte)~bit;
        return true;
    }

    /// <param name="frame">At least 14 bytes.</param>
    public bool Passes(ReadOnlySpan<byte> frame)
    {
        if (_promiscuous) return true;
        if (frame.Length >= 16 && BinaryPrimitives.ReadUInt16BigEndian(frame[12..]) == VlanTag)
        {
            int id = BinaryPrimitives.ReadUInt16BigEndian(frame[14..]) & 0xFFF;
            if ((_vlans[id >> 3] & 1 << (id & 7)) == 0) return false;
        }
        ReadOnlySpan<byte> target = frame[..MacLength];
        if ((target[0] & 1) != 0)
        {
            if (target.IndexOfAnyExcept((byte)0xFF) < 0) return !_noBroadcast;
            if (_noMulticast) return false;
            return _allMulticast || _multicastOverflow || IsListed(target, _unicast, _multicast);
        }
        if (_noUnicast) return false;
        return _allUnicast || _unicastOverflow || target.SequenceEqual(_mac) || IsListed(target, 0, _unicast);
    }

    /// <summary>As monitors show it; tables with the last entry first, as in QEMU. Deviation: QEMU's broadcast-allowed
    /// says the opposite.</summary>
    public ReceiveFilter Describe(ReadOnlySpan<byte> mac, bool filtersVlans)
    {
        int[] vlans = [.. Enumerable.Range(0, Vlans).Reverse().Where(id => (_vlans[id >> 3] & 1 << (id & 7)) != 0)];
        return new(_promiscuous, State(_noMulticast, _allMulticast), State(_noUnicast, _allUnicast),
            State(vlans.Length == 0, !filtersVlans), !_noBroadcast, _multicastOverflow, _unicastOverflow,
            MacAddress.Format(mac), vlans, Entries(0, _unicast), Entries(_unicast, _multicast));

        static FilterState State(bool none, bool all) =>
            none ? FilterState.None : all ? FilterState.All : FilterState.Normal;

        string[] Entries(int first, int count) => [.. Enumerable.Range(first, count).Reverse()
            .Select(i => MacAddress.Format(_table.AsSpan(i * MacLength, MacLength)))];
    }

    public void Exchange(StateStream state)
    {
        state.Block("mac-table", _table);
        state.Block("vlans", _vlans);
        state.Field("promiscuous", ref _promiscuous);
        state.Field("all-multicast", ref _allMulticast);
        state.Field("all-unicast", ref _allUnicast);
        state.Field("no-multicast", ref _noMulticast);
        state.Field("no-unicast", ref _noUnicast);
        state.Field("no-broadcast", ref _noBroadcast);
        state.Field("unicast-overflow", ref _unicastOverflow);
        state.Field("multicast-overflow", ref _multicastOverflow);
        state.Field("unicast-entries", ref _unicast);
        state.Field("multicast-entries", ref _multicast);
        if (_unicast < 0 || _multicast < 0 || _unicast > TableEntries || _multicast > TableEntries - _unicast)
            throw new InvalidStateException($"virtio-net: {_unicast} + {_multicast} addresses");
    }

    bool IsListed(ReadOnlySpan<byte> target, int first, int count)
    {
        for (int i = first; i < first + count; i++)
            if (target.SequenceEqual(_table.AsSpan(i * MacLength, MacLength))) return true;
        return false;
    }
}
