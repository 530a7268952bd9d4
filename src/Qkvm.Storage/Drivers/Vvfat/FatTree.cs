using System.Buffers.Binary;

namespace Qkvm.Storage.Drivers.Vvfat;

/// <summary>Clusters that belong together.</summary>
/// <param name="First">The number of the first.</param>
/// <param name="Data">Of a directory; null for a file of the host.</param>
/// <param name="Path">Of that file.</param>
/// <param name="Length">Bytes.</param>
sealed record FatRun(uint First, int Count, byte[]? Data, string? Path, long Length);

/// <summary>A directory of the host laid out as a FAT volume: one run of clusters for each file and
/// directory.</summary>
/// <remarks>Symbolic links are not followed; what cannot be read, and what is neither file nor directory, is left
/// out.</remarks>
sealed class FatTree
{
    const int MaxFiles = 100_000, MaxDepth = 64;
    const long MaxLength = uint.MaxValue;                          // of a file on FAT

    readonly FatGeometry _geometry;
    readonly List<FatRun> _runs = [];
    uint _next = 2;
    int _files;

    /// <exception cref="ConfigurationException">It cannot be read, or does not fit.</exception>
    public FatTree(string directory, FatGeometry geometry, string label)
    {
        _geometry = geometry;
        var top = new DirectoryInfo(directory);
        FileSystemInfo[] inside;
        try { inside = top.GetFileSystemInfos(); }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
        {
            throw new ConfigurationException($"Could not read directory {directory}", e);
        }
        byte[] name = System.Text.Encoding.ASCII.GetBytes(label.PadRight(FatEntry.ShortLength));
        byte[] volume = FatEntry.Short(name, FatEntry.VolumeLabel, top.LastWriteTime, 0, 0);
        if (geometry.RootEntries == 0)
        {
            int slot = Reserve();
            Root = Fill(inside, volume, 0, 0);
            _runs[slot] = Take(Root, 2);
        }
        else
        {
            Root = Fill(inside, volume, 0, 0);
            if (Root.Length > geometry.RootSectors * FatGeometry.Sector)
                throw new ConfigurationException($"'{directory}' has more names than the root directory of "
                    + $"FAT{geometry.Bits} takes; put them into a directory below");
        }
        CheckFit();
        _runs.Sort((a, b) => a.First.CompareTo(b.First));
    }

    /// <summary>Files that are in memory, on a volume whose root directory lies before its clusters.</summary>
    /// <exception cref="ConfigurationException">They do not fit.</exception>
    public FatTree((string Name, byte[] Data)[] files, FatGeometry geometry, string label)
    {
        _geometry = geometry;
        var names = new ShortNames();
        var changed = new DateTime(2000, 1, 1);
        List<byte> entries = [.. FatEntry.Short(System.Text.Encoding.ASCII.GetBytes(
            label.PadRight(FatEntry.ShortLength)), FatEntry.VolumeLabel, changed, 0, 0)];
        foreach ((string name, byte[] data) in files)
        {
            byte[] shortName = names.Make(name, out bool isExact);
            if (!isExact) entries.AddRange(FatEntry.Long(name, shortName));
            uint first = data.Length == 0 ? 0 : _next;
            if (data.Length > 0) _runs.Add(Take(data));
            entries.AddRange(FatEntry.Short(shortName, FatEntry.Archive, changed, first, (uint)data.Length));
        }
        Root = [.. entries];
        CheckFit();
    }

    void CheckFit()
    {
        if (_next - 2 > (uint)_geometry.Clusters)
            throw new ConfigurationException($"Directory does not fit in FAT{_geometry.Bits} (capacity "
                + FormattableString.Invariant($"{_geometry.Total * 512.0 / 1e6:0.00} MB)"));
    }

    /// <summary>The root directory's entries.</summary>
    public byte[] Root { get; }

    /// <summary>By their first clusters.</summary>
    public IReadOnlyList<FatRun> Runs => _runs;

    /// <summary>The first cluster that is free.</summary>
    public uint Next => _next;

