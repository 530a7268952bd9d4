using System.Text.RegularExpressions;

namespace Qkvm.Guest.Tests.Network;

/// <summary>Guests on a bridge of the host, by the scripts that come with the program.</summary>
public sealed class TapNetworkTests
{
    static readonly string[] s_cards = ["virtio-net-pci", "e1000", "e1000e", "rtl8139"];

    [TapFact]
    public void Every_card_has_its_lease_and_carries_all_kinds_of_traffic()
    {
        using NetworkNamespace place = MakeBridge();
        string[] networks = [.. s_cards.SelectMany((card, i) => (string[])["-netdev", $"tap,id=vnet{i}",
            "-device", $"{card},netdev=vnet{i},mac=52:54:00:00:00:0{i}"])];
        using NetworkGuest guest = NetworkGuest.Start(place, networks);
        string[] taps = Ports(place);
        Assert.Equal(s_cards.Length, taps.Length);
        foreach (string tap in taps) place.Run($"ip link set {tap} mtu 9000");
        place.Run("ip link set br0 mtu 9000");
        for (int i = 0; i < s_cards.Length; i++) Use(guest, place, i);
        guest.PowerOff();
        Assert.Empty(Ports(place));
        Assert.DoesNotContain("tap", place.Run("ip -o link"), StringComparison.Ordinal);
        foreach (string tap in taps)
        {
            Assert.Contains($"qemu-ifup {tap}\n", place.Log, StringComparison.Ordinal);
            Assert.Contains($"qemu-ifdown {tap}\n", place.Log, StringComparison.Ordinal);
        }
    }

    /// <summary>One card after the other, alone on the network.</summary>
    static void Use(NetworkGuest guest, NetworkNamespace place, int card)
    {
        string eth = NameOf(guest, card);
        guest.Run($"ip link set {eth} up");
        string lease = guest.Run($"udhcpc -i {eth} -n -q -f -t 10 -T 2 -s /bin/true 2>&1");
        string address = Regex.Match(lease, @"lease of (10\.9\.\d+\.\d+) obtained").Groups[1].Value;
        Assert.True(address != "", lease);
        guest.Run($"ip address add {address}/16 dev {eth}; ping -c 2 -i 0.1 -W 5 10.9.0.1");
        foreach (string direction in (string[])["", "-R"])
            Assert.Matches(@"[1-9]\S* Mbits/sec +receiver", guest.Run($"iperf3 -c 10.9.0.1 -n 32M -f m {direction}"));

        // By router advertisement; nobody sends from an address before it has been found to be free.
        guest.Run($"while ! ip -6 address show dev {eth} | grep fd09: | grep -qv tentative; do sleep 0.1; done; "
            + "ping6 -c 2 -i 0.1 -W 5 fd09::1");

        if (card > 0) guest.Run($"{Tag(eth, 2)}; ping -c 2 -i 0.1 -s 1472 -W 5 10.8.0.1 && ip link delete tagged");

        // rtl8139's descriptors have room for half as much.
        int mtu = s_cards[card] == "rtl8139" ? 4096 : 9000;
        string carrier = $"while ! grep -q 1 /sys/class/net/{eth}/carrier; do sleep 0.1; done"; // after a reset
        guest.Run($"ip link set {eth} mtu {mtu}; {carrier}");
        long pieces = Fragments();
        guest.Run($"ping -c 2 -i 0.1 -s {mtu - 28} -W 5 10.9.0.1");
        place.Run($"ping -c 2 -i 0.1 -M do -s {mtu - 28} -W 5 {address}");
        Assert.Equal(pieces, Fragments());
        guest.Run($"ip link set {eth} down");
        if (card == 0) MoveAway(guest, eth);

        long Fragments() => long.Parse(guest.Run("grep Ip: /proc/net/snmp | tail -n 1").Trim().Split(' ')[^1]);
    }

    /// <summary>The first card gets a network stack of its own in the guest, and a VLAN.</summary>
    static void MoveAway(NetworkGuest guest, string eth) =>
        guest.Run("unshare -n sleep 999 & peer=$!; "
            + "while [ $(readlink /proc/$peer/ns/net) = $(readlink /proc/self/ns/net) ]; do sleep 0.1; done; "
            + $"ip link set dev {eth} netns $peer; nsenter -t $peer -n sh -c '{Tag(eth, 1)}'");

    static string Tag(string eth, int host) =>
        $"ip link set {eth} up; ip link add link {eth} name tagged type vlan id 5; "
        + $"ip link set tagged up; ip address add 10.8.0.{host}/24 dev tagged";

    static string NameOf(NetworkGuest guest, int card) =>
        guest.Run($"basename $(dirname $(grep -l 52:54:00:00:00:0{card} /sys/class/net/*/address))").Trim();

    [TapFact]
    public void A_guest_of_four_processors_sends_and_receives_by_four_queues()
    {
        using NetworkNamespace place = MakeBridge();
        using NetworkGuest guest = NetworkGuest.Start(place, "-smp", "4", "-netdev", "tap,id=vnet0,queues=4", "-device",
            "virtio-net-pci,netdev=vnet0,mq=on,vectors=10");
        guest.Run("ip link set eth0 up; ip address add 10.9.0.2/16 dev eth0; ethtool -L eth0 combined 4; "
            + "ping -c 1 -W 5 10.9.0.1");
        foreach (string direction in (string[])["", "-R"])
            guest.Run($"iperf3 -c 10.9.0.1 -t 1 -P 8 {direction} | grep SUM.*receiver");
        string queues = guest.Run("ethtool -S eth0");
        foreach (string counter in (string[])["rx_queue_{0}_packets", "tx_queue_{0}_packets"])
            for (int i = 0; i < 4; i++)
                Assert.Matches($"{string.Format(counter, i)}: [1-9]", queues);
        guest.PowerOff();
        Assert.Empty(Ports(place));
    }

    static NetworkNamespace MakeBridge()
    {
        var place = new NetworkNamespace();
        place.InstallScripts();
        place.Run("ip link add br0 type bridge && ip address add 10.9.0.1/16 dev br0 && ip link set br0 up && "
            + "ip -6 address add fd09::1/64 dev br0 nodad");
        place.Serve("dnsmasq", "-d", "--no-ping", "-C", "/dev/null", "-i", "br0", "-p", "0",
            "--dhcp-range=10.9.1.1,10.9.1.99", "--dhcp-range=fd09::,ra-only", "--dhcp-leasefile=/dev/null",
            "--log-facility=-");
        place.Serve("iperf3", "-s");
        return place;
    }

    static string[] Ports(NetworkNamespace place) =>
        [.. Regex.Matches(place.Run("ip -o link show master br0"), @"^\d+: (\w+):", RegexOptions.Multiline)
            .Select(match => match.Groups[1].Value)];
}
