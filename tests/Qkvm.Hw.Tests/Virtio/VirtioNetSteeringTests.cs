using System.Buffers.Binary;
using System.Net;
using Qkvm.Core.State;
using Qkvm.Hw.Virtio;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Virtio;

/// <summary>RSS and hash reports. Virtio 1.2, sections 5.1.6.4.3 and 5.1.6.5; flows and hashes are those of Microsoft's
/// "Verifying the RSS hash calculation".</summary>
public sealed class VirtioNetSteeringTests : IDisposable
{
    const ulong HashReport = 1UL << 57, Rss = 1UL << 60, Mq = 1 << 22;
    const ulong Command = 0x210000, Answer = 0x220000, Data = 0x230000;
    const int Queues = 4, Control = 2 * Queues;
    const uint Ip4 = 1, Tcp4 = 2, Udp4 = 4, Ip6 = 8, Tcp6 = 0x10, Tcp6Ex = 0x80, All = 0x1FF;
    const byte TcpProtocol = 6, UdpProtocol = 17;
    static readonly byte[] Key =
        Convert.FromHexString("6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa");

    readonly PciBench _bench = new();
    readonly NetWire _wire = new(queues: Queues);
    readonly VirtioNet _card;
    readonly VirtioGuest _guest;

    public VirtioNetSteeringTests()
    {
        var options = new VirtioNetOptions { Pairs = Queues };
        options = options with { Features = options.Features | Rss | HashReport };
        _card = new VirtioNet("net", _wire, [0x52, 0x54, 0, 0x12, 0x34, 0x56], options, _bench.Loop, _bench.Pump.Post);
        _guest = new VirtioGuest(_bench, _card);
    }

    public void Dispose() => _bench.Dispose();

    void Start(ulong features = ulong.MaxValue)
    {
        _guest.Start(features);
        _bench.Pump.RunPosted();
    }

    void Request(int queue, params (ulong Address, int Length)[] buffers)
    {
        _guest.Request(queue, buffers);
        _bench.Pump.RunPosted();
    }

    byte Order(byte command, byte[] data)
    {
        _bench.Memory.Space.Write(Command, [4, command, .. data]);
        _bench.Memory.Space.Write(Answer, 1, 0xEE);
        Request(Control, (Command, 2 + data.Length), (Answer, -1));
        return _bench.Memory.Bytes(Answer, 1)[0];
    }

    /// <summary>struct virtio_net_rss_config.</summary>
    static byte[] Config(uint types = All, ushort? mask = null, ushort unclassified = 0, ushort[]? table = null,
        ushort pairs = Queues, byte keyLength = 40)
    {
        table ??= [0, 1, 2, 3];
        var data = new List<byte>();
        Add(types, 4);
        Add(mask ?? (uint)table.Length - 1, 2);
        Add(unclassified, 2);
        foreach (ushort entry in table) Add(entry, 2);
        Add(pairs, 2);
        Add(keyLength, 1);
        data.AddRange(Key);
        return [.. data];

        void Add(uint value, int size)
        {
            for (int i = 0; i < size; i++) data.Add((byte)(value >> 8 * i));
        }
    }

    static byte[] Frame(string source, int sourcePort, string target, int targetPort, byte protocol,
        byte firstHeader = 0, byte[]? extensions = null, ushort fragment = 0)
    {
        byte[] from = IPAddress.Parse(source).GetAddressBytes(), to = IPAddress.Parse(target).GetAddressBytes();
        byte[] transport = [(byte)(sourcePort >> 8), (byte)sourcePort, (byte)(targetPort >> 8), (byte)targetPort,
            .. new byte[16]];
        extensions ??= [];
        byte[] ethernet = [0x52, 0x54, 0, 0x12, 0x34, 0x56, 2, 0, 0, 0, 0, 1];
        int carried = transport.Length + extensions.Length;
        return from.Length == 4
            ? [.. ethernet, 8, 0, 0x45, 0, 0, (byte)(20 + carried), 0, 0, (byte)(fragment >> 8), (byte)fragment, 64,
                protocol, 0, 0, .. from, .. to, .. transport]
            : [.. ethernet, 0x86, 0xDD, 0x60, 0, 0, 0, 0, (byte)carried, extensions.Length > 0 ? firstHeader : protocol,
                64, .. from, .. to, .. extensions, .. transport];
    }

