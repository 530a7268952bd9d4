using Qkvm.Core.Char;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Host;

namespace Qkvm.Backends.Char;

/// <summary>Makes character backends from -chardev records.</summary>
/// <param name="print">Prints a line for the user, such as the path of a pseudo terminal.</param>
public sealed class CharFactory(EventLoop loop, Action<string> print)
{
    StdioChar? _stdio;

    /// <summary>The terminal, where some backend uses it.</summary>
    public StdioChar? Stdio => _stdio;

    /// <exception cref="ConfigurationException">A bad option, a busy port, a file that cannot be written.</exception>
    public ICharBackend Create(ChardevConfig config)
    {
        var options = new OptionReader(config.Options, config.Owner);
        ICharBackend backend = config.Backend switch
        {
            "null" => new NullChar(config.Id),
            "vc" => VirtualConsole(config, options),
            "stdio" => Stdin(config, options.Bool("signal", false)),
            "file" => new FileChar(config.Id, options.Required("path"), options.Bool("append", false), config.Owner),
            "pty" => Pty(config),
            "socket" => new SocketChar(config.Id, Socket(options), loop, config.Owner),
            _ => throw new ConfigurationException($"{config.Owner}: the backend '{config.Backend}' is not built yet; there are null, stdio, file, pty, socket"),
        };
        options.Close();
        return backend;
    }

    /// <summary>A text console inside a window: there is none yet, so what it would show goes nowhere.</summary>
    static NullChar VirtualConsole(ChardevConfig config, OptionReader options)
    {
        foreach (string size in new[] { "width", "height", "cols", "rows" }) options.Text(size);
        return new NullChar(config.Id, "vc");
    }

    StdioChar Stdin(ChardevConfig config, bool signals)
    {
        if (_stdio != null) throw new ConfigurationException($"{config.Owner}: stdio is in use by chardev '{_stdio.Id}' already; share it with -chardev stdio,id=X,mux=on or -serial mon:stdio");
        return _stdio = new StdioChar(config.Id, loop, signals);
    }

    PtyChar Pty(ChardevConfig config)
    {
        var pty = new PtyChar(config.Id, loop);
        print($"char device redirected to {pty.SlavePath} (label {config.Id})");
        return pty;
    }

    static SocketOptions Socket(OptionReader options)
    {
        bool server = options.Bool("server", false), wait = options.Bool("wait", server);
        int fd = options.Int("fd", -1);
        string? path = options.Text("path");
        string host = options.Text("host") ?? "";
        int port = path == null && fd < 0 ? options.Port("port") : options.Int("port", 0);
        bool noDelay = !options.Bool("delay", true) || options.Bool("nodelay", true);
        if (options.Bool("websocket", false)) throw new ConfigurationException($"{options.Owner}: websocket is not built yet");
        int? to = options.Text("to") is null ? null : options.Port("to");
        return new SocketOptions(path, host, port, server, server && wait, options.Bool("telnet", false),
            options.OptionalBool("ipv4"), options.OptionalBool("ipv6"), noDelay, options.Int("reconnect", 0), fd, to);
    }
}

/// <summary>A record's options, each taken once; what nobody took is refused.</summary>
public sealed class OptionReader(IReadOnlyList<OptionPair> options, string owner)
{
    readonly HashSet<string> _taken = new(StringComparer.Ordinal);

    public string Owner { get; } = owner;

    /// <summary>The last value of that name, or null.</summary>
    public string? Text(string name)
    {
        _taken.Add(name);
        string? value = null;
        foreach (OptionPair option in options)
            if (option.Name == name) value = option.Value;
        return value;
    }

    public string Required(string name) => Text(name) ?? throw new ConfigurationException($"{Owner}: needs {name}=");

    public bool? OptionalBool(string name) => Text(name) switch
    {
        null => null,
        "on" or "yes" or "true" or "y" => true,
        "off" or "no" or "false" or "n" => false,
        string other => throw new ConfigurationException($"{Owner}: {name}={other}: expects 'on' or 'off'"),
    };

    public bool Bool(string name, bool otherwise) => OptionalBool(name) ?? otherwise;

    public int Int(string name, int otherwise) => Text(name) is not { } text ? otherwise
        : int.TryParse(text, out int value) ? value : throw new ConfigurationException($"{Owner}: {name}={text}: expects a number");

    public int Port(string name)
    {
        string text = Required(name);
        return ushort.TryParse(text, out ushort port) ? port : throw new ConfigurationException($"{Owner}: {name}={text}: expects a port from 0 to 65535");
    }

    public void Close()
    {
        foreach (OptionPair option in options)
            if (!_taken.Contains(option.Name)) throw new ConfigurationException($"{Owner}: invalid parameter '{option.Name}'; there are {string.Join(", ", _taken.Order())}");
    }
}
