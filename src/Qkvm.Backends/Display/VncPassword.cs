using System.Text;
using Qkvm.Core.Time;
using Qkvm.Host;

namespace Qkvm.Backends.Display;

/// <summary>A password that viewers prove to know by encrypting a challenge. Spec: RFC 6143, section 7.2.2.</summary>
/// <remarks>The protocol uses eight bytes of it alone: what a network hears is soon known. Main loop, under the machine
/// lock.</remarks>
sealed class VncPassword
{
    const int ChallengeLength = 16;

    Des? _cipher;

    /// <summary>Null: never. From then on nobody gets in.</summary>
    public DateTimeOffset? Expiry { private get; set; }

    /// <summary>Null or nothing: nobody gets in.</summary>
    public void Set(string? password)
    {
        if (string.IsNullOrEmpty(password)) { _cipher = null; return; }
        Span<byte> key = stackalloc byte[Des.BlockSize];
        key.Clear();
        byte[] bytes = Encoding.UTF8.GetBytes(password);
        for (int i = 0; i < Math.Min(bytes.Length, key.Length); i++) key[i] = Mirror(bytes[i]);
        _cipher = new Des(key);
    }

    public static byte[] NewChallenge()
    {
        var challenge = new byte[ChallengeLength];
        HostEntropy.Fill(challenge);
        return challenge;
    }

    public bool Accepts(ReadOnlySpan<byte> challenge, ReadOnlySpan<byte> response)
    {
        if (_cipher == null || Expiry <= DateTimeOffset.UtcNow) return false;
        int differences = 0;
        Span<byte> block = stackalloc byte[Des.BlockSize];
        for (int at = 0; at < challenge.Length; at += Des.BlockSize)
        {
            _cipher.Encrypt(challenge.Slice(at, Des.BlockSize), block);
            for (int i = 0; i < block.Length; i++) differences |= block[i] ^ response[at + i];
        }
        return differences == 0;
    }

    /// <summary>VNC's DES takes the bits of each byte of a key from the other end.</summary>
    static byte Mirror(byte value)
    {
        int mirrored = 0;
        for (int bit = 0; bit < 8; bit++) mirrored |= (value >> bit & 1) << (7 - bit);
        return (byte)mirrored;
    }
}
