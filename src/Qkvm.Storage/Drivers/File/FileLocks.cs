using Qkvm.Core.Devices;
using Qkvm.Host;

namespace Qkvm.Storage.Drivers.File;

/// <summary>Image locks as QEMU takes them: open-file-description locks on byte 100 + n for a permission that is used,
/// on byte 200 + n for one that is forbidden to others. All are read locks; a conflict is found by asking for the
/// opposite byte.</summary>
/// <param name="required">locking=on: a file system without such locks is an error.</param>
public sealed class FileLocks(HostFile file, bool required)
{
    const long UsedBase = 100, ForbiddenBase = 200;

    static readonly (ImagePermissions Bit, string Name)[] Permissions =
    [
        (ImagePermissions.ConsistentRead, "consistent read"), (ImagePermissions.Write, "write"),
        (ImagePermissions.WriteUnchanged, "write unchanged"), (ImagePermissions.Resize, "resize"),
    ];

    ImageUse _held;

    /// <summary>Adds what a user needs to what is held.</summary>
    public void Acquire(ImageUse use)
    {
        ImageUse wanted = new(_held.Does | use.Does, _held.Forbids | use.Forbids);
        if (!Take(wanted)) return;
        try
        {
            for (int i = 0; i < Permissions.Length; i++)
            {
                if (wanted.Does.HasFlag(Permissions[i].Bit)) Ask(ForbiddenBase + i, $"\"{Permissions[i].Name}\"");
                if (wanted.Forbids.HasFlag(Permissions[i].Bit)) Ask(UsedBase + i, $"shared \"{Permissions[i].Name}\"");
            }
        }
        catch (ConfigurationException)
        {
            Drop(wanted);
            throw;
        }
        _held = wanted;
    }

    /// <summary>Drops all. Closing is not enough where a child process has the file open until its exec.</summary>
    public void Release()
    {
        ImageUse held = _held;
        _held = default;
        Drop(held);
    }

    bool Take(ImageUse wanted)
    {
        for (int i = 0; i < Permissions.Length; i++)
        {
            if (wanted.Does.HasFlag(Permissions[i].Bit) && !Set(UsedBase + i)) return false;
            if (wanted.Forbids.HasFlag(Permissions[i].Bit) && !Set(ForbiddenBase + i)) return false;
        }
        return true;
    }

    bool Set(long at)
    {
        long result = file.SetLock(Libc.FRdLck, at, 1);
        if (result < 0 && required)
            throw new ConfigurationException($"locking=on: cannot lock '{file.Path}': {Libc.Message((int)-result)}; " +
                "locking=off does without");
        return result >= 0;
    }

    void Drop(ImageUse wanted)
    {
        for (int i = 0; i < Permissions.Length; i++)
        {
            if ((wanted.Does & ~_held.Does).HasFlag(Permissions[i].Bit)) file.SetLock(Libc.FUnlck, UsedBase + i, 1);
            if ((wanted.Forbids & ~_held.Forbids).HasFlag(Permissions[i].Bit))
                file.SetLock(Libc.FUnlck, ForbiddenBase + i, 1);
        }
    }

    void Ask(long at, string what)
    {
        if (file.IsLockedByOthers(at, 1) <= 0) return;
        throw new ConfigurationException(
            $"Failed to get {what} lock: the image is in use{LockHolder.Describe(file.Status, at)}: {file.Path}; " +
            "end that first, or where both only read give force-share=on");
    }
}
