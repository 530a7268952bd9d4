using Qkvm.Core.Block;
using Qkvm.Host;
using Qkvm.Host.Sockets;
using Qkvm.Storage.Nbd;

namespace Qkvm.Storage.Drivers.Nbd;

/// <summary>The connection has ended before an answer came.</summary>
sealed class NbdLostException(string why) : Exception(why);

/// <summary>A connection in transmission: many requests at once; a thread of its own receives what comes
/// back.</summary>
sealed partial class NbdChannel : IDisposable
{
    /// <summary>Requests in flight; more wait here.</summary>
    const int MaxCalls = 64;

    /// <summary>Milliseconds.</summary>
    const int Goodbye = 1000;

    readonly NbdClientHandshake _agreed;
    readonly BlockingSocket _socket;
    readonly SemaphoreSlim _room = new(MaxCalls);
    readonly NbdCall.Pool _pool = new();
    readonly NbdCall?[] _calls = new NbdCall?[MaxCalls];           // within its own lock, as is the failure
    readonly Lock _sending = new();
    readonly GatherList _list = new();                             // within the lock of sending
    readonly Thread _receiver;
    readonly Action<NbdChannel> _onLost;
    uint _generation;
    string? _failure;

    /// <param name="agreed">This object's own from now on.</param>
    /// <param name="onLost">The connection has ended. On the receiver's thread, before calls hear of it.</param>
    public NbdChannel(NbdClientHandshake agreed, NbdExportInfo info, Action<NbdChannel> onLost)
    {
        (_agreed, _socket, Info, _onLost) = (agreed, agreed.Socket, info, onLost);
        _receiver = new Thread(Receive, 256 << 10) { IsBackground = true, Name = "nbd" };
        _receiver.Start();
    }

    public NbdExportInfo Info { get; }

    /// <exception cref="NbdLostException">The connection has ended.</exception>
    /// <exception cref="BlockException">The server's error.</exception>
    public ValueTask<BlockStatus> RunAsync(NbdCommand command, NbdCommandFlags flags, long offset, long length,
        ScatterList buffers)
    {
        return _room.Wait(0) ? Start(command, flags, offset, length, buffers) : WaitAsync();

        async ValueTask<BlockStatus> WaitAsync()
        {
            await _room.WaitAsync().ConfigureAwait(false);
            return await Start(command, flags, offset, length, buffers).ConfigureAwait(false);
        }
    }

    /// <summary>Says goodbye if the server listens, and waits for the receiver.</summary>
    public void Dispose()
    {
        _socket.Deadline = Environment.TickCount64 + Goodbye;
        if (_sending.TryEnter(Goodbye))
            try { Send(new NbdRequest(NbdCommand.Disconnect, 0, 0, 0, 0), default); }
            catch (HostException) { }                               // it has gone before us
            finally { _sending.Exit(); }
        _socket.HangUp();
        _receiver.Join();
        _agreed.Dispose();
    }

    ValueTask<BlockStatus> Start(NbdCommand command, NbdCommandFlags flags, long offset, long length,
        ScatterList buffers)
    {
        NbdCall call = _pool.Take();
        ValueTask<BlockStatus> result;
        lock (_calls)
        {
            if (_failure is { } failure)
            {
                _room.Release();
                throw new NbdLostException(failure);
            }
            int slot = Array.IndexOf(_calls, null);
            var request = new NbdRequest(command, flags, (ulong)++_generation << 32 | (uint)slot, offset, length);
            result = call.Begin(_pool, request, buffers);
            _calls[slot] = call;
        }
        try { Send(call.Request, command == NbdCommand.Write ? buffers : default); }
        catch (HostException) { _socket.HangUp(); }                 // the receiver ends all calls
        return result;
    }

    void Send(in NbdRequest request, ScatterList data)
    {
        lock (_sending)
        {
            request.Write(_list.Begin(NbdProtocol.RequestLength));
            try
            {
                foreach (Memory<byte> piece in data)
                {
                    if (_list.Add(piece)) continue;
                    _socket.Write(_list, more: true);
                    _list.Clear();
                    _list.Begin(0);
                    _list.Add(piece);
                }
                _socket.Write(_list);
            }
            finally { _list.Clear(); }
        }
    }

    /// <summary>Ends a call; its place is free.</summary>
    void Finish(NbdCall call, Exception? error)
    {
        lock (_calls) _calls[(int)(uint)call.Request.Cookie] = null;
        _room.Release();
        call.End(error);
    }

    void Fail(string why)
    {
        NbdCall?[] left;
        lock (_calls)
        {
            _failure = why;
            left = [.. _calls];
        }
        _socket.HangUp();
        _onLost(this);
        foreach (NbdCall? call in left)
            if (call != null) Finish(call, new NbdLostException(why));
    }
}
