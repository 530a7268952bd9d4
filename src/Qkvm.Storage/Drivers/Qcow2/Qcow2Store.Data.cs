using System.Buffers;
using Qkvm.Core.Block;
using Qkvm.Storage.Drivers.Luks;

namespace Qkvm.Storage.Drivers.Qcow2;

/// <summary>Guest data as they lie in the file: plain or encrypted, each sector with its place in the file as
/// tweak.</summary>
sealed partial class Qcow2Store
{
    const int MaxPiece = 1 << 20;

    /// <summary>Null of an image that is not encrypted, and where nobody reads.</summary>
    public XtsAes? Cipher { get; set; }

    public bool IsEncrypted => Header.Encryption != 0;

    public ValueTask ReadDataAsync(long host, ScatterList buffers) =>
        IsEncrypted ? ReadEncryptedAsync(host, buffers) : Data.ReadAsync(host, buffers);

    public ValueTask WriteDataAsync(long host, ScatterList buffers) =>
        IsEncrypted ? WriteEncryptedAsync(host, buffers) : Data.WriteAsync(host, buffers);

    async ValueTask ReadEncryptedAsync(long host, ScatterList buffers)
    {
        byte[] piece = ArrayPool<byte>.Shared.Rent(MaxPiece);
        try
        {
            for (long done = 0; done < buffers.Length;)
            {
                long at = host + done, start = at & -XtsAes.SectorSize;
                int count = (int)Math.Min(buffers.Length - done, MaxPiece - (at - start));
                int whole = (int)(at + count - start + XtsAes.SectorSize - 1) & -XtsAes.SectorSize;
                await Data.ReadAsync(start, new ScatterList(piece.AsMemory(0, whole))).ConfigureAwait(false);
                Key().Decrypt(start / XtsAes.SectorSize, piece.AsSpan(0, whole));
                buffers.Slice(done, count).CopyFrom(piece.AsSpan((int)(at - start), count));
                done += count;
            }
        }
        finally { ArrayPool<byte>.Shared.Return(piece); }
    }

    async ValueTask WriteEncryptedAsync(long host, ScatterList buffers)
    {
        if ((host | buffers.Length) % XtsAes.SectorSize != 0)
            throw new BlockException($"{Name}: an encrypted image takes whole sectors", Errno.Inval);
        byte[] piece = ArrayPool<byte>.Shared.Rent(MaxPiece);
        try
        {
            for (long done = 0; done < buffers.Length;)
            {
                int count = (int)Math.Min(buffers.Length - done, MaxPiece);
                buffers.Slice(done, count).CopyTo(piece);
                Key().Encrypt((host + done) / XtsAes.SectorSize, piece.AsSpan(0, count));
                await Data.WriteAsync(host + done, new ScatterList(piece.AsMemory(0, count))).ConfigureAwait(false);
                done += count;
            }
        }
        finally { ArrayPool<byte>.Shared.Return(piece); }
    }

    XtsAes Key() => Cipher ?? throw new BlockException($"{Name}: opened without its secret", Errno.Acces);
}
