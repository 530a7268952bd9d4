using Qkvm.Core.Block;
using Qkvm.Core.Net;
using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Net.User;

/// <summary>The host's socket.</summary>
sealed partial class TcpConnection
{
    const int ReadAtOnce = 512 << 10;                              // bytes, before others get their turn

    readonly Action<FdEvents> _onReady;
    bool _isWatched, _canRead, _canWrite, _isShut, _resetsHost;

    /// <summary>As `info usernet` shows it.</summary>
    public UserConnection Describe()
    {
        string state = State switch
        {
            TcpState.Connecting or TcpState.SynReceived => "SYN_RCVD",
            TcpState.SynSent => "SYN_SENT",
            TcpState.Established => (_guestEnded, _endSent) switch
            {
                (false, false) => "ESTABLISHED",
                (true, false) => "CLOSE_WAIT",
                (false, true) => _endAcknowledged ? "FIN_WAIT_2" : "FIN_WAIT_1",
                _ => _guestEndedFirst ? "LAST_ACK" : "CLOSING",
            },
            TcpState.TimeWait => "TIME_WAIT",
            _ => "CLOSED",
        };
        (IpEndpoint source, IpEndpoint to) = _isForwarded ? (Key.Remote, Key.Guest) : (Key.Guest, Key.Remote);
        return new UserConnection(UserProtocol.Tcp, state, _socket.Fd, $"{source.Address}", source.Port,
            $"{to.Address}", to.Port, _toHost.Count, _toGuest.Count);
    }

    /// <summary>Bytes to the host, or into the ring for it; returns how many. From any thread.</summary>
    int Deliver(in ScatterList data)
    {
        int taken = 0;
        if (_toHost.Count == 0 && _canWrite) taken = SendNow(data);
        if (taken < 0) return 0;
        foreach (Memory<byte> piece in data.Slice(taken, data.Length - taken))
        {
            int count = _toHost.Append(piece.Span);
            taken += count;
            if (count < piece.Length) break;
        }
        return taken;
    }

    /// <summary>-1: the connection is over.</summary>
    int SendNow(in ScatterList data)
    {
        Memory<byte>[] pieces = _stack.Pieces;
        int count = 0, taken = 0, offered = 0;
        foreach (Memory<byte> piece in data)
        {
            (pieces[count++], offered) = (piece, offered + piece.Length);
            if (count < pieces.Length && taken + offered < data.Length) continue;
            int sent = _socket.Send(pieces.AsSpan(0, count));
            if (!TakeResult(sent)) return -1;
            taken += Math.Max(sent, 0);
            if (sent < offered) break;
            (count, offered) = (0, 0);
        }
        if (taken < data.Length) _canWrite = false;
        return taken;
    }

    void PushToHost()
    {
        while (_toHost.Count > 0 && _canWrite)
        {
            Memory<byte> first = _toHost.First;
            int sent = _socket.Send(new ReadOnlySpan<Memory<byte>>(in first));
            if (!TakeResult(sent)) return;
            if (sent > 0) _toHost.Drop(sent);
            if (sent < first.Length) _canWrite = false;
        }
        if (_toHost.Count > 0 || !_guestEnded || _isShut) return;
        _isShut = true;
        _socket.ShutdownWrite();
    }

    void ReadHost()
    {
        for (int budget = ReadAtOnce; _canRead && !_hostEnded; )
        {
            if (budget <= 0) { _stack.Tcp.Queue(this); break; }
            if (!_toGuest.TryGetFree(out Span<byte> first, out Span<byte> second)) break;
            int count = _socket.Receive(first, second);
            if (count > 0)
            {
                _toGuest.Commit(count);
                budget -= count;
            }
            else if (count == 0) _hostEnded = true;
            else if (count == -Libc.EAgain) _canRead = false;
            else if (!TakeResult(count)) return;
        }
        if (_toGuest.Count == 0) _toGuest.Release();
    }

    /// <summary>False: the host's side is broken, and so is the guest's now.</summary>
    bool TakeResult(int result)
    {
        if (result >= 0 || result is -Libc.EAgain or -Libc.EIntr) return true;
        Abort();
        return false;
    }

    void FinishConnecting()
    {
        int errno = _socket.Error;
        if (errno == 0) { State = TcpState.SynReceived; return; }
        _stack.Tcp.Refuse(Key, Mac, _receiveNext, errno);
        Close(isReset: false);
    }

    void OnReady(FdEvents events)
    {
        using UserStack.LoopScope scope = _stack.OnLoop();
        const FdEvents ends = FdEvents.Error | FdEvents.HangUp;
        _canRead |= (events & (FdEvents.Readable | ends)) != 0;
        _canWrite |= (events & (FdEvents.Writable | ends)) != 0;
        if (State != TcpState.Closed) _stack.Tcp.Queue(this);
    }

    void WatchSocket()
    {
        if (_isWatched || _socket.Fd < 0) return;
        _isWatched = true;
        _stack.Loop.Watch(_socket.Fd, FdEvents.Readable | FdEvents.Writable | FdEvents.EdgeTriggered, _onReady);
    }

    void CloseSocket()
    {
        if (_isWatched) _stack.Loop.Unwatch(_socket.Fd);
        _isWatched = false;
        if (_resetsHost) _socket.Abort();
        else _socket.Dispose();
    }
}
