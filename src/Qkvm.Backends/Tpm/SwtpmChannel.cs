using System.Buffers.Binary;
using Qkvm.Core.Tpm;
using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Tpm;

/// <summary>Both connections to swtpm: control, over which each request has an answer that begins with a result, and
/// data, which carries the TPM's own commands and answers. Spec: swtpm_ioctls(3); everything is big endian.</summary>
/// <remarks>Waits for the program, but not for ever: never on the main loop while the machine runs. The control
/// connection may be used on several threads, the data connection on one at a time.</remarks>
/// <param name="control">Becomes this object's own.</param>
sealed class SwtpmChannel(StreamSocket control) : IDisposable
{
    const int ControlPatience = 10_000;                            // milliseconds
    const int MostControl = 16;                                    // bytes of the longest request and answer used here
    const int CommandPatience = 600_000;                           // RSA keys take minutes on a slow host

    readonly Lock _gate = new();
    readonly byte[] _message = new byte[sizeof(uint) + MostControl];
    StreamSocket? _data;
    volatile bool _isHungUp, _isBroken;

    /// <summary>Makes the data connection, and gives its other end to the program.</summary>
    /// <exception cref="SwtpmException">It refuses or fails.</exception>
    public void OpenData()
    {
        (_data, int theirs) = StreamSocket.InheritablePair();
        try { Ask(SwtpmRequest.SetDataFd, [], [], theirs); }
        finally { Libc.close(theirs); }
    }

    /// <summary>One request; its answer without the result lands in <paramref name="answer"/>.</summary>
    /// <param name="descriptor">Goes with it; -1: none.</param>
    /// <exception cref="SwtpmRefusal">The program refuses.</exception>
    /// <exception cref="SwtpmException">It fails.</exception>
    public void Ask(SwtpmRequest request, ReadOnlySpan<byte> payload, Span<byte> answer, int descriptor = -1)
    {
        lock (_gate)
        {
            CheckWhole();
            BinaryPrimitives.WriteUInt32BigEndian(_message, (uint)request);
            payload.CopyTo(_message.AsSpan(sizeof(uint)));
            Send(control, _message.AsSpan(0, sizeof(uint) + payload.Length), ControlPatience, descriptor);
            Span<byte> result = _message.AsSpan(0, sizeof(uint) + answer.Length);
            // A request that failed is answered by its result alone.
            Receive(control, result[..sizeof(uint)], Deadline(ControlPatience));
            if (BinaryPrimitives.ReadUInt32BigEndian(result) is not 0 and var error)
                throw new SwtpmRefusal($"it refuses {request}: {error:x}h");
            Receive(control, result[sizeof(uint)..], Deadline(ControlPatience));
            result[sizeof(uint)..].CopyTo(answer);
        }
    }

    /// <summary>Executes one command.</summary>
    /// <param name="answer">Has room for the longest answer.</param>
    /// <returns>Bytes of the answer, which is as long as it says.</returns>
    /// <exception cref="SwtpmException">The program fails, or answers with what is no answer.</exception>
    public int Execute(ReadOnlySpan<byte> command, Span<byte> answer)
    {
        StreamSocket data = _data ?? throw new SwtpmException("there is no data connection");
        CheckWhole();
        long end = Deadline(CommandPatience);
        Send(data, command, ControlPatience);
        Receive(data, answer[..TpmCommand.HeaderSize], end);
        uint length = TpmCommand.Length(answer);
        if (length < TpmCommand.HeaderSize || length > (uint)answer.Length)
            throw Broken($"it answers with {length} bytes, where {TpmCommand.HeaderSize} to " +
                $"{answer.Length} are possible");
        Receive(data, answer[TpmCommand.HeaderSize..(int)length], end);
        return (int)length;
    }

    /// <summary>Whoever waits for the program waits no longer; from any thread.</summary>
    public void HangUp()
    {
        _isHungUp = true;
        _data?.HangUp();
    }

    /// <summary>When nobody waits any more.</summary>
    public void Dispose()
    {
        _data?.Dispose();
        control.Dispose();
    }

    static long Deadline(int patience) => Environment.TickCount64 + patience;

    void Send(StreamSocket socket, ReadOnlySpan<byte> left, int patience, int descriptor = -1)
    {
        long end = Deadline(patience);
        while (left.Length > 0)
        {
            int n = descriptor >= 0 ? socket.WriteWith(descriptor, left) : socket.Write(left);
            if (n > 0)
            {
                left = left[n..];
                descriptor = -1;
            }
            else if (n != -Libc.EAgain) throw Broken($"it has gone: {Libc.Message(-n)}");
            else if (!socket.Wait(forRoom: true, Left(end))) throw Broken("it does not read");
        }
    }

    void Receive(StreamSocket socket, Span<byte> buffer, long end)
    {
        while (buffer.Length > 0)
        {
            int n = socket.Read(buffer);
            if (n > 0) buffer = buffer[n..];
            else if (_isHungUp || n == 0) throw Broken("it has gone");
            else if (n != -Libc.EAgain) throw Broken($"it has gone: {Libc.Message(-n)}");
            else if (!socket.Wait(forRoom: false, Left(end))) throw Broken("it does not answer");
        }
    }

    /// <summary>What comes from now on may be the answer to something else.</summary>
    SwtpmException Broken(string why)
    {
        _isBroken = true;
        return new SwtpmException(why);
    }

    void CheckWhole()
    {
        if (_isBroken) throw new SwtpmException("its connection is broken");
    }

    static int Left(long end) => (int)Math.Max(0, end - Environment.TickCount64);
}
