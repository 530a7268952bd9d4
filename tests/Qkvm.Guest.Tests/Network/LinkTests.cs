namespace Qkvm.Guest.Tests.Network;

/// <summary>Two machines, one of them perhaps QEMU, ping each other by all kinds of cables.</summary>
public sealed class LinkTests
{
    const int Links = 7;

    [NetworkFact]
    public void Two_machines_are_cabled_together_and_tshark_reads_what_passed()
    {
        using NetworkNamespace place = MakePlace();
        string dump = place["dump.pcap"];
        using NetworkGuest first = NetworkGuest.Start(place, [.. Cables(place, true), "-object",
            $"filter-dump,id=f,netdev=n0,file={dump}"]);
        using NetworkGuest second = NetworkGuest.Start(place, Cables(place, false));
        Ping(first, second);
        first.PowerOff();
        second.PowerOff();
        if (Surroundings.Without("tshark", "tshark") != null) return;
        Assert.Equal(4, Lines(place, dump, "icmp"));
        Assert.Equal(0, Lines(place, dump, "_ws.malformed or icmp.checksum.status == 0 or ip.checksum.status == 0"));
    }

    [QemuFact]
    public void QEMU_connects_to_us() => WithQemu(weListen: true);

    [QemuFact]
    public void We_connect_to_QEMU() => WithQemu(weListen: false);

    static void WithQemu(bool weListen)
    {
        using NetworkNamespace place = MakePlace();
        string[] emulators = weListen ? [Surroundings.Program, Surroundings.Qemu]
            : [Surroundings.Qemu, Surroundings.Program];
        using NetworkGuest first = NetworkGuest.StartOther(place, emulators[0], Cables(place, true));
        using NetworkGuest second = NetworkGuest.StartOther(place, emulators[1], Cables(place, false));
        Ping(first, second);
    }

    static int Lines(NetworkNamespace place, string dump, string filter) =>
        place.Run($"tshark -o ip.check_checksum:TRUE -r {dump} -Y '{filter}' 2>/dev/null").Count(c => c == '\n');

    static NetworkNamespace MakePlace()
    {
        var place = new NetworkNamespace();
        place.Run("ip route add 224.0.0.0/4 dev lo");
        return place;
    }

    /// <summary>One end of each kind of cable, with a card.</summary>
    static string[] Cables(NetworkNamespace place, bool isFirst)
    {
        (int mine, int other) = isFirst ? (0, 1) : (1, 0);
        string server = isFirst ? "on" : "off";
        string[] kinds =
        [
            $"socket,{(isFirst ? "listen" : "connect")}=127.0.0.1:1000",
            $"stream,server={server},addr.type=inet,addr.host=127.0.0.1,addr.port=1001",
            $"stream,server={server},addr.type=unix,addr.path={place["stream"]}",
            $"dgram,local.type=unix,local.path={place[$"end{mine}"]},remote.type=unix,"
                + $"remote.path={place[$"end{other}"]}",
            $"dgram,local.type=inet,local.host=127.0.0.1,local.port=110{mine},remote.type=inet,remote.host=127.0.0.1,"
                + $"remote.port=110{other}",
            "socket,mcast=230.0.0.1:1005",
            $"socket,udp=127.0.0.1:120{other},localaddr=127.0.0.1:120{mine}",
        ];
        return [.. kinds.SelectMany((kind, i) => (string[])["-netdev", $"{kind},id=n{i}", "-device",
            $"virtio-net-pci,netdev=n{i},romfile=,mac=52:54:00:00:0{mine}:0{i}"])];
    }

    static void Ping(NetworkGuest first, NetworkGuest second)
    {
        foreach (var (guest, host) in (IEnumerable<(NetworkGuest, int)>)[(first, 1), (second, 2)])
            guest.Run("for at in /sys/class/net/eth*; do i=$(cut -d: -f6 $at/address); ip link set ${at##*/} up; "
                + $"ip address add 10.7.$((i)).{host}/24 dev ${{at##*/}}; done");
        for (int i = 0; i < Links; i++)
        {
            first.Run($"ping -c 1 -W 10 10.7.{i}.2");
            second.Run($"ping -c 1 -W 10 10.7.{i}.1");
        }
    }
}
