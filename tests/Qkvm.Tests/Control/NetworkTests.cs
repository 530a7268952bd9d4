using Qkvm.Core.Machine;
using Qkvm.Hw.Virtio;

namespace Qkvm.Tests.Control;

/// <summary>info network and set_link, as QEMU has them.</summary>
public sealed class NetworkTests : IDisposable
{
    readonly ControlBench _bench = new();

    public NetworkTests()
    {
        _bench.OnLoop(() =>
        {
            foreach ((string type, string options) in ((string, string)[])[("user", "id=u"), ("user", "id=n"),
                ("hubport", "id=h,hubid=3,netdev=u"), ("hubport", "id=g,hubid=3"), ("user", "id=alone")])
            {
                Options given = Options.Parse(options, $"-netdev {type},{options}");
                _bench.Host.Add(new NetdevConfig(given.Required("id"), type, given));
            }
        });
        _bench.Query("device_add",
            """{"driver":"virtio-net-pci","id":"card","netdev":"g","mac":"52:54:00:12:34:56"}""");
        _bench.Query("device_add", """{"driver":"virtio-net-pci","netdev":"n","mac":"52:54:00:12:34:57"}""");
    }

    public void Dispose() => _bench.Dispose();

    [Fact]
    public void Hubs_netdevs_and_cards_are_shown()
    {
        Assert.Equal("""
            hub 3
             \ g: card: index=0,type=nic,model=virtio-net-pci,macaddr=52:54:00:12:34:56
             \ h: u: index=0,type=user,net=10.0.2.0,restrict=off
            alone: index=0,type=user,net=10.0.2.0,restrict=off
            virtio-net-pci.1: index=0,type=nic,model=virtio-net-pci,macaddr=52:54:00:12:34:57
             \ n: index=0,type=user,net=10.0.2.0,restrict=off

            """, _bench.Human("info network"));
    }

    [Fact]
    public void A_cable_is_pulled_at_a_card_or_at_a_netdev()
    {
        Assert.Equal("", _bench.Human("set_link card off"));
        Assert.Equal((false, true), State("card", "g"));
        _bench.Query("set_link", """{"name":"card","up":true}""");
        Assert.Equal((true, true), State("card", "g"));
        _bench.Query("set_link", """{"name":"g","up":false}""");   // its card is told
        Assert.Equal((false, false), State("card", "g"));
        Assert.Equal("", _bench.Human("set_link g on"));
        Assert.Equal((true, true), State("card", "g"));
        Assert.Equal("Error: Device 'foo' not found", _bench.Human("set_link foo off").Trim());
        Assert.Contains("on' or 'off'", _bench.Human("set_link card maybe"));
    }

    [Fact]
    public void The_filters_of_cards_are_told_by_name()
    {
        Assert.StartsWith("""
            [{"name":"card","promiscuous":true,"multicast":"normal","unicast":"normal","vlan":"all",
            """.TrimEnd(), $"{_bench.Query("query-rx-filter", """{"name":"card"}""")}");
        Assert.Contains(""" "virtio-net-pci.1" """.Trim(), $"{_bench.Query("query-rx-filter")}");
        Assert.Equal("net client(g) isn't a NIC", Error("query-rx-filter", """{"name":"g"}"""));
        Assert.Equal("invalid net client name: zz", Error("query-rx-filter", """{"name":"zz"}"""));
        _bench.Query("device_add", """{"driver":"e1000","id":"old","netdev":"alone"}""");
        Assert.Equal("net client(old) doesn't support rx-filter querying",
            Error("query-rx-filter", """{"name":"old"}"""));
    }

    [Fact]
    public void Cards_announce_themselves_in_rounds()
    {
        string file = Path.Combine(Path.GetTempPath(), $"announce-{Guid.NewGuid():N}");
        try { Rounds(file); }
        finally { File.Delete(file); }
    }

    void Rounds(string file)
    {
        _bench.OnLoop(() => _bench.Host.Add(new ObjectConfig("filter-dump", "dump",
            Options.Parse($"id=dump,netdev=n,file={file}", "-object filter-dump"))));
        _bench.Query("announce-self", """{"initial":1,"max":5,"rounds":3,"step":1}""");
        SpinWait.SpinUntil(() => new FileInfo(file).Length >= 24 + 3 * 76, TimeSpan.FromMinutes(1));
        Assert.Equal(24 + 3 * (16 + 60), new FileInfo(file).Length);
        Assert.Equal("", _bench.Human("announce_self card,nobody x"));   // not this one's
        Assert.Equal(24 + 3 * (16 + 60), new FileInfo(file).Length);
        Assert.Equal("Parameter 'max' is missing", Error("announce-self", """{"initial":50}"""));
    }

    string Error(string command, string arguments) =>
        Assert.Throws<CommandException>(() => _bench.Query(command, arguments)).Message;

    (bool Card, bool Netdev) State(string card, string netdev) => _bench.OnLoop(() =>
        (_bench.Context.Devices.First(d => d.Device.Id == card).Device.Device!.Facet<VirtioNet>()!.IsLinkUp,
            _bench.Backends.Netdevs[netdev].Link.IsUp));
}
