using System.Text;
using Qkvm.Host;
using Qkvm.Host.Folders;
using Qkvm.Testing;

namespace Qkvm.Tests.NineP;

/// <summary>What a client does with a shared folder.</summary>
public sealed class NinePTests : IDisposable
{
    readonly string _path = Directory.CreateTempSubdirectory("ninep").FullName;

    public void Dispose() => Directory.Delete(_path, recursive: true);

    string Host(string name) => Path.Combine(_path, name);

    public static TheoryData<string> Models => ["none", "mapped-xattr", "mapped-file"];

    [Theory, MemberData(nameof(Models))]
    public void Files_are_made_written_read_changed_and_removed(string model)
    {
        using NinePClient client = new NinePClient(_path, model).Begin();
        bool isMapped = model != "none";
        Assert.Equal(15, client.Create(client.At(1), "file").Type);
        Assert.Equal(119, client.Write(1, 3, "hello"u8.ToArray()).Type);
        Assert.Equal("\0\0\0hello"u8.ToArray(), client.Read(1));
        Assert.Equal(8UL, client.Stat(1).Size);
        Assert.Equal(0x81A4u, client.Stat(1).Mode);
        if (isMapped) Assert.Equal((1000u, 1001u), (client.Stat(1).Owner, client.Stat(1).Group));

        client.At(2, "file");                                      // mode, uid, gid and size are set
        Assert.Equal(27, client.Send(26, 2u, 1u | 8, 0x8180u, 7u, 8u, 5UL, 0UL, 0UL, 0UL, 0UL).Type);
        Assert.Equal((0x8180u, 5UL), (client.Stat(2).Mode, client.Stat(2).Size));
        if (isMapped)
        {
            Assert.Equal(27, client.Send(26, 2u, 2u | 4, 0u, 7u, 8u, 0UL, 0UL, 0UL, 0UL, 0UL).Type);
            Assert.Equal((7u, 8u), (client.Stat(2).Owner, client.Stat(2).Group));
        }
        Assert.Equal(73, client.Send(72, 0u, "folder", 0x1EDu, 1001u).Type);
        Assert.Equal(0x41EDu, client.Stat(client.At(3, "folder")).Mode);
        Assert.Equal(75, client.Send(74, 0u, "file", 3u, "moved").Type);
        Assert.Equal(0x8180u, client.Stat(2).Mode);                // fids go with what they stand for
        Assert.Equal("\0\0\0he"u8.ToArray(), client.Read(1));
        Assert.Equal(Errno.NotEmpty, client.Send(76, 0u, "folder", 0x200u).Errno);
        Assert.Equal(77, client.Send(76, 3u, "moved", 0u).Type);
        Assert.Equal(77, client.Send(76, 0u, "folder", 0x200u).Type);
        Assert.DoesNotContain(Directory.GetDirectories(_path),
            path => !path.EndsWith(".virtfs_metadata", StringComparison.Ordinal));
    }

    [Theory, MemberData(nameof(Models))]
    public void Links_lead_where_the_guest_says(string model)
    {
        using NinePClient client = new NinePClient(_path, model).Begin();
        Assert.Equal(17, client.Send(16, 0u, "link", "/etc/passwd", 1001u).Type);
        Assert.Equal(0xA1FFu, client.Stat(client.At(1, "link")).Mode);
        Assert.Equal("/etc/passwd", Encoding.ASCII.GetString(client.Send(22, 1u).Body[2..]));
        if (model == "none") Assert.NotEqual(0, client.Open(1, 0).Errno);
        else Assert.Equal("/etc/passwd"u8.ToArray(), File.ReadAllBytes(Host("link")));
        Assert.Equal(15, client.Create(client.At(2), "a").Type);
        Assert.Equal(71, client.Send(70, 0u, client.At(3, "a"), "b").Type);
        client.Write(2, 0, "same"u8.ToArray());
        Assert.Equal(4UL, client.Stat(client.At(4, "b")).Size);
        Assert.Equal(client.Stat(2).Mode, client.Stat(4).Mode);
    }

    [Theory]
    [InlineData("mapped-xattr")]
    [InlineData("mapped-file")]
    public void Special_files_are_plain_on_the_host(string model)
    {
        using NinePClient client = new NinePClient(_path, model).Begin();
        Assert.Equal(19, client.Send(18, 0u, "null", 0x21B6u, 1u, 3u, 0u).Type);
        Assert.Equal(19, client.Send(18, 0u, "pipe", 0x11B6u, 0u, 0u, 0u).Type);
        Assert.Equal((0x21B6u, 0x103UL), (client.Stat(client.At(1, "null")).Mode, client.Stat(1).Device));
        Assert.Equal(0x11B6u, client.Stat(client.At(1, "pipe")).Mode);
        using var folder = new Descriptor(At.OpenRoot(_path));
        Assert.Equal(0, At.Stat(folder.Fd, "null\0"u8, out FileStatus status));
        Assert.Equal(0x8180u, status.Mode);
        Assert.Equal(0, new FileInfo(Host("pipe")).Length);
    }

