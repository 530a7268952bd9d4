using Qkvm.Core.Block;
using Qkvm.Host;

namespace Qkvm.Storage.Drivers.File;

/// <summary>Where the file has holes.</summary>
public sealed partial class FileDriver
{
    /// <summary>The run of data that lseek(2) told last. It walks page by page on file systems in memory, far beyond
    /// what was asked. To call a new hole data does no harm, so others may punch holes meanwhile.</summary>
    volatile DataRun? _data;

    sealed record DataRun(long Start, long End);

    /// <summary>By lseek(2). Past the end of the file all is zeros.</summary>
    protected override ValueTask<BlockStatus> StatusCore(long offset, long length)
    {
        BlockStatus status = Holes(offset, length);
        return new(status with { HostNode = this, HostOffset = offset });
    }

    BlockStatus Holes(long offset, long length)
    {
        if (_file.Status.IsBlockDevice) return BlockStatus.Data(length);
        if (offset >= Length) return BlockStatus.Zero(length);
        if (_data is { } known && offset >= known.Start && offset < known.End)
            return BlockStatus.Data(Math.Min(length, known.End - offset));
        long data = _file.NextData(offset);
        if (data == -Errno.NxIo) return BlockStatus.Zero(length);
        if (data > offset) return BlockStatus.Zero(Math.Min(length, data - offset));
        long hole = data < 0 ? data : _file.NextHole(offset);
        if (hole <= offset) return BlockStatus.Data(length);
        _data = new DataRun(offset, hole);
        return BlockStatus.Data(Math.Min(length, hole - offset));
    }
}
