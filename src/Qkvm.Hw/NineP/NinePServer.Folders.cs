using System.Buffers.Binary;
using Qkvm.Core.Files;
using Qkvm.Host;

namespace Qkvm.Hw.NineP;

/// <summary>Folders' entries.</summary>
public sealed partial class NinePServer
{
    // struct linux_dirent64
    const int EntryOffset = 8, EntryLength = 16, EntryType = 18, EntryName = 19;

    const int EntryRoom = 32 << 10;

    readonly byte[] _entries = new byte[EntryRoom];                // of the host
    readonly byte[] _listing = new byte[2 * EntryRoom];            // for the client

    /// <summary>Each entry: qid[13] offset[8] type[1] name[s].</summary>
    int ReadFolder(NinePRequest request, ref MessageReader message, ref MessageWriter answer)
    {
        uint number = message.Dword();
        ulong offset = message.Qword();
        uint asked = message.Dword();
        if (message.IsCut) return -Errno.Invalid;
        if (Find(number) is not { } fid) return -Errno.BadFile;
        if (fid.Open is not { } open) return -Errno.BadFile;
        if (Use(open, out int wrong) is not { } file) return wrong;
        long room = RoomFor(request, asked);
        if (room < 0) return -Errno.MessageSize;
        var listing = new MessageWriter(_listing.AsSpan(0, (int)Math.Min(room, _listing.Length)));
        int done = List(fid, file, (long)offset, ref listing, out bool any);
        if (done < 0) return done;
        if (any && listing.Length == 0) return -Errno.Invalid;     // not one has room
        request.Target.Slice(NinePRequest.DataOffset, listing.Length).CopyFrom(_listing.AsSpan(0, listing.Length));
        return AnswerData(request, listing.Length, ref answer);
    }

    int List(Fid fid, OpenFile file, long position, ref MessageWriter listing, out bool any)
    {
        any = false;
        while (true)
        {
            int length = file.ReadFolder(position, _entries);
            if (length <= 0) return listing.Length > 0 ? 0 : length;
            for (int at = 0; at < length;)
            {
                ReadOnlySpan<byte> entry = Entry(at, length, out ReadOnlySpan<byte> name);
                if (entry.IsEmpty) return -Errno.Io;
                at += entry.Length;
                long next = BinaryPrimitives.ReadInt64LittleEndian(entry[EntryOffset..]);
                if (!folder.Hides(name) && QidOf(fid, entry, name) is { } qid)
                {
                    any = true;
                    if (!Put(ref listing, qid, entry, name[..^1])) return 0;
                }
                position = next;
            }
        }
    }

    bool Put(ref MessageWriter listing, in Qid qid, ReadOnlySpan<byte> entry, ReadOnlySpan<byte> name)
    {
        const int Rest = sizeof(ulong) + sizeof(byte) + sizeof(ushort);
        if (!listing.HasRoom(Qid.Length + Rest + name.Length)) return false;
        listing.Identity(qid);
        listing.Qword(BinaryPrimitives.ReadUInt64LittleEndian(entry[EntryOffset..]));
        listing.Byte(folder.KnowsTypes ? entry[EntryType] : (byte)0);
        listing.Text(name);
        return true;
    }

    /// <summary>Null: guests do not see it.</summary>
    Qid? QidOf(Fid fid, ReadOnlySpan<byte> entry, ReadOnlySpan<byte> name)
    {
        ulong inode = BinaryPrimitives.ReadUInt64LittleEndian(entry);
        if (folder.IdentifyEntry(inode) is { } number)
            return new Qid(folder.KnowsTypes ? Qid.TypeOf(entry[EntryType]) : (byte)0, 0, number);
        if (name.SequenceEqual(".\0"u8) || name.SequenceEqual("..\0"u8))
        {
            Place self = name.Length == 2 ? fid.Place : fid.Place.Folder ?? fid.Place;
            return Identify(self, null, out Qid own) < 0 ? null : own;
        }
        if (PlaceTree.Child(fid.Place, name) is not { } place) return null;
        int done = Identify(place, null, out Qid qid);
        place.Release();
        return done < 0 ? null : qid;
    }

    /// <summary>An entry of the host, and its name with its end; empty where there is none.</summary>
    ReadOnlySpan<byte> Entry(int at, int length, out ReadOnlySpan<byte> name)
    {
        name = default;
        ReadOnlySpan<byte> left = _entries.AsSpan(at, length - at);
        if (left.Length <= EntryName) return default;
        int own = BinaryPrimitives.ReadUInt16LittleEndian(left[EntryLength..]);
        if (own <= EntryName || own > left.Length) return default;
        int end = left[EntryName..own].IndexOf((byte)0);
        if (end < 0) return default;
        name = left.Slice(EntryName, end + 1);
        return left[..own];
    }
}
