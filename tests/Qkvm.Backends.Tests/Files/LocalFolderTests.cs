using Qkvm.Backends.Files;
using Qkvm.Backends.Tests.Net;
using Qkvm.Core.Block.Throttling;
using Qkvm.Core.Configuration;
using Qkvm.Core.Files;
using Qkvm.Host;
using Qkvm.Testing;

namespace Qkvm.Backends.Tests.Files;

/// <summary>-fsdev local and its limits.</summary>
public sealed class LocalFolderTests : IDisposable
{
    readonly TestLoop _loop = new();
    readonly FakeHost _host;
    readonly string _path = Directory.CreateTempSubdirectory("folder").FullName;

    public LocalFolderTests()
    {
        _host = new FakeHost(_loop.Loop);
        _host.Backends.Throttles = new ThrottleGroups(new FakeClock(), static _ => { });
    }

    public void Dispose()
    {
        _loop.Dispose();
        Directory.Delete(_path);
    }

    SharedFolder Make(string more, string? path = null) => LocalFolder.Model.Create(new Properties(LocalFolder.Model,
        Options.Parse($"id=f,path={path ?? _path},security_model=none,{more}", "-fsdev local")), _host);

    [Fact]
    public void Limits_are_those_of_all_devices_with_the_folder_and_go_with_it()
    {
        SharedFolder folder = Make("throttling.bps-total=1000,throttling.bps-total-max=2000,"
            + "throttling.bps-total-max-length=3,throttling.iops-read=5,throttling.iops-size=4096");
        Assert.Equal(ThrottleLimits.None with
        {
            BytesTotal = new RateLimit(1000, 2000, 3), RequestsRead = new RateLimit(5), RequestSize = 4096,
        }, folder.Throttle!.Limits);
        ((IDisposable)folder).Dispose();
        Assert.Equal(0, folder.Throttle!.MemberCount);
        Assert.Null(_host.Backends.Throttles!.TryJoin(folder.Throttle.Name));
    }

    [Fact]
    public void Without_them_nothing_is_counted()
    {
        using var folder = (IDisposable)Make("throttling.bps-total=0");
        Assert.Null(((SharedFolder)folder).Throttle);
    }

    [Theory]
    [InlineData("throttling.bps-total=5,throttling.bps-read=3",
        "bps/iops/max total values and read/write values cannot be used at the same time")]
    [InlineData("throttling.iops-size=512", "iops size requires an iops value to be set")]
    [InlineData("throttling.bps-read=many", "Parameter 'throttling.bps-read' expects a number, not 'many'")]
    [InlineData("throttling.speed=5", "Property 'local.throttling.speed' not found")]
    public void Limits_that_make_no_sense_are_refused(string options, string says) =>
        Assert.StartsWith($"-fsdev local: {says}", Assert.Throws<ConfigurationException>(() => Make(options)).Message);

    /// <summary>Of the root's own file system, and of /proc, which is always another.</summary>
    static (int Done, ulong Number) NumberOf(SharedFolder folder, ReadOnlySpan<byte> name)
    {
        Place root = new PlaceTree(4).Root;
        Place place = name.IsEmpty ? root : PlaceTree.Child(root, name)!;
        Assert.Equal(0, folder.Stat(place, null, out FileStatus status));
        return (folder.Identify(status, out ulong number), number);
    }

    [Theory]
    [InlineData("multidevs=warn", 0, "multidevs=remap makes them differ")]
    [InlineData("readonly=on", 0, "multidevs=remap makes them differ")]
    [InlineData("multidevs=forbid", -Errno.NotSuchDevice, "stays hidden (multidevs=forbid)")]
    public void Another_file_system_below_is_warned_of_once(string options, int done, string says)
    {
        SharedFolder folder = Make(options, "/");
        using var end = (IDisposable)folder;
        Assert.Equal(0, NumberOf(folder, default).Done);
        Assert.Empty(_host.Warnings);
        for (int i = 0; i < 3; i++) Assert.Equal(done, NumberOf(folder, "proc\0"u8).Done);
        Assert.EndsWith(says, Assert.Single(_host.Warnings));
    }

    [Fact]
    public void Numbers_of_another_file_system_below_are_others_with_remap()
    {
        SharedFolder folder = Make("multidevs=remap", "/");
        using var end = (IDisposable)folder;
        const int Prefix = 48;
        (int done, ulong root) = NumberOf(folder, default);
        ulong other = NumberOf(folder, "proc\0"u8).Number;
        Assert.Equal((0, 0ul), (done, root >> Prefix));
        Assert.Equal(1ul << Prefix | 1, other);                    // proc's root is its inode 1
        Assert.Equal(other, NumberOf(folder, "proc\0"u8).Number);
        Assert.Null(folder.IdentifyEntry(1));                      // only a stat tells
        Assert.Empty(_host.Warnings);
    }
}
