using Qkvm.Accel.Tcg.Model;
using Qkvm.Control.Commands;
using Qkvm.Core.Audio;
using Qkvm.Core.Devices;
using Qkvm.Core.Logging;

namespace Qkvm.Cli;

/// <summary>-help, -version, and "help" as the argument of an option: printed from the catalogues.</summary>
static class Help
{
    /// <param name="output">Asked for when there is something to print.</param>
    /// <returns>True if something was printed, so that the program is done.</returns>
    public static bool TryPrint(IReadOnlyList<GivenOption> options, Func<TextWriter> output)
    {
        foreach (GivenOption option in options)
        {
            if (option.Name is "h" or "help") { Usage(output()); return true; }
            if (option.Name == "version") { output().WriteLine(Version); return true; }
            if (option.Name == "audio-help")
            {
                foreach (AudioModel driver in Catalogue.Audiodevs.Models) driver.WriteHelp(output());
                return true;
            }
        }
        foreach (GivenOption option in options)
            if (option.Argument is { } argument && (argument.Contains("help") || argument.Contains('?'))
                && PrintList(option.Name, argument, output())) return true;
        return false;
    }

    static string Version => $"qkvm {ProgramVersion.Text}, with the command line of QEMU emulator version 7.2";

    static void Usage(TextWriter output)
    {
        output.WriteLine(Version);
        output.WriteLine("usage: qkvm [options] [disk_image]\n\n'disk_image' is a raw or qcow2 hard disk image for " +
            "IDE hard disk 0");
        foreach ((string section, OptionSpec[] specs) in OptionCatalogue.Sections)
        {
            output.WriteLine($"\n{section}:");
            foreach (OptionSpec spec in specs)
            {
                output.WriteLine($"-{spec.Name}{(spec.Argument == null ? "" : $" {spec.Argument}")}");
                string help = spec.NotYet == null ? spec.Help : $"{spec.Help} (not built yet)";
                foreach (string line in help.Split('\n')) output.WriteLine($"                {line}");
            }
        }
        output.WriteLine("\nIn -nographic or '-serial mon:stdio' mode: ctrl-a h for help, ctrl-a x to quit, ctrl-a " +
            "c for the monitor.");
    }

    static bool PrintList(string option, string argument, TextWriter output)
    {
        bool wanted = argument is "help" or "?";
        switch (option)
        {
            case "machine" or "M": return Print(Catalogue.Machines, "Supported machines are:", option, argument,
                output);
            case "accel": return Print(Catalogue.Accelerators, "Accelerators supported in qkvm:", option, argument,
                output);
            case "cpu" when wanted:
                output.Write(CpuModels.Help());
                return true;
            case "device" when wanted: PrintDevices(output); return true;
            case "device": return Print(Catalogue.Devices, "", option, argument, output);
            case "chardev": return Print(Catalogue.Chardevs, "Available chardev backend types:", option, argument,
                output);
            case "netdev" or "nic": return Print(Catalogue.Netdevs, "Available netdev backend types:", option, argument,
                output);
            case "tpmdev": return Print(Catalogue.Tpms, "Supported TPM types (choose only one):", option, argument,
                output);
            case "fsdev": return Print(Catalogue.FileSystems, "Available file system drivers:", option, argument,
                output);
            case "audio" when argument.Split(',').Any(part => part is "model=help" or "model=?"):
                output.WriteLine("Valid sound card names (comma separated):");
                foreach (SoundCard card in Catalogue.SoundCards)
                    output.WriteLine($"{card.Name,-11} {card.Devices[0].Description}");
                return true;
            case "audio" or "audiodev": return Print(Catalogue.Audiodevs, "Available audio drivers:", option, argument,
                output);
            case "blockdev": return Print(Catalogue.BlockDrivers, "Available block drivers:", option, argument, output);
            case "object": return Print(Catalogue.Objects, "Available types of objects:", option, argument, output);
            case "display": return Print(Catalogue.Displays, "Available display backend types:", option, argument,
                output);
            case "vga" when wanted:
                output.WriteLine("none                 no graphic card\nstd                  standard VGA (default)\n"
                    + "virtio               virtio VGA");
                return true;
            case "d" when wanted:
                output.Write(LogItems.Help("-d"));
                return true;
            case "trace" when wanted:
            case "d" when argument == "trace:help":
                foreach (TraceEvent known in new TraceEvents(static () => { }).All) output.WriteLine(known.Name);
                return true;
            default: return false;
        }
    }

    /// <summary>"help" lists a kind, "NAME,help" the properties of one; false for anything else.</summary>
    static bool Print<TModel>(Catalogue<TModel> catalogue, string heading, string option, string argument,
        TextWriter output) where TModel : Model
    {
        if (argument is "help" or "?")
        {
            catalogue.WriteHelp(output, heading);
            return true;
        }
        string[] parts = argument.Split(',');
        if (!parts.Skip(1).Any(p => p is "help" or "?")) return false;
        catalogue.Get(parts[0][(parts[0].IndexOf('=') + 1)..], $"-{option} {argument}").WriteHelp(output);
        return true;
    }

    static void PrintDevices(TextWriter output)
    {
        foreach (var category in Catalogue.Devices.Models.GroupBy(m => m.Category).OrderBy(g => g.Key))
        {
            output.WriteLine($"{category.Key} devices:");
            foreach (DeviceModel model in category.OrderBy(m => m.Name,
                StringComparer.Ordinal)) output.WriteLine(model.HelpLine);
            output.WriteLine();
        }
    }
}
