using System.Diagnostics;
using Qkvm.Host;

namespace Qkvm.Tests.NineP;

/// <summary>Clients and processes of the host that mean harm.</summary>
public sealed class NinePHostileTests : IDisposable
{
    const string Secret = "nobody's business";

    readonly string _top = Directory.CreateTempSubdirectory("ninep").FullName;
    readonly string _path;

    public NinePHostileTests()
    {
        _path = Path.Combine(_top, "shared");
        Directory.CreateDirectory(Host("folder"));
        Directory.CreateDirectory(Path.Combine(_top, "outside"));
        File.WriteAllText(Path.Combine(_top, "outside", "file"), Secret);
        File.WriteAllText(Host("folder/file"), "public");
    }

    public void Dispose() => Directory.Delete(_top, recursive: true);

    string Host(string name) => Path.Combine(_path, name);
    string Outside => Path.Combine(_top, "outside");

    /// <summary>And whether the host has no openat2(2).</summary>
    public static TheoryData<string, bool> Models => new()
    {
        { "none", false }, { "passthrough", false }, { "mapped-xattr", false }, { "mapped-file", false },
        { "none", true }, { "mapped-xattr", true },
    };

    [Theory, MemberData(nameof(Models))]
    public void No_name_leads_out(string model, bool goesByName)
    {
        using NinePClient client = new NinePClient(_path, model, goesByName: goesByName).Begin();
        client.Create(client.At(2), "mine");
        string before = Listing();
        foreach (string name in new[] { "..", ".", "", "/", "a/b", "../outside", "/etc", "a\0", "\0", new('x', 256),
            new('x', 65000) })
        {
            if (name != "..") Assert.NotEqual(0, client.Walk(9, name).Errno);
            NinePAnswer[] answers =
            [
                client.Create(client.At(3), name), client.Send(16, 0u, name, "x", 0u),
                client.Send(18, 0u, name, 0x81A4u, 0u, 0u, 0u), client.Send(72, 0u, name, 0x1FFu, 0u),
                client.Send(70, 0u, 2u, name), client.Send(20, 2u, 0u, name), client.Send(74, 0u, name, 0u, "new"),
                client.Send(74, 0u, "mine", 0u, name), client.Send(76, 0u, name, 0u), client.Send(76, 0u, name, 0x200u),
            ];
            Assert.All(answers, answer => Assert.NotEqual(0, answer.Errno));
        }
        Assert.Equal(before, Listing());
        Assert.Equal(client.Send(24, 0u, 0x7FFUL).Body, client.Send(24, client.At(4, "..", ".."), 0x7FFUL).Body);
    }

    [Theory, MemberData(nameof(Models))]
    public void Links_of_the_host_are_followed_by_nobody(string model, bool goesByName)
    {
        Directory.CreateSymbolicLink(Host("out"), Outside);
        File.CreateSymbolicLink(Host("leak"), Path.Combine(Outside, "file"));
        using NinePClient client = new NinePClient(_path, model, goesByName: goesByName).Begin();
        Assert.Equal(1, client.Walk(1, "out", "file").Body[0]);    // the link itself, and no further
        Assert.NotEqual(0, client.Send(24, 1u, 0x7FFUL).Errno);
        foreach (uint flags in new uint[] { 0, 1, 2, 0x201 })
            Assert.NotEqual(0, client.Open(client.At(2, "leak"), flags).Errno);
        Assert.NotEqual(0, client.Create(client.At(3, "out"), "new").Errno);
        Assert.NotEqual(0, client.Send(72, client.At(3, "out"), "new", 0x1FFu, 0u).Errno);
        Assert.NotEqual(0, client.Send(76, client.At(3, "out"), "file", 0u).Errno);
        Assert.NotEqual(0, client.Send(74, 0u, "folder", client.At(3, "out"), "new").Errno);
        client.Send(26, client.At(2, "leak"), 8u, 0u, 0u, 0u, 0UL, 0UL, 0UL, 0UL, 0UL);
        client.Send(26, 2u, 1u, 0x1FFu, 0u, 0u, 0UL, 0UL, 0UL, 0UL, 0UL);
        Assert.Equal(Secret, File.ReadAllText(Path.Combine(Outside, "file")));
        Assert.Equal(["file"], Directory.GetFileSystemEntries(Outside).Select(Path.GetFileName));
    }

