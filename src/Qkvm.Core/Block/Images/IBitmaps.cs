namespace Qkvm.Core.Block.Images;

/// <summary>A driver whose image keeps dirty bitmaps. Changes are on disk after the node's flush.</summary>
public interface IBitmaps
{
    IReadOnlyList<IBitmap> Bitmaps { get; }

    /// <param name="granularity">Bytes for one bit, a power of two; null for the format's own choice.</param>
    /// <exception cref="BlockException">It exists, or the image can take no more.</exception>
    IBitmap AddBitmap(string name, int? granularity);

    void RemoveBitmap(IBitmap bitmap);
}

/// <param name="Node">Null: that of which one speaks, or what it lies over.</param>
public sealed record BitmapName(string? Node, string Name);

/// <summary>Which bytes of a disk were written since it was cleared.</summary>
public interface IBitmap
{
    string Name { get; }

    /// <summary>Bytes that one bit stands for.</summary>
    int Granularity { get; }

    /// <summary>It takes note of writes: QMP's recording, the flag "auto".</summary>
    bool IsEnabled { get; set; }

    /// <summary>The image was not closed cleanly, the flag "in-use": it can only be removed.</summary>
    bool IsInconsistent { get; }

    /// <summary>Its image keeps it.</summary>
    bool IsPersistent { get; }

    /// <summary>A job works with it: nobody else may change it.</summary>
    bool IsBusy { get; set; }

    /// <summary>Bytes that are dirty, in whole bits.</summary>
    long Count { get; }

    /// <summary>The first byte from an offset on that is dirty, or -1.</summary>
    long NextDirty(long offset);

    /// <summary>The first byte from an offset on that is clean, or -1.</summary>
    long NextClean(long offset);

    void Set(long offset, long length);
    void Clear();

    /// <summary>What is dirty in another becomes dirty here.</summary>
    void Join(IBitmap source);
}
