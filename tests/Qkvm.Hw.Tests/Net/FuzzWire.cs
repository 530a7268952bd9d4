using Qkvm.Core.Block;
using Qkvm.Core.Net;
using Qkvm.Host;

namespace Qkvm.Hw.Tests.Net;

/// <summary>A backend that looks at what cards send, and may answer while they do.</summary>
sealed class FuzzWire(NetOffloads offloads, Random random) : NetBackend("net0")
{
    public const int Queues = 3;

    readonly End?[] _ends = new End?[Queues];
    int _depth;

    public override string Description => "wire";
    public override NetOffloads Takes => offloads;
    public override NetOffloads Gives => offloads;
    public override int MaxQueues => Queues;

    public long Sent { get; private set; }
    public byte[] Last { get; private set; } = [];

    /// <summary>What is sent comes back at once, twice.</summary>
    public bool Answers { get; set; }

    public void Give(byte[] frame, NetHeader header = default, int queue = 0) =>
        _ends[queue]?.Port.Receive(header, frame);

    /// <summary>Within what the card accepted, with any numbers.</summary>
    public NetHeader RandomHeader()
    {
        if (offloads == NetOffloads.None) return default;
        Segmentation cut = (Segmentation)(random.Next(8) switch { 0 => 1, 1 => 4, 2 => 5, 3 => 0x81, _ => 0 });
        return new NetHeader(cut != 0 || random.Next(2) == 0, random.Next(2) == 0, cut, Number(), Number(), Number(),
            Number());

        ushort Number() => (ushort)(random.Next(2) == 0 ? random.Next(100) : random.Next(65536));
    }

    public override INetQueue Open(int index, INetPort port, IoLoop loop) => _ends[index] = new End(this, index, port);

    sealed class End(FuzzWire wire, int index, INetPort port) : INetQueue
    {
        NetOffloads _accepted;

        public INetPort Port => port;
        public void Accept(NetOffloads accepted) => _accepted = accepted;

        public void Send(in NetHeader header, in ScatterList frame)
        {
            Assert.InRange(frame.Length, 14, 65536 + 128);
            Assert.NotNull(header.LeftUndone);
            Assert.Equal(NetOffloads.None, header.LeftUndone.Value & ~wire.Takes);
            var copy = new byte[frame.Length];
            frame.CopyTo(copy);
            wire.Last = copy;
            wire.Sent++;
            if (!wire.Answers || wire._depth > 2) return;
            wire._depth++;
            NetHeader back = (header.LeftUndone.Value & ~_accepted) == 0 ? header : default;
            port.Receive(back, copy);
            port.Receive(back, copy);
            wire._depth--;
        }

        public void Resume() { }
        public void Dispose() { if (wire._ends[index] == this) wire._ends[index] = null; }
    }
}
