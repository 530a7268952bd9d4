using Qkvm.Cli;
using Qkvm.Core.Machine;

namespace Qkvm.Tests;

/// <summary>-machine firmware=uefi, with descriptors of our own.</summary>
public sealed class UefiFirmwareTests : IDisposable
{
    readonly string _root = Directory.CreateTempSubdirectory("qkvm-test-").FullName;

    public UefiFirmwareTests()
    {
        foreach (string directory in new[] { "system", "user" }) Directory.CreateDirectory(In(directory));
        foreach (string image in new[] { "smm", "plain", "own" })
        {
            File.WriteAllText(In($"{image}.code"), $"code of {image}");
            File.WriteAllText(In($"{image}.vars"), $"variables of {image}");
        }
        Describe("system/50-secure.json", "smm", "pc-q35-*", "\"requires-smm\", \"secure-boot\"");
        Describe("system/60-plain.json", "plain", "pc-q35-*", "\"acpi-s3\"");
    }

    public void Dispose() => Directory.Delete(_root, recursive: true);

    string In(string name) => Path.Combine(_root, name);

    void Describe(string name, string image, string machines, string features) => File.WriteAllText(In(name), $$"""
        {
            "interface-types": ["uefi"],
            "mapping": {
                "device": "flash",
                "executable": { "filename": "{{In(image)}}.code", "format": "raw" },
                "nvram-template": { "filename": "{{In(image)}}.vars", "format": "raw" }
            },
            "targets": [{ "architecture": "x86_64", "machines": ["{{machines}}"] }],
            "features": [{{features}}]
        }
        """);

    MachineConfig Choose(params string[] line) => UefiFirmware.Choose(Expander.Expand(CommandLineParser.Parse(line)),
        [In("system"), In("user")]);

    static (DriveConfig Code, DriveConfig Variables) Flash(MachineConfig config)
    {
        DriveConfig Of(string unit) => config.Drives.Single(d => d.Id == config.MachineOptions.Text(unit));
        return (Of("pflash0"), Of("pflash1"));
    }

    [Fact]
    public void The_first_that_needs_no_SMM_is_taken_and_its_variables_are_kept_beside_the_disk()
    {
        File.WriteAllText(In("disk.qcow2"), "");
        for (int start = 0; start < 2; start++)
        {
            var (code, variables) = Flash(Choose("-M", "q35,firmware=uefi", In("disk.qcow2")));
            Assert.Equal((In("plain.code"), "raw", true), (code.File, code.Format, code.ReadOnly));
            Assert.Equal((In("disk.nvram.fd"), "raw", false), (variables.File, variables.Format, variables.Snapshot));
            Assert.Equal(start == 0 ? "variables of plain" : "VARIABLES OF PLAIN", File.ReadAllText(variables.File!));
            File.WriteAllText(variables.File!, "VARIABLES OF PLAIN");
        }
        File.WriteAllText(In("disk.nvram.fd"), "of another");
        Assert.Contains("disk.nvram.fd has 10 bytes", Assert.Throws<ConfigurationException>(() =>
            Choose("-M", "q35,firmware=uefi", In("disk.qcow2"))).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(false)] [InlineData(true)]
    public void Without_a_disk_that_is_kept_nothing_is_written(bool hasDisk)
    {
        File.WriteAllText(In("disk.qcow2"), "");
        var (_, variables) = Flash(Choose(["-M", "q35,firmware=uefi",
            .. hasDisk ? new[] { "-snapshot", In("disk.qcow2") } : []]));
        Assert.Equal((In("plain.vars"), true), (variables.File, variables.Snapshot));
        Assert.False(File.Exists(In("disk.nvram.fd")));
    }

    [Fact]
    public void A_user_s_descriptor_goes_before_and_an_empty_one_hides()
    {
        Describe("user/60-plain.json", "own", "pc-q35-*", "");
        Assert.Equal(In("own.code"), Flash(Choose("-M", "q35,firmware=uefi")).Code.File);
        File.WriteAllText(In("user/60-plain.json"), "");
        Assert.Contains("apt-get install ovmf", Assert.Throws<ConfigurationException>(() =>
            Choose("-M", "q35,firmware=uefi")).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("pc,firmware=uefi", "apt-get install ovmf")]
    [InlineData("q35,firmware=uefi,pflash0=x", "pflash0= or if=pflash names another firmware")]
    [InlineData("q35,firmware=uefi -bios x", "-bios x names another firmware")]
    [InlineData("q35,firmware=uefi -pflash x", "pflash0= or if=pflash names another firmware")]
    public void What_does_not_go_together_is_refused(string options, string message) =>
        Assert.Contains(message, Assert.Throws<ConfigurationException>(() =>
            Choose(["-M", .. options.Split(' ')])).Message, StringComparison.Ordinal);

    [Fact]
    public void A_broken_descriptor_is_named()
    {
        File.WriteAllText(In("user/55.json"), "{ \"mapping\": 3 }");
        Assert.Contains("55.json is no firmware descriptor", Assert.Throws<ConfigurationException>(() =>
            Choose("-M", "q35,firmware=uefi")).Message, StringComparison.Ordinal);
    }
}
