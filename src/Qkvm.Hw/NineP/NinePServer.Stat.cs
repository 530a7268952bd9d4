using System.Text;
using Qkvm.Core.Files;
using Qkvm.Host;

namespace Qkvm.Hw.NineP;

/// <summary>stat(5) of 9P2000 and 9P2000.u.</summary>
public sealed partial class NinePServer
{
    const int LongestStat = 4096 + 1024;                           // a link's target, a name and the rest

    readonly byte[] _stat = new byte[LongestStat];

    int Stat(ref MessageReader message, ref MessageWriter answer)
    {
        uint number = message.Dword();
        if (message.IsCut) return -Errno.Invalid;
        if (Find(number) is not { } fid) return -Errno.BadFile;
        int length = StatOf(fid.Place, FileOf(fid), out ReadOnlySpan<byte> stat);
        if (length < 0) return length;
        answer.Text(stat);
        return 0;
    }

    /// <summary>A stat with its size before it.</summary>
    int StatOf(Place place, OpenFile? file, out ReadOnlySpan<byte> stat)
    {
        stat = default;
        int done = Identify(place, file, out Qid qid, out FileStatus status);
        if (done < 0) return done;
        var body = new MessageWriter(_stat.AsSpan(sizeof(ushort)));
        body.Word(0);                                              // type and device of its server
        body.Dword(0);
        body.Identity(qid);
        body.Dword(StatMode(status.Mode));
        body.Dword((uint)status.Accessed.Seconds);
        body.Dword((uint)status.Modified.Seconds);
        body.Qword(status.IsDirectory ? 0 : (ulong)status.Size);
        body.Text(place.IsRoot ? "/"u8 : place.Name[..^1]);
        bool isUnix = _dialect == Dialect.Unix;
        body.Text(isUnix ? default : Encoding.UTF8.GetBytes($"{status.Owner}"));
        body.Text(isUnix ? default : Encoding.UTF8.GetBytes($"{status.Group}"));
        body.Text(default);                                        // who changed it last
        if (isUnix)
        {
            if ((done = Extension(place, status, ref body)) < 0) return done;
            body.Dword(status.Owner);
            body.Dword(status.Group);
            body.Dword(uint.MaxValue);
        }
        var size = new MessageWriter(_stat);
        size.Word((ushort)body.Length);
        stat = _stat.AsSpan(0, sizeof(ushort) + body.Length);
        return stat.Length;
    }

    /// <summary>What 9P2000.u says of links and devices.</summary>
    int Extension(Place place, in FileStatus status, ref MessageWriter body)
    {
        uint type = status.Mode & TypeMask;
        if (type == LinkType)
        {
            Span<byte> target = stackalloc byte[4096];
            int length = folder.ReadLink(place, target);
            if (length < 0) return length;
            body.Text(target[..length]);
        }
        else if (type is Character or Block)
        {
            ulong device = status.SpecialDevice;
            ulong major = device >> 8 & 0xFFF | device >> 32 & ~0xFFFUL, minor = device & 0xFF | device >> 12 & ~0xFFUL;
            body.Text(Encoding.UTF8.GetBytes($"{(type == Block ? 'b' : 'c')} {(uint)major} {(uint)minor}"));
        }
        else body.Text(default);
        return 0;
    }

    uint StatMode(uint mode)
    {
        uint type = mode & TypeMask, seen = mode & Access | (type == Folder ? DmFolder : 0);
        if (_dialect != Dialect.Unix) return seen;
        seen |= type switch
        {
            LinkType => DmSymlink, Socket => DmSocket, Pipe => DmPipe, Character or Block => DmDevice, _ => 0,
        };
        return seen | ((mode & SetOwnerBit) != 0 ? DmSetOwner : 0) | ((mode & SetGroupBit) != 0 ? DmSetGroup : 0)
            | ((mode & StickyBit) != 0 ? DmSticky : 0);
    }

    /// <summary>read(5) of a folder: whole stats, from where the last read ended.</summary>
    int ReadStats(NinePRequest request, Fid fid, OpenFile file, ulong offset, long room)
    {
        if (offset == 0) (fid.Position, fid.NextOffset) = (0, 0);
        else if (offset != fid.NextOffset) return -Errno.Invalid;
        int total = 0;
        while (true)
        {
            int length = file.ReadFolder(fid.Position, _entries);
            if (length < 0) return length;
            for (int at = 0; at < length;)
            {
                ReadOnlySpan<byte> entry = Entry(at, length, out ReadOnlySpan<byte> name);
                if (entry.IsEmpty) return -Errno.Io;
                at += entry.Length;
                int size = EntryStat(fid, name, out ReadOnlySpan<byte> stat);
                if (size > Math.Min(room, _listing.Length) - total) return End();
                stat.CopyTo(_listing.AsSpan(total));
                total += size;
                fid.Position = System.Buffers.Binary.BinaryPrimitives.ReadInt64LittleEndian(entry[EntryOffset..]);
            }
            if (length == 0) return End();
        }

        int End()
        {
            request.Target.Slice(NinePRequest.DataOffset, total).CopyFrom(_listing.AsSpan(0, total));
            fid.NextOffset = offset + (uint)total;
            return total;
        }
    }

    /// <summary>0: clients do not see it.</summary>
    int EntryStat(Fid fid, ReadOnlySpan<byte> name, out ReadOnlySpan<byte> stat)
    {
        stat = default;
        if (name.SequenceEqual(".\0"u8) || name.SequenceEqual("..\0"u8) || folder.Hides(name)) return 0;
        if (PlaceTree.Child(fid.Place, name) is not { } place) return 0;
        int size = Math.Max(0, StatOf(place, null, out stat));
        place.Release();
        return size;
    }

    /// <summary>wstat(5): all ones, and an empty name, leave as it is.</summary>
    int ChangeStat(ref MessageReader message)
    {
        const uint Keep = uint.MaxValue;
        uint number = message.Dword();
        message.Skip(sizeof(ushort) + sizeof(ushort) + sizeof(ushort) + sizeof(uint) + Qid.Length);
        uint mode = message.Dword(), accessed = message.Dword(), modified = message.Dword();
        ulong size = message.Qword();
        ReadOnlySpan<byte> given = message.Text();
        message.Text();
        message.Text();
        message.Text();
        uint owner = Keep, group = Keep;
        if (_dialect == Dialect.Unix)
        {
            message.Text();
            (owner, group) = (message.Dword(), message.Dword());
        }
        if (message.IsCut || size > long.MaxValue && size != ulong.MaxValue) return -Errno.Invalid;
        if (Find(number) is not { } fid) return -Errno.BadFile;
        var changes = new FileChanges(mode != Keep ? ModeOf(mode) : null, owner != Keep ? owner : null,
            group != Keep ? group : null, size != ulong.MaxValue ? (long)size : null)
        {
            Accessed = Seconds(accessed), Modified = Seconds(modified),
        };
        int done = folder.Change(fid.Place, FileOf(fid), changes);
        if (done < 0 || given.Length == 0) return done;
        done = Named(given, stackalloc byte[NameRoom], out ReadOnlySpan<byte> name);
        if (done < 0) return done;
        if (fid.Place.IsRoot) return Busy;
        return fid.Place.Folder is not { } from ? -Errno.NoEntry : Move(from, fid.Place.Name, from, name);

        static Timespec Seconds(uint given) => given == Keep ? new Timespec { Nanoseconds = FileChanges.Keep }
            : new Timespec { Seconds = given };
    }
}
