namespace Qkvm.Host.Sockets;

/// <summary>Who is at our end of a connection. Main loop, under the machine lock.</summary>
public interface IConnectionUser
{
    /// <summary>Bytes it can take now; 0 makes the other end wait for <see cref="Connection.AcceptInput"/>.</summary>
    int Room { get; }

    /// <summary>At most <see cref="Room"/> bytes.</summary>
    void Receive(Span<byte> data);

    /// <summary>After a short Write: half of the buffer is free again.</summary>
    void Writable();

    /// <summary>All that was written has been sent.</summary>
    void Sent() { }

    /// <summary>The other end has gone; the connection is closed.</summary>
    void Closed();
}

/// <summary>A connection to somebody who may be slow, silent or hostile: never waits, and keeps no more than its bound
/// for them.</summary>
/// <remarks>Main loop, under the machine lock. Input is read only while the user has room for it, output that the other
/// end does not take is kept up to a bound.</remarks>
public sealed class Connection : IDisposable
{
    public const int DefaultOutputLimit = 64 * 1024;

    const int SmallestOutput = 4096;

    readonly EventLoop _loop;
    readonly IConnectionUser _user;
    readonly int _outputLimit;
    readonly Action<FdEvents> _onReady;
    readonly byte[] _input = new byte[4096];
    byte[] _output = [];
    int _outputStart, _outputEnd;
    int _watchedInput = -1, _watchedOutput = -1;
    bool _userWaits;

    /// <param name="outputLimit">Bytes kept for an end that does not read.</param>
    public Connection(ITransport transport, EventLoop loop, IConnectionUser user, int outputLimit = DefaultOutputLimit)
    {
        (Transport, _loop, _user, _outputLimit) = (transport, loop, user, outputLimit);
        _onReady = OnReady;
    }

    public ITransport Transport { get; }
    public bool IsOpen { get; private set; } = true;

    /// <summary>Bytes that the other end has not taken yet.</summary>
    public int Pending => _outputEnd - _outputStart;

    /// <summary>Takes as many bytes as the bound allows and returns their number; all of them once it is
    /// closed.</summary>
    public int Write(ReadOnlySpan<byte> data)
    {
        if (!IsOpen) return data.Length;
        int direct = 0;
        if (Pending == 0)
        {
            int n = Transport.Write(data);
            if (n < 0 && n != -Libc.EAgain) { HangUp(); return data.Length; }
            direct = Math.Max(n, 0);
        }
        int kept = Math.Min(data.Length - direct, _outputLimit - Pending);
        if (kept > 0) Keep(data.Slice(direct, kept));
        if (direct + kept < data.Length) _userWaits = true;
        if (Pending > 0 || Transport.WantsToWrite) Rewatch();
        return direct + kept;
    }

    /// <summary>The user has room again. Also the beginning: nothing is read before.</summary>
    public void AcceptInput() => Rewatch();

    /// <summary>Closes it from our side; the user is not told. What is pending is lost.</summary>
    public void Dispose()
    {
        if (IsOpen) Release().Dispose();
    }

    /// <summary>Ends it and gives its transport to somebody else; what is pending is lost.</summary>
    public ITransport Release()
    {
        IsOpen = false;
        _outputStart = _outputEnd = 0;
        Unwatch(ref _watchedInput);
        if (_watchedOutput >= 0) Unwatch(ref _watchedOutput);
        return Transport;
    }

    void HangUp()
    {
        if (!IsOpen) return;
        Dispose();
        _user.Closed();
        if (!_userWaits) return;
        _userWaits = false;
        _user.Writable();
    }

    void Keep(ReadOnlySpan<byte> data)
    {
        if (_output.Length - _outputEnd < data.Length)
        {
            int size = Math.Max(SmallestOutput, _output.Length);
            while (size < Pending + data.Length) size *= 2;
            byte[] target = size > _output.Length ? new byte[Math.Min(size, _outputLimit)] : _output;
            _output.AsSpan(_outputStart, Pending).CopyTo(target);
            (_output, _outputEnd, _outputStart) = (target, Pending, 0);
        }
        data.CopyTo(_output.AsSpan(_outputEnd));
        _outputEnd += data.Length;
    }

    /// <summary>Watches what can make progress now. Nothing is watched for nothing: a hang-up would be reported again
    /// and again.</summary>
    void Rewatch()
    {
        if (!IsOpen) return;
        FdEvents input = _user.Room > 0 ? FdEvents.Readable : FdEvents.None;
        FdEvents output = Pending > 0 || Transport.WantsToWrite ? FdEvents.Writable : FdEvents.None;
        if (Transport.InputFd == Transport.OutputFd) Watch(ref _watchedInput, Transport.InputFd, input | output);
        else
        {
            Watch(ref _watchedInput, Transport.InputFd, input);
            Watch(ref _watchedOutput, Transport.OutputFd, output);
        }
        if (input != FdEvents.None && Transport.HasInput)
            _loop.Post(() => { if (IsOpen && Transport.HasInput) ReadInput(); });
    }

    void Watch(ref int watched, int fd, FdEvents events)
    {
        if (watched >= 0 && (watched != fd || events == FdEvents.None)) Unwatch(ref watched);
        if (fd < 0 || events == FdEvents.None) return;
        _loop.Watch(fd, events, _onReady);
        watched = fd;
    }

    void Unwatch(ref int watched)
    {
        if (watched >= 0) _loop.Unwatch(watched);
        watched = -1;
    }

    void OnReady(FdEvents events)
    {
        if ((events & FdEvents.Writable) != 0) Drain();
        if ((events & (FdEvents.Readable | FdEvents.HangUp | FdEvents.Error)) != 0 && IsOpen) ReadInput();
    }

    void Drain()
    {
        if (Pending > 0 || Transport.WantsToWrite)
        {
            int n = Transport.Write(_output.AsSpan(_outputStart, Pending));
            if (n < 0 && n != -Libc.EAgain) { HangUp(); return; }
            _outputStart += Math.Max(n, 0);
        }
        bool isEmpty = Pending == 0;
        if (isEmpty)
        {
            (_outputStart, _outputEnd) = (0, 0);
            if (_output.Length > DefaultOutputLimit) _output = []; // a large answer was an exception
        }
        Rewatch();
        if (_userWaits && Pending <= _outputLimit / 2)
        {
            _userWaits = false;
            _user.Writable();
        }
        if (isEmpty && IsOpen) _user.Sent();
    }

    void ReadInput()
    {
        int room = _user.Room;
        if (room == 0) { Rewatch(); return; }
        int n = Transport.Read(_input.AsSpan(0, Math.Min(room, _input.Length)));
        if (n == -Libc.EAgain) { Rewatch(); return; }
        if (n <= 0) { HangUp(); return; }
        _user.Receive(_input.AsSpan(0, n));
        Rewatch();
    }
}
