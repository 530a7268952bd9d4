using System.Buffers.Text;
using Qkvm.Host;
using Qkvm.Host.Folders;

namespace Qkvm.Backends.Files;

/// <summary>security_model=mapped-file: a text file of the same name in a folder .virtfs_metadata beside each file, of
/// the root .virtfs_metadata_root; as QEMU has them.</summary>
sealed class FileOwnership : MappedOwnership
{
    const int Longest = 512;

    static ReadOnlySpan<byte> FolderName => ".virtfs_metadata\0"u8;
    static ReadOnlySpan<byte> RootName => ".virtfs_metadata_root\0"u8;
    static ReadOnlySpan<byte> Owner => "virtfs.uid="u8;
    static ReadOnlySpan<byte> Group => "virtfs.gid="u8;
    static ReadOnlySpan<byte> Mode => "virtfs.mode="u8;
    static ReadOnlySpan<byte> Device => "virtfs.rdev="u8;

    public override bool Hides(ReadOnlySpan<byte> name) =>
        name.SequenceEqual(FolderName) || name.SequenceEqual(RootName);

    protected override KeptStatus Load(int folder, ReadOnlySpan<byte> name, int fd, in FileStatus status) =>
        folder < 0 ? default : Read(folder, name);

    protected override int Save(int folder, ReadOnlySpan<byte> name, int fd, in KeptStatus status, bool isNew)
    {
        if (folder < 0) return 0;                                  // it has no name to keep it by
        KeptStatus kept = isNew ? status : status.Over(Read(folder, name));
        Span<byte> text = stackalloc byte[Longest];
        int length = 0;
        Line(text, ref length, Owner, kept.Owner);
        Line(text, ref length, Group, kept.Group);
        Line(text, ref length, Mode, kept.Mode);
        Line(text, ref length, Device, (long?)kept.Device);
        using Descriptor metadata = Metadata(folder, name, isMade: true);
        if (metadata.Failed) return metadata.Fd;
        const uint OwnerAlone = 0x180;                             // rw-------
        using var file = new Descriptor(At.Open(metadata.Fd, NameIn(name),
            Libc.OWrOnly | Libc.OCreat | Libc.OTrunc, OwnerAlone));
        return file.Failed ? file.Fd : Math.Min(0, FileCalls.Write(file.Fd, 0, text[..length]));
    }

    public override int BeforeRemove(int folder, ReadOnlySpan<byte> name, bool isFolder)
    {
        if (!isFolder) return 0;
        using var inner = new Descriptor(At.OpenFolder(folder, name));
        if (inner.Failed) return inner.Fd;
        int done = At.Remove(inner.Fd, FolderName, isFolder: true);
        return done == -Errno.NoEntry ? 0 : done;
    }

    public override void Removed(int folder, ReadOnlySpan<byte> name)
    {
        using Descriptor metadata = Metadata(folder, name, isMade: false);
        if (!metadata.Failed) At.Remove(metadata.Fd, NameIn(name), isFolder: false);
    }

    public override void Linked(int folder, ReadOnlySpan<byte> name, int newFolder, ReadOnlySpan<byte> newName)
    {
        using Descriptor from = Metadata(folder, name, isMade: false);
        if (from.Failed) return;
        using Descriptor to = Metadata(newFolder, newName, isMade: true);
        if (to.Failed) return;
        At.Remove(to.Fd, newName, isFolder: false);                // of a file that went without us
        At.HardLink(from.Fd, name, to.Fd, newName);
    }

    public override void Renamed(int folder, ReadOnlySpan<byte> name, int newFolder, ReadOnlySpan<byte> newName)
    {
        using Descriptor from = Metadata(folder, name, isMade: false);
        using Descriptor to = Metadata(newFolder, newName, isMade: !from.Failed);
        if (to.Failed) return;
        bool isMoved = !from.Failed && At.Rename(from.Fd, name, to.Fd, newName) >= 0;
        if (!isMoved) At.Remove(to.Fd, newName, isFolder: false);
    }

    static bool IsRoot(ReadOnlySpan<byte> name) => name.SequenceEqual(At.Self);

    static ReadOnlySpan<byte> NameIn(ReadOnlySpan<byte> name) => IsRoot(name) ? RootName : name;

    /// <summary>The folder that has the text of a name.</summary>
    static Descriptor Metadata(int folder, ReadOnlySpan<byte> name, bool isMade)
    {
        if (IsRoot(name)) return new Descriptor(folder, isOwned: false);
        const uint OwnerAlone = 0x1C0;                             // rwx------
        int found = At.OpenFolder(folder, FolderName);
        if (found != -Errno.NoEntry || !isMade) return new Descriptor(found);
        At.MakeFolder(folder, FolderName, OwnerAlone);
        return new Descriptor(At.OpenFolder(folder, FolderName));
    }

    static KeptStatus Read(int folder, ReadOnlySpan<byte> name)
    {
        using Descriptor metadata = Metadata(folder, name, isMade: false);
        if (metadata.Failed) return default;
        using var file = new Descriptor(At.Open(metadata.Fd, NameIn(name), Libc.ORdOnly));
        if (file.Failed) return default;
        Span<byte> text = stackalloc byte[Longest];
        int length = FileCalls.Read(file.Fd, 0, text);
        if (length <= 0) return default;
        long? owner = null, group = null, mode = null, device = null;
        foreach (Range part in text[..length].Split((byte)'\n'))
        {
            ReadOnlySpan<byte> line = text[part];
            owner = Value(line, Owner) ?? owner;
            group = Value(line, Group) ?? group;
            mode = Value(line, Mode) ?? mode;
            device = Value(line, Device) ?? device;
        }
        return new KeptStatus((uint?)mode, (uint?)owner, (uint?)group, (ulong?)device);
    }

    static long? Value(ReadOnlySpan<byte> line, ReadOnlySpan<byte> name) =>
        line.StartsWith(name) && Utf8Parser.TryParse(line[name.Length..], out long value, out _) ? value : null;

    static void Line(Span<byte> text, ref int length, ReadOnlySpan<byte> name, long? value)
    {
        if (value is not { } number) return;
        name.CopyTo(text[length..]);
        length += name.Length;
        number.TryFormat(text[length..], out int digits);
        length += digits;
        text[length++] = (byte)'\n';
    }
}
