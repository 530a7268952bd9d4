using Qkvm.Core.Block;
using Qkvm.Core.Net;
using Qkvm.Host;

namespace Qkvm.Hw.Tests.Virtio;

/// <summary>A backend that writes down what cards do with it.</summary>
sealed class NetWire(NetOffloads offloads = NetOffloads.None, int queues = 1) : NetBackend("net0")
{
    readonly Dictionary<int, End> _open = [];

    public override string Description => "wire";
    public override NetOffloads Takes => offloads;
    public override NetOffloads Gives => offloads;
    public override int MaxQueues => queues;

    public List<(NetHeader Header, byte[] Frame)> Sent { get; } = [];

    /// <summary>What the driver accepted last.</summary>
    public NetOffloads Accepted { get; private set; }

    /// <summary>The queues that are open.</summary>
    public IEnumerable<int> Open() => _open.Keys.Order();

    public int Resumes { get; private set; }

    /// <summary>The queues that were to go on.</summary>
    public HashSet<int> Resumed { get; } = [];

    /// <summary>What is sent is not written down.</summary>
    public bool IsDeaf { get; set; }

    /// <summary>A frame from outside; false: it waits.</summary>
    public bool Give(byte[] frame, NetHeader header = default, int queue = 0) =>
        _open[queue].Port.Receive(header, frame);

    public override INetQueue Open(int index, INetPort port, IoLoop loop) =>
        _open[index] = new End(this, index, port);

    sealed class End(NetWire wire, int index, INetPort port) : INetQueue
    {
        public INetPort Port => port;

        public void Accept(NetOffloads offloads) => wire.Accepted = offloads;

        public void Send(in NetHeader header, in ScatterList frame)
        {
            if (wire.IsDeaf) return;
            var copy = new byte[frame.Length];
            frame.CopyTo(copy);
            wire.Sent.Add((header, copy));
        }

        public void Resume()
        {
            wire.Resumes++;
            wire.Resumed.Add(index);
        }

        public void Dispose() => wire._open.Remove(index);
    }
}
