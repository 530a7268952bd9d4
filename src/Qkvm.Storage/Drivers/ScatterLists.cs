using Qkvm.Core.Block;

namespace Qkvm.Storage.Drivers;

/// <summary>What block drivers do with scatter-gather lists beside slicing.</summary>
static class ScatterLists
{
    const int ZeroPiece = 64 << 10;

    static readonly Memory<byte> SharedZeroes = new byte[ZeroPiece]; // only ever written from

    public static bool IsZero(ScatterList list)
    {
        foreach (Memory<byte> piece in list)
            if (piece.Span.ContainsAnyExcept((byte)0)) return false;
        return true;
    }

    /// <summary>A source of zeros; never a target.</summary>
    public static ScatterList Zeroes(long length)
    {
        var pieces = new Memory<byte>[(length + ZeroPiece - 1) / ZeroPiece];
        Array.Fill(pieces, SharedZeroes);
        return new ScatterList(pieces, 0, 0, length);
    }

    /// <summary>Head, middle and tail as one list.</summary>
    public static ScatterList Join(Memory<byte> head, ScatterList middle, Memory<byte> tail)
    {
        if (head.Length == 0 && tail.Length == 0) return middle;
        List<Memory<byte>> pieces = [head];
        foreach (Memory<byte> piece in middle) pieces.Add(piece);
        pieces.Add(tail);
        return new ScatterList(pieces);
    }

    /// <summary>Waits for a child where the caller cannot: metadata under its lock.</summary>
    public static void Wait(ValueTask task)
    {
        if (task.IsCompleted) task.GetAwaiter().GetResult();
        else task.AsTask().GetAwaiter().GetResult();
    }

    public static T Wait<T>(ValueTask<T> task) =>
        task.IsCompleted ? task.GetAwaiter().GetResult() : task.AsTask().GetAwaiter().GetResult();
}
