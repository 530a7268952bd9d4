namespace Qkvm.Guest.Tests.Network;

/// <summary>Guests on the user network, in a network without a way out whose servers are inside.</summary>
public sealed class UserNetworkTests
{
    const string HostAddress = "192.0.2.1", HostAddress6 = "fd02::1";

    [NetworkFact]
    public void A_guest_has_names_downloads_pings_and_IPv6_and_is_reached_by_ssh()
    {
        using NetworkNamespace place = MakeHost();
        using var web = new WebServer(place.Listen(80));
        using NetworkGuest guest = NetworkGuest.Start(place, "-nic",
            "user,model=virtio-net-pci,hostname=guest7,domainname=example.test,hostfwd=tcp:127.0.0.1:2222-:22");

        // What DHCP says.
        guest.Run("echo 'echo $1 $ip $subnet $router $dns $hostname $domain' >/tmp/said; chmod +x /tmp/said");
        guest.Run("ip link set eth0 up");
        Assert.Contains("bound 10.0.2.15 255.255.255.0 10.0.2.2 10.0.2.3 guest7 example.test",
            guest.Run("udhcpc -i eth0 -n -q -f -t 10 -T 2 -s /tmp/said"), StringComparison.Ordinal);
        guest.Run("ip address add 10.0.2.15/24 dev eth0; ip route add default via 10.0.2.2; "
            + "echo nameserver 10.0.2.3 >/etc/resolv.conf");

        Assert.Contains(HostAddress, guest.Run("nslookup server.test"), StringComparison.Ordinal);
        Assert.NotEqual(0, guest.Try("nslookup nobody.test").Code);

        Fetch(guest, "http://server.test/20000000", 20_000_000);
        Fetch(guest, "http://10.0.2.2/1000", 1000);
        guest.Run("while ! ip -6 route show | grep -q default || "
            + "! ip -6 address show dev eth0 | grep fec0: | grep -qv tentative; do sleep 0.1; done");
        Fetch(guest, $"http://[{HostAddress6}]/3000000", 3_000_000);
        Fetch(guest, "http://[fec0::2]/1000", 1000);

        guest.Run("ping -c 2 -i 0.1 10.0.2.2; ping6 -c 2 -i 0.1 fec0::2");
        guest.Run($"ping -c 2 -i 0.1 {HostAddress}");
        guest.Run($"ping6 -c 2 -i 0.1 {HostAddress6}");

        // As a package manager: many files, several at a time, a connection each.
        int before = web.Served;
        guest.Run("for i in 1 2 3 4 5 6; do (for j in 1 2 3 4 5 6 7 8 9 10; do "
            + "wget -q -O /dev/null http://server.test/50000 || echo failed; done) & done >/tmp/out; wait; "
            + "! grep failed /tmp/out");
        Assert.Equal(before + 60, web.Served);

        Log(guest, place);
        guest.PowerOff();
    }

    /// <summary>By ssh and sftp through the forwarded port.</summary>
    static void Log(NetworkGuest guest, NetworkNamespace place)
    {
        place.Run($"ssh-keygen -q -t ed25519 -N '' -f {place["key"]}");
        guest.Run($"mkdir -p /root/.ssh /etc/dropbear; echo '{File.ReadAllText(place["key.pub"]).Trim()}' "
            + ">/root/.ssh/authorized_keys; echo root:x:0:0::/root:/bin/sh >/etc/passwd; chmod -R go= /root; "
            + "/usr/sbin/dropbear -R");
        string options = $"-q -i {place["key"]} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null "
            + "-o BatchMode=yes";
        Assert.Equal("Linux\n", place.Run($"ssh {options} -p 2222 root@127.0.0.1 uname"));
        File.WriteAllBytes(place["there"], [.. Enumerable.Range(0, 3_000_000).Select(i => (byte)(i * i >> 7))]);
        place.Run($"scp {options} -P 2222 {place["there"]} root@127.0.0.1:/tmp/file && "
            + $"scp {options} -P 2222 root@127.0.0.1:/tmp/file {place["back"]} && "
            + $"cmp {place["there"]} {place["back"]}");
    }

    static void Fetch(NetworkGuest guest, string url, int length) =>
        Assert.Equal($"{length}", guest.Run($"wget -q -O - {url} | wc -c").Trim());

    static NetworkNamespace MakeHost()
    {
        var place = new NetworkNamespace();
        place.Run($"ip address add {HostAddress}/32 dev lo; ip -6 address add {HostAddress6}/128 dev lo; "
            + "sysctl -q -w net.ipv4.ping_group_range='0 2147483647'");
        place.Write("resolv.conf", "nameserver 127.0.0.1\n");
        place.Serve("dnsmasq", "-d", "-C", "/dev/null", "--no-resolv", "--no-hosts", "--local=/test/",
            $"--host-record=server.test,{HostAddress}", "--log-facility=-");
        return place;
    }
}
