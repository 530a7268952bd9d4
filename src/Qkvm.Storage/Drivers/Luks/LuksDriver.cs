using System.Buffers;
using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Core.Devices;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Drivers.Luks;

/// <summary>Format <c>luks</c>: an encrypted volume. Spec: LUKS On-Disk Format Specification 1.2.3.</summary>
/// <remarks>Deviations: of ciphers there is aes-xts-plain64 with keys of 256 and 512 bits; LUKS2 is refused.</remarks>
public sealed class LuksDriver : BlockNode, IAmendable
{
    public static readonly BlockDriverModel Model = new("luks",
        [Property.Node("file", "the image"), Property.Text("key-secret", help: "id of the secret with the passphrase")],
        Create) { Description = "encrypted volumes", Creation = LuksCreation.Model,
            AmendOptions = LuksAmendment.Options("") };

    const int MaxPiece = 1 << 20;

    readonly BlockEdge _file;
    readonly LuksHeader _header;
    readonly byte[]? _key;                                         // null where nobody reads
    readonly XtsAes? _cipher;
    readonly RangeLock _sectors = new();

    /// <param name="passphrase">Null: nobody is going to read the disk.</param>
    public LuksDriver(BlockDriver file, NodeOptions options, byte[]? passphrase) : base(options)
    {
        _file = Attach("file", file, BlockUse.Format(IsReadOnly));
        try
        {
            if (file.Length < LuksHeader.Size) throw Bad("Volume is not in LUKS format");
            _header = LuksHeader.ReadFrom(Read(0, LuksHeader.Size), out string wrong) ?? throw Bad(wrong);
            if (_header.PayloadOffset < LuksHeader.Size || _header.PayloadOffset > file.Length)
                throw Bad($"its payload begins at {_header.PayloadOffset}");
            if (passphrase == null) return;
            _key = LuksKeys.Unlock(_header, passphrase, Read)
                ?? throw Bad("Invalid password, cannot unlock any keyslot");
            _cipher = new XtsAes(_key);
        }
        catch (Exception e)
        {
            DetachChildren();
            if (e is BlockException) throw Bad(e.Message);
            throw;
        }
    }

    static LuksDriver Create(Properties properties, NodeParts parts)
    {
        string? secret = properties.Text("key-secret");
        if (secret == null && !parts.Around.IsUnread)
            throw new ConfigurationException($"Could not open '{BlockFactory.NameOf(parts.File)}': Parameter "
                + "'key-secret' is required for cipher");
        return new LuksDriver(parts.File, parts.Node, secret == null ? null : parts.Secret(secret));
    }

    public override string FormatName => Model.Name;
    public override string FileName => BlockFactory.NameOf(_file.Node);
    public override long Length => _file.Node.Length - _header.PayloadOffset & -XtsAes.SectorSize;
    public override ImageFacts Facts => new(_file.Node.Facts.ActualSize, Specific: _header.Describe(isInside: false),
        IsEncrypted: true);

    XtsAes Cipher => _cipher ?? throw new BlockException($"{FileName}: opened without its secret", Errno.Acces);

    public ValueTask AmendAsync(Amendment amendment)
    {
        new LuksAmendment(_header, _key!, Read, (offset, data) =>
        {
            ScatterLists.Wait(_file.Node.WriteAsync(offset, new ScatterList(data)));
            ScatterLists.Wait(_file.Node.FlushAsync());
        }).Run(amendment, "");
        amendment.Progress(1);
        return default;
    }

    public override ValueTask FlushAsync() => _file.Node.FlushAsync();

    public override async ValueTask DisposeAsync()
    {
        await ReleaseChildrenAsync().ConfigureAwait(false);
        _cipher?.Dispose();
    }

    protected override async ValueTask ReadCore(long offset, ScatterList buffers)
    {
        for (long done = 0; done < buffers.Length;)
        {
            long at = offset + done, start = at & -XtsAes.SectorSize;
            int count = (int)Math.Min(buffers.Length - done, MaxPiece - (at - start));
            byte[] piece = ArrayPool<byte>.Shared.Rent(MaxPiece);
            try
            {
                await ReadSectorsAsync(start, piece.AsMemory(0, Whole(at + count - start))).ConfigureAwait(false);
                buffers.Slice(done, count).CopyFrom(piece.AsSpan((int)(at - start), count));
            }
            finally { ArrayPool<byte>.Shared.Return(piece); }
            done += count;
        }
    }

    protected override async ValueTask WriteCore(long offset, ScatterList buffers)
    {
        bool isPartial = (offset | buffers.Length) % XtsAes.SectorSize != 0;
        LinkedListNode<RangeLock.Hold> hold = await _sectors.AcquireAsync(offset / XtsAes.SectorSize,
            (offset + buffers.Length - 1) / XtsAes.SectorSize + 1, isPartial).ConfigureAwait(false);
        try
        {
            for (long done = 0; done < buffers.Length;)
            {
                long at = offset + done, start = at & -XtsAes.SectorSize;
                int count = (int)Math.Min(buffers.Length - done, MaxPiece - (at - start));
                await WritePieceAsync(start, (int)(at - start), buffers.Slice(done, count)).ConfigureAwait(false);
                done += count;
            }
        }
        finally { _sectors.Release(hold); }
    }

    async ValueTask WritePieceAsync(long start, int skip, ScatterList data)
    {
        byte[] piece = ArrayPool<byte>.Shared.Rent(MaxPiece);
        try
        {
            Memory<byte> sectors = piece.AsMemory(0, Whole(skip + data.Length));
            if (sectors.Length != data.Length) await ReadSectorsAsync(start, sectors).ConfigureAwait(false);
            data.CopyTo(sectors.Span[skip..]);
            Cipher.Encrypt(start / XtsAes.SectorSize, sectors.Span);
            await _file.Node.WriteAsync(_header.PayloadOffset + start, new ScatterList(sectors)).ConfigureAwait(false);
        }
        finally { ArrayPool<byte>.Shared.Return(piece); }
    }

    async ValueTask ReadSectorsAsync(long start, Memory<byte> sectors)
    {
        await _file.Node.ReadAsync(_header.PayloadOffset + start, new ScatterList(sectors)).ConfigureAwait(false);
        Cipher.Decrypt(start / XtsAes.SectorSize, sectors.Span);
    }

    protected override async ValueTask WriteZeroesCore(long offset, long length, bool mayUnmap)
    {
        for (long done = 0; done < length; done += MaxPiece)
            await WriteCore(offset + done, ScatterLists.Zeroes(Math.Min(MaxPiece, length - done)))
                .ConfigureAwait(false);
    }

    protected override ValueTask DiscardCore(long offset, long length) =>
        _file.Node.DiscardAsync(_header.PayloadOffset + offset, length);

    protected override ValueTask ResizeCore(long length) => _file.Node.ResizeAsync(_header.PayloadOffset + length);

    static int Whole(long bytes) => (int)(bytes + XtsAes.SectorSize - 1) & -XtsAes.SectorSize;

    byte[] Read(long offset, int length)
    {
        var data = new byte[length];
        ScatterLists.Wait(_file.Node.ReadAsync(offset, new ScatterList(data)));
        return data;
    }

    ConfigurationException Bad(string what) => new($"Could not open '{FileName}': {what}");
}
