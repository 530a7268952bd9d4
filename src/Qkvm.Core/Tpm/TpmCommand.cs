using System.Buffers.Binary;

namespace Qkvm.Core.Tpm;

/// <summary>What commands and answers of both versions begin with: a tag, the length of all, and a code; big endian.
/// Spec: TPM Main Specification 1.2, part 3, section 2.1; TPM Library Specification 2.0, part 1, section 18.</summary>
public static class TpmCommand
{
    public const int HeaderSize = 10, LengthOffset = 2, CodeOffset = 6;

    // Tags of answers, and the codes that say that the TPM has failed
    public const ushort Answer12 = 0x00C4, Answer20 = 0x8001;      // TPM_TAG_RSP_COMMAND, TPM_ST_NO_SESSIONS
    const uint Fail12 = 9, Failure20 = 0x101;                      // TPM_FAIL, TPM_RC_FAILURE

    /// <summary>Bytes of all, once <see cref="CodeOffset"/> bytes are there.</summary>
    public static uint Length(ReadOnlySpan<byte> message) =>
        BinaryPrimitives.ReadUInt32BigEndian(message[LengthOffset..]);

    /// <summary>It is as long as it says.</summary>
    public static bool IsWhole(ReadOnlySpan<byte> message) =>
        message.Length >= HeaderSize && Length(message) == (uint)message.Length;

    /// <summary>What a TPM that has failed answers to everything.</summary>
    public static byte[] Failure(TpmVersion version)
    {
        byte[] answer = new byte[HeaderSize];
        BinaryPrimitives.WriteUInt16BigEndian(answer, version == TpmVersion.V20 ? Answer20 : Answer12);
        BinaryPrimitives.WriteInt32BigEndian(answer.AsSpan(LengthOffset), HeaderSize);
        BinaryPrimitives.WriteUInt32BigEndian(answer.AsSpan(CodeOffset),
            version == TpmVersion.V20 ? Failure20 : Fail12);
        return answer;
    }
}
