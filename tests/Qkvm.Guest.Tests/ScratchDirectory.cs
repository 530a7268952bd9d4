using System.Security.Cryptography;

namespace Qkvm.Guest.Tests;

/// <summary>A directory of a test's own, gone afterwards.</summary>
sealed class ScratchDirectory : IDisposable
{
    readonly string _path = Directory.CreateTempSubdirectory("qkvm-test-").FullName;

    public string this[string name] => Path.Combine(_path, name);

    public string Write(string name, byte[] contents)
    {
        File.WriteAllBytes(this[name], contents);
        return this[name];
    }

    /// <summary>The boot sector on a disk of 1 MiB: SeaBIOS passes over virtio disks of a single sector.</summary>
    public string MakeBootDisk()
    {
        var disk = new byte[1 << 20];
        File.ReadAllBytes(Surroundings.BootSector).CopyTo(disk, 0);
        return Write("boot.img", disk);
    }

    /// <summary>An empty qcow2 image.</summary>
    public string MakeQcow2(string name)
    {
        using GuestProcess tool = GuestProcess.StartOther("qemu-img", "create", "-q", "-f", "qcow2", this[name], "64M");
        Assert.Equal(0, tool.WaitExit());
        return this[name];
    }

    /// <summary>Every entry with size, time and contents: equal texts mean that nothing was changed.</summary>
    public string Describe() =>
        string.Join('\n', Directory.EnumerateFileSystemEntries(_path, "*", SearchOption.AllDirectories).Order()
        .Select(path =>
        Directory.Exists(path) ? path : $"{path} {File.GetLastWriteTimeUtc(path):O} " +
            $"{Convert.ToHexString(SHA256.HashData(File.ReadAllBytes(path)))}"));

    public void Dispose() => Directory.Delete(_path, recursive: true);
}
