using System.Text.Json;
using Qkvm.Backends.Display;
using Qkvm.Control;
using Qkvm.Core.Devices;
using Qkvm.Core.Display;
using Qkvm.Host;
using Qkvm.Host.Sockets;
using Qkvm.Storage.Drivers.Qcow2;

namespace Qkvm.Tests.Control;

/// <summary>What monitors add to a running machine, in QMP's forms, and take away again.</summary>
public sealed class AddAndRemoveTests : IDisposable
{
    readonly ControlBench _bench = new();
    readonly string _directory = Directory.CreateTempSubdirectory("qkvm-add-").FullName;

    public void Dispose()
    {
        _bench.Dispose();
        Directory.Delete(_directory, recursive: true);
    }

    [Fact]
    public void A_terminal_says_where_it_is_and_can_be_opened_until_it_is_removed()
    {
        string path = _bench.Query("chardev-add", """{"id":"t","backend":{"type":"pty","data":{}}}""")
            .GetProperty("pty").GetString()!;
        Assert.True(File.Exists(path));
        Assert.Equal("Chardev with id 't' already exists",
            Error("chardev-add", """{"id":"t","backend":{"type":"null"}}"""));
        _bench.Query("chardev-remove", """{"id":"t"}""");
        Assert.False(File.Exists(path));
        Assert.Equal("Chardev 't' not found", Error("chardev-remove", """{"id":"t"}"""));
        Assert.Equal("Chardev 'serial0' is busy", Error("chardev-remove", """{"id":"serial0"}"""));
    }

    [Fact]
    public void A_socket_of_qmps_nested_form_listens()
    {
        string path = Path.Combine(_directory, "s");
        JsonElement answer = _bench.Query("chardev-add", $$$"""
            {"id":"s","backend":{"type":"socket","data":{"addr":{"type":"unix","data":{"path":"{{{path}}}"} },
             "server":true,"wait":false} } }
            """);
        Assert.Equal("{}", answer.GetRawText());
        using var client = new System.Net.Sockets.Socket(System.Net.Sockets.AddressFamily.Unix,
            System.Net.Sockets.SocketType.Stream, System.Net.Sockets.ProtocolType.Unspecified);
        client.Connect(new System.Net.Sockets.UnixDomainSocketEndPoint(path));
        _bench.Query("chardev-remove", """{"id":"s"}""");
        Assert.False(File.Exists(path));
        Assert.StartsWith("Property 'socket.foo' not found", Error("chardev-add",
            """{"id":"x","backend":{"type":"socket","data":{"foo":1,"addr":{"type":"unix","data":{"path":"/x"}}}}}"""));
        Assert.Equal("'nonsense' is not a valid char driver name",
            Error("chardev-add", """{"id":"x","backend":{"type":"nonsense"}}"""));
    }

    /// <summary>As virt-manager has libvirt do it.</summary>
    [Fact]
    public void A_viewer_that_somebody_else_has_connected_is_greeted()
    {
        VncServer server = Screen();
        (StreamSocket ours, int theirs) = StreamSocket.InheritablePair();
        _bench.PassedDescriptor = theirs;
        _bench.Query("getfd", """{"fdname":"v"}""");
        _bench.Query("add_client", """{"protocol":"vnc","fdname":"v","skipauth":true}""");
        var greeting = new byte[12];
        int read = 0;
        Assert.True(SpinWait.SpinUntil(() => (read = ours.Read(greeting)) > 0, TimeSpan.FromMinutes(1)));
        Assert.Equal("RFB 003.008\n"u8, greeting.AsSpan(0, read));
        Assert.Single(_bench.Query("query-vnc-servers")[0].GetProperty("clients").EnumerateArray());
        ours.Dispose();
        _bench.OnLoop(server.Dispose);
    }

    [Fact]
    public void Who_is_no_viewer_is_refused_and_closed()
    {
        Assert.Equal("File descriptor named 'v' has not been found", Error("add_client",
            """{"protocol":"vnc","fdname":"v"}"""));
        foreach ((string protocol, string message) in new[] { ("vnc", "VNC is not in use"),
            ("spice", "SPICE is not in use"), ("x", "protocol 'x' is invalid") })
        {
            Pass();
            Assert.Equal(message, Error("add_client", $$"""{"protocol":"{{protocol}}","fdname":"v"}"""));
            Assert.Equal("File descriptor named 'v' not found", Error("closefd", """{"fdname":"v"}"""));
        }
        VncServer server = Screen();
        Pass();
        Assert.Equal("parameter @fdname must name a socket that is connected", Error("add_client",
            """{"protocol":"vnc","fdname":"v"}"""));
        _bench.OnLoop(server.Dispose);

        void Pass()
        {
            _bench.PassedDescriptor = Duplicate();
            _bench.Query("getfd", """{"fdname":"v"}""");
        }
    }

