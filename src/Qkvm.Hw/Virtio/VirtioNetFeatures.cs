using Qkvm.Core.Net;

namespace Qkvm.Hw.Virtio;

/// <summary>Feature bits of a network device, and what they say about frames. Virtio 1.2, section 5.1.3.</summary>
static class VirtioNetFeatures
{
    public const ulong Csum = 1 << 0, GuestCsum = 1 << 1, CtrlGuestOffloads = 1 << 2, Mtu = 1 << 3, Mac = 1 << 5,
        Gso = 1 << 6, GuestTso4 = 1 << 7, GuestTso6 = 1 << 8, GuestEcn = 1 << 9, HostTso4 = 1 << 11,
        HostTso6 = 1 << 12, HostEcn = 1 << 13, MrgRxBuf = 1 << 15, Status = 1 << 16, CtrlVq = 1 << 17,
        CtrlRx = 1 << 18, CtrlVlan = 1 << 19, CtrlRxExtra = 1 << 20, GuestAnnounce = 1 << 21, Mq = 1 << 22,
        CtrlMacAddr = 1 << 23, GuestUso4 = 1UL << 54, GuestUso6 = 1UL << 55, HostUso = 1UL << 56,
        HashReport = 1UL << 57, Rss = 1UL << 60, SpeedDuplex = 1UL << 63;

    /// <summary>What a backend's peer that serves rings by itself must know; all else is done here. Hashes and offloads
    /// that change are known to no such peer.</summary>
    public const ulong OfVhost = Csum | GuestCsum | Gso | GuestTso4 | GuestTso6 | GuestEcn | GuestUso4 | GuestUso6
        | HostTso4 | HostTso6 | HostEcn | HostUso | MrgRxBuf;
    public const ulong NotOfVhost = CtrlGuestOffloads | HashReport | Rss;

    /// <summary>With either there are several pairs of queues, 5.1.2.</summary>
    public const ulong Pairs = Mq | Rss;

    /// <summary>What CTRL_GUEST_OFFLOADS may change, 5.1.6.5.7.</summary>
    public const ulong GuestOffloads = GuestCsum | GuestTso4 | GuestTso6 | GuestEcn | GuestUso4 | GuestUso6;

    /// <summary>The properties that switch features off, all on at first.</summary>
    public static readonly (string Property, ulong Bit)[] Switches =
    [
        ("csum", Csum), ("guest_csum", GuestCsum), ("gso", Gso), ("guest_tso4", GuestTso4), ("guest_tso6", GuestTso6),
        ("guest_ecn", GuestEcn), ("guest_uso4", GuestUso4), ("guest_uso6", GuestUso6), ("host_tso4", HostTso4),
        ("host_tso6", HostTso6), ("host_ecn", HostEcn), ("host_uso", HostUso), ("mrg_rxbuf", MrgRxBuf),
        ("status", Status), ("ctrl_vq", CtrlVq), ("ctrl_rx", CtrlRx), ("ctrl_vlan", CtrlVlan),
        ("ctrl_rx_extra", CtrlRxExtra), ("ctrl_mac_addr", CtrlMacAddr), ("ctrl_guest_offloads", CtrlGuestOffloads),
        ("guest_announce", GuestAnnounce),
    ];

    /// <summary>All of <see cref="Switches"/>.</summary>
    public const ulong Default = Csum | GuestCsum | Gso | GuestTso4 | GuestTso6 | GuestEcn | GuestUso4 | GuestUso6
        | HostTso4 | HostTso6 | HostEcn | HostUso | MrgRxBuf | Status | CtrlVq | CtrlRx | CtrlVlan | CtrlRxExtra
        | CtrlMacAddr | CtrlGuestOffloads | GuestAnnounce;

    // Features and what the backend must be able to.
    static readonly (ulong Bit, NetOffloads Needs)[] ByTaking =
    [
        (Csum, NetOffloads.Checksum), (Gso, NetOffloads.Tso4), (HostTso4, NetOffloads.Tso4),
        (HostTso6, NetOffloads.Tso6), (HostEcn, NetOffloads.TsoEcn), (HostUso, NetOffloads.Uso),
    ];
    static readonly (ulong Bit, NetOffloads Needs)[] ByGiving =
    [
        (GuestCsum, NetOffloads.Checksum), (GuestTso4, NetOffloads.Tso4), (GuestTso6, NetOffloads.Tso6),
        (GuestEcn, NetOffloads.TsoEcn), (GuestUso4, NetOffloads.Uso), (GuestUso6, NetOffloads.Uso),
    ];

    // Features that need another, or one of several: 5.1.3.1.
    static readonly (ulong Bits, ulong Need)[] Dependencies =
    [
        (Gso | HostTso4 | HostTso6 | HostUso, Csum), (HostEcn, HostTso4 | HostTso6),
        (GuestTso4 | GuestTso6 | GuestUso4 | GuestUso6, GuestCsum), (GuestEcn, GuestTso4 | GuestTso6),
        (CtrlRx | CtrlVlan | CtrlRxExtra | GuestAnnounce | Mq | CtrlMacAddr | CtrlGuestOffloads | HashReport | Rss,
            CtrlVq),
        (GuestAnnounce, Status), (CtrlRxExtra, CtrlRx),
    ];

    /// <summary>Those of the wanted ones that a backend makes possible and whose conditions hold.</summary>
    public static ulong Possible(ulong wanted, NetOffloads takes, NetOffloads gives)
    {
        foreach (var (bit, needs) in ByTaking)
            if ((takes & needs) == 0) wanted &= ~bit;
        foreach (var (bit, needs) in ByGiving)
            if ((gives & needs) == 0) wanted &= ~bit;
        foreach (var (bits, need) in Dependencies)
            if ((wanted & need) == 0) wanted &= ~bits;
        if ((wanted & GuestOffloads) == 0) wanted &= ~CtrlGuestOffloads;
        return wanted;
    }

    /// <summary>What a driver with these features leaves undone in frames that it sends.</summary>
    public static NetOffloads Sending(ulong features) => Of(ByTaking, features)
        | ((features & Gso) != 0 ? NetOffloads.Tso6 | NetOffloads.TsoEcn : 0);

    /// <summary>What it lets be left undone in frames for it.</summary>
    /// <remarks>UDP must be possible over both IPs, since backends know it as one.</remarks>
    public static NetOffloads Receiving(ulong features) => Of(ByGiving,
        (features & GuestUso4) != 0 && (features & GuestUso6) != 0 ? features : features & ~(GuestUso4 | GuestUso6));

    static NetOffloads Of((ulong Bit, NetOffloads Means)[] table, ulong features)
    {
        NetOffloads all = NetOffloads.None;
        foreach (var (bit, means) in table)
            if ((features & bit) != 0) all |= means;
        return all;
    }
}
