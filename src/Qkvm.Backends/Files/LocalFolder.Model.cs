using Qkvm.Core.Files;
using Qkvm.Core.Machine;
using Qkvm.Host;
using Qkvm.Host.Folders;

namespace Qkvm.Backends.Files;

/// <summary>How files of other file systems, mounted below, are seen: multidevs=.</summary>
enum OtherDevices { Remap, Forbid, Warn }

public sealed partial class LocalFolder
{
    const string Valid = "[passthrough|mapped-xattr|mapped-file|none]";

    /// <summary>throttling.* of QEMU's -fsdev.</summary>
    static readonly Property[] s_throttling = [.. new[] { "bps-total", "bps-read", "bps-write", "iops-total",
        "iops-read", "iops-write", "bps-total-max", "bps-read-max", "bps-write-max", "iops-total-max",
        "iops-read-max", "iops-write-max", "iops-size" }
        .Select(name => Property.Missing($"throttling.{name}", "0", "leave it out: nothing limits a shared folder"))];

    public static readonly FileSystemModel Model = new("local",
        [
            Property.Text("path", help: "the folder of the host"),
            Property.Text("security_model", help: "where owners and modes are kept: passthrough, mapped-xattr, "
                + "mapped-file, none"),
            Property.Bool("readonly", false, "guests change nothing"),
            Property.Text("fmode", help: "octal mode of the host's files, 0600 unless given; of mapped models"),
            Property.Text("dmode", help: "octal mode of the host's folders, 0700 unless given; of mapped models"),
            Property.Enum("multidevs", "warn", ["remap", "forbid", "warn"],
                "file systems mounted below: inode numbers of their own, not seen, or a warning"),
            Property.Text("writeout", help: "immediate: what is written goes to the disk at once"),
            .. s_throttling,
        ], Create) { Description = "a folder of the host" };

    static LocalFolder Create(Properties given, IBackendHost host)
    {
        string model = given.Text("security_model")
            ?? throw given.Error($"security_model property not set; valid are security_model={Valid}");
        Ownership ownership = model switch
        {
            "passthrough" => new HostOwnership(mayFail: false),
            "none" => new HostOwnership(mayFail: true),
            "mapped" or "mapped-xattr" => new AttributeOwnership(),
            "mapped-file" => new FileOwnership(),
            _ => throw given.Error($"invalid security_model property '{model}'; valid are security_model={Valid}"),
        };
        string path = given.Text("path") ?? throw given.Error("path property not set; give path=FOLDER");
        foreach (string name in new[] { "fmode", "dmode" })
            if (given.Has(name) && !ownership.IsMapped)
                throw given.Error($"{name} is only valid for mapped security modes; leave it out");
        string? writeout = given.Text("writeout");
        if (writeout is not (null or "immediate"))
            throw given.Error($"writeout={writeout} means nothing; write writeout=immediate, or leave it out");
        int root = At.OpenRoot(path);
        if (root < 0)
            throw given.Error($"cannot initialize fsdev '{given.Text("id")}': failed to open '{path}': "
                + Libc.Message(-root));
        string? owner = given.Owner;
        return new LocalFolder(given.Required("id"), root, ownership, given.Bool("readonly"))
        {
            FileMode = Octal(given, "fmode", 0x180),               // rw-------
            FolderMode = Octal(given, "dmode", 0x1C0),             // rwx------
            Others = Enum.Parse<OtherDevices>(given.Text("multidevs")!, ignoreCase: true),
            BeginsWriteout = writeout != null,
            Warn = line => host.Warn($"{owner}: {line}"),
        };
    }

    static uint Octal(Properties given, string name, uint fallback)
    {
        if (given.Text(name) is not { } text) return fallback;
        uint mode = 0;
        foreach (char digit in text)
        {
            if (digit is < '0' or > '7' || mode > 0x1FF)
                throw given.Error($"{name}={text} is not an octal mode such as 0644");
            mode = mode << 3 | (uint)(digit - '0');
        }
        return mode & 0x1FF;
    }
}
