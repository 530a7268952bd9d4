using Qkvm.Core.Block;
using Qkvm.Core.Net;
using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Net.Sockets;

/// <summary>A cable of datagrams, each a frame, to one machine or to a group of them.</summary>
/// <remarks>As a wire, it knows no one who is not there: what the host does not take is dropped.</remarks>
/// <param name="socket">This one's from now on.</param>
/// <param name="description">After the type in `info network`: "udp=127.0.0.1:1/127.0.0.1:2".</param>
/// <param name="envelope">What is around each frame; null for nothing.</param>
public sealed class DatagramNet(string id, string type, DatagramSocket socket, string description,
    IFrameEnvelope? envelope = null) : NetBackend(id), IDisposable
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
        readonly IFrameEnvelope? _envelope;
        readonly byte[] _output, _input;
        readonly Action _receive;
        readonly Action<FdEvents> _onReady;
        readonly int _header;                                      // bytes before a frame that is sent
        int _start, _length;                                       // of what the port had no room for
        bool _isWatching;                                          // on the loop
        volatile bool _isClosed;

        public End(DatagramNet net, INetPort port, IoLoop loop)
        {
            (_net, _socket, _envelope, _port, Loop) = (net, net.Socket, net.Envelope, port, loop);
            _header = _envelope?.Length ?? 0;
            (_output, _input) = (new byte[_header + FrameCopy.Largest], new byte[_header + FrameCopy.Largest]);
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
            Span<byte> target = _output.AsSpan(0, _header + FrameCopy.LengthOf(frame));
            _envelope?.Write(target);
            FrameCopy.Copy(frame, target[_header..]);
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
                if (_length == 0)
                {
                    int received = _socket.Receive(_input);
                    if (received == -Libc.EAgain) break;
                    _start = received < 0 ? -1 : _envelope?.Open(_input.AsSpan(0, received)) ?? 0;
                    if (_start < 0 || received - _start < FrameCopy.Header) { _net.Dropped++; continue; }
                    _length = received - _start;
                }
                if (!_port.Receive(default, _input.AsSpan(_start, _length))) return false;
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
    IFrameEnvelope? Envelope => envelope;
}

/// <summary>What is around a frame in its datagram.</summary>
public interface IFrameEnvelope
{
    /// <summary>Bytes before a frame that is sent.</summary>
    int Length { get; }

    /// <summary>Fills them, at the datagram's start.</summary>
    void Write(Span<byte> datagram);

    /// <returns>Where the frame of a datagram that came begins; negative: it is not for this end.</returns>
    int Open(ReadOnlySpan<byte> datagram);
}
