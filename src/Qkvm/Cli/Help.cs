using Qkvm.Accel.Tcg.Model;
using Qkvm.Control.Commands;
using Qkvm.Core.Devices;
using Qkvm.Machines;

namespace Qkvm.Cli;

/// <summary>-help, -version, and "help" as the argument of an option: printed from the catalogues.</summary>
static class Help
{
    /// <returns>True if something was printed, so that the program is done.</returns>
    public static bool TryPrint(IReadOnlyList<GivenOption> options, TextWriter output)
    {
        foreach (GivenOption option in options)
        {
            if (option.Name is "h" or "help") { Usage(output); return true; }
            if (option.Name == "version") { output.WriteLine(Version); return true; }
        }
        foreach (GivenOption option in options)
            if (option.Argument is { } argument && PrintList(option.Name, argument, output)) return true;
        return false;
    }

    static string Version => $"qkvm {ProgramVersion.Text}, with the command line of QEMU emulator version 7.2";

    static void Usage(TextWriter output)
    {
        output.WriteLine(Version);
        output.WriteLine("usage: qkvm [options] [disk_image]\n\n'disk_image' is a raw or qcow2 hard disk image for IDE hard disk 0");
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
        output.WriteLine("\nIn -nographic or '-serial mon:stdio' mode: ctrl-a h for help, ctrl-a x to quit, ctrl-a c for the monitor.");
    }

    static bool PrintList(string option, string argument, TextWriter output)
    {
        bool wanted = argument is "help" or "?";
        switch (option)
        {
            case "machine" or "M" when wanted:
                output.WriteLine("Supported machines are:");
                foreach (var (name, alias, description) in Expander.Machines)
                {
                    if (alias != null) output.WriteLine($"{alias,-20} {description} (alias of {name})");
                    output.WriteLine($"{name,-20} {description}");
                }
                return true;
            case "accel" when wanted:
                output.WriteLine("Accelerators supported in qkvm:\nkvm\ntcg");
                return true;
            case "cpu" when wanted:
                output.Write(CpuModels.Help());
                return true;
            case "device": return PrintDevice(argument, wanted, output);
            case "chardev" when wanted:
                output.WriteLine("Available chardev backend types:\n  file\n  null\n  pty\n  socket\n  stdio");
                return true;
            case "netdev" or "nic" when wanted:
                output.WriteLine("Available netdev backend types:\ntap");
                return true;
            case "blockdev" when wanted:
                output.WriteLine("Available block drivers:\nfile\nhost_device\nraw\nqcow2");
                return true;
            case "display" when wanted:
                output.WriteLine("Available display backend types:\nnone\nvnc");
                return true;
            case "vga" when wanted:
                output.WriteLine("none                 no graphic card\nstd                  standard VGA (default)");
                return true;
            case "d" when wanted:
                output.WriteLine("Log items (comma separated):");
                foreach ((string name, string description) in LogItems.All) output.WriteLine($"{name,-15} {description}");
                return true;
            default: return false;
        }
    }

    static bool PrintDevice(string argument, bool wanted, TextWriter output)
    {
        if (wanted)
        {
            foreach (var category in Catalogue.Devices.GroupBy(m => m.Category).OrderBy(g => g.Key))
            {
                output.WriteLine($"{category.Key} devices:");
                foreach (DeviceModel model in category.OrderBy(m => m.Name, StringComparer.Ordinal))
                {
                    string alias = model.Aliases.Length > 0 ? $", alias \"{model.Aliases[0]}\"" : "";
                    output.WriteLine($"name \"{model.Name}\", bus {model.Bus}{alias}{(model.Description.Length > 0 ? $", desc \"{model.Description}\"" : "")}");
                }
                output.WriteLine();
            }
            return true;
        }
        string[] parts = argument.Split(',');
        if (!parts.Skip(1).Any(p => p is "help" or "?")) return false;
        DeviceModel found = DeviceFactory.Find(Catalogue.Devices, parts[0])
            ?? throw new ConfigurationException($"-device {argument}: '{parts[0]}' is not a valid device model name{Suggestion.For(parts[0], Catalogue.Devices.Select(m => m.Name))}");
        output.WriteLine($"{found.Name} options:");
        foreach (Property property in found.Properties.OrderBy(p => p.Name, StringComparer.Ordinal))
        {
            string kind = property.Values is { } values ? string.Join('|', values) : property.Kind.ToString().ToLowerInvariant();
            output.WriteLine($"  {property.Name + "=<" + kind + ">",-32}{(property.Help.Length > 0 ? " - " + property.Help : "")}{(property.Default is { } value ? $" (default: {value})" : "")}");
        }
        return true;
    }
}

/// <summary>What -d can log.</summary>
static class LogItems
{
    public static readonly (string Name, string Description)[] All =
    [
        ("out_asm", "show generated host assembly code for each translated block"),
        ("in_asm", "show guest assembly code for each block"),
        ("op", "show how each instruction of a translated block is treated"),
        ("int", "show interrupts/exceptions in short format"),
        ("exec", "show the address of each instruction before it runs (slow: nothing is translated)"),
        ("cpu", "show CPU registers before each instruction (slow: nothing is translated)"),
        ("cpu_reset", "show CPU state before CPU resets"),
        ("lockstep", "run each instruction on the translator and on the interpreter, show what differs; the guest's time is 100 times slower"),
    ];
}