    /// <summary>The run that a cluster belongs to, or null.</summary>
    public FatRun? Find(uint cluster)
    {
        int low = 0, high = _runs.Count - 1;
        while (low <= high)
        {
            int middle = (low + high) / 2;
            FatRun run = _runs[middle];
            if (cluster < run.First) high = middle - 1;
            else if (cluster >= run.First + run.Count) low = middle + 1;
            else return run;
        }
        return null;
    }

    /// <summary>A directory whose length is not known yet keeps its place among the runs.</summary>
    int Reserve()
    {
        _runs.Add(null!);
        return _runs.Count - 1;
    }

    FatRun Take(byte[] data, uint? first = null)
    {
        int count = ClustersOf(data.Length);
        uint start = first ?? _next;
        _next = Math.Max(_next, start + (uint)count);
        return new FatRun(start, count, data, null, data.Length);
    }

    int ClustersOf(long length) => (int)Math.Max(1, (length + _geometry.ClusterSize - 1) / _geometry.ClusterSize);

    /// <summary>Entries of a directory, behind what it begins with.</summary>
    byte[] Fill(FileSystemInfo[] inside, byte[] begin, uint self, int depth)
    {
        var names = new ShortNames();
        Array.Sort(inside, (a, b) => string.CompareOrdinal(a.Name, b.Name));
        var wanted = new List<(FileSystemInfo Info, byte[] Short, byte[] Long)>();
        int size = begin.Length;
        foreach (FileSystemInfo one in inside)
        {
            bool isLink = (one.Attributes & FileAttributes.ReparsePoint) != 0;
            bool isFile = one is FileInfo && (one.Attributes & FileAttributes.Device) == 0
                && Host.HostFile.TryStatus(one.FullName, out Host.FileStatus status, out _) && status.IsRegularFile;
            if (isLink || (one is not DirectoryInfo && !isFile) || depth > MaxDepth) continue;
            if (++_files > MaxFiles) throw new ConfigurationException($"there are more than {MaxFiles} files");
            byte[] shortName = names.Make(one.Name, out bool isExact);
            byte[] longName = isExact ? [] : FatEntry.Long(one.Name, shortName);
            wanted.Add((one, shortName, longName));
            size += longName.Length + FatEntry.Size;
        }
        // Its own clusters come before those of what is in it.
        if (self != 0) _next = self + (uint)ClustersOf(size);
        else if (_geometry.RootEntries == 0) _next = 2 + (uint)ClustersOf(size);
        var entries = new List<byte>(size);
        entries.AddRange(begin);
        foreach ((FileSystemInfo one, byte[] shortName, byte[] longName) in wanted)
        {
            entries.AddRange(longName);
            entries.AddRange(one is DirectoryInfo below ? AddDirectory(below, shortName, self, depth)
                : AddFile((FileInfo)one, shortName));
        }
        return [.. entries];
    }

    byte[] AddFile(FileInfo file, byte[] name)
    {
        long length = Math.Min(file.Length, MaxLength);
        uint first = length == 0 ? 0 : _next;
        if (length > 0)
        {
            int count = ClustersOf(length);
            if (_next + (long)count > uint.MaxValue / 2) throw new ConfigurationException("there is too much in it");
            _runs.Add(new FatRun(first, count, null, file.FullName, length));
            _next += (uint)count;
        }
        return FatEntry.Short(name, FatEntry.Archive, file.LastWriteTime, first, (uint)length);
    }

    byte[] AddDirectory(DirectoryInfo directory, byte[] name, uint parent, int depth)
    {
        FileSystemInfo[] inside = [];
        try { inside = directory.GetFileSystemInfos(); }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException) { }   // it is empty for us
        uint first = _next;
        int slot = Reserve();
        DateTime changed = directory.LastWriteTime;
        byte[] begin = [.. FatEntry.Short(".          "u8, FatEntry.Directory, changed, first, 0),
            .. FatEntry.Short("..         "u8, FatEntry.Directory, changed, parent, 0)];
        byte[] data = Fill(inside, begin, first, depth + 1);
        _runs[slot] = Take(data, first);
        return FatEntry.Short(name, FatEntry.Directory, changed, first, 0);
    }
}
