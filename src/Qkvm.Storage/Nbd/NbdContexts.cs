using System.Buffers.Binary;
using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Storage.Drivers;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Nbd;

/// <summary>Something that a client can ask about bytes of an export.</summary>
/// <param name="Bitmap">Of a dirty bitmap; null for what the graph says.</param>
sealed record NbdContext(uint Id, string Name, IBitmap? Bitmap = null)
{
    public bool IsDepth => Name == NbdProtocol.Depth;
}

/// <summary>Metadata contexts of an export that a client has chosen. Spec: doc/proto.md, "Metadata querying".</summary>
/// <param name="export">Null for none.</param>
sealed class NbdContexts(NbdExport? export)
{
    public static readonly NbdContexts None = new(null);

    const int FirstBitmap = 2;

    readonly SortedDictionary<uint, NbdContext> _selected = [];

    public NbdExport? Export => export;

    public IReadOnlyCollection<NbdContext> Selected => _selected.Values;

    public void SelectAll()
    {
        foreach (NbdContext context in All()) _selected.TryAdd(context.Id, context);
    }

    /// <param name="isList">Names of name spaces alone, "base:", stand for all that is in them.</param>
    public void Select(string query, bool isList)
    {
        foreach (NbdContext context in All())
        {
            bool isSpace = isList && query is ("base:" or "qemu:" or NbdProtocol.Bitmap);
            if (context.Name == query || (isSpace && context.Name.StartsWith(query, StringComparison.Ordinal)))
                _selected.TryAdd(context.Id, context);
        }
    }

    IEnumerable<NbdContext> All()
    {
        if (export == null) yield break;
        yield return new NbdContext(0, NbdProtocol.Allocation);
        if (export.ShowsDepth) yield return new NbdContext(1, NbdProtocol.Depth);
        uint id = FirstBitmap;
        foreach (IBitmap bitmap in export.Bitmaps)
            yield return new NbdContext(id++, NbdProtocol.Bitmap + bitmap.Name, bitmap);
    }

    /// <summary>Writes descriptors of a range: 32 bits of length and 32 of flags for each run that is alike.</summary>
    /// <param name="one">A single run is enough.</param>
    /// <returns>Bytes written, a multiple of 8.</returns>
    public static int Describe(BlockDriver node, NbdContext context, long offset, long length, bool one,
        Span<byte> target)
    {
        int written = 0;
        uint lastFlags = 0;
        long run = 0;
        for (long end = offset + length; offset < end;)
        {
            (long count, uint flags) = Find(node, context, offset, end - offset);
            if (run > 0 && flags != lastFlags)
            {
                if (one || written + 16 > target.Length) break;
                written += Put(target[written..], run, lastFlags);
                run = 0;
            }
            (run, lastFlags) = (run + count, flags);
            offset += count;
        }
        return written + Put(target[written..], run, lastFlags);
    }

    static int Put(Span<byte> target, long length, uint flags)
    {
        BinaryPrimitives.WriteUInt32BigEndian(target, (uint)length);
        BinaryPrimitives.WriteUInt32BigEndian(target[4..], flags);
        return 8;
    }

    static (long Length, uint Flags) Find(BlockDriver node, NbdContext context, long offset, long length)
    {
        if (context.Bitmap is { } bitmap)
        {
            long dirty = bitmap.NextDirty(offset);
            bool isDirty = dirty == offset;
            long end = isDirty ? bitmap.NextClean(offset) : dirty;
            return (end < 0 ? length : Math.Min(length, end - offset), isDirty ? NbdProtocol.StateDirty : 0);
        }
        (BlockStatus status, int depth) = ScatterLists.Wait(ChainStatus.FindAsync(node, offset, length));
        return (Math.Min(length, status.Length), context.IsDepth ? (uint)depth
            : (status.IsData ? 0 : NbdProtocol.StateHole) | (status.IsZero ? NbdProtocol.StateZero : 0));
    }
}
