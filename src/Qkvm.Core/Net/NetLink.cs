using Qkvm.Core.Block;
using Qkvm.Host;

namespace Qkvm.Core.Net;

/// <summary>The cable between a netdev and whoever takes it: it can be cut, and filters see what passes.</summary>
public sealed class NetLink(NetBackend backend) : NetBackend(backend.Id)
{
    volatile INetFilter[] _filters = [];                           // replaced whole
    readonly List<End> _ends = [];
    TrafficCount _sentBefore, _receivedBefore;                     // through ends that are gone
    volatile bool _isUp = true;

    public override string Description => backend.Description;
    public override NetOffloads Takes => backend.Takes;
    public override NetOffloads Gives => backend.Gives;
    public override IVhostNet? Vhost => backend.Vhost;
    public override int MaxQueues => backend.MaxQueues;

    /// <summary>Off: frames are lost in both directions.</summary>
    public bool IsUp { get => _isUp; set => _isUp = value; }

    /// <summary>Changed under the machine lock.</summary>
    public IReadOnlyList<INetFilter> Filters => _filters;

    public void Add(INetFilter filter) => _filters = [.. _filters, filter];
    public void Remove(INetFilter filter) => _filters = [.. _filters.Where(f => f != filter)];

    /// <summary>Of the card, since the netdev was made; lost frames do not count. Under the machine lock.</summary>
    public TrafficCount Sent => _ends.Aggregate(_sentBefore, static (sum, end) => sum + end.Sent);

    /// <summary>For the card. As <see cref="Sent"/>.</summary>
    public TrafficCount Received => _ends.Aggregate(_receivedBefore,
        static (sum, end) => sum + end.Received);

    public override INetQueue Open(int index, INetPort port, IoLoop loop)
    {
        var end = new End(this, backend, index, port, loop);
        _ends.Add(end);
        return end;
    }

    void Close(End end)
    {
        if (!_ends.Remove(end)) return;
        _sentBefore += end.Sent;
        _receivedBefore += end.Received;
    }

    sealed class End : INetQueue, INetPort
    {
        readonly NetLink _link;
        readonly INetPort _port;
        readonly INetQueue _queue;

        public TrafficCount Sent, Received;                        // one writer each; readers see what was true lately

        public End(NetLink link, NetBackend backend, int index, INetPort port, IoLoop loop)
        {
            (_link, _port) = (link, port);
            _queue = backend.Open(index, this, loop);
        }

        public void Accept(NetOffloads offloads) => _queue.Accept(offloads);
        public void Resume() => _queue.Resume();

        public void Dispose()
        {
            _queue.Dispose();
            _link.Close(this);
        }

        public void Send(in NetHeader header, in ScatterList frame)
        {
            if (!_link._isUp) return;
            foreach (INetFilter filter in _link._filters) filter.See(true, header, frame);
            Sent.Add(frame.Length);
            _queue.Send(header, frame);
        }

        public bool Receive(in NetHeader header, ReadOnlySpan<byte> frame)
        {
            if (!_link._isUp) return true;
            if (!_port.Receive(header, frame)) return false;
            Received.Add(frame.Length);
            foreach (INetFilter filter in _link._filters) filter.See(false, header, frame);
            return true;
        }
    }
}
