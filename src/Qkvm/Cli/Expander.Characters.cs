using System.Text.RegularExpressions;
using Qkvm.Backends.Char;
using Qkvm.Control.Gdb;
using Qkvm.Control.Metrics;
using Qkvm.Core.Char;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;

namespace Qkvm.Cli;

public sealed partial class Expander
{
    enum MonitorKind { Human, Control, PrettyControl }

    readonly List<(string Text, string Owner)> _serials = [], _parallels = [];
    readonly List<(string Text, MonitorKind Kind, string Owner)> _monitors = [];
    readonly List<ChardevConfig> _chardevs = [];
    (string? Text, string Owner) _gdb;                             // the last one holds
    readonly List<MonitorConfig> _monitorConfigs = [];

    // How a "dev" of -serial and -monitor begins.
    static readonly string[] DeviceWords = ["stdio", "null", "none", "pty", "file", "pipe", "unix", "tcp", "udp",
        "telnet", "websocket", "mon", "chardev", "vc"];

    void AddChardev(string text, string owner)
    {
        Options options = Options.Parse(text, owner, "backend");
        string backend = Catalogue.Chardevs.Known(options.Text("backend") ?? "", owner).Name;
        string id = options.Required("id");
        Identifier.Check(id, owner);
        bool mux = options.Bool("mux") ?? false;
        AddChardev(new ChardevConfig(id, backend, options) { Mux = mux });
    }

    void AddChardev(ChardevConfig chardev)
    {
        if (_chardevs.Exists(c => c.Id == chardev.Id))
            throw new ConfigurationException($"{chardev.Owner}: duplicate id '{chardev.Id}' for chardev");
        _chardevs.Add(chardev);
    }

    void AddMonitor(string text, string owner)
    {
        Options options = Options.Parse(text, owner, "chardev");
        string chardev = options.Required("chardev");
        options.Text("id");
        string mode = options.Text("mode") ?? "readline";
        if (mode is not ("readline" or "control"))
            throw new ConfigurationException($"{owner}: mode={mode}: expects readline or control");
        bool pretty = options.Bool("pretty") ?? false;
        options.Close();
        _monitorConfigs.Add(new MonitorConfig(chardev, mode == "control", pretty, owner));
    }

    void AddMetrics(string address, string owner)
    {
        MetricsServer.Parse(address, owner);
        _config = _config with { Metrics = [.. _config.Metrics, new MetricsConfig(address, owner)] };
    }

    void FinishCharacters()
    {
        // Defaults as QEMU has them: serial and monitor share the terminal under -nographic, otherwise they are virtual
        // consoles.
        bool onTerminal = _noGraphic && !_noDefaults;
        if (_serials.Count == 0 && !_noDefaults && !_replaced.HasFlag(DefaultDevice.Serial))
            _serials.Add((onTerminal ? _monitors.Count == 0 ? "mon:stdio" : "stdio"
                : "vc", "default serial port"));
        if (_parallels.Count == 0 && !_noDefaults && _machine?.Defaults.HasParallel != false
            && !_replaced.HasFlag(DefaultDevice.Parallel)) _parallels.Add((onTerminal ? "null" : "vc",
                "default parallel port"));
        if (_monitors.Count == 0 && _monitorConfigs.Count == 0 && !_noDefaults && !onTerminal
            && !_config.Objects.Any(made => Catalogue.Objects.Find(made.Type) is { NeedsMachine: true }))
            _monitors.Add(("vc", MonitorKind.Human, "default monitor"));

        var serials = _serials.Select((s, i) => s.Text == "none" ? null : CharacterOf(s.Text, $"serial{i}", s.Owner))
            .ToArray();
        var parallels = _parallels.Select((p, i) => p.Text == "none" ? null
            : CharacterOf(p.Text, $"parallel{i}", p.Owner)).ToArray();
        for (int i = 0; i < _monitors.Count; i++)
            if (_monitors[i].Text != "none")
                _monitorConfigs.Add(new MonitorConfig(CharacterOf(_monitors[i].Text, $"compat_monitor{i}",
                    _monitors[i].Owner), _monitors[i].Kind != MonitorKind.Human,
                    _monitors[i].Kind == MonitorKind.PrettyControl, _monitors[i].Owner));
        string? gdb = _gdb.Text is null or GdbServer.None ? null
            : CharacterOf(GdbServer.Complete(_gdb.Text), GdbServer.ChardevId, _gdb.Owner);
        _config = _config with { GdbChardev = gdb, Serials = serials, Parallels = parallels, Chardevs = [.. _chardevs],
            Monitors = [.. _monitorConfigs] };
    }

