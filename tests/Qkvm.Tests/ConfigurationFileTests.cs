using Qkvm.Cli;

namespace Qkvm.Tests;

/// <summary>-readconfig and -set.</summary>
public sealed class ConfigurationFileTests : IDisposable
{
    readonly string _path = Path.GetTempFileName();

    public void Dispose() => File.Delete(_path);

    [Fact]
    public void A_file_stands_for_its_options() => Assert.Equal(
        "-S | -machine type=pc,accel=tcg | -device id=net0,driver=e1000,mac=52:54:00:00:00:01 | -memory size=64 | "
            + "-boot menu=on | -name guest=a,,b | -nodefaults",
        string.Join(" | ", Resolve("""
            # a comment
            [machine]
              type = "pc"
              accel = "tcg"
            [device "net0"]
            driver="e1000"
              mac = "52:54:00:00:00:01"

            [memory]
              size = "64"
            [boot-opts]
              menu = "on"
            [name]
              guest = "a,b"
            """, "-S", "-readconfig", _path, "-nodefaults")).Replace("-m size", "-memory size"));

    [Theory]
    [InlineData("x = \"1\"", "line 1: no group defined")]
    [InlineData("[device]\nnonsense", "line 2: 'nonsense' is neither")]
    [InlineData("\n[sofa]", "line 2: There is no option group 'sofa'")]
    [InlineData("[smp]", "line 1: There is no option group 'smp'")]
    public void What_is_no_option_is_refused_with_its_line(string text, string message) =>
        Assert.StartsWith($"-readconfig {_path}: {message}",
            Assert.Throws<ConfigurationException>(() => Resolve(text, "-readconfig", _path)).Message);

    [Fact]
    public void A_file_that_is_not_there_is_named() => Assert.StartsWith("-readconfig /nowhere: ",
        Assert.Throws<ConfigurationException>(() => Resolve("", "-readconfig", "/nowhere")).Message);

    [Fact]
    public void A_value_is_added_to_what_was_given() => Assert.Equal(
        "-device e1000,id=a | -device e1000,id=b,romfile=,mac=52:54:00:00:00:02", string.Join(" | ", Resolve("",
            "-device", "e1000,id=a", "-device", "e1000,id=b", "-set", "device.b.romfile=", "-set",
            "device.b.mac=52:54:00:00:00:02")));

    [Theory]
    [InlineData("device.c.mac=1", "there is no device \"c\" defined")]
    [InlineData("device", "expects GROUP.ID.NAME=VALUE")]
    [InlineData("sofa.a.b=1", "There is no option group 'sofa'")]
    public void A_value_without_its_option_is_refused(string text, string message) =>
        Assert.StartsWith($"-set {text}: {message}",
            Assert.Throws<ConfigurationException>(() => Resolve("", "-device", "e1000,id=a", "-set", text)).Message);

    IReadOnlyList<GivenOption> Resolve(string file, params string[] arguments)
    {
        File.WriteAllText(_path, file);
        return ConfigurationFile.Resolve(CommandLineParser.Parse(arguments));
    }
}
