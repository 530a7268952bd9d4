using System.Numerics;
using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;

namespace Qkvm.Storage.Drivers.Qcow2;

/// <summary>Dirty bitmaps that the image keeps: in memory while it is open, stored when it is closed.</summary>
public sealed partial class Qcow2Driver : IBitmaps
{
    const int MinDefaultGranularity = 4 << 10, MaxDefaultGranularity = 64 << 10;

    List<Qcow2Bitmap> _bitmaps = [];
    List<(long Offset, long Length)> _bitmapClusters = [];         // that the header leads to
    volatile Qcow2Bitmap[] _recording = [];

    public IReadOnlyList<IBitmap> Bitmaps => _bitmaps;

    Qcow2BitmapDirectory Directory => new(_store, Info.Extensions);

    void OpenBitmaps()
    {
        _bitmaps = Directory.Read();
        foreach (Qcow2Bitmap bitmap in _bitmaps)
        {
            if (!bitmap.IsInconsistent) Directory.LoadBits(bitmap);
            bitmap.Changing = PrepareForWriting;
        }
    }

    /// <summary>Before the first change: who finds them later knows that they were in use.</summary>
    void UseBitmaps()
    {
        _bitmapClusters = [.. Qcow2BitmapDirectory.Clusters(_store, Info.Extensions)];
        Directory.MarkInUse(_bitmaps);
        Record();
    }

    void Record() => _recording = [.. _bitmaps.Where(bitmap => !bitmap.IsInconsistent)];

    /// <summary>A guest wrote.</summary>
    void MarkDirty(long offset, long length)
    {
        foreach (Qcow2Bitmap bitmap in _recording)
            if (bitmap.IsEnabled) bitmap.Set(offset, length);
    }

    /// <inheritdoc/>
    public IBitmap AddBitmap(string name, int? granularity)
    {
        if (Info.Header.Version < 3)
            throw new BlockException("Cannot store dirty bitmaps in qcow2 v2 files", Errno.OpNotSupp);
        if (_bitmaps.Exists(bitmap => bitmap.Name == name))
            throw new BlockException($"Bitmap already exists: {name}", Errno.Inval);
        if (name.Length == 0 || System.Text.Encoding.UTF8.GetByteCount(name) > 1023)
            throw new BlockException("Bitmap name too long", Errno.Inval);
        if (_bitmaps.Count >= Qcow2BitmapDirectory.MaxBitmaps)
            throw new BlockException("Maximum number of persistent bitmaps is already reached", Errno.FBig);
        int bytes = granularity ?? Math.Clamp(_layout.ClusterSize, MinDefaultGranularity, MaxDefaultGranularity);
        if (!int.IsPow2(bytes) || bytes < 512)
            throw new BlockException("Granularity must be a power of 2, and at least 512", Errno.Inval);
        PrepareForWriting();
        var made = new Qcow2Bitmap(name, BitOperations.Log2((uint)bytes), _store.Header.Size)
        {
            IsEnabled = true, Changing = PrepareForWriting,
        };
        lock (_store.Sync) _bitmaps = [.. _bitmaps, made];
        Record();
        return made;
    }

    /// <inheritdoc/>
    public void RemoveBitmap(IBitmap bitmap)
    {
        PrepareForWriting();
        lock (_store.Sync) _bitmaps = [.. _bitmaps.Where(other => other != bitmap)];
        Record();
    }

    /// <summary>Writes them, turns the header over to them, frees where they were. Under the store's lock.</summary>
    void StoreBitmaps()
    {
        if (_isUntouched || (_bitmaps.Count == 0 && _bitmapClusters.Count == 0)) return;
        List<(long Offset, long Length)> kept = [.. _bitmaps.Where(bitmap => bitmap.IsInconsistent)
            .SelectMany(Directory.ClustersOf)];
        Directory.Write(_bitmaps, static bitmap => !bitmap.IsInconsistent);
        _store.WriteBack();
        _store.FlushFile();
        Info.Header.Autoclear = Info.Header.Autoclear & ~Qcow2Features.AutoclearBitmaps
            | (_bitmaps.Count > 0 ? Qcow2Features.AutoclearBitmaps : 0);
        RewriteHeader();
        foreach ((long offset, long length) in _bitmapClusters)
            if (!kept.Contains((offset, length))) _store.FreeNow(offset, length, punch: false);
        _bitmapClusters = [];
    }

    /// <summary>Header, extensions and the backing file's name as <see cref="Info"/> has them. Under the store's
    /// lock.</summary>
    internal void RewriteHeader()
    {
        _store.Write(0, Qcow2FirstCluster.Make(Info.Header, Info.Extensions, Info.BackingFile));
        _store.FlushFile();
    }
}
