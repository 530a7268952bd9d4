using System.Buffers.Binary;
using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Vhost;

/// <summary>What a peer said that is not of the protocol, or its silence.</summary>
public sealed class VhostUserException(string message) : Exception(message);

/// <summary>A connection to a vhost-user back-end: requests, and replies that are as long as expected. QEMU's
/// documentation, "Vhost-user Protocol".</summary>
/// <remarks>Waits for the peer, but not for ever: never on the main loop while the machine runs. One thread at a
/// time.</remarks>
/// <param name="patience">Milliseconds that the peer may take.</param>
public sealed class VhostUserChannel(StreamSocket socket, int patience = VhostUserChannel.Patience) : IDisposable
{
    const uint Version = 1, VersionMask = 3, Reply = 4, NeedReply = 8;
    const int Header = 12;
    const int Patience = 5000;

    /// <summary>Bytes: a configuration structure of 256, and what stands before it.</summary>
    public const int LargestPayload = 12 + 256;

    readonly byte[] _out = new byte[Header + LargestPayload], _in = new byte[Header + LargestPayload];

    /// <summary>The peer acknowledges what it is asked to (REPLY_ACK).</summary>
    public bool Acknowledges { get; set; }

    /// <summary>To watch for its end.</summary>
    public int Fd => socket.InputFd;

    /// <summary>Sends a request that has no reply of its own, and has it acknowledged where the peer does so.</summary>
    /// <exception cref="VhostUserException">The peer fails.</exception>
    public void Tell(VhostUserRequest request, ReadOnlySpan<byte> payload, ReadOnlySpan<int> descriptors = default)
    {
        Send(request, payload, descriptors, Acknowledges ? NeedReply : 0);
        if (Acknowledges && ReceiveNumber(request) is not 0 and var error)
            throw new VhostUserException($"the peer refuses {request}: {error}");
    }

    public void Tell(VhostUserRequest request, ulong value)
    {
        Span<byte> payload = stackalloc byte[sizeof(ulong)];
        BinaryPrimitives.WriteUInt64LittleEndian(payload, value);
        Tell(request, payload);
    }

    /// <summary>struct vhost_vring_state.</summary>
    public void Tell(VhostUserRequest request, int ring, uint value) => Tell(request, (uint)ring | (ulong)value << 32);

    /// <summary>A ring and the eventfd for it.</summary>
    public void Tell(VhostUserRequest request, int ring, WakeEvent signal)
    {
        Span<byte> payload = stackalloc byte[sizeof(ulong)];
        BinaryPrimitives.WriteUInt64LittleEndian(payload, (uint)ring);
        Tell(request, payload, [signal.Fd]);
    }

    /// <summary>Sends a request and takes its reply.</summary>
    /// <exception cref="VhostUserException">The peer fails.</exception>
    public ulong Ask(VhostUserRequest request, ReadOnlySpan<byte> payload = default)
    {
        Send(request, payload, default, 0);
        return ReceiveNumber(request);
    }

    /// <summary>The same for a reply of so many bytes, which stand until the next request.</summary>
    public ReadOnlySpan<byte> Ask(VhostUserRequest request, ReadOnlySpan<byte> payload, int reply)
    {
        Send(request, payload, default, 0);
        return Receive(request, reply);
    }

    public void Dispose() => socket.Dispose();

    void Send(VhostUserRequest request, ReadOnlySpan<byte> payload, ReadOnlySpan<int> descriptors, uint flags)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(_out, (uint)request);
        BinaryPrimitives.WriteUInt32LittleEndian(_out.AsSpan(4), Version | flags);
        BinaryPrimitives.WriteInt32LittleEndian(_out.AsSpan(8), payload.Length);
        payload.CopyTo(_out.AsSpan(Header));
        ReadOnlySpan<byte> left = _out.AsSpan(0, Header + payload.Length);
        while (left.Length > 0)
        {
            int n = descriptors.Length > 0 ? socket.WriteWith(descriptors, left) : socket.Write(left);
            if (n > 0)
            {
                left = left[n..];
                descriptors = default;
            }
            else if (n != -Libc.EAgain) throw new VhostUserException($"the peer has gone: {Libc.Message(-n)}");
            else if (!socket.Wait(forRoom: true, patience)) throw new VhostUserException("the peer does not read");
        }
    }

    ulong ReceiveNumber(VhostUserRequest request) =>
        BinaryPrimitives.ReadUInt64LittleEndian(Receive(request, sizeof(ulong)));

    ReadOnlySpan<byte> Receive(VhostUserRequest request, int expected)
    {
        long end = Environment.TickCount64 + patience;
        Span<byte> reply = _in.AsSpan(0, Header + expected);
        for (int have = 0, wanted = Header; have < wanted;)
        {
            int n = socket.Read(reply[have..wanted]);
            if (n > 0) have += n;
            else if (n != -Libc.EAgain)
                throw new VhostUserException(n == 0 ? "the peer has gone" : $"the peer has gone: {Libc.Message(-n)}");
            else if (!socket.Wait(forRoom: false, (int)Math.Max(0, end - Environment.TickCount64)))
                throw new VhostUserException($"the peer does not answer {request}");
            if (have == Header && wanted == Header)
            {
                CheckHeader(request, expected);
                wanted += expected;
            }
        }
        return reply[Header..];
    }

    void CheckHeader(VhostUserRequest request, int expected)
    {
        uint answered = BinaryPrimitives.ReadUInt32LittleEndian(_in),
            flags = BinaryPrimitives.ReadUInt32LittleEndian(_in.AsSpan(4)),
            size = BinaryPrimitives.ReadUInt32LittleEndian(_in.AsSpan(8));
        if (answered != (uint)request || (flags & (VersionMask | Reply)) != (Version | Reply) || size != expected)
            throw new VhostUserException($"the peer answers {request} with request {answered}, flags {flags:x} and " +
                $"{size} bytes");
    }
}
