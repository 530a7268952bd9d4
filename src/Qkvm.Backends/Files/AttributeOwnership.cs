using System.Buffers.Binary;
using Qkvm.Core.Files;
using Qkvm.Host;
using Qkvm.Host.Folders;

namespace Qkvm.Backends.Files;

/// <summary>security_model=mapped-xattr: extended attributes of the host's files, little endian, as QEMU has
/// them.</summary>
sealed class AttributeOwnership : Ownership
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

    const uint Character = 0x2000, Block = 0x6000;

    public override void Overlay(int folder, ReadOnlySpan<byte> name, int fd, ref FileStatus status)
    {
        if (!status.IsRegularFile && !status.IsDirectory) return;  // others have no attributes of users
        using Descriptor file = Opened(folder, name, fd);
        if (file.Failed) return;
        if (Get(file.Fd, Owner) is { } owner) status.Owner = owner;
        if (Get(file.Fd, Group) is { } group) status.Group = group;
        if (Get(file.Fd, Mode) is not { } mode) return;
        status.Mode = mode;
        if ((mode & TypeMask) is not (Character or Block)) return;
        Span<byte> device = stackalloc byte[sizeof(ulong)];
        if (FileCalls.GetAttribute(file.Fd, Device, device) == sizeof(ulong))
            status.SpecialDevice = BinaryPrimitives.ReadUInt64LittleEndian(device);
    }

    public override int Store(int folder, ReadOnlySpan<byte> name, int fd, in FileChanges changes, ulong? device)
    {
        using Descriptor file = Opened(folder, name, fd);
        if (file.Failed) return file.Fd;
        int done = 0;
        if (changes.Owner is { } owner) done = Set(file.Fd, Owner, owner);
        if (done >= 0 && changes.Group is { } group) done = Set(file.Fd, Group, group);
        if (done >= 0 && changes.Mode is { } mode) done = Set(file.Fd, Mode, mode);
        if (done < 0 || device is not { } number || number == 0) return done;
        Span<byte> value = stackalloc byte[sizeof(ulong)];
        BinaryPrimitives.WriteUInt64LittleEndian(value, number);
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

    static int Set(int fd, ReadOnlySpan<byte> name, uint value)
    {
        Span<byte> bytes = stackalloc byte[sizeof(uint)];
        BinaryPrimitives.WriteUInt32LittleEndian(bytes, value);
        return FileCalls.SetAttribute(fd, name, bytes, 0);
    }
}
