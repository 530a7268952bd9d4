using System.Buffers.Binary;
using System.Text;
using Qkvm.Core.Block;
using Qkvm.Host.Sockets;
using Qkvm.Storage.Nbd;

namespace Qkvm.Storage.Tests;

/// <summary>Clients and servers of NBD that break the rules: they are answered or disconnected, and nobody else is
/// disturbed.</summary>
public class NbdHostileTests
{
    const int Size = 1 << 20;

    static NbdBench Bench(NbdServerOptions? options = null)
    {
        var bench = new NbdBench(options);
        File.WriteAllBytes(bench.Scratch["disk"], BlockDriverExtensions.Pattern(1, Size));
        bench.Serve("disk");
        return bench;
    }

    static byte[] Big(ulong value, int bytes)
    {
        var all = new byte[8];
        BinaryPrimitives.WriteUInt64BigEndian(all, value);
        return all[(8 - bytes)..];
    }

    static byte[] Join(params byte[][] parts) => [.. parts.SelectMany(part => part)];

    static byte[] Option(uint option, uint length, byte[]? data = null) =>
        [.. "IHAVEOPT"u8, .. Big(option, 4), .. Big(length, 4), .. data ?? []];

    static byte[] Request(ushort type, ulong offset, uint length, ushort flags = 0, uint magic = 0x25609513) =>
        [.. Big(magic, 4), .. Big(flags, 2), .. Big(type, 2), .. Big(77, 8), .. Big(offset, 8), .. Big(length, 4)];

    static BlockingSocket Greet(NbdBench bench, uint flags = 3)
    {
        BlockingSocket client = bench.Raw();
        client.Read(new byte[18]);
        client.Write(Big(flags, 4));
        return client;
    }

    /// <summary>In transmission, with simple replies.</summary>
    static BlockingSocket Transmit(NbdBench bench)
    {
        BlockingSocket client = Greet(bench);
        client.Write(Option(1, 0));
        client.Read(new byte[10]);
        return client;
    }

    static bool IsGone(BlockingSocket client)
    {
        try { return !client.TryRead(new byte[1]); }
        catch (Qkvm.Host.HostException e) { return e.Errno == 104; }
    }

    static async Task AssertStillServes(NbdBench bench)
    {
        await using BlockDriver disk = bench.Client();
        Assert.Equal(BlockDriverExtensions.Pattern(1, Size)[..4096], await disk.Read(0, 4096));
    }

    [Theory]
    [InlineData(4u)] [InlineData(0x80000003u)]
    public async Task Flags_that_nobody_knows_end_the_connection(uint flags)
    {
        using NbdBench bench = Bench();
        using BlockingSocket client = Greet(bench, flags);
        Assert.True(IsGone(client));
        await AssertStillServes(bench);
    }

    public static TheoryData<byte[]> Options => new()
    {
        Option(7, uint.MaxValue), Option(1, 5000, new byte[5000]), Join(Big(1, 8), new byte[8]),
        Option(1, 3, "foo"u8.ToArray()), Option(2, 0),
    };

    [Theory]
    [MemberData(nameof(Options))]
    public async Task Options_beyond_help_end_the_connection(byte[] option)
    {
        using NbdBench bench = Bench();
        using BlockingSocket client = Greet(bench);
        client.Write(option);
        if (option[11] == 2) client.Read(new byte[20]);           // an abort is acknowledged
        Assert.True(IsGone(client));
        await AssertStillServes(bench);
    }

    /// <summary>Option, data, type of the error: unsupported 1, policy 2, invalid 3, unknown 6, too big 9.</summary>
    public static TheoryData<uint, byte[], uint> Refused => new()
    {
        { 99, [1, 2, 3], 1 }, { 5, [], 2 }, { 3, [1], 3 }, { 8, [1], 3 }, { 7, [0, 0, 0, 9, 1], 3 },
        { 7, [255, 255, 255, 255, 0, 0], 3 }, { 7, [0, 0, 0, 0, 0, 9, 0, 0], 3 }, { 6, [0, 0, 0, 1, 65, 0, 0], 6 },
        { 10, [0, 0, 0, 0, 0, 0, 0, 0], 3 }, { 7, new byte[70_000], 9 },
    };

    [Theory]
    [MemberData(nameof(Refused))]
    public void Options_that_make_no_sense_are_answered(uint option, byte[] data, uint error)
    {
        using NbdBench bench = Bench();
        using BlockingSocket client = Greet(bench);
        for (int i = 0; i < 3; i++)
        {
            client.Write(Option(option, (uint)data.Length, data));
            var reply = new byte[20];
            client.Read(reply);
            Assert.Equal(option, BinaryPrimitives.ReadUInt32BigEndian(reply.AsSpan(8)));
            Assert.Equal(0x80000000 + error, BinaryPrimitives.ReadUInt32BigEndian(reply.AsSpan(12)));
            client.Skip(BinaryPrimitives.ReadUInt32BigEndian(reply.AsSpan(16)));
        }
    }