    [Fact]
    public void Owners_are_kept_as_QEMU_keeps_them_in_attributes()
    {
        using NinePClient client = new NinePClient(_path, "mapped-xattr").Begin();
        client.Send(18, 0u, "null", 0x21B6u, 1u, 3u, 1001u);
        using var folder = new Descriptor(At.OpenRoot(_path));
        using var file = new Descriptor(At.Open(folder.Fd, "null\0"u8, Libc.ORdOnly));
        Assert.Equal([0xE8, 3, 0, 0], Get("user.virtfs.uid\0"u8));
        Assert.Equal([0xE9, 3, 0, 0], Get("user.virtfs.gid\0"u8));
        Assert.Equal([0xB6, 0x21, 0, 0], Get("user.virtfs.mode\0"u8));
        Assert.Equal([3, 1, 0, 0, 0, 0, 0, 0], Get("user.virtfs.rdev\0"u8));

        byte[] Get(ReadOnlySpan<byte> name)
        {
            byte[] value = new byte[16];
            return value[..FileCalls.GetAttribute(file.Fd, name, value)];
        }
    }

    [Fact]
    public void Owners_are_kept_as_QEMU_keeps_them_in_files()
    {
        using NinePClient client = new NinePClient(_path, "mapped-file").Begin();
        client.Send(18, 0u, "null", 0x21B6u, 1u, 3u, 1001u);
        Assert.Equal("virtfs.uid=1000\nvirtfs.gid=1001\nvirtfs.mode=8630\nvirtfs.rdev=259\n",
            File.ReadAllText(Host(".virtfs_metadata/null")));
        Assert.Equal(27, client.Send(26, 0u, 1u, 0x1C0u, 0u, 0u, 0UL, 0UL, 0UL, 0UL, 0UL).Type);
        Assert.Equal("virtfs.mode=16832\n", File.ReadAllText(Host(".virtfs_metadata_root")));
        Assert.Equal(13, client.Open(client.At(1), 0).Type);
        Assert.Equal([".", "..", "null"], client.List(1, 4096).Order());
        Assert.Equal(Errno.NoEntry, client.Walk(2, ".virtfs_metadata").Errno);
        Assert.Equal(Errno.NoEntry, client.Send(72, 0u, ".virtfs_metadata_root", 0u, 0u).Errno);
        Assert.Equal(77, client.Send(76, 0u, "null", 0u).Type);
        Assert.Empty(Directory.GetFiles(Host(".virtfs_metadata")));
    }

    [Theory]
    [InlineData(280)]
    [InlineData(4096)]
    public void A_folder_is_read_in_pieces(uint count)
    {
        for (int i = 0; i < 500; i++) File.WriteAllText(Host($"file{i:d4}" + new string('x', i % 200)), "");
        using NinePClient client = new NinePClient(_path).Begin();
        client.Open(client.At(1), 0);
        List<string> names = client.List(1, count);
        Assert.Equal(502, names.Count);
        Assert.Equal(502, names.Distinct().Count());
        Assert.Equal(Errno.Invalid, client.Send(40, 1u, 0UL, 20u).Errno);
    }

    [Fact]
    public void An_open_file_stays_though_its_name_goes()
    {
        using NinePClient client = new NinePClient(_path, "mapped-xattr").Begin();
        client.Create(client.At(1), "file");
        client.At(2, "file");
        client.Write(1, 0, "kept"u8.ToArray());
        Assert.Equal(77, client.Send(76, 0u, "file", 0u).Type);
        Assert.Equal("kept"u8.ToArray(), client.Read(1));
        Assert.Equal((4UL, 0x81A4u), (client.Stat(1).Size, client.Stat(1).Mode));
        Assert.Equal(4UL, client.Stat(2).Size);                    // though it is not open itself
        client.Create(client.At(3), "file");
        Assert.Equal((4UL, 0UL), (client.Stat(2).Size, client.Stat(3).Size));
        client.Send(120, 1u);
        Assert.Equal(Errno.NoEntry, client.Send(24, 2u, 0x7FFUL).Errno);
    }