    VncServer Screen() => _bench.OnLoop(() =>
    {
        var options = Options.Of("-vnc", new OptionPair("vnc", $"unix:{Path.Combine(_directory, "vnc")}"));
        VncServer server = VncServer.Create(new Properties(VncServer.Model, options),
            new DisplayParts(null, _bench.Machine.Board.Input, _bench.Environment.Loop, "", static _ => { }));
        _bench.Backends.RemoteDisplays.Add(server);
        return server;
    });

    [Fact]
    public void A_user_network_comes_with_its_lists_and_its_ports_can_be_changed()
    {
        _bench.Query("netdev_add", """
            {"type":"user","id":"u","hostfwd":[{"str":"tcp:127.0.0.1:0-:22"},{"str":"udp:127.0.0.1:0-:69"}]}
            """);
        string table = _bench.Human("info usernet");
        Assert.Matches(@"^Hub -1 \(u\):\r?\n"
            + @"  Protocol\[State\]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ"
            + @"\r?\n  TCP\[HOST_FORWARD\] +\d+       127.0.0.1 +\d+       10.0.2.15    22     0     0"
            + @"\r?\n  UDP\[HOST_FORWARD\] +\d+       127.0.0.1 +\d+       10.0.2.15    69     0     0\r?\n", table);
        Assert.Contains("unrecognized netdev id 'x'", _bench.Human("hostfwd_add x tcp:127.0.0.1:0-:80"));
        Assert.Contains("Invalid host forwarding rule 'tcp:1'", _bench.Human("hostfwd_add tcp:1"));
        Assert.Contains("invalid format", _bench.Human("hostfwd_remove u tcp:x"));
        Assert.Contains("host forwarding rule for tcp::1 not found", _bench.Human("hostfwd_remove tcp::1"));
        _bench.Query("netdev_del", """{"id":"u"}""");
        Assert.Contains("user mode network stack not in use", _bench.Human("hostfwd_add tcp:127.0.0.1:0-:80"));
        Assert.Equal("Parameter 'type' is missing", Error("netdev_add", """{"id":"u"}"""));
    }

    [Fact]
    public void An_object_stays_while_a_device_uses_it()
    {
        _bench.Query("object-add", """{"qom-type":"rng-random","id":"r","filename":"/dev/urandom"}""");
        _bench.Query("device_add", """{"driver":"virtio-rng-pci","id":"d","rng":"r"}""");
        Assert.Equal("object 'r' is in use, can not be deleted", Error("object-del", """{"id":"r"}"""));
        _bench.Query("device_del", """{"id":"d"}""");
        _bench.LetGo();
        _bench.Query("object-del", """{"id":"r"}""");
        Assert.Equal("object 'r' not found", Error("object-del", """{"id":"r"}"""));
        Assert.Contains("'nonsense' is not a", Error("object-add", """{"qom-type":"nonsense","id":"n"}"""));
    }

    [Fact]
    public async Task Block_nodes_come_and_go_with_nothing_left_open()
    {
        string path = Path.Combine(_directory, "a.qcow2");
        await Qcow2Image.CreateAsync(path, 1 << 20, new Qcow2CreateOptions());
        int handles = Open(path);
        for (int i = 0; i < 3; i++)
        {
            _bench.Query("blockdev-add", $$"""{"driver":"file","node-name":"f","filename":"{{path}}"}""");
            _bench.Query("blockdev-add", """{"driver":"qcow2","node-name":"q","file":"f"}""");
            Assert.Equal("Duplicate nodes with node-name='q'",
                Error("blockdev-add", """{"driver":"null-co","node-name":"q"}"""));
            _bench.Query("device_add", """{"driver":"virtio-blk-pci","id":"d","drive":"q"}""");
            Assert.Equal("Node q is in use", Error("blockdev-del", """{"node-name":"q"}"""));
            Assert.Equal("Node f is in use", Error("blockdev-del", """{"node-name":"f"}"""));
            _bench.Query("device_del", """{"id":"d"}""");
            _bench.LetGo();
            _bench.Query("blockdev-del", """{"node-name":"q"}""");
            _bench.Query("blockdev-del", """{"node-name":"f"}""");
        }
        Assert.Equal(handles, Open(path));
        Assert.Equal("Failed to find node with node-name='q'", Error("blockdev-del", """{"node-name":"q"}"""));
        Assert.Contains("No such file", Error("blockdev-add",
            """{"driver":"file","node-name":"f","filename":"/nonexistent"}"""));
        Assert.Empty(_bench.Host.Nodes);
    }

