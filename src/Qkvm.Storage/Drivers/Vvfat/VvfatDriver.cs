using Microsoft.Win32.SafeHandles;
using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Drivers.Vvfat;

/// <summary>Protocol <c>vvfat</c>: a directory of the host as a disk with a FAT file system, for reading.</summary>
/// <remarks>It is read once, when it is opened; files' contents are read when the guest reads them, with the lengths
/// that they had. Deviations: <c>rw=on</c> is refused; symbolic links are left out; with <c>fat-type=32</c> clusters
/// have 4 KiB, since with fewer than 65525 of them it would be no FAT32.</remarks>
public sealed class VvfatDriver : BlockNode
{
    const string Prefix = "fat:";
    const int MaxOpen = 16;

    public static readonly BlockDriverModel Model = new("vvfat",
        [
            Property.Text("dir", help: "the directory"), Property.Text("filename", help: "the same, as fat:…"),
            Property.Number("fat-type", 0, help: "12, 16 or 32; 0 for the usual"),
            Property.Bool("floppy", false, "a floppy of 2.88 MB instead of a disk of 504 MiB"),
            Property.Text("label", "QEMU VVFAT", "of the volume, 11 characters at most"),
            Property.Missing("rw", "off", "give snapshot=on to a drive that the guest writes to: what it writes is "
                + "lost with the machine"),
        ],
        Create)
    {
        IsProtocol = true,
        Description = "a directory as a disk with a FAT file system, for reading",
        Prefixes = ["fat"],
        ParseFileName = Parse,
    };

    readonly FatGeometry _geometry;
    readonly FatTree _tree;
    readonly FatVolume _volume;
    readonly Lock _lock = new();
    readonly LinkedList<(string Path, SafeFileHandle Handle)> _open = [];   // within the lock; the last used first

    VvfatDriver(string directory, FatGeometry geometry, string label, NodeOptions options) : base(options)
    {
        (FileName, _geometry) = (Prefix + directory, geometry);
        _tree = new FatTree(directory, geometry, label);
        _volume = new FatVolume(geometry, _tree, label);
    }

    static VvfatDriver Create(Properties properties, NodeParts parts)
    {
        string directory = properties.Text("dir")
            ?? throw properties.Error("vvfat block driver requires a 'dir' option");
        ulong bits = properties.Number("fat-type");
        if (bits is not (0 or 12 or 16 or 32))
            throw properties.Error("Valid FAT types are only 12, 16 and 32");
        string label = properties.Text("label")!;
        if (label.Length > FatEntry.ShortLength) throw properties.Error("vvfat label cannot be longer than 11 bytes");
        bool isFloppy = properties.Bool("floppy");
        if (bits == 32 && isFloppy) throw properties.Error("FAT32 needs more clusters than a floppy has");
        if (!parts.Node.ReadOnly && !parts.Around.AutoReadOnly)
            throw new ConfigurationException("a directory is for reading; give read-only=on, or snapshot=on to a drive "
                + "that the guest writes to");
        return new VvfatDriver(directory, FatGeometry.Of((int)bits, isFloppy), label,
            parts.Node with { ReadOnly = true });
    }

    /// <summary>fat:[floppy:][12:|16:|32:][rw:]DIR.</summary>
    static void Parse(string name, Options options)
    {
        string rest = name[Prefix.Length..];
        for (int colon; (colon = rest.IndexOf(':')) > 0 && !rest[..colon].Contains('/'); rest = rest[(colon + 1)..])
            switch (rest[..colon])
            {
                case "floppy": options.Add("floppy", "on"); break;
                case "rw": options.Add("rw", "on"); break;
                case "12" or "16" or "32": options.Add("fat-type", rest[..colon]); break;
            }
        options.Add("dir", rest);
    }

    public override string FormatName => Model.Name;
    public override string FileName { get; }
    public override long Length => (long)_geometry.Total * FatGeometry.Sector;
    public override ImageFacts Facts => new();

    public override ValueTask FlushAsync() => default;

    public override ValueTask DisposeAsync()
    {
        lock (_lock)
        {
            foreach ((_, SafeFileHandle handle) in _open) handle.Dispose();
            _open.Clear();
        }
        return default;
    }

    protected override ValueTask ReadCore(long offset, ScatterList buffers)
    {
        Span<byte> sector = stackalloc byte[FatGeometry.Sector];
        foreach (Memory<byte> piece in buffers)
            for (Span<byte> rest = piece.Span; rest.Length > 0;)
            {
                int taken = ReadSome(offset, rest, sector);
                offset += taken;
                rest = rest[taken..];
            }
        return default;
    }

    int ReadSome(long offset, Span<byte> target, Span<byte> sector)
    {
        int number = (int)(offset / FatGeometry.Sector), skip = (int)(offset % FatGeometry.Sector);
        if (number >= _geometry.DataStart) return ReadData(offset, target);
        int count = Math.Min(target.Length, FatGeometry.Sector - skip);
        _volume.Read(number, sector);
        sector.Slice(skip, count).CopyTo(target);
        return count;
    }

    /// <summary>Up to the end of the run of clusters.</summary>
    int ReadData(long offset, Span<byte> target)
    {
        long inData = offset - (long)_geometry.DataStart * FatGeometry.Sector;
        uint cluster = (uint)(inData / _geometry.ClusterSize) + 2;
        FatRun? run = _tree.Find(cluster);
        if (run == null)
        {
            int free = (int)Math.Min(target.Length, _geometry.ClusterSize - inData % _geometry.ClusterSize);
            target[..free].Clear();
            return free;
        }
        long inRun = inData - (run.First - 2L) * _geometry.ClusterSize;
        target = target[..(int)Math.Min(target.Length, (long)run.Count * _geometry.ClusterSize - inRun)];
        int filled = 0;
        if (run.Data is { } data)
        {
            FatVolume.Copy(data, (int)inRun, target);
            filled = (int)Math.Clamp(data.Length - inRun, 0, target.Length);
        }
        else if (inRun < run.Length)
            filled = ReadFile(run.Path!, inRun, target[..(int)Math.Min(target.Length, run.Length - inRun)]);
        target[filled..].Clear();
        return target.Length;
    }

    int ReadFile(string path, long offset, Span<byte> target)
    {
        lock (_lock)
            try
            {
                SafeFileHandle handle = Handle(path);
                int done = 0;
                while (done < target.Length
                    && RandomAccess.Read(handle, target[done..], offset + done) is > 0 and int n) done += n;
                return done;                                       // a file that has become shorter ends with zeros
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                throw new BlockException($"{path}: {e.Message}", Errno.Io);
            }
    }

    SafeFileHandle Handle(string path)
    {
        LinkedListNode<(string Path, SafeFileHandle Handle)>? node = _open.First;
        while (node != null && node.Value.Path != path) node = node.Next;
        if (node != null) _open.Remove(node);
        else node = new((path, System.IO.File.OpenHandle(path, FileMode.Open, FileAccess.Read,
            FileShare.ReadWrite | FileShare.Delete)));
        _open.AddFirst(node);
        if (_open.Count > MaxOpen)
        {
            _open.Last!.Value.Handle.Dispose();
            _open.RemoveLast();
        }
        return node.Value.Handle;
    }

    protected override ValueTask WriteCore(long offset, ScatterList buffers) => throw ForReading();
    protected override ValueTask DiscardCore(long offset, long length) => throw ForReading();
    protected override ValueTask WriteZeroesCore(long offset, long length, bool mayUnmap) => throw ForReading();

    static BlockException ForReading() => new("a directory is for reading", Errno.Perm);
}
