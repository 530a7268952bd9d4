namespace Qkvm.Host.Sockets;

/// <summary>Bytes to and from somewhere, never waiting: a socket, a terminal, or a layer such as TLS or a websocket
/// over another.</summary>
public interface ITransport : IDisposable
{
    /// <summary>The descriptors to watch for input and for room; -1 where there is none, or none any more.</summary>
    int InputFd { get; }
    int OutputFd { get; }

    /// <summary>Bytes read, 0 at the end, -EAGAIN if there are none now, or another negative errno.</summary>
    int Read(Span<byte> buffer);

    /// <summary>Bytes written, or a negative errno.</summary>
    int Write(ReadOnlySpan<byte> data);

    /// <summary>Input waits above the descriptor: a layer has decoded more than was read.</summary>
    bool HasInput => false;

    /// <summary>A layer has something of its own to say, such as a handshake or a pong, and waits for room.</summary>
    bool WantsToWrite => false;

    /// <summary>Takes the descriptor that came first with the bytes read so far, and with it its ownership; -1 for
    /// none. unix(7), SCM_RIGHTS.</summary>
    int TakeDescriptor() => -1;
}

/// <summary>A pair of descriptors: a terminal, a pipe.</summary>
/// <param name="endsOnlyInput">The end of a pipe ends input; output goes on.</param>
/// <param name="owner">Closes the descriptors; null where somebody else does.</param>
public sealed class DescriptorTransport(int input, int output, bool endsOnlyInput, IDisposable? owner = null)
    : ITransport
{
    public int InputFd { get; private set; } = input;
    public int OutputFd => output;

    public int Read(Span<byte> buffer)
    {
        int n = FdStream.Read(InputFd, buffer);
        if (n != 0 || !endsOnlyInput) return n;
        InputFd = -1;
        return -Libc.EAgain;
    }

    public int Write(ReadOnlySpan<byte> data) => FdStream.Write(output, data);
    public void Dispose() => owner?.Dispose();
}
