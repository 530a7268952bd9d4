using Qkvm.Testing;

namespace Qkvm.Tests;

/// <summary>-machine NAME,help.</summary>
public class MachineHelpTests
{
    [Theory]
    [InlineData("microvm")]
    public Task A_machine_tells_its_options(string name)
    {
        using var text = new StringWriter { NewLine = "\n" };
        Catalogue.Machines.Get(name, "-machine").WriteHelp(text);
        return Verifier.Verify(text.ToString(), name);
    }
}