    [Fact]
    public void A_passed_descriptor_is_kept_by_name_until_somebody_takes_it()
    {
        Assert.Equal("No file descriptor supplied via SCM_RIGHTS", Error("getfd", """{"fdname":"tap"}"""));
        using (FileStream passed = File.Create(Path.Combine(_directory, "passed")))
            _bench.PassedDescriptor = Libc.dup((int)passed.SafeFileHandle.DangerousGetHandle());
        _bench.Query("getfd", """{"fdname":"tap"}""");
        int fd = _bench.PassedDescriptor;
        Assert.Equal(fd, _bench.OnLoop(() => _bench.Host.Descriptors.Take("tap", "-netdev tap")));
        Assert.Equal("File descriptor named 'tap' not found", Error("closefd", """{"fdname":"tap"}"""));
        string? kept = new FileInfo($"/proc/self/fd/{fd}").LinkTarget;
        Assert.Equal(Path.Combine(_directory, "passed"), kept);
        _bench.Query("getfd", """{"fdname":"again"}""");
        _bench.Query("closefd", """{"fdname":"again"}""");
        Assert.NotEqual(kept, new FileInfo($"/proc/self/fd/{fd}").LinkTarget);   // the number may be another's by now
    }

    [Fact]
    public void A_set_of_descriptors_opens_by_its_path_with_the_wanted_access()
    {
        string path = Path.Combine(_directory, "log");
        using (FileStream file = File.Create(path))
        {
            _bench.PassedDescriptor = Libc.dup((int)file.SafeFileHandle.DangerousGetHandle());
            JsonElement added = _bench.Query("add-fd", """{"fdset-id":7,"opaque":"rdwr:log"}""");
            Assert.Equal(7, added.GetProperty("fdset-id").GetInt32());
        }
        Assert.Contains("\"rdwr:log\"", _bench.Query("query-fdsets").GetRawText());
        Assert.True(DescriptorSets.TryOpen("/dev/fdset/7", Libc.ORdWr, out int fd, out _));
        Assert.True(fd >= 0);
        Libc.close(fd);
        Assert.True(DescriptorSets.TryOpen("/dev/fdset/7", Libc.OWrOnly, out fd, out int errno));
        Assert.Equal((-1, Libc.EAccess), (fd, errno));
        _bench.Query("remove-fd", """{"fdset-id":7}""");
        Assert.Equal("File descriptor named 'fdset-id:7' not found", Error("remove-fd", """{"fdset-id":7}"""));
    }

    [Fact]
    public void A_ring_buffer_keeps_the_last_bytes_until_they_are_read()
    {
        _bench.Query("chardev-add", """{"id":"r","backend":{"type":"ringbuf","data":{"size":8} } }""");
        _bench.Query("ringbuf-write", """{"device":"r","data":"0123456789"}""");
        Assert.Equal("234", _bench.Query("ringbuf-read", """{"device":"r","size":3}""").GetString());
        Assert.Equal("NTY3", _bench.Query("ringbuf-read", """{"device":"r","size":3,"format":"base64"}""").GetString());
        Assert.Equal("89\n", _bench.Human("ringbuf_read r 100"));
        Assert.Equal("serial0 is not a ringbuf device",
            Error("ringbuf-read", """{"device":"serial0","size":1}"""));
        Assert.Equal("size of ringbuf chardev must be power of two, at most 1G", Error("chardev-add",
            """{"id":"x","backend":{"type":"ringbuf","data":{"size":7} } }""").Split(": ")[^1]);
    }

    static int Duplicate()
    {
        using FileStream file = File.OpenRead("/dev/null");
        return Libc.dup((int)file.SafeFileHandle.DangerousGetHandle());
    }

    string Error(string command, string arguments) =>
        Command.ErrorOf(Assert.ThrowsAny<Exception>(() => _bench.Query(command, arguments)))!.Message;

    /// <summary>How often the process has the file open.</summary>
    static int Open(string path) => Directory.GetFiles("/proc/self/fd").Count(fd =>
    {
        try { return File.ResolveLinkTarget(fd, false)?.FullName == path; }
        catch (IOException) { return false; }                      // another test's, closed meanwhile
    });
}
