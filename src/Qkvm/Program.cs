using Qkvm.Cli;
using Qkvm.Core.Machine;
using Qkvm.Host;

namespace Qkvm;

static class Program
{
    static int Main(string[] arguments)
    {
        var notices = new Notices(Console.Error);
        try
        {
            if (HostFeatures.Complaint is { } complaint) throw new ConfigurationException(complaint);
            IReadOnlyList<GivenOption> options = CommandLineParser.Parse(arguments);
            if (Help.TryPrint(options, Console.Out)) return 0;
            Refusal.Check(options);
            MachineConfig config = Expander.Expand(options, Path.GetFileName(Environment.GetCommandLineArgs()[0]),
                notices.Warn);
            notices.HasTimestamps = config.HasTimestamps;
            if (config.NamesGuest) notices.GuestName = config.Name;
            using var session = new Session(config, notices);
            return session.Run();
        }
        catch (Exception e) when (e is ConfigurationException or HostException)
        {
            notices.Error(e.Message);
            return 1;
        }
    }
}
