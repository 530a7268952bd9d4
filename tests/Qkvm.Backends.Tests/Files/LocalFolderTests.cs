using Qkvm.Backends.Files;
using Qkvm.Backends.Tests.Net;
using Qkvm.Core.Block.Throttling;
using Qkvm.Core.Configuration;
using Qkvm.Core.Files;
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

    SharedFolder Make(string more) => LocalFolder.Model.Create(new Properties(LocalFolder.Model,
        Options.Parse($"id=f,path={_path},security_model=none,{more}", "-fsdev local")), _host);

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
}
