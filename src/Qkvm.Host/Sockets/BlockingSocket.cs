namespace Qkvm.Host.Sockets;

/// <summary>A connected socket for threads that may wait: whole messages, with one deadline for all.</summary>
/// <remarks>One thread reads and one writes at a time. What has been read ahead waits in a small buffer.</remarks>
/// <param name="socket">This object's own from now on.</param>
public sealed class BlockingSocket(StreamSocket socket) : IDisposable
{
    const int Ahead = 16 << 10;

    readonly byte[] _ahead = new byte[Ahead];
    int _start, _end;

    public StreamSocket Socket => socket;

    /// <summary><see cref="Environment.TickCount64"/> after which waiting fails with ETIMEDOUT.</summary>
    public long Deadline { get; set; } = long.MaxValue;

    /// <summary>Bytes that have been read ahead of whoever reads.</summary>
    public int Buffered => _end - _start;

    /// <summary>Fills the buffer; false where the other end has gone before its first byte.</summary>
    /// <exception cref="HostException">Gone in between, or too late.</exception>
    public bool TryRead(Span<byte> buffer)
    {
        bool isFirst = true;
        while (buffer.Length > 0)
        {
            int n = ReadSome(buffer);
            if (n == 0) return isFirst ? false : throw new HostException("the connection ended", Libc.EConnReset);
            buffer = buffer[n..];
            isFirst = false;
        }
        return true;
    }

    /// <summary>Fills the buffer.</summary>
    public void Read(Span<byte> buffer)
    {
        if (!TryRead(buffer)) throw new HostException("the connection ended", Libc.EConnReset);
    }

    /// <summary>Takes bytes that nobody wants.</summary>
    public void Skip(long count)
    {
        while (count > 0)
        {
            if (Buffered == 0 && !Fill()) throw new HostException("the connection ended", Libc.EConnReset);
            int taken = (int)Math.Min(count, Buffered);
            _start += taken;
            count -= taken;
        }
    }

    /// <summary>Bytes that are there, at least one; 0 at the end.</summary>
    public int ReadSome(Span<byte> buffer)
    {
        if (Buffered == 0 && buffer.Length >= Ahead) return Receive(buffer);
        if (Buffered == 0 && !Fill()) return 0;
        int taken = Math.Min(buffer.Length, Buffered);
        _ahead.AsSpan(_start, taken).CopyTo(buffer);
        _start += taken;
        return taken;
    }

    public void Write(ReadOnlySpan<byte> data)
    {
        while (data.Length > 0)
        {
            int n = socket.Write(data);
            if (n > 0) data = data[n..];
            else WaitForRoom(n);
        }
    }

    /// <summary>Writes a header and pieces of memory.</summary>
    /// <param name="more">More follows at once.</param>
    public void Write(GatherList list, bool more = false)
    {
        while (list.Length > 0)
        {
            long n = list.SendTo(socket, more);
            if (n > 0) list.Skip(n);
            else WaitForRoom((int)n);
        }
    }

    /// <summary>After a write to <see cref="Socket"/> that did not do all: waits until more can be written.</summary>
    /// <param name="result">Of that write: 0, -EAGAIN, or another errno, which is thrown.</param>
    public void WaitForRoom(int result) => Wait(result == 0 ? -Libc.EPipe : result, forRoom: true, "write");

    /// <summary>Ends it for whoever waits on it; from any thread.</summary>
    public void HangUp() => socket.HangUp();

    public void Dispose() => socket.Dispose();

    bool Fill()
    {
        (_start, _end) = (0, 0);
        _end = Receive(_ahead);
        return _end > 0;
    }

    int Receive(Span<byte> buffer)
    {
        while (true)
        {
            int n = socket.Read(buffer);
            if (n >= 0) return n;
            Wait(n, forRoom: false, "read");
        }
    }

    void Wait(int result, bool forRoom, string what)
    {
        if (result is not (-Libc.EAgain or -Libc.EIntr)) throw new HostException(what, -result);
        const int longest = 1 << 30;
        long left = Deadline == long.MaxValue ? -1 : Math.Min(Deadline - Environment.TickCount64, longest);
        if (Deadline != long.MaxValue && left <= 0) throw new HostException(what, Libc.ETimedOut);
        socket.Wait(forRoom, (int)left);
    }
}
