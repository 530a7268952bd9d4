using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using Qkvm.Backends.Net.User;
using Qkvm.Core.Net;
using static Qkvm.Backends.Tests.Net.User.Packets;

namespace Qkvm.Backends.Tests.Net.User;

/// <summary>A guest that sends packets of every kind with mistakes in them. What comes back must be whole frames, the
/// network must go on, and nothing may throw.</summary>
sealed class UserNetFuzz : IDisposable
{
    const int Batch = 2000;

    static readonly string[] s_to4 = ["10.0.2.2", "10.0.2.2", "10.0.2.3", "10.0.2.9", "127.0.0.1", "0.0.0.0",
        "255.255.255.255", "10.0.2.255", "224.0.0.1", "192.0.2.1"];
    static readonly string[] s_to6 = ["fec0::2", "fec0::2", "fec0::3", "fe80::2", "ff02::1", "ff02::2", "ff02::1:2",
        "::1", "::", "2001:db8::1"];
    static readonly string[] s_from4 = [FakeGuest.Address, FakeGuest.Address, "10.0.2.16", "0.0.0.0", "10.0.2.2"];
    static readonly string[] s_from6 = ["fec0::15", "fec0::15", "fe80::15", "::"];

    readonly Random _random;
    readonly FakeGuest _guest;
    readonly TcpListener _server = new(IPAddress.Loopback, 0);
    readonly UdpClient _echo = new(new IPEndPoint(IPAddress.Loopback, 0));
    readonly List<Socket> _clients = [];
    readonly List<byte[]> _answers = [];                           // TCP frames that came: to be answered
    readonly int[] _ports;
    readonly string _folder = Directory.CreateTempSubdirectory("qkvm-fuzz-").FullName;

    UserNetFuzz(int seed, bool restricts)
    {
        _random = new Random(seed);
        File.WriteAllBytes($"{_folder}/a", new byte[5000]);
        const NetOffloads all = NetOffloads.Checksum | NetOffloads.Tso4 | NetOffloads.Tso6;
        _guest = new FakeGuest(UserNetOptions.Default("n") with
        {
            Restrict = restricts, TftpFolder = _folder, BootFile = "a", SearchDomains = ["x.y"],
        }, _random.Next(2) == 0 ? all : NetOffloads.None);
        _server.Start();
        _server.Server.Blocking = _echo.Client.Blocking = false;
        _ports = [((IPEndPoint)_server.LocalEndpoint).Port, ((IPEndPoint)_echo.Client.LocalEndPoint!).Port, 53, 67, 68,
            69, 546, 547, 1, 0];
    }

    /// <summary>Until the time is over; each batch has a network and a seed of its own.</summary>
    public static void Run(int seed, TimeSpan time, Action<string> print) => IsolatedThread.Run(isIsolated =>
    {
        if (!isIsolated) print("not root: with restrict=on, so that nothing is sent to real networks");
        var clock = Stopwatch.StartNew();
        long frames = 0, answers = 0;
        for (; clock.Elapsed < time; seed++)
        {
            try
            {
                using var fuzz = new UserNetFuzz(seed, restricts: !isIsolated);
                answers += fuzz.RunBatch();
                frames += Batch;
            }
            catch (Exception e)
            {
                throw new InvalidOperationException($"seed {seed}: {e.Message}", e);
            }
        }
        print($"{frames} frames, {answers} answers, last seed {seed - 1}: nothing amiss");
    });