    [Fact]
    public async Task A_client_that_says_nothing_is_disconnected_in_time()
    {
        using NbdBench bench = Bench(new NbdServerOptions { Patience = TimeSpan.FromMilliseconds(200) });
        using BlockingSocket silent = bench.Raw(), half = Greet(bench);
        half.Write("IHAVEO"u8);
        silent.Read(new byte[18]);
        Assert.True(IsGone(silent));
        Assert.True(IsGone(half));
        await AssertStillServes(bench);
    }

    [Fact]
    public async Task More_clients_than_allowed_wait_for_those_that_are_there()
    {
        using NbdBench bench = Bench(new NbdServerOptions(MaxConnections: 2));
        BlockingSocket first = Transmit(bench);
        using BlockingSocket second = Transmit(bench), third = bench.Raw();
        third.Deadline = Environment.TickCount64 + 100;
        Assert.Throws<Qkvm.Host.HostException>(() => third.Read(new byte[1]));
        first.Dispose();
        third.Deadline = long.MaxValue;
        third.Read(new byte[18]);
        await Task.CompletedTask;
    }

    /// <summary>Type, offset, length, flags, error: EPERM 1, EINVAL 22, ENOSPC 28.</summary>
    [Theory]
    [InlineData(0, Size, 1, 0, 22)] [InlineData(0, ulong.MaxValue, 2, 0, 22)] [InlineData(0, 0, uint.MaxValue, 0, 22)]
    [InlineData(0, 0, 512, 8, 22)] [InlineData(0, 0, 512, 4, 22)] [InlineData(3, 0, 0, 2, 22)]
    [InlineData(4, Size - 1, 2, 0, 22)] [InlineData(6, Size, 512, 0, 28)] [InlineData(7, 0, 512, 0, 22)]
    [InlineData(99, 0, 0, 0, 22)] [InlineData(5, 1ul << 63, 512, 0, 22)]
    public async Task Requests_that_cannot_be_are_answered_with_an_error(ushort type, ulong offset, uint length,
        ushort flags, uint error)
    {
        using NbdBench bench = Bench();
        using BlockingSocket client = Transmit(bench);
        client.Write(Request(type, offset, length, flags));
        var reply = new byte[16];
        client.Read(reply);
        Assert.Equal(error, BinaryPrimitives.ReadUInt32BigEndian(reply.AsSpan(4)));
        Assert.Equal(77ul, BinaryPrimitives.ReadUInt64BigEndian(reply.AsSpan(8)));
        client.Write(Request(0, 0, 512));
        client.Read(reply);
        Assert.Equal(0u, BinaryPrimitives.ReadUInt32BigEndian(reply.AsSpan(4)));
        await AssertStillServes(bench);
    }

    [Fact]
    public async Task A_write_past_the_end_loses_its_data_and_nothing_else()
    {
        using NbdBench bench = Bench();
        using BlockingSocket client = Transmit(bench);
        client.Write([.. Request(1, Size - 512, 1024), .. new byte[1024]]);
        var reply = new byte[16];
        client.Read(reply);
        Assert.Equal(28u, BinaryPrimitives.ReadUInt32BigEndian(reply.AsSpan(4)));
        client.Write(Request(3, 0, 0));
        client.Read(reply);
        Assert.Equal(0u, BinaryPrimitives.ReadUInt32BigEndian(reply.AsSpan(4)));
        await AssertStillServes(bench);
    }

    [Theory]
    [InlineData(0x25609514u, 0, 512)] [InlineData(0x25609513u, 1, 64 << 20)]
    public async Task What_is_no_request_ends_the_connection(uint magic, ushort type, uint length)
    {
        using NbdBench bench = Bench();
        using BlockingSocket client = Transmit(bench);
        client.Write(Request(type, 0, length, magic: magic));
        if (type == 1) client.Read(new byte[16]);
        Assert.True(IsGone(client));
        await AssertStillServes(bench);
    }

    [Fact]
    public async Task Clients_that_stall_keep_nobody_waiting()
    {
        using NbdBench bench = Bench();
        IBlockUser export = bench.Server.Find("")!;
        using BlockingSocket deaf = Transmit(bench), slow = Transmit(bench);
        slow.Write([.. Request(1, 0, 4096), .. new byte[100]]);    // and never the rest
        for (int i = 0; i < 64; i++) deaf.Write(Request(0, 0, Size)); // and reads no answer
        await AssertStillServes(bench);
        Action resume = await export.PauseAsync().AsTask().WaitAsync(TimeSpan.FromSeconds(20));
        resume();
    }

    // Servers

