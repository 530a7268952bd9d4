using System.Buffers;
using System.Buffers.Binary;
using System.Numerics;
using System.Security.Cryptography;

namespace Qkvm.Storage.Drivers.Luks;

/// <summary>AES-XTS over sectors of 512 bytes, each with its number as tweak ("plain64"). Spec: IEEE 1619.</summary>
/// <remarks>All blocks of a request go through one call of AES-ECB between two exclusive ors. One-shot calls keep no
/// state in the object, so threads share it.</remarks>
/// <param name="key">That of the data, then that of the tweaks.</param>
sealed class XtsAes : IDisposable
{
    public const int SectorSize = 512;
    const int BlockSize = 16, MaxPiece = 64 << 10;

    readonly Aes _data = Aes.Create(), _tweak = Aes.Create();

    public XtsAes(ReadOnlySpan<byte> key)
    {
        _data.Key = key[..(key.Length / 2)].ToArray();
        _tweak.Key = key[(key.Length / 2)..].ToArray();
    }

    public void Dispose()
    {
        _data.Dispose();
        _tweak.Dispose();
    }

    /// <param name="sector">The number of the first one.</param>
    /// <param name="data">Whole sectors, in place.</param>
    public void Encrypt(long sector, Span<byte> data) => Run(sector, data, encrypts: true);

    public void Decrypt(long sector, Span<byte> data) => Run(sector, data, encrypts: false);

    void Run(long sector, Span<byte> data, bool encrypts)
    {
        byte[] tweaks = ArrayPool<byte>.Shared.Rent(MaxPiece), work = ArrayPool<byte>.Shared.Rent(MaxPiece);
        try
        {
            for (; data.Length > 0; data = data[Math.Min(MaxPiece, data.Length)..])
            {
                Span<byte> piece = data[..Math.Min(MaxPiece, data.Length)], tweak = tweaks.AsSpan(0, piece.Length),
                    mixed = work.AsSpan(0, piece.Length);
                FillTweaks(sector, tweak);
                Xor(piece, tweak, mixed);
                if (encrypts) _data.EncryptEcb(mixed, piece, PaddingMode.None);
                else _data.DecryptEcb(mixed, piece, PaddingMode.None);
                Xor(piece, tweak, piece);
                sector += piece.Length / SectorSize;
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(tweaks);
            ArrayPool<byte>.Shared.Return(work, clearArray: true);
        }
    }

    /// <summary>A sector's first tweak is its number, encrypted; each further one that before times x in
    /// GF(2^128).</summary>
    void FillTweaks(long sector, Span<byte> tweaks)
    {
        int sectors = tweaks.Length / SectorSize;
        Span<byte> numbers = stackalloc byte[MaxPiece / SectorSize * BlockSize];
        numbers = numbers[..(sectors * BlockSize)];
        numbers.Clear();
        for (int i = 0; i < sectors; i++)
            BinaryPrimitives.WriteInt64LittleEndian(numbers[(i * BlockSize)..], sector + i);
        Span<byte> first = stackalloc byte[numbers.Length];
        _tweak.EncryptEcb(numbers, first, PaddingMode.None);
        for (int i = 0; i < sectors; i++)
        {
            ulong low = BinaryPrimitives.ReadUInt64LittleEndian(first[(i * BlockSize)..]),
                high = BinaryPrimitives.ReadUInt64LittleEndian(first[(i * BlockSize + 8)..]);
            for (int at = i * SectorSize; at < (i + 1) * SectorSize; at += BlockSize)
            {
                BinaryPrimitives.WriteUInt64LittleEndian(tweaks[at..], low);
                BinaryPrimitives.WriteUInt64LittleEndian(tweaks[(at + 8)..], high);
                ulong carry = high >> 63;
                high = high << 1 | low >> 63;
                low = low << 1 ^ carry * 0x87;
            }
        }
    }

    static void Xor(ReadOnlySpan<byte> a, ReadOnlySpan<byte> b, Span<byte> to)
    {
        for (int i = 0; i < a.Length; i += Vector<byte>.Count)
            (new Vector<byte>(a[i..]) ^ new Vector<byte>(b[i..])).CopyTo(to[i..]);
    }
}
