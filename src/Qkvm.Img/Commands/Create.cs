using Qkvm.Core.Block;
using Qkvm.Host;
using Qkvm.Storage.Graph;
using Qkvm.Storage.Images;

namespace Qkvm.Img.Commands;

/// <summary>create: an empty image, perhaps over another.</summary>
static class Create
{
    static readonly Option Unsafe = new('u', "unsafe");

    public static readonly Subcommand Command = new("create",
        "[--object objectdef] [-q] [-f fmt] [-b backing_file [-F backing_fmt]] [-u] [-o options] filename [size]",
        [
            Option.Object, Option.Quiet, Option.Format, Option.BackingFile, Option.BackingFormat, Unsafe,
            Option.Options,
        ], RunAsync);

    static async Task<int> RunAsync(Tool tool, Arguments arguments)
    {
        string format = arguments.Text(Option.Format) ?? "raw";
        Options given = CreateOptions.Parse(arguments);
        if (CreateOptions.WantsHelp(given))
        {
            CreateOptions.WriteHelp(tool.Output, "Supported options:", CreateOptions.Creation(tool, format).Properties);
            return 0;
        }
        if (arguments.Names.Count == 0) throw new ToolException("Expecting image file name", hasHint: true);
        string path = arguments.Names[0];
        long? size = arguments.Names.Count > 1 ? Tool.Size("image size", arguments.Names[1]) : null;
        if (arguments.Names.Count > 2)
            throw new ToolException($"Unexpected argument: {arguments.Names[2]}", hasHint: true);
        ImageCreation creation = CreateOptions.Creation(tool, format, $"{path}: ");
        if (size != null && given.Has("size"))
            throw new ToolException($"{path}: The image size must be specified only once");
        if (size is { } typed) given.Add("size", $"{typed}");
        SetBacking(creation, given, arguments, format, path);
        await AddSizeAsync(tool, arguments, creation, given, format, path).ConfigureAwait(false);
        Properties options = CreateOptions.Check(creation, given, path);
        tool.Say($"Formatting '{path}', fmt={format}{Shown(creation, options)}\n");
        tool.Output.Flush();                                       // before what it may say of errors
        try
        {
            await ImageMaker.CreateAsync(tool.Factory, creation, path, null, (long)options.Size("size"), options)
                .ConfigureAwait(false);
        }
        catch (ConfigurationException e) { throw new ToolException($"{path}: {e.Message}"); }
        return 0;
    }

    static void SetBacking(ImageCreation creation, Options given, Arguments arguments, string format, string path)
    {
        foreach ((Option option, string name, string what) in (ReadOnlySpan<(Option, string, string)>)
            [(Option.BackingFile, "backing_file", "file"), (Option.BackingFormat, "backing_fmt", "file format")])
        {
            if (arguments.Text(option) is not { } value) continue;
            if (creation.Find(name) == null)
                throw new ToolException($"{path}: Backing {what} not supported for file format '{format}'");
            given.Add(name, value);
        }
    }

    /// <summary>Without a size the image is as large as what it lies over, which has to be there unless -u says that it
    /// need not.</summary>
    static async Task AddSizeAsync(Tool tool, Arguments arguments, ImageCreation creation, Options given,
        string format, string path)
    {
        Options look = Options.Of("-o", given.Rest);
        if (look.Text("backing_file") == "" && creation.Find("backing_file") != null)
            throw new ToolException($"{path}: Expected backing file name, got empty string");
        if (look.Text("backing_file") is { Length: > 0 } backing && creation.Find("backing_file") != null)
        {
            string full = BlockFactory.RelativeTo(path, backing);
            if (BlockFactory.Identity(path) == BlockFactory.Identity(full))
                throw new ToolException($"{path}: Error: Trying to create an image with the same filename as the " +
                    "backing file");
            if (!arguments.Has(Unsafe))
            {
                BlockDriver below = OpenBacking(tool, full, look.Text("backing_fmt"), path);
                if (look.Text("backing_fmt") == null) throw WithoutFormat(tool, arguments, path, below.FormatName);
                if (!look.Has("size")) given.Add("size", $"{below.Length}");
                await tool.CloseAsync(below).ConfigureAwait(false);
            }
            else if (look.Text("backing_fmt") == null)
                throw new ToolException($"{path}: Backing file specified without backing format");
        }
        if (!given.Has("size")) throw new ToolException($"{path}: Image creation needs a size parameter");
    }

    static BlockDriver OpenBacking(Tool tool, string full, string? format, string path)
    {
        if (format != null && tool.Drivers.Find(format) == null)
            throw new ToolException($"{path}: Unknown driver '{format}'\nCould not open backing image.");
        try { return tool.Open(full, new ImageOpening(format) { IsUnread = true }); }
        catch (Exception e) when (e is ConfigurationException or ToolException)
        {
            string prefix = $"Could not open '{full}': ";          // twice of what is no file
            string why = e.Message.StartsWith(prefix + prefix, StringComparison.Ordinal) ? e.Message[prefix.Length..]
                : e.Message;
            throw new ToolException($"{path}: {why}\nCould not open backing image.");
        }
    }

    /// <summary>A guess may be wrong, and a guest could make it wrong: the user is told the words to say.</summary>
    static ToolException WithoutFormat(Tool tool, Arguments arguments, string path, string found)
    {
        string[] words = tool.Words;
        int at = Array.FindIndex(words, word => word.StartsWith("-b", StringComparison.Ordinal));
        string[] better = at < 0 ? words : [.. words[..at], "-F", found, .. words[at..]];
        return new ToolException($"{path}: Backing file specified without backing format\n" +
            $"Detected format of {found}.\nSay so: {tool.Program} {string.Join(' ', better.Select(ShellWord.Quote))}");
    }

    static string Shown(ImageCreation creation, Properties options) => string.Concat(creation.Properties
        .Where(property => options.Has(property.Name))
        .Select(property => $" {property.Name}={options.Text(property.Name)}"));
}