    (int Queue, uint Hash, int Report) Give(byte[] frame, int wire = 0)
    {
        for (int i = 0; i < Queues; i++)
            if (_card.Control.Queues[2 * i].Available == 0) Request(2 * i, (Data + (ulong)i * 0x1000, -2000));
        Assert.True(_wire.Give(frame, queue: wire));
        for (int i = 0; i < Queues; i++)
        {
            if (_guest.Queues[2 * i].TakeUsed() is not { } used) continue;
            Assert.Equal((uint)frame.Length + 20, used.Written);
            byte[] got = _bench.Memory.Bytes(Data + (ulong)i * 0x1000, (int)used.Written);
            Assert.Equal(frame, got[20..]);
            return (i, BinaryPrimitives.ReadUInt32LittleEndian(got.AsSpan(12)),
                BinaryPrimitives.ReadUInt16LittleEndian(got.AsSpan(16)));
        }
        throw new InvalidOperationException("no queue has it");
    }

    [Theory]
    [InlineData("66.9.149.187", 2794, "161.142.100.80", 1766, All, 0x51ccc178u, 2)]
    [InlineData("66.9.149.187", 2794, "161.142.100.80", 1766, Ip4 | Udp4, 0x323e8fc2u, 1)]
    [InlineData("199.92.111.2", 14230, "65.69.140.83", 4739, Tcp4, 0xc626b0eau, 2)]
    [InlineData("3ffe:2501:200:1fff::7", 2794, "3ffe:2501:200:3::1", 1766, All, 0x40207d3du, 5)]
    [InlineData("3ffe:2501:200:1fff::7", 2794, "3ffe:2501:200:3::1", 1766, Ip6, 0x2cc18cd5u, 4)]
    [InlineData("3ffe:2501:200:1fff::7", 2794, "3ffe:2501:200:3::1", 1766, Ip4 | Tcp4, 0u, 0)]
    public void A_flow_leads_to_its_queue_and_the_hash_is_reported(string source, int sourcePort, string target,
        int targetPort, uint types, uint hash, int report)
    {
        Start();
        Assert.Equal(0, Order(1, Config(types, unclassified: 3)));
        byte[] frame = Frame(source, sourcePort, target, targetPort, TcpProtocol);
        int queue = report == 0 ? 3 : (int)(hash & 3);
        for (int wire = 0; wire < Queues; wire++) Assert.Equal((queue, hash, report), Give(frame, wire));
    }

    [Fact]
    public void Datagrams_and_fragments_have_kinds_of_their_own()
    {
        Start();
        Assert.Equal(0, Order(1, Config()));
        Assert.Equal(3, Give(Frame("66.9.149.187", 2794, "161.142.100.80", 1766, UdpProtocol)).Report);
        byte[] part = Frame("66.9.149.187", 2794, "161.142.100.80", 1766, UdpProtocol, fragment: 0x2000);
        Assert.Equal(1, Give(part).Report);
        Assert.Equal(1, Give(Frame("66.9.149.187", 2794, "161.142.100.80", 1766, 1)).Report);
        Assert.Equal(6, Give(Frame("3ffe::1", 1, "3ffe::2", 2, UdpProtocol)).Report);
    }

    [Fact]
    public void Extension_headers_give_home_address_and_last_target()
    {
        byte[] home = IPAddress.Parse("3ffe:2501:200:1fff::7").GetAddressBytes(),
            final = IPAddress.Parse("3ffe:2501:200:3::1").GetAddressBytes();
        byte[] destination = [43, 2, 1, 2, 0, 0, 201, 16, .. home];     // PadN, then the home address
        byte[] routing = [TcpProtocol, 2, 2, 1, 0, 0, 0, 0, .. final];
        byte[] frame = Frame("3ffe::1", 2794, "3ffe::2", 1766, TcpProtocol, 60, [.. destination, .. routing]);
        Start();
        Assert.Equal(0, Order(1, Config()));
        Assert.Equal((0x40207d3du, 8), (Give(frame).Hash, Give(frame).Report));
        Assert.Equal(0, Order(1, Config(Tcp6 | Ip6)));             // without them: by the header's addresses
        byte[] plain = Frame("3ffe::1", 2794, "3ffe::2", 1766, TcpProtocol);
        Assert.Equal(Give(plain), Give(frame));
        Assert.Equal(5, Give(frame).Report);
    }

    [Fact]
    public void Headers_that_are_cut_off_harm_nobody()
    {
        Start();
        Assert.Equal(0, Order(1, Config()));
        byte[] whole = Frame("3ffe::1", 1, "3ffe::2", 2, TcpProtocol, 60,
            [60, 0, 201, 16, 1, 1, 1, 1, 0, 200, 1, 99, 9, 9, 9, 9]);
        var random = new Random(1);
        for (int i = 0; i < 2000; i++)
        {
            byte[] frame = [.. whole.AsSpan(0, random.Next(14, whole.Length + 1))];
            for (int n = random.Next(4); n > 0; n--) frame[random.Next(12, frame.Length)] = (byte)random.Next(256);
            Give(frame);
        }
        Assert.False(_card.Control.IsBroken);
    }

