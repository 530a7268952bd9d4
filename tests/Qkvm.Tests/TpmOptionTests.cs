using Qkvm.Cli;
using Qkvm.Core.Machine;

namespace Qkvm.Tests;

/// <summary>-tpmdev, before anything is opened.</summary>
public class TpmOptionTests
{
    static MachineConfig Expand(params string[] arguments) => Expander.Expand(CommandLineParser.Parse(arguments));

    [Fact]
    public void One_is_kept_with_its_type_and_id()
    {
        TpmConfig tpm = Assert.Single(Expand("-tpmdev", "emulator,id=tpm-tpm0,chardev=chrtpm").Tpms);
        Assert.Equal(("tpm-tpm0", "emulator"), (tpm.Id, tpm.Type));
    }

    [Theory]
    [InlineData("passthrough,id=t", "'passthrough' is not built yet; run swtpm and use emulator")]
    [InlineData("emulator,id=t,cancel-path=/x", "cancel-path")]
    public void What_is_not_there_is_refused_with_what_to_do(string given, string message) => Assert.Contains(message,
        Assert.Throws<ConfigurationException>(() => Preflight.Check(Expand("-tpmdev", given))).Message);

    [Theory]
    [InlineData("emulator,chardev=c", "id")]
    [InlineData("emulater,id=t", "did you mean 'emulator'?")]
    public void What_is_wrong_is_named(string given, string message) => Assert.Contains(message,
        Assert.Throws<ConfigurationException>(() => Expand("-tpmdev", given)).Message);

    [Fact]
    public void There_is_one_at_most() => Assert.Contains("Only one TPM is allowed",
        Assert.Throws<ConfigurationException>(() => Expand("-tpmdev", "emulator,id=a", "-tpmdev", "emulator,id=b"))
            .Message);
}
