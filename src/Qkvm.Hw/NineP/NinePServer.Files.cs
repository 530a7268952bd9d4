using Qkvm.Core.Files;
using Qkvm.Host;

namespace Qkvm.Hw.NineP;

/// <summary>Files: 9P2000.L opens, makes, asks and changes them.</summary>
public sealed partial class NinePServer
{
    const int DataHeader = 24;                                     // P9_IOHDRSZ: what a read or write has beside data
    const long Basic = 0x7FF;                                      // P9_GETATTR_BASIC

    // Tsetattr's valid: mode, uid, gid, size, atime, mtime, ctime, and whether the times are the client's
    const uint SetMode = 1, SetOwner = 2, SetGroup = 4, SetSize = 8, SetAccessed = 16, SetModified = 32,
        AccessedGiven = 128, ModifiedGiven = 256;

    int LinuxOpen(ref MessageReader message, ref MessageWriter answer)
    {
        uint number = message.Dword(), flags = message.Dword();
        if (message.IsCut) return -Errno.Invalid;
        if (Find(number) is not { } fid) return -Errno.BadFile;
        int done = OpenFid(fid, (int)flags);
        if (done < 0) return done;
        return AnswerOpen(fid, ref answer);
    }

    int LinuxCreate(ref MessageReader message, ref MessageWriter answer)
    {
        uint number = message.Dword();
        ReadOnlySpan<byte> given = message.Text();
        uint flags = message.Dword(), mode = message.Dword(), group = message.Dword();
        if (message.IsCut) return -Errno.Invalid;
        if (Find(number) is not { } fid) return -Errno.BadFile;
        int done = CreateFile(fid, given, (int)flags, new NewFile(mode & 0xFFF, fid.User, group));
        return done < 0 ? done : AnswerOpen(fid, ref answer);
    }

    /// <summary>A new file, for which the folder's fid stands from now on.</summary>
    int CreateFile(Fid fid, ReadOnlySpan<byte> given, int flags, in NewFile made)
    {
        if (fid.Open != null || fid.Attribute != null || (flags & Libc.OAccMode) == Libc.OAccMode)
            return -Errno.Invalid;
        int done = Named(given, stackalloc byte[NameRoom], out ReadOnlySpan<byte> name);
        if (done < 0 || (done = MakeRoom()) < 0) return done;
        if (PlaceTree.Child(fid.Place, name) is not { } place) return -Errno.TooManyFilesInSystem;
        done = folder.Create(fid.Place, name, flags, made, out OpenFile? file);
        if (done < 0)
        {
            place.Release();
            return done;
        }
        fid.MoveTo(place);
        Enter(fid, flags & ~(Libc.OCreat | Libc.OExcl), file!);
        return 0;
    }

    int AnswerOpen(Fid fid, ref MessageWriter answer)
    {
        int done = Identify(fid.Place, fid.Open!.File, out Qid qid, out FileStatus status);
        if (done < 0)
        {
            Leave(fid.Open);
            fid.Open = null;
            return done;
        }
        answer.Identity(qid);
        answer.Dword(UnitOf(status));
        return 0;
    }

    /// <summary>iounit: the longest read or write that is whole blocks.</summary>
    uint UnitOf(in FileStatus status)
    {
        long room = _messageSize - DataHeader, block = Math.Max(status.BlockSize, 1);
        return (uint)(room >= block ? room / block * block : room);
    }

    int GetAttributes(ref MessageReader message, ref MessageWriter answer)
    {
        uint number = message.Dword();
        if (message.IsCut) return -Errno.Invalid;
        if (Find(number) is not { } fid) return -Errno.BadFile;
        int done = Identify(fid.Place, FileOf(fid), out Qid qid, out FileStatus status);
        if (done < 0) return done;
        answer.Qword(Basic);
        answer.Identity(qid);
        answer.Dword(status.Mode);
        answer.Dword(status.Owner);
        answer.Dword(status.Group);
        answer.Qword(status.Links);
        answer.Qword(status.SpecialDevice);
        answer.Qword((ulong)status.Size);
        answer.Qword(UnitOf(status));
        answer.Qword((ulong)status.Blocks512);
        answer.Time(status.Accessed);
        answer.Time(status.Modified);
        answer.Time(status.Changed);
        answer.Time(default);                                      // of birth
        answer.Qword(0);                                           // generation
        answer.Qword(0);                                           // version of the data
        return 0;
    }

