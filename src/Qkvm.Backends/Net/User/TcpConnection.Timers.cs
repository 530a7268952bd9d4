namespace Qkvm.Backends.Net.User;

/// <summary>What happens after a time. All in milliseconds.</summary>
sealed partial class TcpConnection
{
    // The guest is near, but may be slow: there is nothing to be learnt from round trips.
    const int RetransmitTime = 1000, LongestRetransmitTime = 16_000, MaxAttempts = 12;

    const int LongestSynTime = 8000, SynPatience = 75_500;
    const int TimeWaitTime = 4000;

    // RFC 9293, section 3.8.4: at least two hours
    const int KeepAliveTime = 7_200_000, KeepAliveInterval = 75_000, MaxKeepAlives = 9;

    readonly long _created;
    long _lastHeard, _retransmitAt, _expires;                      // 0: not set
    int _attempts;
    bool _keepsAlive;                                              // the next segment is one that must be answered

    /// <summary>Looks at the clock. On the loop.</summary>
    public void Tick()
    {
        long now = _stack.Now;
        if (State == TcpState.TimeWait) { if (now >= _expires) Close(isReset: false); return; }
        if (State == TcpState.SynSent && now - _created >= SynPatience) { Close(isReset: false); return; }
        if (IsSynchronized && now - _lastHeard >= KeepAliveTime) KeepAlive(now);
        if (_retransmitAt == 0 || now < _retransmitAt) return;
        _retransmitAt = 0;
        if (_stack.Wire.IsBlocked) { StartTimer(); return; }       // a guest that stands still has lost nothing
        if (++_attempts > MaxAttempts && State != TcpState.SynSent) { Abort(); return; }
        _probes = State == TcpState.Established && _sendWindow == 0;
        Rewind();
        _stack.Tcp.Queue(this);
    }

    /// <summary>The guest's address has become known.</summary>
    public void Resolved()
    {
        if (State == TcpState.SynSent && _sendNext == _initialSequence) _stack.Tcp.Queue(this);
    }

    void StartTimer()
    {
        int longest = State == TcpState.SynSent ? LongestSynTime : LongestRetransmitTime;
        _retransmitAt = _stack.Now + Math.Min(RetransmitTime << Math.Min(_attempts, 10), longest);
    }

    /// <summary>A segment that the guest must answer: one before what it expects.</summary>
    void KeepAlive(long now)
    {
        if (now < _expires) return;
        if (now - _lastHeard >= KeepAliveTime + MaxKeepAlives * KeepAliveInterval) { Abort(); return; }
        _expires = now + KeepAliveInterval;
        _keepsAlive = _ackNeeded = true;
        _stack.Tcp.Queue(this);
    }
}
