using System.Buffers.Binary;
using System.Diagnostics;
using System.Security.Cryptography;

namespace Qkvm.Storage.Drivers.Luks;

/// <summary>Finds the master key by a passphrase, and makes headers. Spec: LUKS On-Disk Format Specification
/// 1.2.3.</summary>
static class LuksKeys
{
    const uint MinIterations = 1000, Trial = 65536;

    /// <summary>The master key, or null where no slot opens.</summary>
    /// <param name="read">Bytes from the header's start.</param>
    public static byte[]? Unlock(LuksHeader header, byte[] passphrase, Func<long, int, byte[]> read)
    {
        foreach (LuksSlot slot in header.KeySlots)
            if (slot.IsActive && Open(header, slot, passphrase, read) is { } key) return key;
        return null;
    }

    /// <summary>The master key out of an active slot, or null where it is another passphrase's.</summary>
    public static byte[]? Open(LuksHeader header, LuksSlot slot, byte[] passphrase, Func<long, int, byte[]> read)
    {
        byte[] material = read(slot.Offset, header.KeyBytes * LuksHeader.Stripes);
        using (XtsAes cipher = SlotCipher(header, slot, passphrase)) cipher.Decrypt(0, material);
        byte[] key = Merge(header, material);
        return CryptographicOperations.FixedTimeEquals(DigestOf(header, key), header.Digest) ? key : null;
    }

    /// <summary>An active slot at that place, and its key material.</summary>
    /// <param name="iterTime">Milliseconds that a passphrase shall cost.</param>
    public static (LuksSlot Slot, byte[] Material) Fill(LuksHeader header, long offset, byte[] passphrase, byte[] key,
        int iterTime)
    {
        var slot = new LuksSlot(true, Measure(header, iterTime), RandomNumberGenerator.GetBytes(LuksHeader.SaltSize),
            offset);
        byte[] material = Split(header, key);
        using (XtsAes cipher = SlotCipher(header, slot, passphrase)) cipher.Encrypt(0, material);
        return (slot, material);
    }

    static XtsAes SlotCipher(LuksHeader header, LuksSlot slot, byte[] passphrase) =>
        new(Derive(header, passphrase, slot.Salt, slot.Iterations, header.KeyBytes));

    /// <summary>A header with one key, and that key's material.</summary>
    /// <param name="iterTime">Milliseconds that a passphrase shall cost.</param>
    public static (LuksHeader Header, byte[] Material, byte[] Key) Create(byte[] passphrase, int keyBytes, string hash,
        int iterTime)
    {
        byte[] key = RandomNumberGenerator.GetBytes(keyBytes);
        var draft = new LuksHeader { Hash = hash, KeyBytes = keyBytes };
        var slots = new LuksSlot[LuksHeader.Slots];
        for (int i = 0; i < slots.Length; i++) slots[i] = LuksSlot.Empty(LuksHeader.SlotOffset(i, keyBytes));
        (slots[0], byte[] material) = Fill(draft, slots[0].Offset, passphrase, key, iterTime);
        var header = new LuksHeader
        {
            Hash = hash, KeyBytes = keyBytes, PayloadOffset = LuksHeader.TotalSize(keyBytes), KeySlots = slots,
            DigestSalt = RandomNumberGenerator.GetBytes(LuksHeader.SaltSize),
            DigestIterations = Math.Max(MinIterations, slots[0].Iterations / 8), Uuid = Guid.NewGuid().ToString(),
        };
        return (With(header, DigestOf(header, key)), material, key);
    }

    static LuksHeader With(LuksHeader from, byte[] digest) => new()
    {
        Hash = from.Hash, KeyBytes = from.KeyBytes, PayloadOffset = from.PayloadOffset, KeySlots = from.KeySlots,
        DigestSalt = from.DigestSalt, DigestIterations = from.DigestIterations, Uuid = from.Uuid, Digest = digest,
    };

    static byte[] DigestOf(LuksHeader header, byte[] key) =>
        Derive(header, key, header.DigestSalt, header.DigestIterations, LuksHeader.DigestSize);

    static byte[] Derive(LuksHeader header, byte[] from, byte[] salt, uint iterations, int bytes) =>
        Rfc2898DeriveBytes.Pbkdf2(from, salt, (int)iterations, header.HashName, bytes);

    /// <summary>Iterations that take that long here.</summary>
    static uint Measure(LuksHeader header, int milliseconds)
    {
        var clock = Stopwatch.StartNew();
        Derive(header, new byte[16], new byte[LuksHeader.SaltSize], Trial, header.KeyBytes);
        double wanted = Trial * (milliseconds / Math.Max(0.1, clock.Elapsed.TotalMilliseconds));
        return (uint)Math.Clamp(wanted, MinIterations, 1 << 25);
    }

    // "Anti-forensic splitter": the key is lost with any of its stripes

    static byte[] Split(LuksHeader header, byte[] key)
    {
        byte[] material = RandomNumberGenerator.GetBytes(key.Length * LuksHeader.Stripes), block = new byte[key.Length];
        for (int stripe = 0; stripe < LuksHeader.Stripes - 1; stripe++)
        {
            Xor(block, material.AsSpan(stripe * key.Length, key.Length));
            Diffuse(header, block);
        }
        Span<byte> last = material.AsSpan((LuksHeader.Stripes - 1) * key.Length);
        key.CopyTo(last);
        Xor(last, block);
        return material;
    }

    static byte[] Merge(LuksHeader header, byte[] material)
    {
        var block = new byte[header.KeyBytes];
        for (int stripe = 0; stripe < LuksHeader.Stripes; stripe++)
        {
            Xor(block, material.AsSpan(stripe * block.Length, block.Length));
            if (stripe < LuksHeader.Stripes - 1) Diffuse(header, block);
        }
        return block;
    }

    /// <summary>Each piece of a digest's length becomes the digest of its number and itself.</summary>
    static void Diffuse(LuksHeader header, Span<byte> block)
    {
        Span<byte> number = stackalloc byte[4], digest = stackalloc byte[64];
        using var hash = IncrementalHash.CreateHash(header.HashName);
        for (int at = 0, i = 0; at < block.Length; at += hash.HashLengthInBytes, i++)
        {
            Span<byte> piece = block[at..Math.Min(block.Length, at + hash.HashLengthInBytes)];
            BinaryPrimitives.WriteInt32BigEndian(number, i);
            hash.AppendData(number);
            hash.AppendData(piece);
            hash.GetHashAndReset(digest);
            digest[..piece.Length].CopyTo(piece);
        }
    }

    static void Xor(Span<byte> to, ReadOnlySpan<byte> with)
    {
        for (int i = 0; i < to.Length; i++) to[i] ^= with[i];
    }
}