    [Fact]
    public void Attributes_are_set_listed_read_and_removed()
    {
        using NinePClient client = new NinePClient(_path, "mapped-xattr").Begin();
        client.Create(client.At(1), "file");
        Set("user.colour", "red");
        Set("system.posix_acl_access", "list");
        client.At(2, "file");
        Assert.Equal("user.colour\0system.posix_acl_access\0".Length, Value("", out string names));
        Assert.Equal(["system.posix_acl_access", "user.colour"], names.Split('\0')[..^1].Order());
        Assert.Equal(3, Value("user.colour", out string colour));
        Assert.Equal("red", colour);
        Assert.Equal(Errno.NoData, client.Send(30, 2u, 9u, "user.virtfs.uid").Errno);
        Assert.Equal(Errno.NotSupported, client.Send(30, 2u, 9u, "security.capability").Errno);
        for (int i = 0; i < 2; i++) Set("system.posix_acl_access", "");  // cp -a does it wherever there is none
        Set("user.colour", "");
        Assert.Equal(Errno.NoData, client.Send(30, 2u, 9u, "user.colour").Errno);
        Assert.Equal(33, client.Send(32, client.At(3, "file"), "user.virtfs.uid", 1UL, 0u).Type);
        client.Write(3, 0, [1]);
        Assert.Equal(Errno.Access, client.Send(120, 3u).Errno);
        Assert.Equal(Errno.TooBig, client.Send(32, client.At(3, "file"), "user.x", 65537UL, 0u).Errno);

        void Set(string name, string value)
        {
            Assert.Equal(33, client.Send(32, client.At(3, "file"), name, (ulong)value.Length, 0u).Type);
            if (value.Length > 0) Assert.Equal(119, client.Write(3, 0, Encoding.ASCII.GetBytes(value)).Type);
            Assert.Equal(121, client.Send(120, 3u).Type);
        }

        int Value(string name, out string value)
        {
            NinePAnswer walked = client.Send(30, 2u, 9u, name);
            Assert.Equal(31, walked.Type);
            value = Encoding.ASCII.GetString(client.Read(9));
            client.Send(120, 9u);
            return (int)BitConverter.ToUInt64(walked.Body);
        }
    }

    [Theory]
    [InlineData("9P2000.u")]
    [InlineData("9P2000")]
    public void Older_dialects_do_the_same(string version)
    {
        using NinePClient client = new NinePClient(_path, "mapped-xattr").Begin(version);
        object[] extension = version == "9P2000" ? [] : [""];
        Assert.Equal(115, client.Send(114, [client.At(1), "file", 0x1B6u, (byte)2, .. extension]).Type);
        Assert.Equal(119, client.Write(1, 0, "text"u8.ToArray()).Type);
        Assert.Equal(115, client.Send(114, [client.At(2), "folder", 0x800001EDu, (byte)0, .. extension]).Type);
        Assert.Equal(113, client.Send(112, client.At(3), (byte)0).Type);
        byte[] first = client.Read(3, 0, 100);                     // one stat has room, and not two
        byte[] second = client.Read(3, (ulong)first.Length, 100);
        Assert.Empty(client.Read(3, (ulong)(first.Length + second.Length)));
        Assert.Equal(["file", "folder"], new[] { Name(first), Name(second) }.Order());
        Assert.Equal(107, client.Send(116, 3u, 7UL, 100u).Type);
        NinePAnswer stat = client.Send(124, client.At(4, "file"));
        Assert.Equal(4UL, BitConverter.ToUInt64(stat.Body, 2 + 2 + 2 + 4 + 13 + 4 + 8));
        NinePAnswer refused = client.Send(110, 0u, 9u, (ushort)1, "none");
        Assert.Equal("No such file or directory", Encoding.ASCII.GetString(refused.Body, 2, refused.Body[0]));
        Assert.Equal(123, client.Send(122, 4u).Type);
        Assert.False(File.Exists(Host("file")));
        if (version == "9P2000") return;
        Assert.Equal(115, client.Send(114, client.At(5), "link", 0x02000000u, (byte)0, "to").Type);
        Assert.Equal("to"u8.ToArray(), File.ReadAllBytes(Host("link")));
        Assert.Equal(115, client.Send(114, client.At(5), "dev", 0x008001B6u, (byte)0, "c 1 3").Type);
        Assert.Contains("c 1 3", Encoding.ASCII.GetString(client.Send(124, 5u).Body), StringComparison.Ordinal);

        static string Name(byte[] stat)
        {
            Assert.Equal(stat.Length - 2, BitConverter.ToUInt16(stat));
            return Encoding.ASCII.GetString(stat, 43, BitConverter.ToUInt16(stat, 41));
        }
    }

    [Fact]
    public void Versions_that_nobody_knows_are_unknown_and_small_messages_refused()
    {
        using var client = new NinePClient(_path);
        Assert.Equal(107, client.Send(104, 0u, 0u, "", "", 0u).Type);
        Assert.Equal("unknown", Encoding.ASCII.GetString(client.Send(100, 8192u, "9P2001").Body[6..]));
        Assert.Equal(Errno.MessageSize, client.Send(100, 4095u, "9P2000.L").Errno);
        NinePAnswer agreed = client.Send(100, 4096u, "9P2000.L");
        Assert.Equal((101, 4096u), (agreed.Type, BitConverter.ToUInt32(agreed.Body)));
        Assert.Equal(Errno.BadFile, client.Send(24, 0u, 0UL).Errno);
        Assert.Equal(Errno.NotSupported, client.Send(102, 0u, "", "", 0u).Errno);
        Assert.Equal(Errno.NotSupported, client.Send(112, 0u, (byte)0).Errno);
    }
}
