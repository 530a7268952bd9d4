using Qkvm.Core.Block.Throttling;
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

    const string Throttling = "throttling.";

    static readonly Property[] s_limits = [.. ThrottleLimits.Names.Select(name => ThrottleLimits.IsLength(name)
        ? Property.Number(Throttling + name, 1, max: uint.MaxValue, help: "seconds that a burst may last")
        : Property.Number(Throttling + name, 0, max: long.MaxValue, help: "a second, of what is read and written"))];

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
            .. s_limits,
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
        ThrottleLimits limits = ThrottleLimits.None.With(name => (long)given.Number(Throttling + name));
        if (limits.Fault is { } fault) throw given.Error(fault);
        int root = At.OpenRoot(path);
        if (root < 0)
            throw given.Error($"cannot initialize fsdev '{given.Text("id")}': failed to open '{path}': "
                + Libc.Message(-root));
        string id = given.Required("id"), owner = given.Owner;
        ThrottleMember? member = limits.IsAny ? host.Backends.Throttles!.Join($"fsdev {id}") : null;
        member?.Group.Limits = limits;
        return new LocalFolder(id, root, ownership, given.Bool("readonly"))
        {
            Membership = member,
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
