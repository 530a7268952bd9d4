using Qkvm.Core.Files;
using Qkvm.Host;
using Qkvm.Host.Folders;

namespace Qkvm.Backends.Files;

/// <summary>Extended attributes. xattr(7).</summary>
public sealed partial class LocalFolder
{
    const int MostNames = 65536;                                   // XATTR_LIST_MAX

    public override int GetAttribute(Place place, OpenFile? file, ReadOnlySpan<byte> name, Span<byte> value)
    {
        ReadOnlySpan<byte> kept = _ownership.HostAttribute(name, isChange: false, out int wrong);
        if (wrong < 0) return wrong;
        using Descriptor opened = ForAttributes(place, file);
        return opened.Failed ? opened.Fd : FileCalls.GetAttribute(opened.Fd, kept, value);
    }

    public override int ListAttributes(Place place, OpenFile? file, Span<byte> names)
    {
        using Descriptor opened = ForAttributes(place, file);
        if (opened.Failed) return opened.Fd == -Errno.NotSupported ? 0 : opened.Fd;
        byte[] all = new byte[MostNames];
        int length = FileCalls.ListAttributes(opened.Fd, all), total = 0;
        if (length < 0) return length;
        for (ReadOnlySpan<byte> left = all.AsSpan(0, length); left.Length > 0;)
        {
            int end = left.IndexOf((byte)0) + 1;
            if (end == 0) break;
            ReadOnlySpan<byte> seen = _ownership.GuestAttribute(left[..end]);
            if (total + seen.Length <= names.Length) seen.CopyTo(names[total..]);
            total += seen.Length;
            left = left[end..];
        }
        return total;
    }

    public override int SetAttribute(Place place, OpenFile? file, ReadOnlySpan<byte> name, ReadOnlySpan<byte> value,
        int flags)
    {
        if (IsReadOnly) return -Errno.ReadOnly;
        ReadOnlySpan<byte> kept = _ownership.HostAttribute(name, isChange: true, out int wrong);
        if (wrong < 0) return wrong;
        using Descriptor opened = ForAttributes(place, file);
        return opened.Failed ? opened.Fd : FileCalls.SetAttribute(opened.Fd, kept, value, flags);
    }

    public override int RemoveAttribute(Place place, OpenFile? file, ReadOnlySpan<byte> name)
    {
        if (IsReadOnly) return -Errno.ReadOnly;
        ReadOnlySpan<byte> kept = _ownership.HostAttribute(name, isChange: true, out int wrong);
        if (wrong < 0) return wrong;
        using Descriptor opened = ForAttributes(place, file);
        if (opened.Failed) return opened.Fd;
        int done = FileCalls.RemoveAttribute(opened.Fd, kept);
        // A kernel removes an ACL whether there is one or not; mapped, it is an attribute like others.
        return done == -Errno.NoData && !kept.SequenceEqual(name) ? 0 : done;
    }

    Descriptor ForAttributes(Place place, OpenFile? file)
    {
        if (Fd(file) is >= 0 and int fd) return new Descriptor(fd, isOwned: false);
        using Descriptor folder = FolderOf(place);
        if (folder.Failed) return new Descriptor(folder.Fd);
        int done = At.Stat(folder.Fd, place.Name, out FileStatus status);
        if (done < 0) return new Descriptor(done);
        return status.IsRegularFile || status.IsDirectory
            ? new Descriptor(At.Open(folder.Fd, place.Name, Libc.ORdOnly)) : new Descriptor(-Errno.NotSupported);
    }
}
