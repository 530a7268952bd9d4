namespace Qkvm.Img.Tests;

/// <summary>What QEMU's tool takes and this one does not says so, and what to do instead.</summary>
public sealed class RefusalTests
{
    [Theory]
    [InlineData("ssh://host/disk", "Protocol 'ssh' is not built yet; mount the directory by sshfs")]
    [InlineData("ftp://host/disk", "Protocol 'ftp' is not built yet; use http or https")]
    [InlineData("iscsi://host/disk", "Protocol 'iscsi' is not built yet")]
    [InlineData("other://host/disk", "Unknown protocol 'other'")]
    [InlineData("fat:rw:/", "rw=on is not built yet; give snapshot=on")]
    public void Protocols_are_refused_by_name(string file, string why) => Assert.Contains(why, Refusal("info", file));

    [Theory]
    [InlineData("iothread,id=x", "does not accept value 'iothread'; there are secret and tls-creds-x509")]
    [InlineData("throttle-group,id=x", "does not accept value 'throttle-group'")]
    [InlineData("tls-creds-psk,id=x", "does not accept value 'tls-creds-psk'")]
    public void Objects_without_an_effect_are_refused(string definition, string why) =>
        Assert.Contains(why, Refusal("create", "--object", definition, "never", "1M"));

    static string Refusal(params string[] words)
    {
        using StringWriter output = new(), errors = new();
        Assert.Equal(1, ImageTool.Run("img", words, Catalogue.BlockDrivers, output, errors));
        Assert.Equal("", output.ToString());
        return errors.ToString();
    }
}
