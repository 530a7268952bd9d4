using System.Buffers.Binary;

namespace Qkvm.Storage.Nbd;

/// <summary>What a client asks for. Spec: doc/proto.md, "Request message".</summary>
/// <param name="Cookie">The client's own, for telling replies apart.</param>
readonly record struct NbdRequest(NbdCommand Command, NbdCommandFlags Flags, ulong Cookie, long Offset, long Length)
{
    /// <summary>False: what was read is no request.</summary>
    /// <remarks>An offset of 2^63 and more becomes negative, and lies in no export.</remarks>
    public static bool TryRead(ReadOnlySpan<byte> message, out NbdRequest request)
    {
        request = new NbdRequest((NbdCommand)BinaryPrimitives.ReadUInt16BigEndian(message[6..]),
            (NbdCommandFlags)BinaryPrimitives.ReadUInt16BigEndian(message[4..]),
            BinaryPrimitives.ReadUInt64BigEndian(message[8..]), BinaryPrimitives.ReadInt64BigEndian(message[16..]),
            BinaryPrimitives.ReadUInt32BigEndian(message[24..]));
        return BinaryPrimitives.ReadUInt32BigEndian(message) == NbdProtocol.RequestMagic;
    }

    public void Write(Span<byte> message)
    {
        BinaryPrimitives.WriteUInt32BigEndian(message, NbdProtocol.RequestMagic);
        BinaryPrimitives.WriteUInt16BigEndian(message[4..], (ushort)Flags);
        BinaryPrimitives.WriteUInt16BigEndian(message[6..], (ushort)Command);
        BinaryPrimitives.WriteUInt64BigEndian(message[8..], Cookie);
        BinaryPrimitives.WriteInt64BigEndian(message[16..], Offset);
        BinaryPrimitives.WriteUInt32BigEndian(message[24..], (uint)Length);
    }

    public bool Has(NbdCommandFlags flag) => (Flags & flag) != 0;

    public bool Writes => Command is NbdCommand.Write or NbdCommand.Trim or NbdCommand.WriteZeroes;
}
