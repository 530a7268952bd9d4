using Qkvm.Core.Block;
using Qkvm.Host;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Drivers.File;

/// <summary>Opens image files, and says what is wrong where that fails.</summary>
static class HostImage
{
    /// <param name="readOnly">Becomes true where only reading is allowed and auto-read-only=on accepts that.</param>
    public static HostFile Open(string path, BlockDriverModel driver, ref bool readOnly, in Surroundings around)
    {
        (bool autoReadOnly, bool direct) = (around.AutoReadOnly, around.Cache.Direct);
        if (HostFile.TryStatus(path, out FileStatus status, out _)) CheckType(path, driver, status);
        int flags = direct ? Libc.ODirect : 0;
        HostFile? file = HostFile.Open(path, flags | (readOnly ? Libc.ORdOnly : Libc.ORdWr), out int errno);
        if (file == null && !readOnly && autoReadOnly && errno is Errno.Acces or Errno.Perm or Errno.RoFs)
        {
            file = HostFile.Open(path, flags | Libc.ORdOnly, out errno);
            readOnly = true;
        }
        return file ?? throw new ConfigurationException($"Could not open '{path}': " +
            Libc.Message(errno) + (around.IsTool ? "" : Explain(path, status, errno, direct, readOnly)));
    }

    /// <summary>An empty file, made where there is none; a block device as it is.</summary>
    /// <exception cref="ConfigurationException">The host refuses, or somebody uses it.</exception>
    public static FileDriver Create(string path, NodeOptions options, bool noFlush = false)
    {
        HostFile host = HostFile.Open(path, Libc.ORdWr | Libc.OCreat, out int errno)
            ?? throw new ConfigurationException($"Could not create '{path}': {Libc.Message(errno)}");
        var file = new FileDriver(host, options, noFlush, new FileLocks(host, required: false));
        try
        {
            var edge = new BlockEdge(file, new ImageMaker(path), "root", BlockUse.Format(readOnly: false));
            file.Clear();
            edge.Detach();
            return file;
        }
        catch (Exception e)
        {
            file.DisposeAsync().AsTask().GetAwaiter().GetResult();
            throw e is BlockException ? new ConfigurationException($"Could not create '{path}': {e.Message}", e) : e;
        }
    }

    /// <summary>Who writes a new image.</summary>
    sealed class ImageMaker(string name) : IBlockUser
    {
        public string UserName => $"the making of '{name}'";
        public ValueTask<Action> PauseAsync() => new(static () => { });
    }

    static void CheckType(string path, BlockDriverModel driver, in FileStatus status)
    {
        if (driver != FileDriver.Model && !status.IsBlockDevice && !status.IsCharacterDevice)
            throw new ConfigurationException($"'{driver.Name}' driver requires '{path}' to be either a character or "
                + "block device");
        if (driver == FileDriver.Model && !status.IsRegularFile)
            throw new ConfigurationException($"'{driver.Name}' driver requires '{path}' to be a regular file; it is " +
                (status.IsDirectory ? "a directory" : status.IsBlockDevice ? "a block device: give driver="
                    + FileDriver.HostDevice.Name : "something else"));
    }

    static string Explain(string path, in FileStatus status, int errno, bool direct, bool readOnly) => errno switch
    {
        Errno.NoEnt when !Path.IsPathRooted(path) => $" in {Environment.CurrentDirectory}",
        Errno.Acces or Errno.Perm when status.Inode != 0 =>
            $" (owner {status.Owner}, group {status.Group}, mode {Convert.ToString(status.Permissions, 8)}; this is " +
                $"user {Environment.UserName}" +
            (readOnly ? ")" : "; read-only=on needs only the right to read)"),
        Errno.RoFs => "; read-only=on opens it",
        Errno.Inval when direct =>
            "; its file system does not support O_DIRECT, which cache=none and cache=directsync ask for",
        _ => "",
    };
}
