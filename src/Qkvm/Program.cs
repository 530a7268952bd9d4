using Qkvm.Cli;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Host;

namespace Qkvm;

static class Program
{
    static int Main(string[] arguments)
    {
        try
        {
            if (HostFeatures.Complaint is { } complaint) throw new ConfigurationException(complaint);
            IReadOnlyList<GivenOption> options = CommandLineParser.Parse(arguments);
            if (Help.TryPrint(options, Console.Out)) return 0;
            Refusal.Check(options);
            MachineConfig config = Expander.Expand(options);
            using var session = new Session(config);
            return session.Run();
        }
        catch (Exception e) when (e is ConfigurationException or HostException)
        {
            Console.Error.WriteLine($"qkvm: {e.Message}");
            return 1;
        }
    }
}
