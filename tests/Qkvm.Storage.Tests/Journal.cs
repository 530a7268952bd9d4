namespace Qkvm.Storage.Tests;

/// <summary>What several files were told in which order, so that the machine can die between any two writes.</summary>
sealed class Journal
{
    readonly List<(MemoryFile File, long Offset, byte[]? Data)> _entries = [];
    readonly Dictionary<MemoryFile, byte[]> _start = [];

    public int Count { get { lock (_entries) return _entries.Count; } }

    /// <summary>Follows a file from now on.</summary>
    public void Follow(MemoryFile file)
    {
        _start[file] = file.Contents;
        file.Journal = this;
    }

    /// <param name="data">Null: a flush.</param>
    public void Add(MemoryFile file, long offset, byte[]? data)
    {
        lock (_entries) _entries.Add((file, offset, data));
    }

    /// <summary>What a file holds where the machine died before an entry: everything up to the file's last flush, and
    /// any part of the rest.</summary>
    public byte[] Replay(MemoryFile file, int end, Random random)
    {
        var own = new List<(long Offset, byte[]? Data)>();
        lock (_entries)
            foreach ((MemoryFile File, long Offset, byte[]? Data) entry in _entries.Take(end))
                if (entry.File == file) own.Add((entry.Offset, entry.Data));
        return Qcow2CrashTests.Replay(_start[file], own, own.Count, random);
    }
}
