using Qkvm.Storage.Graph;

namespace Qkvm.Img;

/// <summary>-o of the subcommands that make or amend images: what it may say, in qemu-img's words.</summary>
static class CreateOptions
{
    const int HelpWidth = 22;

    /// <summary>All -o together.</summary>
    public static Options Parse(Arguments arguments)
    {
        var all = new Options("-o");
        foreach (string text in arguments.Texts(Option.Options))
        {
            bool isOpen = text.EndsWith(',') && !text.EndsWith(",,", StringComparison.Ordinal);
            if (text.Length == 0 || text[0] == ',' || isOpen)
                throw new ToolException($"Invalid option list: {text}");
            foreach (OptionPair pair in Options.Parse(text, "-o").Rest) all.Add(pair.Name, pair.Value);
        }
        return all;
    }

    public static bool WantsHelp(Options options) => options.Has("help") || options.Has("?");

    public static void WriteHelp(TextWriter output, string heading, IEnumerable<Property> properties)
    {
        output.Write($"{heading}\n");
        foreach (Property property in properties.OrderBy(p => p.Name, StringComparer.Ordinal))
            output.Write($"  {$"{property.Name}=<{Kind(property)}>".PadRight(HelpWidth)} - {property.Help}\n");
    }

    /// <summary>The options against what the format declares.</summary>
    /// <param name="owner">In front of messages: the image's name, or nothing.</param>
    public static Properties Check(Model model, Options options, string owner)
    {
        foreach (OptionPair pair in options.Rest)
            if (Complaint(model.Find(pair.Name), pair) is { } complaint)
                throw new ToolException(owner.Length > 0 ? $"{owner}: {complaint}" : complaint);
        return new Properties(model, options);
    }

    static string? Complaint(Property? property, OptionPair pair) => property?.Kind switch
    {
        null => $"Invalid parameter '{pair.Name}'",
        PropertyKind.Size when !Sizes.TryParse(pair.Value, 1, out _) =>
            $"""
            Parameter '{pair.Name}' expects a non-negative number below 2^64
            Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-
            and exabytes, respectively.
            """,
        PropertyKind.Bool when Options.ParseBool(pair.Value) == null =>
            $"Parameter '{pair.Name}' expects 'on' or 'off'",
        PropertyKind.Number when !Properties.TryParseNumber(pair.Value, out _) =>
            $"Parameter '{pair.Name}' expects a number",
        _ => null,
    };

    static string Kind(Property property) => property.Kind switch
    {
        PropertyKind.Size => "size",
        PropertyKind.Bool => "bool (on/off)",
        PropertyKind.Number => "num",
        _ => "str",
    };

    /// <summary>A format that makes images, by the name that was typed.</summary>
    public static ImageCreation Creation(Tool tool, string format, string prefix = "")
    {
        if (tool.Drivers.Known(format) is not { } model)
            throw new ToolException($"{prefix}Unknown file format '{format}'");
        return model.Creation ?? throw new ToolException(prefix + (model.NotBuilt is { } why ? $"'{format}' {why}"
            : $"Format driver '{format}' does not support image creation"));
    }
}