    [Fact]
    public void A_hash_configuration_reports_but_does_not_steer()
    {
        Start();
        byte[] config = [(byte)Tcp4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 40, .. Key];
        Assert.Equal(0, Order(0, [Queues, 0]));
        Assert.Equal(0, Order(2, config));
        byte[] frame = Frame("66.9.149.187", 2794, "161.142.100.80", 1766, TcpProtocol);
        Assert.Equal((3, 0x51ccc178u, 2), Give(frame, 3));
        Assert.Equal(0, Order(0, [Queues, 0]));                    // 5.1.6.5.6: automatic again
        Assert.Equal((3, 0u, 0), Give(frame, 3));
    }

    [Fact]
    public void The_configuration_tells_its_limits()
    {
        Start();
        Assert.Equal((40ul, 128ul, (ulong)All), (_guest.Config(17, 1), _guest.Config(18, 2), _guest.Config(20, 4)));
    }

    [Fact]
    public void Without_hash_reports_the_header_stays_as_it_was()
    {
        Start(~HashReport);
        Assert.Equal(0, Order(1, Config()));
        Assert.Equal(1, Order(2, [(byte)Tcp4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 40, .. Key]));
        Request(0, (Data, -2000));
        byte[] frame = Frame("66.9.149.187", 2794, "161.142.100.80", 1766, TcpProtocol);
        Assert.True(_wire.Give(frame, queue: 2));
        Assert.Equal((uint)frame.Length + 12, _guest.Queues[0].TakeUsed()!.Value.Written);
    }

    [Fact]
    public void RSS_alone_brings_several_pairs()
    {
        Start(~Mq);
        Assert.Equal(0, Order(1, Config(pairs: 3)));               // the control queue is behind all pairs
        Assert.Equal([0, 1, 2], _wire.Open());
    }

    [Fact]
    public void A_frame_waits_for_the_queue_that_it_belongs_to()
    {
        Start();
        Assert.Equal(0, Order(1, Config(table: [2, 2])));
        byte[] frame = Frame("66.9.149.187", 2794, "161.142.100.80", 1766, TcpProtocol);
        Request(0, (Data, -2000));
        Assert.False(_wire.Give(frame));
        _wire.Resumed.Clear();
        Request(4, (Data, -2000));
        Assert.Contains(0, _wire.Resumed);                         // it was queue 0 of the backend that waited
        Assert.True(_wire.Give(frame));
        Assert.NotNull(_guest.Queues[4].TakeUsed());
        Assert.Null(_guest.Queues[0].TakeUsed());
    }

    public static TheoryData<string> Wrong => new(WrongConfigs.Keys);

    static readonly Dictionary<string, byte[]> WrongConfigs = new()
    {
        ["nothing"] = [],
        ["a table of three"] = Config(table: [0, 1, 2]),
        ["a table of 256"] = Config(table: new ushort[256]),
        ["a mask of 65535"] = Config(mask: 0xFFFF),
        ["a table cut off"] = Config(mask: 127),
        ["types that do not exist"] = Config(types: 0x200),
        ["a queue that does not exist"] = Config(table: [0, Queues]),
        ["an unclassified queue that does not exist"] = Config(unclassified: Queues),
        ["no pairs"] = Config(pairs: 0),
        ["too many pairs"] = Config(pairs: Queues + 1),
        ["a key of 41 bytes"] = [.. Config(keyLength: 41), 0],
        ["a key cut off"] = Config()[..^1],
        ["no key length"] = Config()[..^41],
    };

    [Theory]
    [MemberData(nameof(Wrong))]
    public void A_configuration_that_is_wrong_changes_nothing(string what)
    {
        Start();
        Assert.Equal(0, Order(1, Config()));
        Assert.Equal(1, Order(1, WrongConfigs[what]));
        Assert.Equal([0, 1, 2, 3], _wire.Open());
        byte[] frame = Frame("66.9.149.187", 2794, "161.142.100.80", 1766, TcpProtocol);
        Assert.Equal((0, 0x51ccc178u, 2), Give(frame, 3));
        Assert.False(_card.Control.IsBroken);
    }

    [Fact]
    public void Its_state_goes_on_in_another_machine_and_a_reset_forgets_it()
    {
        Start();
        Assert.Equal(0, Order(1, Config(table: [3, 2, 1, 0])));
        StateNode saved = StateNode.Save(_card.Control.Exchange);
        _guest.Status = 0;
        Start();
        Order(0, [Queues, 0]);
        byte[] frame = Frame("66.9.149.187", 2794, "161.142.100.80", 1766, TcpProtocol);
        Assert.Equal((0, 0u, 0), Give(frame));
        saved.Load(_card.Control.Exchange);
        Assert.Equal(saved.ToString(), StateNode.Save(_card.Control.Exchange).ToString());
    }
}
