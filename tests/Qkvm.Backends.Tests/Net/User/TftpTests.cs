using System.Text;
using Qkvm.Backends.Net.User;
using static Qkvm.Backends.Tests.Net.User.Packets;

namespace Qkvm.Backends.Tests.Net.User;

public sealed class TftpTests : IDisposable
{
    readonly string _top = Directory.CreateTempSubdirectory("qkvm-tftp-").FullName;
    readonly FakeGuest _guest;

    public TftpTests()
    {
        Directory.CreateDirectory($"{_top}/in/sub");
        File.WriteAllText($"{_top}/secret", "secret");
        _guest = new FakeGuest(UserNetOptions.Default("n") with { TftpFolder = $"{_top}/in" });
    }

    public void Dispose()
    {
        _guest.Dispose();
        Directory.Delete(_top, recursive: true);
    }

    [Theory]
    [InlineData(0)] [InlineData(511)] [InlineData(512)] [InlineData(1025)]
    public void A_file_comes_in_blocks_of_512(int length)
    {
        byte[] file = Put("a", length);
        Ask("/a", "octet");
        Assert.Equal(file, Load(512));
    }

    [Fact]
    public void Options_are_acknowledged_first()
    {
        byte[] file = Put("a", 3000);
        Ask("a", "OCTET", "tsize", "0", "BlkSize", "65464", "timeout", "3", "unknown", "7");
        Assert.Equal([0, 6, .. "tsize\03000\0BlkSize\01428\0timeout\03\0"u8], Next());
        Send(0, 4, 0, 0);
        Assert.Equal(file, Load(1428));
        Ask("a", "octet", "blksize", "7", "timeout", "0", "tsize", "x"); // none is good: the file comes at once
        Assert.Equal(516, Next().Length);
    }

    [Fact]
    public void Text_has_other_line_ends()
    {
        File.WriteAllText($"{_top}/in/t", new string('x', 511) + "\ny\rz");
        Ask("t", "netascii", "tsize", "0");
        Assert.Equal(new string('x', 511) + "\r\ny\r\0z", Encoding.ASCII.GetString(Load(512)));
    }

    [Fact]
    public void A_block_goes_again_until_it_is_acknowledged_but_not_for_ever()
    {
        Put("a", 600);
        Ask("a", "octet");
        Assert.Equal([0, 3, 0, 1], Next()[..4]);
        _guest.Advance(1.2);
        Assert.Equal([0, 3, 0, 1], Next()[..4]);
        Send(0, 4, 0, 0);                                          // of an earlier one: no second copy for that
        Send(0, 4, 0, 1);
        Assert.Equal([0, 3, 0, 2], Next()[..4]);
        _guest.Advance(20);
        Assert.Equal(4, _guest.Settle().Count(f => f.IsUdp));
        Send(0, 4, 0, 2);
        Assert.Empty(_guest.Settle());
    }

    [Theory]
    [InlineData("none", "octet", 1, "File not found")]
    [InlineData("a", "mail", 4, "Unsupported transfer mode")]
    [InlineData("../secret", "octet", 2, "Access violation")]
    [InlineData("/../secret", "octet", 2, "Access violation")]
    [InlineData("sub/../../secret", "octet", 2, "Access violation")]
    [InlineData("sub/..", "octet", 2, "Access violation")]
    [InlineData("sub", "octet", 2, "Access violation")]
    [InlineData("sub/", "octet", 2, "Access violation")]
    [InlineData(".", "octet", 2, "Access violation")]
    [InlineData("out", "octet", 2, "Access violation")]
    [InlineData("outer/secret", "octet", 2, "Access violation")]
    [InlineData("pipe", "octet", 2, "Access violation")]
    [InlineData("tty", "octet", 2, "Access violation")]
    [InlineData("fd", "octet", 2, "Access violation")]
    public void What_is_not_a_file_of_the_folder_is_refused(string name, string mode, byte code, string why)
    {
        Put("a", 1);
        File.CreateSymbolicLink($"{_top}/in/out", "../secret");
        File.CreateSymbolicLink($"{_top}/in/outer", _top);
        File.CreateSymbolicLink($"{_top}/in/tty", "/dev/zero");
        File.CreateSymbolicLink($"{_top}/in/fd", "/proc/self/environ");
        System.Diagnostics.Process.Start("mkfifo", $"{_top}/in/pipe").WaitForExit();
        Ask(name, mode);
        Assert.Equal([0, 5, 0, code, .. Encoding.ASCII.GetBytes(why), 0], Next());
    }

    [Fact]
    public void The_whole_path_of_the_host_is_none_of_the_guests()
    {
        Ask($"{_top}/secret", "octet");                            // a slash in front means the folder
        Assert.Equal(1, Next()[3]);
        byte[] file = Put("sub/b", 5);
        File.CreateSymbolicLink($"{_top}/in/inside", "sub/b");     // one that stays inside is good
        Ask("inside", "octet");
        Assert.Equal(file, Next()[4..]);
    }

    [Fact]
    public void Writes_and_broken_requests_are_not_answered()
    {
        Send([0, 2, .. "a\0octet\0"u8]);
        Send([0, 1, .. "a\0octet"u8]);
        Send([0, 1, .. "a"u8]);
        Send([0, 1, 0, 0]);
        Send(0, 1);
        Send([]);
        Send([0, 9, 0, 0]);
        Send([0, 1, .. new byte[2000]]);
        Assert.Empty(_guest.Settle());
        Assert.False(File.Exists($"{_top}/in/a"));
    }

    [Fact]
    public void Many_transfers_push_out_the_oldest()
    {
        Put("a", 600);
        for (int i = 0; i < 100; i++)
            _guest.Send(Udp(FakeGuest.Address, 3000 + i, FakeGuest.Host, 69, [0, 1, .. "a\0octet\0"u8]));
        Assert.Equal(100, _guest.Settle().Count);
        Assert.InRange(TimesOpen("a"), 1, 20);
        _guest.Advance(30);
        Assert.Equal(0, TimesOpen("a"));
    }

    int TimesOpen(string name) => Directory.EnumerateFiles("/proc/self/fd").Count(fd =>
    {
        try { return new FileInfo(fd).LinkTarget == $"{_top}/in/{name}"; }
        catch (IOException) { return false; }                      // another test's, closed meanwhile
    });

    byte[] Put(string name, int length)
    {
        byte[] file = [.. Enumerable.Range(0, length).Select(i => (byte)(i * 7))];
        File.WriteAllBytes($"{_top}/in/{name}", file);
        return file;
    }

    void Ask(params string[] words) => Send([0, 1, .. Encoding.ASCII.GetBytes(string.Join('\0', words) + "\0")]);

    void Send(params byte[] message) => _guest.Send(Udp(FakeGuest.Address, 2000, FakeGuest.Host, 69, message));

    byte[] Next()
    {
        Frame frame = _guest.Next(f => f.IsUdp);
        Assert.Equal((FakeGuest.Host, 69, 2000), (frame.Source, frame.SourcePort, frame.DestinationPort));
        return frame.Data;
    }

    byte[] Load(int blockSize)
    {
        List<byte> all = [];
        for (int number = 1; ; number++)
        {
            byte[] block = Next();
            Assert.Equal([0, 3, .. Big16(number)], block[..4]);
            all.AddRange(block[4..]);
            Send([0, 4, .. Big16(number)]);
            if (block.Length < 4 + blockSize) return [.. all];
        }
    }
}