    /// <summary>A process of the host puts a link in a folder's place and takes it away, all the time.</summary>
    [Theory, MemberData(nameof(Models))]
    public void Nobody_wins_a_race_against_the_way_down(string model, bool goesByName)
    {
        const int Rounds = 3000;
        string kept = Host("kept"), link = Host("link");
        using NinePClient client = new NinePClient(_path, model, goesByName: goesByName).Begin();
        using var stop = new CancellationTokenSource();
        var swapper = new Thread(() =>
        {
            Directory.CreateSymbolicLink(link, Outside);
            while (!stop.IsCancellationRequested)
            {
                Directory.Move(Host("folder"), kept);
                Directory.Move(link, Host("folder"));
                Directory.Move(Host("folder"), link);
                Directory.Move(kept, Host("folder"));
            }
        });
        swapper.Start();
        try
        {
            for (int i = 0; i < Rounds; i++)
            {
                client.Send(120, 1u);
                if (client.Walk(1, "folder", "file") is { Type: 111, Body: [2, ..] } && client.Open(1, 2).Errno == 0)
                {
                    Assert.Equal("public"u8.ToArray(), client.Read(1));
                    client.Write(1, 0, "public"u8.ToArray());
                }
                client.Send(120, 2u);
                if (client.Walk(2, "folder") is { Type: 111, Body: [1, ..] }) client.Create(2, $"new{i % 7}");
            }
        }
        finally
        {
            stop.Cancel();
            swapper.Join();
        }
        Assert.Equal(Secret, File.ReadAllText(Path.Combine(Outside, "file")));
        Assert.Equal(["file"], Directory.GetFileSystemEntries(Outside).Select(Path.GetFileName));
    }

    [Theory, MemberData(nameof(Models))]
    public void A_pipe_of_the_host_holds_nobody_up(string model, bool goesByName)
    {
        Process.Start("mkfifo", Host("pipe")).WaitForExit();
        using NinePClient client = new NinePClient(_path, model, goesByName: goesByName).Begin();
        foreach (uint flags in new uint[] { 0, 1, 2 })
            Assert.Equal(Errno.NoDevice, client.Open(client.At(1, "pipe"), flags).Errno);
        Assert.Equal(0x1000u, client.Stat(1).Mode & 0xF000);
        Assert.Equal(Errno.NoDevice, client.Send(26, 1u, 8u, 0u, 0u, 0u, 5UL, 0UL, 0UL, 0UL, 0UL).Errno);
    }

    [Theory, MemberData(nameof(Models))]
    public void What_is_read_only_stays_as_it_is(string model, bool goesByName)
    {
        File.WriteAllText(Host("file"), "text");
        string before = Listing();
        using NinePClient client = new NinePClient(_path, model, ",readonly=on", goesByName).Begin();
        client.At(1, "file");
        NinePAnswer[] answers =
        [
            client.Create(client.At(3), "x"), client.Send(16, 0u, "x", "x", 0u),
            client.Send(18, 0u, "x", 0x81A4u, 0u, 0u, 0u), client.Send(72, 0u, "x", 0x1FFu, 0u),
            client.Send(70, 0u, 1u, "x"), client.Send(20, 1u, 0u, "x"), client.Send(74, 0u, "file", 0u, "x"),
            client.Send(76, 0u, "file", 0u), client.Send(26, 1u, 8u, 0u, 0u, 0u, 0UL, 0UL, 0UL, 0UL, 0UL),
            client.Send(32, 1u, "user.x", 0UL, 0u), client.Open(1, 1), client.Open(1, 2), client.Open(1, 0x200),
            client.Write(1, 0, [1]), client.Send(122, client.At(4, "file")),
        ];
        Assert.All(answers, answer => Assert.Equal(Errno.ReadOnly, answer.Errno));
        Assert.Equal(13, client.Open(client.At(1, "file"), 0).Type);
        Assert.Equal("text"u8.ToArray(), client.Read(1));
        Assert.Equal(before, Listing());
    }

