using System.Net.Sockets;
using System.Security.Cryptography;

namespace Qkvm.Guest.Tests;

/// <summary>Linux's virtio_console: a console, and a port that programs of host and guest find by its name.</summary>
public sealed class ChannelTests
{
    const int Length = 4 << 20;

    [TinyFact]
    public void A_port_carries_megabytes_both_ways_and_a_console_lines()
    {
        using var directory = new ScratchDirectory();
        string port = directory["port"], console = directory["console"];
        using GuestProcess guest = GuestProcess.Start("-accel", "tcg", "-m", "256M", "-nodefaults", "-display", "none",
            "-serial", "stdio", "-no-reboot", "-kernel", Surroundings.Kernel, "-initrd", Surroundings.Initrd,
            "-append", "console=ttyS0 quiet panic=-1",
            "-device", "virtio-serial-pci,id=virtio-serial0,bus=pci.0,addr=0x5",
            "-chardev", $"socket,id=console,path={console},server=on,wait=off",
            "-device", "virtconsole,bus=virtio-serial0.0,chardev=console",
            "-chardev", $"socket,id=charchannel0,path={port},server=on,wait=off",
            "-device", "virtserialport,bus=virtio-serial0.0,nr=1,chardev=charchannel0,id=channel0,name=org.test.0");
        guest.Expect("TINY READY");
        using Socket typist = Connect(console), peer = Connect(port);
        guest.Send("read line </dev/hvc0; echo HEARD $line; echo answer >/dev/hvc0\n");
        typist.Send("hello\n"u8);
        Assert.Equal("hello", guest.Value("HEARD", "[a-z]+"));
        Assert.Contains("answer", System.Text.Encoding.ASCII.GetString(Receive(typist, "hello\r\nanswer".Length)));

        guest.Send("echo NAME $(cat /sys/class/virtio-ports/vport*p1/name)\n");
        Assert.Equal("org.test.0", guest.Value("NAME", "[a-z.0]+"));
        guest.Send($"exec 3<>/dev/vport0p1; head -c {Length} <&3 >/tmp/got; md5sum </tmp/got; cat /tmp/got >&3\n");
        byte[] sent = RandomNumberGenerator.GetBytes(Length);
        for (int at = 0; at < sent.Length;) at += peer.Send(sent.AsSpan(at));
#pragma warning disable CA5351 // a checksum, and no secret
        guest.Expect(Convert.ToHexStringLower(MD5.HashData(sent)));
#pragma warning restore CA5351
        Assert.Equal(sent, Receive(peer, Length));
        guest.Send("poweroff -f\n");
        Assert.Equal(0, guest.WaitExit());
    }

    static Socket Connect(string path)
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified)
            { ReceiveTimeout = (int)Surroundings.Patience.TotalMilliseconds };
        socket.Connect(new UnixDomainSocketEndPoint(path));
        return socket;
    }

    static byte[] Receive(Socket socket, int count)
    {
        var bytes = new byte[count];
        for (int at = 0, got; at < count; at += got)
            if ((got = socket.Receive(bytes.AsSpan(at))) == 0) throw new EndOfStreamException();
        return bytes;
    }
}
