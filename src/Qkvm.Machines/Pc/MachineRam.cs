using Qkvm.Core.Machine;
using Qkvm.Core.Memory;

namespace Qkvm.Machines.Pc;

/// <summary>A machine's RAM: one piece of memory, or one of each NUMA node, one after the other.</summary>
/// <param name="pieces">At least one; disposed of with this.</param>
public sealed class MachineRam(IReadOnlyList<MemoryBackend> pieces) : IDisposable
{
    /// <summary>Of one piece, as most machines have it.</summary>
    public static implicit operator MachineRam(MemoryBackend memory) => new([memory]);

    /// <summary>In the order of their addresses.</summary>
    public IReadOnlyList<MemoryBackend> Pieces => pieces;

    /// <summary>Bytes.</summary>
    public ulong Size { get; } = pieces.Aggregate(0UL, (sum, piece) => sum + piece.Size);

    /// <summary>All of it, from offset 0 on.</summary>
    public MemoryRegion Region(string name)
    {
        if (pieces is [var only]) return MemoryRegion.OfRam(name, only.Ram, 0, only.Size);
        var all = MemoryRegion.Container(name, Size);
        ulong at = 0;
        foreach (MemoryBackend piece in pieces)
        {
            all.Map(at, MemoryRegion.OfRam(piece.Ram.Name, piece.Ram, 0, piece.Size));
            at += piece.Size;
        }
        return all;
    }

    /// <summary>Writes so many bytes from an offset on: those given, then zeros.</summary>
    public void Write(ulong offset, ReadOnlySpan<byte> bytes, ulong length)
    {
        const ulong MostAtOnce = 1 << 30;
        while (length > 0)
        {
            (MemoryBackend piece, ulong at) = Find(offset);
            int part = (int)Math.Min(Math.Min(length, piece.Size - at), MostAtOnce);
            Span<byte> target = piece.Ram.Span(at, part);
            ReadOnlySpan<byte> source = bytes[..Math.Min(part, bytes.Length)];
            source.CopyTo(target);
            target[source.Length..].Clear();
            piece.Ram.MarkWritten(at, (ulong)part);
            bytes = bytes[source.Length..];
            (offset, length) = (offset + (ulong)part, length - (ulong)part);
        }
    }

    (MemoryBackend Piece, ulong Offset) Find(ulong offset)
    {
        ulong at = offset;
        foreach (MemoryBackend piece in pieces)
        {
            if (at < piece.Size) return (piece, at);
            at -= piece.Size;
        }
        throw new ArgumentOutOfRangeException(nameof(offset), $"{offset:x} is behind RAM");
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (MemoryBackend piece in pieces) piece.Dispose();
    }
}
