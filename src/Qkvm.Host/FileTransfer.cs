using System.Buffers;

namespace Qkvm.Host;

/// <summary>Which way bytes go between a file and memory, and what is waited for.</summary>
public enum FileTransfer
{
    Read,
    /// <summary>What the page cache has; EAGAIN where a disk would have to be waited for.</summary>
    ReadNow,
    Write,
    /// <summary>And until it is on stable storage.</summary>
    WriteSync,
}

/// <summary>Positional vectored I/O on managed memory without copies: preadv2(2).</summary>
public static unsafe class FileTransfers
{
    /// <returns>Bytes, less than asked for at the file's end and where there are very many pieces; or minus an
    /// errno.</returns>
    public static long Move(int fd, FileTransfer kind, long offset, ReadOnlySpan<Memory<byte>> pieces)
    {
        int count = Math.Min(pieces.Length, Libc.IovMax), pinned = 0;
        Iovec* vector = stackalloc Iovec[count];
        MemoryHandle[] pins = ArrayPool<MemoryHandle>.Shared.Rent(count);
        try
        {
            for (; pinned < count; pinned++)                       // SAFETY: pinned until the system call returned
            {
                pins[pinned] = pieces[pinned].Pin();
                vector[pinned] = new Iovec { Base = pins[pinned].Pointer, Length = (nuint)pieces[pinned].Length };
            }
            while (true)
            {
                long done = kind switch
                {
                    FileTransfer.Write => Libc.pwritev(fd, vector, count, offset),
                    FileTransfer.WriteSync => Libc.pwritev2(fd, vector, count, offset, Libc.DataSync),
                    FileTransfer.ReadNow => Libc.preadv2(fd, vector, count, offset, Libc.NoWait),
                    _ => Libc.preadv(fd, vector, count, offset),
                };
                if (done >= 0) return done;
                if (Libc.Errno != Libc.EIntr) return -Libc.Errno;
            }
        }
        finally
        {
            for (int i = 0; i < pinned; i++) pins[i].Dispose();
            ArrayPool<MemoryHandle>.Shared.Return(pins, clearArray: true);
        }
    }
}
