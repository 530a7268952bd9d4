using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Net.User;

/// <summary>A connection's two ends, as the guest sees them.</summary>
readonly record struct TcpKey(IpEndpoint Guest, IpEndpoint Remote);

/// <summary>RFC 9293, section 3.3.2, without what follows from <see cref="TcpConnection"/>'s flags.</summary>
enum TcpState
{
    /// <summary>The guest wants to connect, and the host's socket is about to.</summary>
    Connecting,

    /// <summary>Somebody connected to a forwarded port, and the guest has not answered.</summary>
    SynSent,
    SynReceived, Established, TimeWait,

    /// <summary>Over: the loop closes what is left of it.</summary>
    Closed,
}

/// <summary>A TCP connection of the guest, which ends here, and the host's socket that goes on with it.</summary>
/// <remarks>Under the stack's lock; <see cref="Service"/> and <see cref="Tick"/> on the loop, which alone sends to the
/// guest and watches the socket. The wire loses nothing unless the guest has no room, so that there is no congestion
/// control, and data that come out of order are left to the guest to send again.</remarks>
sealed partial class TcpConnection
{
    /// <summary>What is announced to the guest, and kept where the host takes nothing.</summary>
    const int LargestWindow = 1 << 20, SmallWindow = 65535;

    const int WindowScale = 7, DefaultSegment = 536, SmallestSegment = 64;

    readonly UserStack _stack;
    readonly RelaySocket _socket;
    readonly ByteRing _toGuest, _toHost;
    readonly bool _isForwarded;                                    // somebody of the host's side asked for it
    readonly int _segment;                                         // bytes in one packet: MSS
    readonly uint _initialSequence;

    // SND and RCV of RFC 9293, section 3.3.1
    uint _sendUnacknowledged, _sendNext, _sendMax;
    uint _receiveNext, _receiveEdge;                               // where the window ends that the guest knows
    uint _windowSequence;                                          // SND.WL1
    long _sendWindow;
    int _sendScale, _window = SmallWindow;
    bool _scales;                                                  // both ends offered it

    bool _ackNeeded, _guestEnded, _hostEnded, _endSent, _endAcknowledged, _guestEndedFirst;

    public TcpConnection(UserStack stack, TcpKey key, RelaySocket socket, TcpState state, MacAddress mac, int segment)
    {
        (_stack, Key, _socket, State, Mac) = (stack, key, socket, state, mac);
        (_toGuest, _toHost) = (new ByteRing(stack.Tcp.Buffers), new ByteRing(stack.Tcp.Buffers));
        int largest = UserStack.Mtu - FrameWriter.IpLength(key.Guest.Address.IsV4) - TcpHeader.MinLength;
        _segment = Math.Clamp(segment == 0 ? DefaultSegment : segment, SmallestSegment, largest);
        _initialSequence = stack.NewSequence();
        _sendUnacknowledged = _sendNext = _sendMax = _initialSequence;
        Node = new LinkedListNode<TcpConnection>(this);
        _created = _lastHeard = stack.Now;
        _isForwarded = state == TcpState.SynSent;
        _onReady = OnReady;
    }

    public TcpKey Key { get; }
    public TcpState State { get; private set; }

    /// <summary>Where the guest was heard last.</summary>
    public MacAddress Mac { get; set; }

    /// <summary>Its place among all, the longest idle first.</summary>
    public LinkedListNode<TcpConnection> Node { get; }

    /// <summary>It waits for <see cref="Service"/>.</summary>
    public bool IsQueued { get; set; }

    bool IsSynchronized => State is TcpState.Established;

    int InFlight => (int)(_sendNext - _sendUnacknowledged);

    /// <summary>The guest's SYN: what it offers counts from now on.</summary>
    public void Accept(in TcpHeader syn)
    {
        _receiveNext = syn.Sequence + 1;
        _windowSequence = syn.Sequence;
        _sendWindow = syn.Window;                                  // not scaled in a SYN
        _scales = syn.WindowScale >= 0;
        _sendScale = Math.Max(syn.WindowScale, 0);
        _receiveEdge = _receiveNext + SmallWindow;                 // nor is ours
    }

    /// <summary>Does what has become possible. On the loop.</summary>
    public void Service()
    {
        if (State == TcpState.Closed) { CloseSocket(); return; }
        WatchSocket();
        if (State == TcpState.Connecting && _canWrite) FinishConnecting();
        if (IsSynchronized)
        {
            PushToHost();
            ReadHost();
        }
        if (State != TcpState.Closed) Output();
        if (IsSynchronized && _endAcknowledged && _guestEnded && _toHost.Count == 0 && !_ackNeeded) Finish();
        if (State == TcpState.Closed) CloseSocket();
    }

    /// <summary>Ends it at once, with a reset to both ends.</summary>
    public void Abort()
    {
        if (State is TcpState.SynReceived or TcpState.Established)
            _stack.Tcp.SendReset(Key, Mac, _sendNext, _receiveNext, TcpFlags.Rst | TcpFlags.Ack);
        Close(isReset: true);
    }

    /// <summary>It is over; the loop closes the socket.</summary>
    void Close(bool isReset)
    {
        if (State == TcpState.Closed) return;
        State = TcpState.Closed;
        _resetsHost |= isReset;
        _toGuest.Release();
        _toHost.Release();
        _stack.Tcp.Remove(this);
        _stack.Tcp.Queue(this);
    }

    /// <summary>Both directions have ended: whoever ended first remembers it for a while. RFC 9293, section
    /// 3.6.1.</summary>
    void Finish()
    {
        if (_guestEndedFirst) { Close(isReset: false); return; }
        State = TcpState.TimeWait;
        _expires = _stack.Now + TimeWaitTime;
        _retransmitAt = 0;
        CloseSocket();
    }
}
