using Qkvm.Cli;
using Qkvm.Core.Configuration;
using Qkvm.Core.Machine;
using Qkvm.Machines;
using Qkvm.Testing;

namespace Qkvm.Tests;

/// <summary>What -drive opens, with and without file=.</summary>
public sealed class DriveOpeningTests : IDisposable
{
    readonly MachineEnvironment _environment = new();
    readonly BackendHost _host;
    readonly string _file = Path.GetTempFileName();

    public DriveOpeningTests()
    {
        File.WriteAllBytes(_file, new byte[1 << 16]);
        _host = new BackendHost(_environment, new Notices(TextWriter.Null), static () => { }, 1);
    }

    public void Dispose()
    {
        _host.CloseDisks();
        _host.Close();
        _environment.Dispose();
        File.Delete(_file);
    }

    [Theory]
    [InlineData("file=FILE,format=raw", 1 << 16)] [InlineData("driver=raw,file=FILE", 1 << 16)]
    [InlineData("driver=raw,file.driver=file,file.filename=FILE", 1 << 16)]
    [InlineData("driver=file,filename=FILE", 1 << 16)] [InlineData("file.filename=FILE,file.driver=file", 1 << 16)]
    [InlineData("driver=null-co,size=4096", 4096)] [InlineData("driver=cloud-init,hostname=h,readonly=on", 55296)]
    public void A_drive_has_the_disk_that_its_options_name(string options, long length)
    {
        DriveConfig drive = Expander.DriveWithoutDevice($"if=none,id=d,{options.Replace("FILE", _file)}");
        _host.Add(drive);
        Assert.Equal(length, _host.Backends.Drives["d"].Root?.Length);
    }

    [Fact]
    public void A_drive_without_any_is_empty()
    {
        _host.Add(new DriveConfig("d", null, null, new Options("-drive")));
        Assert.Null(_host.Backends.Drives["d"].Root);
    }
}
