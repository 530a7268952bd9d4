using System.Collections.Concurrent;
using Qkvm.Backends.Net.User;
using Qkvm.Core.Block;
using Qkvm.Core.Net;
using Qkvm.Host;
using static Qkvm.Backends.Tests.Net.User.Packets;

namespace Qkvm.Backends.Tests.Net.User;

/// <summary>A frame that came to the guest, taken apart.</summary>
sealed record Frame(NetHeader Header, byte[] Bytes)
{
    public byte[] To => Bytes[..6];
    public byte[] From => Bytes[6..12];
    public int Type => Read16(Bytes, 12);
    public bool IsV4 => Type == 0x800;
    public byte Protocol => Type switch { 0x800 => Bytes[23], 0x86DD => Bytes[20], _ => 0 };
    public byte HopLimit => Bytes[IsV4 ? 22 : 21];
    int Ip => IsV4 ? 20 : 40;
    public string Source => new System.Net.IPAddress(IsV4 ? Bytes[26..30] : Bytes[22..38]).ToString();
    public string Destination => new System.Net.IPAddress(IsV4 ? Bytes[30..34] : Bytes[38..54]).ToString();

    /// <summary>Of IP.</summary>
    public byte[] Payload => Bytes[(14 + Ip)..];

    /// <summary>Of UDP and TCP.</summary>
    public int SourcePort => Read16(Payload, 0);
    public int DestinationPort => Read16(Payload, 2);
    public byte[] Data => Payload[(Protocol == 17 ? 8 : (Payload[12] >> 4) * 4)..];

    public bool IsUdp => Type is 0x800 or 0x86DD && Protocol == 17;
    public bool IsTcp => Type is 0x800 or 0x86DD && Protocol == 6;
    public bool IsIcmp => Type is 0x800 or 0x86DD && Protocol is 1 or 58;

    public uint Sequence => Read32(Payload, 4);
    public uint Acknowledgment => Read32(Payload, 8);
    public int Flags => Payload[13];
    public int Window => Read16(Payload, 14);

    /// <summary>All checksums are right, or left to the card.</summary>
    public bool IsIntact => (!IsV4 || Sum(Bytes[14..34]) == 0) && (Header.NeedsChecksum || (Protocol == 1
        ? Sum(Payload) == 0 : Sum([.. Pseudo(Source, Destination, Protocol, Payload.Length), .. Payload]) == 0));
}

/// <summary>A guest that does what the test says, behind a user network on a loop of its own.</summary>
sealed class FakeGuest : IDisposable, INetPort
{
    public const string Address = "10.0.2.15", Host = "10.0.2.2";

    static readonly TimeSpan s_hang = TimeSpan.FromSeconds(30);    // the end of a test that would never end

    readonly EventLoop _loop = new();
    readonly Thread _thread;
    readonly BlockingCollection<Frame> _frames = [];
    readonly INetQueue _queue;

    public FakeGuest(UserNetOptions? options = null, NetOffloads offloads = NetOffloads.None,
        Func<EventLoop, GuestTargets>? makeTargets = null)
    {
        GuestTargets? targets = makeTargets?.Invoke(_loop);
        Backend = new UserNetBackend("-netdev user,id=n", options ?? UserNetOptions.Default("n"),
            targets ?? new GuestTargets([], _loop, _ => throw new InvalidOperationException(), _ => { }), Printed.Add,
            Time);
        _queue = Backend.Open(0, this, _loop);
        _queue.Accept(offloads);
        _thread = new Thread(_loop.Run) { IsBackground = true };
        _thread.Start();
    }

    public ManualTime Time { get; } = new();
    public UserNetBackend Backend { get; }
    public List<string> Printed { get; } = [];

    /// <summary>The card has no room.</summary>
    public volatile bool Refuses;

    public void Resume()
    {
        Refuses = false;
        _queue.Resume();
    }

    public void Send(byte[] frame, NetHeader header = default) => _queue.Send(header, new ScatterList(frame));

    /// <summary>The next frame that fits, whose checksums are right; others are dropped.</summary>
    public Frame Next(Func<Frame, bool> fits)
    {
        Frame frame = NextUnchecked(fits);
        if (frame.Type != 0x806) Assert.True(frame.IsIntact, Convert.ToHexString(frame.Bytes));
        return frame;
    }

    public Frame NextUnchecked(Func<Frame, bool> fits)
    {
        using var hang = new CancellationTokenSource(s_hang);
        while (true)
            if (_frames.Take(hang.Token) is var frame && fits(frame)) return frame;
    }

    /// <summary>What came until now, after all that was posted.</summary>
    public List<Frame> Settle()
    {
        for (int i = 0; i < 3; i++) OnLoop(() => { });
        List<Frame> all = [];
        while (_frames.TryTake(out Frame? frame)) all.Add(frame);
        return all;
    }

    /// <summary>In steps, so that what is due happens in time.</summary>
    public void Advance(double seconds)
    {
        for (int i = 0; i < seconds * 10; i++)
        {
            Time.Advance(TimeSpan.FromMilliseconds(100));
            OnLoop(() => { });
        }
        OnLoop(() => { });
    }

    public bool Receive(in NetHeader header, ReadOnlySpan<byte> frame)
    {
        if (Refuses) return false;
        _frames.Add(new Frame(header, frame.ToArray()));
        return true;
    }

    public void OnLoop(Action work)
    {
        using var done = new ManualResetEventSlim();
        _loop.Post(() => { work(); done.Set(); });
        Assert.True(done.Wait(s_hang));
    }

    public void Dispose()
    {
        OnLoop(() =>
        {
            _queue.Dispose();
            Backend.Dispose();
        });
        OnLoop(() => { });
        _loop.Stop();
        _thread.Join();
        _loop.Dispose();
    }
}
