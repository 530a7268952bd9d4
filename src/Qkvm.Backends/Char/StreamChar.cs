using Qkvm.Core.Char;
using Qkvm.Host;

namespace Qkvm.Backends.Char;

/// <summary>What all character backends over a byte stream share: a bounded output buffer that drains when the other end
/// takes more, and input that waits for the frontend's room.</summary>
/// <remarks>Under the machine lock; the stream never blocks.</remarks>
public abstract class StreamChar(string id, EventLoop loop) : ICharBackend
{
    const int OutputLimit = 64 * 1024;
    protected const int EAgain = 11, EIo = 5;

    readonly byte[] _output = new byte[OutputLimit];
    readonly byte[] _input = new byte[4096];
    int _outputCount;
    bool _frontendWaits;

    public string Id { get; } = id;
    public abstract string Description { get; }
    public bool IsOpen { get; private set; }

    protected EventLoop Loop { get; } = loop;
    protected ICharFrontend? Frontend { get; private set; }

    /// <summary>The descriptor to watch for input; -1 while there is none.</summary>
    protected abstract int InputFd { get; }
    protected abstract int OutputFd { get; }

    /// <summary>As <see cref="FdStream.Read"/>.</summary>
    protected virtual int ReadSome(Span<byte> buffer) => FdStream.Read(InputFd, buffer);
    protected virtual int WriteSome(ReadOnlySpan<byte> data) => FdStream.Write(OutputFd, data);

    /// <summary>The other end has gone.</summary>
    protected abstract void OnHangUp();

    /// <summary>Received bytes on their way to the frontend, in place: a protocol may take some out. Returns how many remain.</summary>
    protected virtual int Filter(Span<byte> data) => data.Length;

    public virtual int Write(ReadOnlySpan<byte> data)
    {
        if (!IsOpen) return data.Length;
        int direct = 0;
        if (_outputCount == 0)
        {
            int n = WriteSome(data);
            if (n < 0 && n != -EAgain) { HangUp(); return data.Length; }
            direct = Math.Max(n, 0);
        }
        int buffered = Math.Min(data.Length - direct, OutputLimit - _outputCount);
        data.Slice(direct, buffered).CopyTo(_output.AsSpan(_outputCount));
        _outputCount += buffered;
        if (_outputCount > 0) Rewatch();
        if (direct + buffered < data.Length) _frontendWaits = true;
        return direct + buffered;
    }

    public virtual void Connect(ICharFrontend? frontend)
    {
        Frontend = frontend;
        if (frontend != null && IsOpen) frontend.Event(CharEvent.Opened);
        Rewatch();
    }

    public void AcceptInput() => Rewatch();

    protected void Opened()
    {
        IsOpen = true;
        _outputCount = 0;
        Rewatch();
        Frontend?.Event(CharEvent.Opened);
    }

    /// <summary>Stops watching, before the stream is closed for good. Nobody is told.</summary>
    protected void Detach()
    {
        if (!IsOpen) return;
        IsOpen = false;
        _outputCount = 0;
        if (InputFd >= 0) Loop.Unwatch(InputFd);
        if (OutputFd >= 0 && OutputFd != InputFd) Loop.Unwatch(OutputFd);
    }

    protected void HangUp()
    {
        if (!IsOpen) return;
        Detach();
        OnHangUp();
        Frontend?.Event(CharEvent.Closed);
        if (!_frontendWaits) return;
        _frontendWaits = false;
        Frontend?.Writable();
    }

    /// <summary>Watches what can make progress now: input while the frontend has room, output while some is kept.</summary>
    void Rewatch()
    {
        if (!IsOpen) return;
        FdEvents input = Frontend is { Room: > 0 } ? FdEvents.Readable : FdEvents.None;
        FdEvents output = _outputCount > 0 ? FdEvents.Writable : FdEvents.None;
        if (InputFd == OutputFd) Watch(InputFd, input | output);
        else
        {
            Watch(InputFd, input);
            Watch(OutputFd, output);
        }
    }

    void Watch(int fd, FdEvents events)
    {
        if (fd < 0) return;
        if (events == FdEvents.None) Loop.Unwatch(fd);             // a hang-up would otherwise be reported again and again
        else Loop.Watch(fd, events, OnReady);
    }

    void OnReady(FdEvents events)
    {
        if ((events & FdEvents.Writable) != 0) Drain();
        if ((events & (FdEvents.Readable | FdEvents.HangUp | FdEvents.Error)) != 0 && IsOpen) ReadInput();
    }

    void Drain()
    {
        int n = WriteSome(_output.AsSpan(0, _outputCount));
        if (n < 0 && n != -EAgain) { HangUp(); return; }
        if (n > 0)
        {
            _output.AsSpan(n, _outputCount - n).CopyTo(_output);
            _outputCount -= n;
        }
        Rewatch();
        if (!_frontendWaits || _outputCount > OutputLimit / 2) return;
        _frontendWaits = false;
        Frontend?.Writable();
    }

    void ReadInput()
    {
        int room = Frontend?.Room ?? 0;
        if (room == 0) { Rewatch(); return; }
        int n = ReadSome(_input.AsSpan(0, Math.Min(room, _input.Length)));
        if (n == -EAgain) return;
        if (n <= 0) { HangUp(); return; }
        int kept = Filter(_input.AsSpan(0, n));
        if (kept > 0) Frontend?.Receive(_input.AsSpan(0, kept));
        Rewatch();
    }
}