    /// <summary>The chardev that a "dev" of -serial or -monitor stands for; its id.</summary>
    string CharacterOf(string text, string id, string owner)
    {
        if (NamedCharacter(text) is { } existing) return existing;
        bool monitor = text.StartsWith("mon:", StringComparison.Ordinal);
        if (monitor) text = text["mon:".Length..];
        (CharModel backend, Options options) = CharacterOptions(text, owner);
        AddChardev(new ChardevConfig(id, backend.Name, options) { Mux = monitor });
        if (monitor) _monitorConfigs.Add(new MonitorConfig(id, false, Owner: owner));
        return id;
    }

    /// <summary>The id of one that is made elsewhere, or null.</summary>
    internal static string? NamedCharacter(string text)
    {
        const string chardev = "chardev:";
        return text.StartsWith(chardev, StringComparison.Ordinal) ? text[chardev.Length..] : null;
    }

    internal static (CharModel Backend, Options Options) CharacterOptions(string text, string owner)
    {
        int colon = text.IndexOf(':');
        string kind = colon < 0 ? text.Split(',')[0] : text[..colon], rest = colon < 0 ? "" : text[(colon + 1)..];
        switch (kind)
        {
            case "null": return (NullChar.Model, Behind(text, owner));
            case "stdio": return (StdioChar.Model, Behind(text, owner));
            case "pty": return (PtyChar.Model, Behind(text, owner));
            case "vc": return (ConsoleChar.Model, ConsoleSize(rest, text, owner));
            case "pipe": return (PipeChar.Model, Options.Parse(rest, owner, "path"));
            case "udp": return (UdpChar.Model, Datagrams(rest, owner));
            case "file": return (FileChar.Model, Options.Parse(rest, owner, "path"));
            case "unix": return (SocketChar.Model, Options.Parse(rest, owner, "path"));
            case "tcp" or "telnet" or "websocket":
                Options given = Options.Parse(rest, owner, "address");
                string address = given.Text("address") ?? "";
                int last = address.LastIndexOf(':');
                if (last < 0)
                    throw new ConfigurationException($"{owner}: expects {kind}:host:port, for example " +
                        $"{kind}::3333,server=on,wait=off");
                var options = Options.Of(owner, [new("host", address[..last].Trim('[', ']')),
                    new("port", address[(last + 1)..]), .. given.Rest]);
                if (kind != "tcp") options.Add(kind, "on");
                return (SocketChar.Model, options);
            default:
                if (text.StartsWith("/dev/", StringComparison.Ordinal))
                    return (text.StartsWith("/dev/parport", StringComparison.Ordinal) ? ParallelChar.Model
                        : TtyChar.Model, Options.Of(owner, new OptionPair("path", text)));
                if (Catalogue.Chardevs.Known(kind) is { NotBuilt: not null } known) return (known, new Options(owner));
                throw new ConfigurationException($"{owner}: '{text}' is no character "
                    + $"device{Suggestion.For(kind, DeviceWords)}");
        }
    }

    /// <summary>vc:800x600 counts in pixels, vc:80Cx24C in characters.</summary>
    static Options ConsoleSize(string size, string text, string owner)
    {
        if (size.Length == 0) return Behind(text, owner);
        Match match = ConsolePattern().Match(size);
        if (!match.Success) throw new ConfigurationException($"{owner}: '{text}': expects vc:800x600 or vc:80Cx24C");
        return Options.Of(owner, new(match.Groups[2].Length > 0 ? "cols" : "width", match.Groups[1].Value),
            new(match.Groups[4].Length > 0 ? "rows" : "height", match.Groups[3].Value));
    }

    [GeneratedRegex("^([0-9]{1,5})(C?)x([0-9]{1,5})(C?)$")]
    private static partial Regex ConsolePattern();

    /// <summary>[HOST]:PORT[@[ADDRESS]:PORT].</summary>
    static Options Datagrams(string text, string owner)
    {
        Options given = Options.Parse(text, owner, "address");
        string[] ends = (given.Text("address") ?? "").Split('@');
        var pairs = new List<OptionPair>();
        for (int i = 0; i < ends.Length; i++)
        {
            int colon = ends[i].LastIndexOf(':');
            if (colon < 0 || i > 1)
                throw new ConfigurationException($"{owner}: expects udp:[host]:port[@[localaddr]:localport], for "
                    + "example udp::4555@:4556");
            pairs.Add(new(i == 0 ? "host" : "localaddr", ends[i][..colon].Trim('[', ']')));
            pairs.Add(new(i == 0 ? "port" : "localport", ends[i][(colon + 1)..]));
        }
        return Options.Of(owner, [.. pairs.Where(pair => pair.Value.Length > 0), .. given.Rest]);
    }

    /// <summary>What follows the kind: stdio,signal=off.</summary>
    static Options Behind(string text, string owner)
    {
        Options options = Options.Parse(text, owner, "backend");
        options.Text("backend");
        return options;
    }
}
