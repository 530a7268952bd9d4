using Qkvm.Core.Block;
using Qkvm.Host;
using Qkvm.Storage.Graph;

namespace Qkvm.Img;

/// <summary><c>qkvm img</c>: images without a machine, with qemu-img's command line.</summary>
public static class ImageTool
{
    /// <summary>Whether a link of that name makes the program this tool: QEMU's names may lead here.</summary>
    public static bool IsLink(string name) => name is "qkvm-img" or "qemu-img";

    /// <summary>Each with what it takes.</summary>
    public static IEnumerable<(string Name, string Usage)> Subcommands =>
        SubcommandCatalogue.All.Select(command => (command.Name, command.Usage));

    /// <param name="program">As messages and help call it.</param>
    /// <returns>The exit code.</returns>
    public static int Run(string program, ReadOnlySpan<string> words, Catalogue<BlockDriverModel> drivers,
        TextWriter output, TextWriter errors)
    {
        var tool = new Tool(program, drivers, output, errors);
        Subcommand? command = null;
        try
        {
            if (words.Length == 0) throw new ToolException("Not enough arguments", hasHint: true);
            string first = words[0];
            if (first is "-h" or "--help") return Help(tool);
            if (first is "-V" or "--version")
            {
                output.Write(Version);
                return 0;
            }
            if (first.StartsWith('-')) throw new ToolException($"unrecognized option '{first}'", hasHint: true);
            command = Array.Find(SubcommandCatalogue.All, c => c.Name == first)
                ?? throw new ToolException($"Command not found: {first}", hasHint: true);
            Arguments arguments = tool.Parse(command, words[1..]);
            if (arguments.Has(Option.Help)) return Help(tool);
            return command.Run(tool, arguments).GetAwaiter().GetResult();
        }
        catch (ToolException e)
        {
            tool.Error(e.Message);
            if (e.Second is { } second) tool.Error(second);
            if (e.HasHint) errors.Write($"Try '{program} --help' for more information\n");
            return e.ExitCode == 1 ? command?.Failure ?? 1 : e.ExitCode;
        }
        catch (Exception e) when (e is ConfigurationException or BlockException or HostException)
        {
            tool.Error(e.Message);
            return command?.Failure ?? 1;
        }
        finally
        {
            tool.DisposeAsync().AsTask().GetAwaiter().GetResult();
            output.Flush();
        }
    }

    static string Version => $"qkvm {typeof(ImageTool).Assembly.GetName().Version?.ToString(3)}, with the command " +
        "line of qemu-img version 7.2\n";

    static int Help(Tool tool)
    {
        TextWriter output = tool.Output;
        output.Write($"{Version}usage: {tool.Program} [standard options] command [command options]\n");
        output.Write("""
            QEMU's disk image utility, built anew

                '-h', '--help'       display this help and exit
                '-V', '--version'    output version information and exit

            Command syntax:

            """);
        foreach (Subcommand command in SubcommandCatalogue.All) output.Write($"  {command.Name} {command.Usage}\n");
        output.Write("\nSupported formats: ");
        output.Write(string.Join(' ', tool.Drivers.Models.Select(m => m.Name).Order(StringComparer.Ordinal)));
        output.Write('\n');
        return 0;
    }
}