    public void Dispose()
    {
        _guest.Dispose();
        _server.Dispose();
        _echo.Dispose();
        foreach (Socket client in _clients) client.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    long RunBatch()
    {
        long answers = 0;
        for (int i = 0; i < Batch; i++)
        {
            _guest.Send(Spoil(Make()), RandomHeader());
            if (_random.Next(20) == 0) Serve();
            if (_random.Next(100) == 0) _guest.Refuses = true;
            if (_random.Next(30) == 0) _guest.Resume();
            if (_random.Next(300) == 0) _guest.Advance(_random.Next(30) / 10.0);
            if (_random.Next(20) == 0) answers += Check();
        }
        _guest.Resume();
        _guest.Advance(1);
        answers += Check();
        HostileGuestTests.AssertAlive(_guest);
        return answers;
    }

    /// <summary>All that came is whole: lengths and checksums.</summary>
    int Check()
    {
        List<Frame> frames = _guest.Settle();
        foreach (Frame frame in frames)
        {
            if (frame.Type == 0x806) { Assert.Equal(42, frame.Bytes.Length); continue; }
            Assert.Contains(frame.Type, (int[])[0x800, 0x86DD]);
            int length = frame.IsV4 ? Read16(frame.Bytes, 16) : 40 + Read16(frame.Bytes, 18);
            Assert.True(frame.Bytes.Length - 14 == length, $"length {length}: {Convert.ToHexString(frame.Bytes)}");
            bool isFragment = frame.IsV4 ? (Read16(frame.Bytes, 20) & 0x3FFF) != 0 : frame.Protocol == 44;
            if (!isFragment) Assert.True(frame.IsIntact, Convert.ToHexString(frame.Bytes));
            if (frame.IsTcp && _answers.Count < 200) _answers.Add(frame.Bytes);
        }
        return frames.Count;
    }

    byte[] Make()
    {
        bool isV4 = _random.Next(3) > 0;
        string from = Pick(isV4 ? s_from4 : s_from6), to = Pick(isV4 ? s_to4 : s_to6);
        int own = 4000 + _random.Next(8), port = Pick(_ports);
        switch (_random.Next(12))
        {
            case 0: return Arp(from.Contains(':') ? FakeGuest.Address : from, Pick(s_to4));
            case 1: return Icmp(from, to, [isV4 ? (byte)8 : (byte)128, 0, 0, 0, 0, 1, 0, 1,
                .. Bytes(_random.Next(64))]);
            case 2: return Icmp(from, to, [(byte)_random.Next(130, 140), 0, 0, 0, .. Bytes(_random.Next(40))]);
            case 3 when isV4: return Udp(from, 68, "255.255.255.255", 67, Dhcp());
            case 3: return Udp(from, 546, "ff02::1:2", 547, Dhcp6());
            case 4: return Udp(from, own, isV4 ? FakeGuest.Host : "fec0::2", 69, Tftp());
            case 5: return Udp(from, own, to, port, Bytes(_random.Next(_random.Next(10) == 0 ? 60_000 : 200)));
            case 6 when isV4:
                return Ip4(from, to, (byte)Pick([1, 6, 17]), Bytes(_random.Next(8) * 8),
                    (ushort)(_random.Next(4) | (_random.Next(2) << 13)), (ushort)_random.Next(3));
            case 6: return Ip6(from, to, 44, [(byte)Pick([6, 17, 58]), 0, 0, (byte)_random.Next(32), 0, 0, 0,
                (byte)_random.Next(3), .. Bytes(_random.Next(64))]);
            case 7: return Tcp(from, own, to, port, (uint)_random.Next(3), 0, Syn, options: [2, 4, 5, 0xB4, 3, 3,
                (byte)_random.Next(20), 0]);
            default: return _answers.Count == 0 ? Tcp(from, own, to, port, 0, 0, Syn) : Answer(Pick(_answers));
        }
    }

    /// <summary>What a TCP might say next, more or less.</summary>
    byte[] Answer(byte[] bytes)
    {
        var frame = new Frame(default, bytes);
        uint length = (uint)frame.Data.Length + (uint)(frame.Flags & Syn) / Syn + (uint)(frame.Flags & Fin);
        uint drift = _random.Next(8) == 0 ? (uint)_random.Next(-3000, 3000) : 0;
        int flags = Pick([Ack, Ack, Ack | Psh, Ack | Psh, Ack | Fin, Rst, Syn, Syn | Ack, _random.Next(32)]);
        return Tcp(frame.Destination, frame.DestinationPort, frame.Source, frame.SourcePort, frame.Acknowledgment
            + drift, frame.Sequence + length - drift, flags, Bytes(_random.Next(4) == 0 ? _random.Next(9000) : 0),
            _random.Next(4) == 0 ? _random.Next(3) : 65535);
    }

    byte[] Dhcp()
    {
        byte[] message = new byte[240];
        (message[0], message[1], message[2], message[33]) = (1, 1, 6, (byte)_random.Next(20));
        new byte[] { 0x63, 0x82, 0x53, 0x63 }.CopyTo(message, 236);
        return [.. message, 53, 1, (byte)_random.Next(9), 50, 4, 10, 0, 2, (byte)_random.Next(256),
            .. Bytes(_random.Next(20)), 255];
    }

    byte[] Dhcp6() => [11, 1, 2, 3, 0, 6, 0, 6, 0, 23, 0, 24, 0, 59, 0, (byte)_random.Next(8), 0,
        (byte)_random.Next(20), .. Bytes(_random.Next(20))];

    byte[] Tftp() => _random.Next(3) switch
    {
        0 => [0, 4, 0, (byte)_random.Next(12)],
        1 => [0, (byte)_random.Next(8), .. Bytes(_random.Next(30))],
        _ => [0, 1, .. "a\0octet\0"u8, .. _random.Next(2) == 0 ? "blksize\01000\0tsize\00\0"u8 : "timeout\01\0"u8],
    };

    /// <summary>One mistake in three frames: bytes that changed, an end that is missing, one too much.</summary>
    byte[] Spoil(byte[] frame)
    {
        switch (_random.Next(9))
        {
            case 0:
                for (int i = _random.Next(1, 4); i > 0; i--)
                    frame[_random.Next(frame.Length)] = (byte)_random.Next(256);
                break;
            case 1: frame = frame[.._random.Next(frame.Length + 1)]; break;
            case 2: frame = [.. frame, .. Bytes(_random.Next(100))]; break;
        }
        bool isWhole4 = frame.Length >= 34 && Read16(frame, 12) == 0x800 && (frame[14] & 0xF) == 5;
        if (isWhole4 && _random.Next(4) > 0)                       // or nothing behind the sum would ever be looked at
        {
            Big16(0).CopyTo(frame, 24);
            Big16(Sum(frame[14..34])).CopyTo(frame, 24);
        }
        return frame;
    }

    NetHeader RandomHeader() => new(_random.Next(2) == 0, _random.Next(2) == 0, (Segmentation)Pick([0, 0, 1, 3, 4, 5,
        0x81, 0xFF]), (ushort)_random.Next(65536), (ushort)_random.Next(65536), (ushort)_random.Next(65536),
        (ushort)_random.Next(65536));

    /// <summary>The host's programs take, answer and close as they like.</summary>
    void Serve()
    {
        while (_server.Pending()) _clients.Add(_server.AcceptSocket());
        foreach (Socket client in _clients.ToArray())
        {
            client.Blocking = false;
            try
            {
                if (_random.Next(2) == 0) client.Receive(new byte[_random.Next(1, 9000)]);
                if (_random.Next(2) == 0) client.Send(Bytes(_random.Next(9000)));
                if (_random.Next(20) == 0) client.Shutdown(SocketShutdown.Send);
            }
            catch (SocketException e) when (e.SocketErrorCode != SocketError.WouldBlock) { _clients.Remove(client); }
            catch (SocketException) { }
            if (_random.Next(20) != 0) continue;
            client.Dispose();
            _clients.Remove(client);
        }
        if (_echo.Available == 0) return;
        IPEndPoint from = new(IPAddress.Any, 0);
        byte[] data = _echo.Receive(ref from);
        _echo.Send(data, from);
    }

    T Pick<T>(IReadOnlyList<T> from) => from[_random.Next(from.Count)];

    byte[] Bytes(int count)
    {
        var bytes = new byte[count];
        _random.NextBytes(bytes);
        return bytes;
    }
}

public sealed class UserNetFuzzTests
{
    [Fact]
    public void Random_frames_break_nothing() => UserNetFuzz.Run(1, TimeSpan.FromSeconds(5), _ => { });
}