    static async Task<string> FailureOf(byte[] hello, Action<BlockingSocket> go)
    {
        using var scratch = new Scratch();
        using var loop = new Qkvm.Host.EventLoop();
        using var listener = new Listener(new UnixAddress(scratch["evil"]), loop, _ => { });
        Task server = Task.Run(() =>
        {
            using var socket = new BlockingSocket(listener.WaitForClient())
            {
                Deadline = Environment.TickCount64 + 20_000,
            };
            socket.Write(hello);
            try { go(socket); }
            catch (Qkvm.Host.HostException) { }
        });
        try
        {
            await using BlockDriver disk = NbdBench.Client(scratch["evil"], "");
            return (await Assert.ThrowsAsync<BlockException>(() => disk.Read(0, 4096))).Message;
        }
        catch (ConfigurationException e) { return e.Message; }
        finally { await server; }
    }

    static readonly byte[] s_hello = [.. "NBDMAGICIHAVEOPT"u8, 0, 3];

    static byte[] Reply(uint option, uint type, byte[] data) =>
        [.. Big(0x3e889045565a9, 8), .. Big(option, 4), .. Big(type, 4), .. Big((ulong)data.Length, 4), .. data];

    /// <summary>Agrees to structured replies, to no context, and to an export of a megabyte.</summary>
    static void Agree(BlockingSocket socket)
    {
        socket.Skip(4 + 16);
        socket.Write(Reply(8, 1, []));
        socket.Skip(16 + 4 + 4 + 4 + "base:allocation".Length);
        socket.Write(Reply(10, 1, []));
        socket.Skip(16 + 8);
        socket.Write([.. Reply(7, 3, [0, 0, .. Big(Size, 8), 0, 1]), .. Reply(7, 1, [])]);
    }

    [Theory]
    [InlineData("NBDMAGOC", "Bad initial magic received: 0x4e42444d41474f43")]
    [InlineData("NBD", "Failed to read initial magic: Unexpected end-of-file")]
    [InlineData("NBDMAGICIHAVEOPX", "Bad server magic received: 0x49484156454f5058")]
    public async Task A_server_with_the_wrong_magic_is_none(string hello, string why) =>
        Assert.Contains(why, await FailureOf(Encoding.ASCII.GetBytes(hello.PadRight(hello.Length == 8 ? 18 : 0)),
            _ => { }));

    public static TheoryData<byte[], string> BadReplies => new()
    {
        { Reply(9, 1, []), "Unexpected option type" }, { Reply(8, 7, []), "" },
        { [.. Big(0x3e889045565a9, 8), .. Big(8, 4), .. Big(1, 4), .. Big(uint.MaxValue, 4)], "is too long" },
        { [.. Big(1, 8), .. new byte[12]], "Unexpected option reply magic" },
    };

    [Theory]
    [MemberData(nameof(BadReplies))]
    public async Task A_server_whose_replies_make_no_sense_is_left(byte[] reply, string why) =>
        Assert.Contains(why, await FailureOf(s_hello, socket =>
        {
            socket.Skip(4 + 16);
            socket.Write(reply);
        }));

    static byte[] Chunk(ushort type, byte[] data, ushort flags = 1, ulong? cookie = null, uint? length = null) =>
        [.. Big(0x668e33ef, 4), .. Big(flags, 2), .. Big(type, 2), .. Big(cookie ?? 1ul << 32, 8),
            .. Big(length ?? (uint)data.Length, 4), .. data];

    public static TheoryData<byte[]> BadChunks => new()
    {
        Chunk(1, [.. Big(4096, 8), .. new byte[4096]]), Chunk(1, [.. Big(0, 8), .. new byte[4095]]), Chunk(0, []),
        Chunk(1, [.. Big(0, 8), .. new byte[4096]], cookie: 5), Chunk(1, [], length: uint.MaxValue),
        Chunk(2, [.. Big(0, 8), .. Big(uint.MaxValue, 4)]), Chunk(5, new byte[12]), Chunk(9, new byte[4]),
        Chunk(0x8001, [0, 0, 0, 0, 0, 0]), Chunk(0x8001, [0, 0, 0, 5, 255, 255]), Chunk(0x8001, [1]),
        Join(Big(0x67446698, 4), Big(0, 4), Big(1ul << 32, 8)), Join(Big(1, 4), new byte[12]),
        Join(Chunk(1, [.. Big(0, 8), .. new byte[4096]], flags: 0), Chunk(1, [.. Big(0, 8), .. new byte[4096]])),
    };

    [Theory]
    [MemberData(nameof(BadChunks))]
    public async Task A_server_that_answers_nonsense_loses_the_connection_and_the_request_fails(byte[] chunk) =>
        Assert.NotEmpty(await FailureOf(s_hello, socket =>
        {
            Agree(socket);
            socket.Skip(28);
            socket.Write(chunk);
            socket.Skip(1);                                        // until it goes
        }));
}
