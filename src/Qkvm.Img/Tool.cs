using Qkvm.Backends.Objects;
using Qkvm.Core.Block;
using Qkvm.Storage.Graph;

namespace Qkvm.Img;

/// <summary>What all subcommands share: where they write, what they open, the objects of the command line.</summary>
sealed class Tool : IBlockUser, IAsyncDisposable
{
    const BlockRights ReadRights = BlockRights.ConsistentRead;
    const BlockRights WriteRights = ReadRights | BlockRights.Write | BlockRights.Resize;

    readonly ToolObjects _objects = new();
    readonly List<BlockEdge> _opened = [];

    public Tool(string program, Catalogue<BlockDriverModel> drivers, TextWriter output, TextWriter errors)
    {
        (Program, Drivers, Output, Errors) = (program, drivers, output, errors);
        Factory = new BlockFactory(drivers, line => errors.Write($"WARNING: {line}\n"))
        {
            Secrets = _objects.Secret,
            Credentials = _objects.Credentials,
        };
    }

    public string Program { get; }
    public Catalogue<BlockDriverModel> Drivers { get; }
    public TextWriter Output { get; }
    public TextWriter Errors { get; }
    public BlockFactory Factory { get; }

    /// <summary>The command line behind the tool's name, as typed.</summary>
    public string[] Words { get; private set; } = [];

    bool IsQuiet { get; set; }

    /// <summary>Reads a command line, and makes its objects.</summary>
    public Arguments Parse(Subcommand command, ReadOnlySpan<string> words)
    {
        Words = [command.Name, .. words];
        string? size = null;
        if (command.EndsWithSize && words is not ["-h" or "--help"])
        {
            if (words.Length < 2) throw new ToolException("Not enough arguments", hasHint: true);
            size = words[^1];
            words = words[..^1];
        }
        Arguments arguments = Arguments.Parse(words, [Option.Help, .. command.Options], size);
        IsQuiet = arguments.Has(Option.Quiet);
        foreach (string text in arguments.Texts(Option.Object)) _objects.Add(text);
        return arguments;
    }

    public void Error(string message) => Errors.Write($"{Program}: {message}\n");

    /// <summary>Unless -q.</summary>
    public void Say(string text)
    {
        if (!IsQuiet) Output.Write(text);
    }

    /// <summary>Opens an image as the options say, until the tool ends or <see cref="CloseAsync"/>.</summary>
    /// <param name="isOptions">The name is a list of options: --image-opts.</param>
    public BlockDriver Open(string name, ImageOpening how, bool isOptions = false)
    {
        if (how.Format is { } format && Drivers.Find(format) == null)
            throw new ToolException($"Could not open '{name}': " + (Drivers.Known(format)?.NotBuilt is { } why
                ? $"'{format}' {why}" : $"Unknown driver '{format}'"));
        return Use(isOptions ? OpenOptions(name, how) : Factory.OpenImage(name, how), how, name);
    }

    /// <summary>What cannot be opened is called as it was typed.</summary>
    BlockDriver OpenOptions(string text, ImageOpening how)
    {
        const string owner = "--image-opts: ";
        try { return Factory.OpenImage(Options.Parse(text, "--image-opts"), how); }
        catch (ConfigurationException e)
        {
            string why = e.Message;
            if (why.StartsWith(owner, StringComparison.Ordinal)) why = why[owner.Length..];
            if (why.StartsWith("Could not open '", StringComparison.Ordinal)
                && why.IndexOf("': ", StringComparison.Ordinal) is > 0 and var end) why = why[(end + 3)..];
            throw new ToolException($"Could not open '{text}': {why}");
        }
    }

    /// <summary>Opens what the options <c>--image-opts</c>, <c>-f</c> and <c>-U</c> of a subcommand speak of.</summary>
    public BlockDriver Open(Arguments arguments, string name, ImageOpening how) => Open(name,
        how with
        {
            Format = how.Format ?? arguments.Text(Option.Format), ForceShare = arguments.Has(Option.ForceShare),
        }, arguments.Has(Option.ImageOpts));

    BlockDriver Use(BlockDriver node, ImageOpening how, string name)
    {
        try
        {
            _opened.Add(new BlockEdge(node, this, "root", new(how.IsWritable ? WriteRights : ReadRights,
                BlockRights.None)));
            return node;
        }
        catch (ConfigurationException e)
        {
            node.DisposeAsync().AsTask().GetAwaiter().GetResult();
            throw new ToolException($"Could not open '{name}': {e.Message}");
        }
    }

    public async Task CloseAsync(BlockDriver node)
    {
        if (_opened.Find(edge => edge.Node == node) is not { } found) return;
        _opened.Remove(found);
        await found.ReleaseAsync().ConfigureAwait(false);
    }

    public string OneImage(Arguments arguments) => arguments.Names is [var only] ? only
        : throw new ToolException("Expecting one image file name", hasHint: true);

    /// <summary>--output=human|json.</summary>
    public bool WantsJson(Arguments arguments) => arguments.Text(Option.Output) switch
    {
        null or "human" => false,
        "json" => true,
        _ => throw new ToolException("--output must be used with human or json as argument."),
    };

    public CacheMode Cache(Arguments arguments, Option option, string fallback, string what = "cache option")
    {
        string name = arguments.Text(option) ?? fallback;
        return CacheMode.Find(name) ?? throw new ToolException($"Invalid {what}: {name}");
    }

    /// <summary>A size with suffix.</summary>
    public static long Size(string what, string text, long min = 0, long max = long.MaxValue)
    {
        bool isSize = Sizes.TryParse(text, 1, out ulong size);
        if (isSize && size >= (ulong)min && size <= (ulong)max) return (long)size;
        if (isSize || IsHuge(text))
            throw new ToolException($"Invalid {what} specified. Must be between {min} and {max}.");
        throw new ToolException($"Invalid {what} specified. You may use k, M, G, T, P or E suffixes for",
            "kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.");
    }

    /// <summary>A whole number that does not fit.</summary>
    static bool IsHuge(string text) =>
        text.Length > 1 && text[..^1].All(char.IsAsciiDigit) && "kKmMgGtTpPeE0123456789".Contains(text[^1]);

    string IBlockUser.UserName => Program;
    ValueTask<Action> IBlockUser.PauseAsync() => new(static () => { });

    public async ValueTask DisposeAsync()
    {
        for (int i = _opened.Count - 1; i >= 0; i--) await _opened[i].ReleaseAsync().ConfigureAwait(false);
        _opened.Clear();
        await Factory.DisposeAsync().ConfigureAwait(false);
    }
}