    int SetAttributes(ref MessageReader message)
    {
        uint number = message.Dword(), valid = message.Dword(), mode = message.Dword(), owner = message.Dword(),
            group = message.Dword();
        ulong size = message.Qword();
        var accessed = new Timespec { Seconds = (long)message.Qword(), Nanoseconds = (long)message.Qword() };
        var modified = new Timespec { Seconds = (long)message.Qword(), Nanoseconds = (long)message.Qword() };
        if (message.IsCut) return -Errno.Invalid;
        if (Find(number) is not { } fid) return -Errno.BadFile;
        if ((valid & SetSize) != 0 && size > long.MaxValue) return -Errno.Invalid;
        return folder.Change(fid.Place, FileOf(fid), new FileChanges((valid & SetMode) != 0 ? mode : null,
            (valid & SetOwner) != 0 ? owner : null, (valid & SetGroup) != 0 ? group : null,
            (valid & SetSize) != 0 ? (long)size : null)
        {
            Accessed = TimeOf(accessed, (valid & SetAccessed) != 0, (valid & AccessedGiven) != 0),
            Modified = TimeOf(modified, (valid & SetModified) != 0, (valid & ModifiedGiven) != 0),
        });
    }

    /// <summary>A time that is set, to what the client says or to now, or stays.</summary>
    static Timespec TimeOf(Timespec given, bool isSet, bool isGiven) => isSet && isGiven
        && given.Nanoseconds is >= 0 and < 1_000_000_000 ? given
        : new Timespec { Nanoseconds = isSet ? FileChanges.Now : FileChanges.Keep };

    int StatFileSystem(ref MessageReader message, ref MessageWriter answer)
    {
        uint number = message.Dword();
        if (message.IsCut) return -Errno.Invalid;
        if (Find(number) is not { } fid) return -Errno.BadFile;
        int done = folder.StatFileSystem(fid.Place, out FileSystemStatus status);
        if (done < 0) return done;
        // blocks as large as a read may be, as QEMU has them: programs then read so much at once
        ulong factor = (ulong)Math.Max(1, (_messageSize - DataHeader) / Math.Max(1, status.BlockSize));
        answer.Dword((uint)status.Type);
        answer.Dword((uint)((ulong)status.BlockSize * factor));
        answer.Qword(status.Blocks / factor);
        answer.Qword(status.Free / factor);
        answer.Qword(status.Available / factor);
        answer.Qword(status.Files);
        answer.Qword(status.FreeFiles);
        answer.Qword(status.Id);
        answer.Dword((uint)status.NameLength);
        return 0;
    }

    int Lock(ref MessageReader message, ref MessageWriter answer)
    {
        const uint Block = 1;                                      // P9_LOCK_FLAGS_BLOCK
        uint number = message.Dword();
        message.Byte();
        uint flags = message.Dword();
        message.Skip(sizeof(ulong) + sizeof(ulong) + sizeof(uint));
        message.Text();
        if (message.IsCut || (flags & ~Block) != 0) return -Errno.Invalid;
        if (Find(number)?.Open == null) return -Errno.BadFile;
        answer.Byte(0);                                            // P9_LOCK_SUCCESS
        return 0;
    }

    int GetLock(ref MessageReader message, ref MessageWriter answer)
    {
        const byte Unlocked = 2;                                   // P9_LOCK_TYPE_UNLCK
        uint number = message.Dword();
        message.Byte();
        ulong start = message.Qword(), length = message.Qword();
        uint process = message.Dword();
        ReadOnlySpan<byte> client = message.Text();
        if (message.IsCut) return -Errno.Invalid;
        if (Find(number)?.Open == null) return -Errno.BadFile;
        answer.Byte(Unlocked);
        answer.Qword(start);
        answer.Qword(length);
        answer.Dword(process);
        answer.Text(client);
        return 0;
    }
}
