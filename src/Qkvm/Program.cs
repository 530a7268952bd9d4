using Microsoft.Win32.SafeHandles;
using Qkvm.Cli;
using Qkvm.Doctor;
using Qkvm.Core.Machine;
using Qkvm.Host;
using Qkvm.Img;
using Qkvm.Img.Nbd;

namespace Qkvm;

static class Program
{
    static int Main(string[] arguments)
    {
        if (ImageToolWords(arguments, out string program) is { } words)
        {
            using var errors = new StreamWriter(Console.OpenStandardError()) { AutoFlush = true };
            return ImageTool.Run(program, words, Catalogue.BlockDrivers, BufferedOutput(), errors);
        }
        bool isDaemon = Daemon.Begin();
        if (isDaemon)
        {
            // The console's own writers would keep duplicates of what the daemon lets go.
            Console.SetOut(Writer(StandardOutput));
            Console.SetError(Writer(StandardError));
        }
        string name = Path.GetFileName(Environment.GetCommandLineArgs()[0]);
        if (NbdTool.IsLink(name)) return NbdTool.Run(arguments, Catalogue.BlockDrivers, isDaemon, name);
        if (arguments is [NbdTool.Word, .. var own]) return NbdTool.Run(own, Catalogue.BlockDrivers, isDaemon);
        if (arguments is [Doctor.Doctor.Word, .. var asked])
            return Doctor.Doctor.Run(asked, new HostView(), Console.Out, Console.Error,
                IsColored(Console.IsOutputRedirected));
        if (arguments is [Completion.Completion.Word, .. var shell])
        {
            using StreamWriter answers = BufferedOutput();
            return Completion.Completion.Run(shell, answers, Console.Error);
        }
        if (arguments is [Manual.Manual.Word, .. var page])
        {
            using StreamWriter output = BufferedOutput();
            return Manual.Manual.Run(page, output, Console.Error);
        }
        var notices = new Notices(Console.Error);
        try
        {
            if (HostFeatures.Complaint is { } complaint) throw new ConfigurationException(complaint);
            IReadOnlyList<GivenOption> options = ConfigurationFile.Resolve(CommandLineParser.Parse(arguments));
            if (Help.TryPrint(options, static () => Console.Out)) return 0;
            Refusal.Check(options);
            MachineConfig config = Expander.Expand(options, name, notices.Warn);
            if (config.Daemonize && !isDaemon)
            {
                Preflight.CheckDaemon(config);
                return Daemon.Launch(arguments);
            }
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

    /// <summary>For people at a terminal, unless they want none: no-color.org.</summary>
    static bool IsColored(bool isRedirected) =>
        !isRedirected && string.IsNullOrEmpty(Environment.GetEnvironmentVariable("NO_COLOR"));

    /// <summary>qkvm img …, or this program by the name of the image tool; null for a machine.</summary>
    static string[]? ImageToolWords(string[] arguments, out string program)
    {
        program = Path.GetFileName(Environment.GetCommandLineArgs()[0]);
        if (ImageTool.IsLink(program)) return arguments;
        if (arguments is not ["img", .. string[] words]) return null;
        program += " img";
        return words;
    }

    /// <summary>What is said in many lines goes out in few writes, each behind what others have written: a FileStream
    /// would go by a place of its own.</summary>
    static StreamWriter BufferedOutput() => new(Console.OpenStandardOutput(), bufferSize: 16 << 10);

    const int StandardOutput = 1, StandardError = 2;

    static StreamWriter Writer(int descriptor) =>
        new(new FileStream(new SafeFileHandle(descriptor, ownsHandle: false), FileAccess.Write, bufferSize: 0))
            { AutoFlush = true };
}
