using Qkvm.Core.Block;

namespace Qkvm.Backends.Net.User;

/// <summary>What comes from the guest. RFC 9293, section 3.10.7; resets and SYNs out of place as RFC 5961 has
/// them.</summary>
sealed partial class TcpConnection
{
    const int FastRetransmit = 3;                                  // equal acknowledgments: RFC 5681, section 3.2

    int _repeats;

    /// <summary>A segment for this connection. From any thread.</summary>
    /// <returns>False: a new connection between the same ends; this one is over.</returns>
    public bool Input(in TcpHeader header, in ScatterList data)
    {
        switch (State)
        {
            case TcpState.Connecting: InputConnecting(header); return true;
            case TcpState.SynSent: InputSynSent(header); return true;
            case TcpState.TimeWait when header.Has(TcpFlags.Syn) && (int)(header.Sequence - _receiveNext) > 0:
                Close(isReset: false);
                return false;
            default: InputSynchronized(header, data); return true;
        }
    }

    void InputConnecting(in TcpHeader header)
    {
        if (header.Has(TcpFlags.Rst)) Close(isReset: true);
        else if (header.Has(TcpFlags.Syn)) Accept(header);
    }

    void InputSynSent(in TcpHeader header)
    {
        bool acknowledges = header.Has(TcpFlags.Ack) && header.Acknowledgment == _initialSequence + 1;
        if (header.Has(TcpFlags.Ack) && !acknowledges)
        {
            if (!header.Has(TcpFlags.Rst))
                _stack.Tcp.SendReset(Key, Mac, header.Acknowledgment, 0, TcpFlags.Rst);
            return;
        }
        if (header.Has(TcpFlags.Rst))
        {
            if (acknowledges) Close(isReset: false);               // refused: the client sees an end
            return;
        }
        if (!header.Has(TcpFlags.Syn) || !acknowledges) return;
        Accept(header);
        Establish(header.Acknowledgment);
        _ackNeeded = true;
    }

    void InputSynchronized(in TcpHeader header, in ScatterList data)
    {
        int length = (int)data.Length, known = (int)(_receiveNext - header.Sequence);
        bool ends = header.Has(TcpFlags.Fin);
        if (header.Has(TcpFlags.Rst))
        {
            if (known == 0) Close(isReset: true);
            else if (known < 0 && (int)(_receiveEdge - header.Sequence) > 0) _ackNeeded = true;
            return;
        }
        if (header.Has(TcpFlags.Syn))
        {
            if (State == TcpState.SynReceived) _sendNext = _sendUnacknowledged; // it has not heard our answer
            else _ackNeeded = true;
            return;
        }
        if (!header.Has(TcpFlags.Ack)) return;
        _lastHeard = _stack.Now;
        if (!Acknowledge(header, length)) return;
        if (known > 0 || length > 0 || ends) _ackNeeded = true;
        if (State != TcpState.Established || known < 0 || known > length || _guestEnded) return;
        int room = (int)(_receiveEdge - _receiveNext), count = Math.Min(length - known, room);
        if (count < length - known) ends = false;
        if (count > 0)
        {
            int taken = Deliver(data.Slice(known, count));
            if (_scales) _window = LargestWindow;                  // not before there is a use for it
            _receiveNext += (uint)taken;
            if (taken < count) ends = false;
        }
        if (!ends || State != TcpState.Established) return;
        _receiveNext++;
        _guestEnded = true;
        _guestEndedFirst = !_endSent;
    }

    /// <summary>The acknowledgment and the window. False: nothing of the segment counts.</summary>
    bool Acknowledge(in TcpHeader header, int length)
    {
        int acknowledged = (int)(header.Acknowledgment - _sendUnacknowledged);
        if (State == TcpState.SynReceived)
        {
            if (acknowledged != 1)
            {
                _stack.Tcp.SendReset(Key, Mac, header.Acknowledgment, 0, TcpFlags.Rst);
                return false;
            }
            Establish(header.Acknowledgment);
            acknowledged = 0;
        }
        if (acknowledged > (int)(_sendMax - _sendUnacknowledged))
        {
            _ackNeeded = true;
            return false;
        }
        long window = (long)header.Window << _sendScale;
        if (acknowledged > 0) Advance(acknowledged);
        else if (acknowledged == 0) CountRepeats(length == 0 && window == _sendWindow && window > 0);
        if (acknowledged < 0 || (int)(header.Sequence - _windowSequence) < 0) return true;
        (_sendWindow, _windowSequence) = (window, header.Sequence);
        _attempts = 0;                                             // it is alive
        return true;
    }

    void Establish(uint acknowledgment)
    {
        State = TcpState.Established;
        _sendUnacknowledged = acknowledgment;
        _sendNext = _sendMax = acknowledgment;
        (_retransmitAt, _attempts) = (0, 0);
    }

    void Advance(int acknowledged)
    {
        int bytes = Math.Min(acknowledged, _toGuest.Count);
        if (bytes > 0) _toGuest.Drop(bytes);
        _endAcknowledged |= acknowledged > bytes;                  // nothing but the end counts without being a byte
        _sendUnacknowledged += (uint)acknowledged;
        if (InFlight < 0) _sendNext = _sendUnacknowledged;
        _repeats = 0;
        if (_burst < int.MaxValue) _burst = _burst > BufferPool.Largest ? int.MaxValue : _burst + 2 * acknowledged;
        _retransmitAt = InFlight > 0 ? _stack.Now + RetransmitTime : 0;
    }

    void CountRepeats(bool isRepeat)
    {
        if (!isRepeat || InFlight == 0) _repeats = 0;
        else if (++_repeats == FastRetransmit) Rewind();
    }
}
