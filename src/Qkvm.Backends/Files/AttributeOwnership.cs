using System.Buffers.Binary;
using Qkvm.Host;
using Qkvm.Host.Folders;

namespace Qkvm.Backends.Files;

/// <summary>security_model=mapped-xattr: extended attributes of the host's files, little endian, as QEMU has
/// them.</summary>
sealed class AttributeOwnership : MappedOwnership
{
    static ReadOnlySpan<byte> Owner => "user.virtfs.uid\0"u8;
    static ReadOnlySpan<byte> Group => "user.virtfs.gid\0"u8;
    static ReadOnlySpan<byte> Mode => "user.virtfs.mode\0"u8;
    static ReadOnlySpan<byte> Device => "user.virtfs.rdev\0"u8;
    static ReadOnlySpan<byte> Own => "user.virtfs."u8;
    static ReadOnlySpan<byte> AccessList => "system.posix_acl_access\0"u8;
    static ReadOnlySpan<byte> DefaultList => "system.posix_acl_default\0"u8;
    static ReadOnlySpan<byte> MappedAccess => "user.virtfs.system.posix_acl_access\0"u8;
    static ReadOnlySpan<byte> MappedDefault => "user.virtfs.system.posix_acl_default\0"u8;

    protected override KeptStatus Load(int folder, ReadOnlySpan<byte> name, int fd, in FileStatus status)
    {
        if (!status.IsRegularFile && !status.IsDirectory) return default; // others have no attributes of users
        using Descriptor file = Opened(folder, name, fd);
        if (file.Failed) return default;
        var kept = new KeptStatus(Get(file.Fd, Mode), Get(file.Fd, Owner), Get(file.Fd, Group), null);
        return kept.IsDevice ? kept with { Device = GetDevice(file.Fd) } : kept;
    }

    protected override int Save(int folder, ReadOnlySpan<byte> name, int fd, in KeptStatus status, bool isNew)
    {
        using Descriptor file = Opened(folder, name, fd);
        if (file.Failed) return file.Fd;
        int done = Set(file.Fd, Owner, status.Owner);
        if (done >= 0) done = Set(file.Fd, Group, status.Group);
        if (done >= 0) done = Set(file.Fd, Mode, status.Mode);
        if (done < 0 || status.Device is not { } device) return done;
        Span<byte> value = stackalloc byte[sizeof(ulong)];
        BinaryPrimitives.WriteUInt64LittleEndian(value, device);
        return FileCalls.SetAttribute(file.Fd, Device, value, 0);
    }

    public override ReadOnlySpan<byte> HostAttribute(ReadOnlySpan<byte> name, bool isChange, out int errno)
    {
        errno = 0;
        if (name.SequenceEqual(AccessList)) return MappedAccess;
        if (name.SequenceEqual(DefaultList)) return MappedDefault;
        bool isOwn = name.StartsWith(Own);
        if (name.StartsWith("user."u8) && !isOwn) return name;
        errno = isOwn ? isChange ? -Errno.Access : -Errno.NoData : -Errno.NotSupported;
        return default;
    }

    public override ReadOnlySpan<byte> GuestAttribute(ReadOnlySpan<byte> name) =>
        name.SequenceEqual(MappedAccess) ? AccessList : name.SequenceEqual(MappedDefault) ? DefaultList
        : name.StartsWith("user."u8) && !name.StartsWith(Own) ? name : default;

    static Descriptor Opened(int folder, ReadOnlySpan<byte> name, int fd) =>
        fd >= 0 ? new Descriptor(fd, isOwned: false) : new Descriptor(At.Open(folder, name, Libc.ORdOnly));

    static uint? Get(int fd, ReadOnlySpan<byte> name)
    {
        Span<byte> value = stackalloc byte[sizeof(uint)];
        return FileCalls.GetAttribute(fd, name, value) == sizeof(uint)
            ? BinaryPrimitives.ReadUInt32LittleEndian(value) : null;
    }

    static ulong? GetDevice(int fd)
    {
        Span<byte> value = stackalloc byte[sizeof(ulong)];
        return FileCalls.GetAttribute(fd, Device, value) == sizeof(ulong)
            ? BinaryPrimitives.ReadUInt64LittleEndian(value) : null;
    }

    static int Set(int fd, ReadOnlySpan<byte> name, uint? value)
    {
        if (value is not { } number) return 0;
        Span<byte> bytes = stackalloc byte[sizeof(uint)];
        BinaryPrimitives.WriteUInt32LittleEndian(bytes, number);
        return FileCalls.SetAttribute(fd, name, bytes, 0);
    }
}
