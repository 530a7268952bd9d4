using System.Buffers;
using Qkvm.Core.Block;
using Qkvm.Core.Files;
using Qkvm.Host;
using Qkvm.Host.Folders;

namespace Qkvm.Backends.Files;

/// <summary>A file or folder of a <see cref="LocalFolder"/> that is open.</summary>
/// <param name="beginsWriteout">What is written goes to the disk at once.</param>
sealed class LocalFile(int fd, bool beginsWriteout) : OpenFile
{
    long _position;                                                // of the folder: where its descriptor stands

    public int Fd => fd;

    public override long Read(long offset, in ScatterList target, bool waits) =>
        Move(waits ? FileTransfer.Read : FileTransfer.ReadNow, offset, target);

    public override long Write(long offset, in ScatterList source)
    {
        long done = Move(FileTransfer.Write, offset, source);
        if (beginsWriteout && done > 0) FileCalls.BeginWriteout(fd, offset, done);
        return done;
    }

    public override int Synchronize(bool dataAlone) => FileCalls.Synchronize(fd, dataAlone);

    public override int Stat(out FileStatus status) => At.Stat(fd, out status);

    public override int ReadFolder(long position, Span<byte> entries)
    {
        if (position != _position || position == 0)
        {
            int moved = FileCalls.Seek(fd, position);
            if (moved < 0) return moved;
        }
        int length = FileCalls.ReadFolder(fd, entries);
        _position = -1;
        for (int at = 0; at < length;)
        {
            const int Offset = 8, Length = 16;                     // of struct linux_dirent64
            _position = BitConverter.ToInt64(entries[(at + Offset)..]);
            at += BitConverter.ToUInt16(entries[(at + Length)..]);
        }
        return length;
    }

    public override void Dispose() => Libc.close(fd);

    long Move(FileTransfer kind, long offset, in ScatterList memory)
    {
        Memory<byte>[] pieces = ArrayPool<Memory<byte>>.Shared.Rent(Libc.IovMax);
        int count = 0;
        foreach (Memory<byte> piece in memory)
        {
            if (count == Libc.IovMax) break;
            pieces[count++] = piece;
        }
        long done = FileTransfers.Move(fd, kind, offset, pieces.AsSpan(0, count));
        ArrayPool<Memory<byte>>.Shared.Return(pieces, clearArray: true);
        return done;
    }
}
