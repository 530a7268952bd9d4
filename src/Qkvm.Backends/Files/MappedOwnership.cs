using Qkvm.Core.Files;
using Qkvm.Host;

namespace Qkvm.Backends.Files;

/// <summary>What is kept of a file beside it: how guests see it. Null: as the host has it.</summary>
/// <param name="Mode">With its type. stat(2), st_mode.</param>
/// <param name="Device">Of a special file.</param>
readonly record struct KeptStatus(uint? Mode, uint? Owner, uint? Group, ulong? Device)
{
    const uint Character = 0x2000, Block = 0x6000;

    public bool IsDevice => (Mode & Ownership.TypeMask) is Character or Block;

    /// <summary>This, and what it does not tell as it was.</summary>
    public KeptStatus Over(in KeptStatus before) =>
        new(Mode ?? before.Mode, Owner ?? before.Owner, Group ?? before.Group, Device ?? before.Device);

    public void Overlay(ref FileStatus status)
    {
        status.Owner = Owner ?? status.Owner;
        status.Group = Group ?? status.Group;
        status.Mode = Mode ?? status.Mode;
        if (IsDevice && Device is { } device) status.SpecialDevice = device;
    }
}

/// <summary>Owners, modes and types that are kept beside the host's files.</summary>
abstract class MappedOwnership : Ownership
{
    public sealed override bool IsMapped => true;

    public sealed override void Overlay(int folder, ReadOnlySpan<byte> name, int fd, ref FileStatus status) =>
        Load(folder, name, fd, status).Overlay(ref status);

    public sealed override int Store(int folder, ReadOnlySpan<byte> name, int fd, in FileChanges changes,
        ulong? device) => Save(folder, name, fd,
            new KeptStatus(changes.Mode, changes.Owner, changes.Group, device is > 0 ? device : null),
            isNew: device != null);

    /// <param name="status">As the host has the file.</param>
    protected abstract KeptStatus Load(int folder, ReadOnlySpan<byte> name, int fd, in FileStatus status);

    /// <summary>What is null stays as it is kept.</summary>
    /// <param name="isNew">Nothing is kept yet.</param>
    protected abstract int Save(int folder, ReadOnlySpan<byte> name, int fd, in KeptStatus status, bool isNew);
}
