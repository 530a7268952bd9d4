using Qkvm.Core.Block;
using Qkvm.Core.Net;
using Qkvm.Host;

namespace Qkvm.Tests.Extending;

/// <summary>-netdev loop: a plug that leads each frame back into the card.</summary>
public sealed class LoopNet(string id) : NetBackend(id)
{
    public static readonly NetModel Model = new("loop", [],
        static (properties, _) => new LoopNet(properties.Required("id")));

    public override string Description => Model.Name;

    public override INetQueue Open(int index, INetPort port, IoLoop loop) => new Plug(port, loop);

    /// <summary>Frames come to a card on its loop alone, and are the sender's until Send returns: hence the
    /// copy.</summary>
    sealed class Plug(INetPort port, IoLoop loop) : INetQueue
    {
        volatile bool _isClosed;

        public void Send(in NetHeader header, in ScatterList frame)
        {
            NetHeader what = header;
            var copy = new byte[frame.Length];
            frame.CopyTo(copy);
            loop.Post(() =>
            {
                if (!_isClosed) port.Receive(what, copy);          // false: the card has no room, and it is lost
            });
        }

        public void Accept(NetOffloads offloads) { }               // it gives nothing but whole frames
        public void Resume() { }
        public void Dispose() => _isClosed = true;
    }
}
