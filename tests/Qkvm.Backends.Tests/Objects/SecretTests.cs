using System.Text;
using Qkvm.Backends.Objects;

namespace Qkvm.Backends.Tests.Objects;

public sealed class SecretTests : IDisposable
{
    readonly string _file = Path.GetTempFileName();

    public void Dispose() => File.Delete(_file);

    static byte[] Value(string options) =>
        ((Secret)Secret.Model.Create(new Properties(Secret.Model, Options.Parse(options, "-object"), []), null!)).Value;

    [Theory]
    [InlineData("data=letmein", "letmein")] [InlineData("data=bGV0bWVpbg==,format=base64", "letmein")]
    public void It_stands_in_the_option(string options, string secret) =>
        Assert.Equal(secret, Encoding.UTF8.GetString(Value(options)));

    [Fact]
    public void It_stands_in_a_file_byte_for_byte()
    {
        byte[] bytes = [1, 0, 255, 10];
        File.WriteAllBytes(_file, bytes);
        Assert.Equal(bytes, Value($"file={_file}"));
        File.WriteAllText(_file, "AQD/Cg==\n");
        Assert.Equal(bytes, Value($"file={_file},format=base64"));
    }

    [Theory]
    [InlineData("", "must provide 'file' or 'data'")]
    [InlineData("data=a,file=b", "'data' and 'file' are mutually exclusive")]
    [InlineData("data=?,format=base64", "not valid base64")]
    [InlineData("file=/nowhere/at/all", "cannot read '/nowhere/at/all'")]
    [InlineData("file=/dev/zero", "more than the 65536 bytes")]
    public void What_is_no_secret_is_refused(string options, string message) =>
        Assert.Contains(message, Assert.Throws<ConfigurationException>(() => Value(options)).Message);
}
