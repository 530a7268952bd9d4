namespace Qkvm.Host.Sockets;

/// <summary>Datagrams as if they were a stream: each write is one, and those that come are joined.</summary>
/// <remarks>What is lost is lost: nobody at the other end is no error.</remarks>
public sealed class DatagramTransport(DatagramSocket socket) : ITransport
{
    /// <summary>What fits into a datagram of UDP over IPv4.</summary>
    const int MaxLength = 65507;

    readonly byte[] _datagram = new byte[MaxLength];
    int _start, _end;

    public int InputFd => socket.Fd;
    public int OutputFd => socket.Fd;
    public bool HasInput => _start < _end;

    public int Read(Span<byte> buffer)
    {
        if (_start == _end)
        {
            (_start, _end) = (0, Math.Max(0, socket.Receive(_datagram)));
            if (_end == 0) return -Libc.EAgain;                    // none, an empty one, or a refusal of what we sent
        }
        int count = Math.Min(buffer.Length, _end - _start);
        _datagram.AsSpan(_start, count).CopyTo(buffer);
        _start += count;
        return count;
    }

    public int Write(ReadOnlySpan<byte> data)
    {
        if (data.IsEmpty) return 0;
        int count = Math.Min(data.Length, MaxLength);
        return socket.Send(data[..count]) == -Libc.EAgain ? -Libc.EAgain : count;
    }

    public void Dispose() => socket.Dispose();
}