    [Fact]
    public void Descriptors_are_given_back_for_others()
    {
        using NinePClient client = new NinePClient(_path).Begin();
        File.WriteAllText(Host("gone"), "gone");
        client.Open(client.At(1, "gone"), 0);
        int files = client.Folder.MostOpen + 100;
        for (uint i = 0; i < files; i++) Assert.Equal(13, client.Open(client.At(10 + i, "folder", "file"), 0).Type);
        Assert.InRange(client.Server.Descriptors, 1, client.Folder.MostOpen);
        Assert.Equal(77, client.Send(76, 0u, "gone", 0u).Type);    // its descriptor had been given back
        Assert.Equal("gone"u8.ToArray(), client.Read(1));
        for (uint i = 0; i < files; i++) Assert.Equal("public"u8.ToArray(), client.Read(10 + i));
        Assert.InRange(client.Server.Descriptors, 1, client.Folder.MostOpen);
        File.Move(Host("folder/file"), Host("folder/other"));
        File.WriteAllText(Host("folder/file"), "another");
        Assert.Contains(Enumerable.Range(10, files), fid =>        // those that are closed now must not read it
            client.Send(116, (uint)fid, 0UL, 100u).Errno == Errno.Stale);
    }

    [Fact]
    public void Fids_are_bounded()
    {
        const uint Most = 1 << 20;
        using NinePClient client = new NinePClient(_path).Begin();
        for (uint fid = 1; fid < Most; fid++) client.Walk(fid);
        Assert.Equal(Errno.TooManyFilesInSystem, client.Walk(Most).Errno);
        Assert.Equal(121, client.Send(120, 5u).Type);
        Assert.Equal(111, client.Walk(Most).Type);
    }

    [Fact]
    public void Attributes_that_are_being_written_are_bounded()
    {
        using NinePClient client = new NinePClient(_path).Begin();
        int made = 0;
        while (made < 1000 && client.Send(32, client.At(1 + (uint)made, "folder"), "user.x", 65536UL, 0u).Errno == 0)
            made++;
        Assert.Equal(256, made);                                   // 16 MiB
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public void Nonsense_is_answered(int seed)
    {
        var random = new Random(seed);
        using NinePClient client = new NinePClient(_path, seed % 2 == 0 ? "mapped-file" : "mapped-xattr").Begin();
        byte[] types = [8, 12, 14, 16, 18, 20, 22, 24, 26, 30, 32, 40, 50, 52, 54, 70, 72, 74, 76, 100, 102, 104, 108,
            110, 112, 114, 116, 118, 120, 122, 124, 126, 0, 6, 255];
        string[] words = ["9P2000.L", "9P2000.u", "9P2000", "folder", "file", "..", "a", "b", "user.x", ""];
        for (int i = 0; i < 30000; i++)
        {
            byte type = types[random.Next(types.Length)];
            if (type == 100 && random.Next(20) > 0) continue;      // else no session lasts
            object[] fields = [.. Enumerable.Range(0, random.Next(12)).Select(Field)];
            byte[] message = NinePClient.Message(type, fields);
            if (random.Next(10) == 0) message = message[..random.Next(message.Length + 1)];
            if (random.Next(20) == 0 && message.Length > 8)
                message[random.Next(message.Length)] = (byte)random.Next(256);
            NinePAnswer? answer = client.SendRaw(message, random.Next(30) == 0 ? random.Next(64) : 1 << 20);
            Assert.True(answer == null || answer.Type is 7 or 107 || answer.Type == message[4] + 1);
        }
        Assert.Equal(Secret, File.ReadAllText(Path.Combine(Outside, "file")));

        object Field(int index) => random.Next(6) switch
        {
            0 => (uint)random.Next(6), 1 => (ulong)random.Next(100), 2 => words[random.Next(words.Length)],
            3 => (ushort)random.Next(4), 4 => (byte)random.Next(4),
            _ => random.Next(3) == 0 ? uint.MaxValue : (object)(uint)random.Next(6),
        };
    }

    string Listing() => string.Join('\n', Directory.GetFileSystemEntries(_top, "*", SearchOption.AllDirectories).Order()
        .Select(path => $"{path} {File.GetLastWriteTimeUtc(path):O} {(File.Exists(path)
            ? File.ReadAllText(path) : "")}"));
}
