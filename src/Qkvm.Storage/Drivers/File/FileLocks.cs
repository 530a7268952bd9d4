using Qkvm.Core.Block;
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

    static readonly (BlockRights Bit, string Name)[] Rights =
    [
        (BlockRights.ConsistentRead, "consistent read"), (BlockRights.Write, "write"),
        (BlockRights.WriteUnchanged, "write unchanged"), (BlockRights.Resize, "resize"),
    ];

    BlockUse _held;

    /// <summary>Holds what the users need and forbid, and no more; as before where others are in the way.</summary>
    public void Hold(BlockUse wanted)
    {
        if (wanted == _held) return;
        BlockUse before = _held;
        if (!Take(wanted)) return;
        try
        {
            for (int i = 0; i < Rights.Length; i++)
            {
                if (wanted.Needs.HasFlag(Rights[i].Bit)) Ask(ForbiddenBase + i, $"\"{Rights[i].Name}\"");
                if (wanted.Forbids.HasFlag(Rights[i].Bit)) Ask(UsedBase + i, $"shared \"{Rights[i].Name}\"");
            }
        }
        catch (ConfigurationException)
        {
            Drop(wanted);
            throw;
        }
        _held = wanted;
        Drop(before);
    }

    /// <summary>The same of another descriptor of the file.</summary>
    public FileLocks Of(HostFile other) => new(other, required);

    /// <summary>Drops all. Closing is not enough where a child process has the file open until its exec.</summary>
    public void Release()
    {
        BlockUse held = _held;
        _held = default;
        Drop(held);
    }

    bool Take(BlockUse wanted)
    {
        for (int i = 0; i < Rights.Length; i++)
        {
            if (wanted.Needs.HasFlag(Rights[i].Bit) && !Set(UsedBase + i)) return false;
            if (wanted.Forbids.HasFlag(Rights[i].Bit) && !Set(ForbiddenBase + i)) return false;
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

    void Drop(BlockUse wanted)
    {
        for (int i = 0; i < Rights.Length; i++)
        {
            if ((wanted.Needs & ~_held.Needs).HasFlag(Rights[i].Bit)) file.SetLock(Libc.FUnlck, UsedBase + i, 1);
            if ((wanted.Forbids & ~_held.Forbids).HasFlag(Rights[i].Bit))
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
