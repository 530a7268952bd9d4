using Qkvm.Core.Files;
using Qkvm.Host;

namespace Qkvm.Hw.NineP;

/// <summary>Extended attributes: a fid is one's, and is read or written.</summary>
public sealed partial class NinePServer
{
    const int LongestValue = 65536;                                // XATTR_SIZE_MAX
    const long MostAttributeBytes = 16 << 20;                      // of all fids

    long _attributeBytes;

    int AttributeWalk(ref MessageReader message, ref MessageWriter answer)
    {
        uint number = message.Dword(), newNumber = message.Dword();
        ReadOnlySpan<byte> given = message.Text();
        if (message.IsCut) return -Errno.Invalid;
        if (Find(number) is not { } fid) return -Errno.BadFile;
        if (newNumber == NoFid || _fids.ContainsKey(newNumber)) return -Errno.Invalid;
        int done = AttributeName(given, stackalloc byte[NameRoom], out ReadOnlySpan<byte> name);
        if (done < 0) return done;
        int size = ValueOf(fid, name, default);
        if (size < 0) return size;
        if (_attributeBytes + size > MostAttributeBytes) return -Errno.NoSpace;
        byte[] value = new byte[size];
        if (size > 0 && (size = ValueOf(fid, name, value)) < 0) return size;
        if (size > value.Length) return -Errno.Again;              // it grew
        fid.Place.Hold();
        if ((done = Add(newNumber, new Fid(fid.Place, fid.User)
            { Attribute = new AttributeValue(null, size == value.Length ? value : value[..size], 0) })) < 0)
            return done;
        _attributeBytes += size;
        answer.Qword((ulong)size);
        return 0;
    }

    int ValueOf(Fid fid, ReadOnlySpan<byte> name, Span<byte> value) => name.Length > 1
        ? folder.GetAttribute(fid.Place, FileOf(fid), name, value)
        : folder.ListAttributes(fid.Place, FileOf(fid), value);

    int AttributeCreate(ref MessageReader message)
    {
        uint number = message.Dword();
        ReadOnlySpan<byte> given = message.Text();
        ulong size = message.Qword();
        uint flags = message.Dword();
        const uint Create = 1, Replace = 2;                        // XATTR_CREATE, XATTR_REPLACE
        if (message.IsCut || (flags & ~(Create | Replace)) != 0) return -Errno.Invalid;
        if (Find(number) is not { } fid) return -Errno.BadFile;
        if (fid.Open != null || fid.Attribute != null) return -Errno.Invalid;
        if (size > LongestValue) return -Errno.TooBig;
        int done = AttributeName(given, stackalloc byte[NameRoom], out ReadOnlySpan<byte> name);
        if (done < 0) return done;
        if (name.Length == 1) return -Errno.Invalid;
        if (_attributeBytes + (long)size > MostAttributeBytes) return -Errno.NoSpace;
        _attributeBytes += (long)size;
        fid.Attribute = new AttributeValue(name.ToArray(), new byte[size], (int)flags);
        return 0;
    }

    /// <summary>What was written is set; nothing at all removes it.</summary>
    int EndAttribute(Fid fid, AttributeValue attribute)
    {
        _attributeBytes -= attribute.Value.Length;
        if (attribute.Name is not { } name) return 0;
        if (attribute.Written != attribute.Value.Length) return -Errno.Invalid;
        Fid plain = new(fid.Place, fid.User);                      // it was not open
        return attribute.Value.Length == 0 ? folder.RemoveAttribute(fid.Place, FileOf(plain), name)
            : folder.SetAttribute(fid.Place, FileOf(plain), name, attribute.Value, attribute.Flags);
    }

    /// <summary>With its end behind it; an empty one asks for all names.</summary>
    static int AttributeName(ReadOnlySpan<byte> given, Span<byte> room, out ReadOnlySpan<byte> name)
    {
        name = default;
        if (given.Length >= room.Length) return -Errno.OutOfRange;
        if (given.Contains((byte)0)) return -Errno.Invalid;
        given.CopyTo(room);
        room[given.Length] = 0;
        name = room[..(given.Length + 1)];
        return 0;
    }
}
