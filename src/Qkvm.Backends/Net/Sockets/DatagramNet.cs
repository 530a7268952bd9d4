using Qkvm.Core.Block;
using Qkvm.Core.Net;
using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Net.Sockets;

/// <summary>A cable of datagrams, each a frame, to one machine or to a group of them.</summary>
/// <remarks>As a wire, it knows no one who is not there: what the host does not take is dropped.</remarks>
/// <param name="socket">This one's from now on.</param>
/// <param name="description">After the type in `info network`: "udp=127.0.0.1:1/127.0.0.1:2".</param>
public sealed class DatagramNet(string id, string type, DatagramSocket socket, string description) : NetBackend(id),
    IDisposable
{
    End? _end;

    public override string Description => $"index=0,type={type},{description}";

    /// <summary>Frames that could not be sent, or were none.</summary>
    public long Dropped { get; private set; }

    public override INetQueue Open(int index, INetPort port, IoLoop loop)
    {
        if (_end != null) throw new InvalidOperationException($"{Id} is connected already");
        return _end = new End(this, port, loop);
    }

    /// <summary>Under the machine lock, after the card.</summary>
    public void Dispose()
    {
        if (_end is not { } end) socket.Dispose();
        else
        {
            end.Dispose();
            end.Loop.Post(socket.Dispose);
        }
    }

    sealed class End : INetQueue
    {
        const int Burst = 64;                                      // frames at once, before others get their turn

        readonly DatagramNet _net;
        readonly DatagramSocket _socket;
        readonly INetPort _port;
        readonly byte[] _output = new byte[FrameCopy.Largest], _input = new byte[FrameCopy.Largest];
        readonly Action _receive;
        readonly Action<FdEvents> _onReady;
        int _length;                                               // of what the port had no room for
        bool _isWatching;                                          // on the loop
        volatile bool _isClosed;

        public End(DatagramNet net, INetPort port, IoLoop loop)
        {
            (_net, _socket, _port, Loop) = (net, net.Socket, port, loop);
            (_receive, _onReady) = (Receive, _ => Receive());
            loop.Post(_receive);
        }

        public IoLoop Loop { get; }

        public void Accept(NetOffloads offloads) { }
        public void Resume() => Loop.Post(_receive);

        public void Send(in NetHeader header, in ScatterList frame)
        {
            if (_isClosed) return;
            if (frame.Length > FrameCopy.Largest) { _net.Dropped++; return; }
            Span<byte> target = _output.AsSpan(0, FrameCopy.LengthOf(frame));
            FrameCopy.Copy(frame, target);
            if (_socket.Send(target) != target.Length) _net.Dropped++;
        }

        public void Dispose()
        {
            if (_isClosed) return;
            _isClosed = true;
            _net._end = null;
            Loop.Post(() => Watch(false));
        }

        void Receive()
        {
            if (_isClosed) return;
            Watch(ReceiveBurst());
        }

        /// <returns>False: the port has no room.</returns>
        bool ReceiveBurst()
        {
            for (int budget = Burst; budget > 0 && !_isClosed; budget--)
            {
                // An error is of one datagram that was sent: some peer is not there. The next may be one that came.
                if (_length == 0) _length = _socket.Receive(_input);
                if (_length == -Libc.EAgain) { _length = 0; break; }
                if (_length >= FrameCopy.Header && !_port.Receive(default, _input.AsSpan(0, _length))) return false;
                if (_length < FrameCopy.Header) _net.Dropped++;
                _length = 0;
            }
            return true;
        }

        void Watch(bool on)
        {
            if (_isWatching == on) return;
            _isWatching = on;
            if (on) Loop.Watch(_socket.Fd, FdEvents.Readable, _onReady);
            else Loop.Unwatch(_socket.Fd);
        }
    }

    DatagramSocket Socket => socket;
}
