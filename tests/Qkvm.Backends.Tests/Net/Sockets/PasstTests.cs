using Qkvm.Backends.Net.Sockets;
using Qkvm.Core.Net;
using static Qkvm.Backends.Tests.Net.TestCard;

namespace Qkvm.Backends.Tests.Net.Sockets;

/// <summary>passt in a network namespace of its own, which has a way out that leads nowhere.</summary>
public sealed class PasstTests : IDisposable
{
    const string Passt = "/usr/bin/passt";

    readonly TestLoop _loop = new();
    readonly string _folder = Directory.CreateTempSubdirectory("passt").FullName;

    public void Dispose()
    {
        _loop.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    [PasstFact]
    public void The_guest_gets_the_hosts_address()
    {
        var net = (StreamNet)_loop.Do(() => Create($"path={Wrapper()},ipv6=off,mtu=1400,dns=10.9.9.9"));
        try
        {
            byte[] mac = [0x52, 0x54, 0, 0, 0, 1];
            var card = new TestCard(net, _loop);
            card.Send([0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, .. mac, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, .. mac, 0, 0, 0, 0,
                0, 0, 0, 0, 0, 0, 10, 5, 5, 1]);
            byte[] answer = card.Next();
            Assert.Equal([8, 6], answer[12..14]);
            Assert.Equal([10, 5, 5, 1], answer[28..32]);
        }
        finally { _loop.Do(net.Dispose); }
    }

    [PasstFact]
    public void What_passt_does_not_like_is_told()
    {
        string message = Assert.Throws<ConfigurationException>(() => Create($"path={Wrapper()},address=wrong")).Message;
        Assert.StartsWith("-netdev passt: ", message);
        Assert.Contains("ended with status 1", message);
        Assert.Contains("wrong", message);
    }

    [Fact]
    public void A_program_that_is_not_there_is_told() => Assert.Contains("/nowhere/passt could not be started",
        Assert.Throws<ConfigurationException>(() => Create("path=/nowhere/passt")).Message);

    NetBackend Create(string options) => PasstNet.Model.Create(new Properties(PasstNet.Model,
        Options.Parse($"id=n,{options}", "-netdev passt")), new FakeHost(_loop.Loop));

    string Wrapper()
    {
        string path = Path.Combine(_folder, "passt");
        File.WriteAllText(path, $"""
            #!/bin/sh
            [ -n "$INSIDE" ] || INSIDE=1 exec unshare $([ "$(id -u)" = 0 ] || echo -r) -n "$0" "$@"
            ip link add v0 type veth peer name v1 && ip address add 10.5.5.2/24 dev v0 && ip link set v0 up &&
                ip link set v1 up && ip route add default via 10.5.5.1 && exec {Passt} "$@"
            """);
        Host.HostFile.SetMode(path, (UnixFileMode)0b111_101_101);
        return path;
    }
}

/// <summary>Skipped where there is no passt, or no namespace to be had.</summary>
public sealed class PasstFactAttribute : FactAttribute
{
    public PasstFactAttribute()
    {
        if (!File.Exists("/usr/bin/passt")) Skip = "skipped: there is no /usr/bin/passt";
        else if (!Environment.IsPrivilegedProcess) Skip = "skipped: a network namespace needs root";
    }
}
