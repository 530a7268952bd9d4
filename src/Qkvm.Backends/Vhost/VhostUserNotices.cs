using System.Buffers.Binary;
using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Vhost;

/// <summary>What a back-end says unasked. QEMU's documentation, "Vhost-user Protocol", "Back-end message
/// types".</summary>
/// <remarks>On the main loop; never waits.</remarks>
sealed class VhostUserNotices(StreamSocket socket) : IDisposable
{
    const uint ConfigChanged = 2;                                  // VHOST_USER_BACKEND_CONFIG_CHANGE_MSG
    const uint Version = 1, VersionMask = 3, Reply = 4, NeedReply = 8;
    const int Header = 12, ReplyPayload = sizeof(ulong), MostAtOnce = 16;
    const ulong Done = 0, Refused = 1;

    readonly byte[] _in = new byte[Header + VhostUserChannel.LargestPayload];
    int _have;

    public int Fd => socket.InputFd;

    /// <summary>Takes what has come, and answers it.</summary>
    /// <param name="changed">There was word of a change of the configuration.</param>
    /// <returns>False: it has ended, or is not of the protocol.</returns>
    public bool Read(out bool changed)
    {
        changed = false;
        for (int budget = MostAtOnce; budget > 0; budget--)
        {
            int wanted = Header + (_have < Header ? 0 : PayloadSize);
            int n = wanted == _have ? 0 : socket.Read(_in.AsSpan(_have, wanted - _have));
            if (n == -Libc.EAgain) return true;
            if (n <= 0 && wanted != _have) return false;
            _have += n;
            if (_have < Header) continue;
            uint flags = BinaryPrimitives.ReadUInt32LittleEndian(_in.AsSpan(4));
            if ((flags & (VersionMask | Reply)) != Version || PayloadSize is < 0 or > VhostUserChannel.LargestPayload)
                return false;
            if (_have < Header + PayloadSize) continue;
            uint request = BinaryPrimitives.ReadUInt32LittleEndian(_in);
            changed |= request == ConfigChanged;
            _have = 0;
            if ((flags & NeedReply) != 0 && !Answer(request, request == ConfigChanged ? Done : Refused)) return false;
        }
        return true;
    }

    public void Dispose() => socket.Dispose();

    int PayloadSize => BinaryPrimitives.ReadInt32LittleEndian(_in.AsSpan(8));

    bool Answer(uint request, ulong value)
    {
        Span<byte> reply = stackalloc byte[Header + ReplyPayload];
        BinaryPrimitives.WriteUInt32LittleEndian(reply, request);
        BinaryPrimitives.WriteUInt32LittleEndian(reply[4..], Version | Reply);
        BinaryPrimitives.WriteInt32LittleEndian(reply[8..], ReplyPayload);
        BinaryPrimitives.WriteUInt64LittleEndian(reply[Header..], value);
        return socket.Write(reply) == reply.Length;
    }
}
