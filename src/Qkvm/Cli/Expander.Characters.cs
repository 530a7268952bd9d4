using Qkvm.Core.Devices;
using Qkvm.Core.Machine;

namespace Qkvm.Cli;

public sealed partial class Expander
{
    enum MonitorKind { Human, Control, PrettyControl }

    readonly List<(string Text, string Owner)> _serials = [], _parallels = [];
    readonly List<(string Text, MonitorKind Kind, string Owner)> _monitors = [];
    readonly List<ChardevConfig> _chardevs = [];
    readonly List<MonitorConfig> _monitorConfigs = [];
    bool _serialByDevice;

    static readonly string[] ChardevBackends = ["null", "stdio", "file", "pty", "socket", "vc", "mux", "ringbuf", "pipe", "serial", "tty", "udp", "parallel", "parport", "msmouse", "braille", "testdev"];

    void AddChardev(string text, string owner)
    {
        var list = new KeyValueList(text, owner, "backend");
        string backend = list.Take("backend") ?? "";
        if (Array.IndexOf(ChardevBackends, backend) < 0)
            throw new ConfigurationException($"{owner}: '{backend}' is not a valid char driver name{Suggestion.For(backend, ChardevBackends)}");
        string id = list.Take("id") ?? throw new ConfigurationException($"{owner}: needs id=");
        CheckId(id, owner);
        bool mux = list.TakeBool("mux") ?? false;
        AddChardev(new ChardevConfig(id, backend, list.Rest, owner) { Mux = mux });
    }

    void AddChardev(ChardevConfig chardev)
    {
        if (_chardevs.Exists(c => c.Id == chardev.Id)) throw new ConfigurationException($"{chardev.Owner}: duplicate id '{chardev.Id}' for chardev");
        _chardevs.Add(chardev);
    }

    void AddMonitor(string text, string owner)
    {
        var list = new KeyValueList(text, owner, "chardev");
        string chardev = list.Take("chardev") ?? throw new ConfigurationException($"{owner}: needs chardev=");
        list.Take("id");
        string mode = list.Take("mode") ?? "readline";
        if (mode is not ("readline" or "control")) throw new ConfigurationException($"{owner}: mode={mode}: expects readline or control");
        bool pretty = list.TakeBool("pretty") ?? false;
        list.Close("default");
        _monitorConfigs.Add(new MonitorConfig(chardev, mode == "control", pretty));
    }

    void FinishCharacters()
    {
        // Defaults as QEMU has them: serial and monitor share the terminal under -nographic, otherwise they are virtual consoles.
        bool onTerminal = _noGraphic && !_noDefaults;
        if (_serials.Count == 0 && !_noDefaults && !_serialByDevice)
            _serials.Add((onTerminal ? _monitors.Count == 0 ? "mon:stdio" : "stdio" : "vc:80Cx24C", "default serial port"));
        if (_parallels.Count == 0 && !_noDefaults) _parallels.Add((onTerminal ? "null" : "vc:80Cx24C", "default parallel port"));
        if (_monitors.Count == 0 && _monitorConfigs.Count == 0 && !_noDefaults && !onTerminal) _monitors.Add(("vc:80Cx24C", MonitorKind.Human, "default monitor"));

        var serials = _serials.Select((s, i) => s.Text == "none" ? null : CharacterOf(s.Text, $"serial{i}", s.Owner)).ToArray();
        var parallels = _parallels.Select((p, i) => p.Text == "none" ? null : CharacterOf(p.Text, $"parallel{i}", p.Owner)).ToArray();
        for (int i = 0; i < _monitors.Count; i++)
            if (_monitors[i].Text != "none")
                _monitorConfigs.Add(new MonitorConfig(CharacterOf(_monitors[i].Text, $"compat_monitor{i}", _monitors[i].Owner),
                    _monitors[i].Kind != MonitorKind.Human, _monitors[i].Kind == MonitorKind.PrettyControl));
        _config = _config with { Serials = serials, Parallels = parallels, Chardevs = [.. _chardevs], Monitors = [.. _monitorConfigs] };
    }

    /// <summary>The chardev that a "dev" of -serial or -monitor stands for; its id.</summary>
    string CharacterOf(string text, string id, string owner)
    {
        if (text.StartsWith("chardev:", StringComparison.Ordinal)) return text["chardev:".Length..];
        bool monitor = text.StartsWith("mon:", StringComparison.Ordinal);
        if (monitor) text = text["mon:".Length..];
        (string backend, IReadOnlyList<OptionPair> options) = CharacterOptions(text, owner);
        AddChardev(new ChardevConfig(id, backend, options, owner) { Mux = monitor });
        if (monitor) _monitorConfigs.Add(new MonitorConfig(id, false));
        return id;
    }

    static (string Backend, IReadOnlyList<OptionPair> Options) CharacterOptions(string text, string owner)
    {
        int colon = text.IndexOf(':');
        string kind = colon < 0 ? text.Split(',')[0] : text[..colon], rest = colon < 0 ? "" : text[(colon + 1)..];
        switch (kind)
        {
            case "null" or "stdio" or "pty": return (kind, new KeyValueList(text, owner, "backend").Pairs.Skip(1).ToArray());
            case "vc": return ("vc", []);
            case "file": return ("file", new KeyValueList(rest, owner, "path").Pairs);
            case "pipe": return ("pipe", [new("path", rest)]);
            case "unix": return ("socket", new KeyValueList(rest, owner, "path").Pairs);
            case "tcp" or "telnet" or "websocket":
                var list = new KeyValueList(rest, owner, "address");
                string address = list.Take("address") ?? "";
                int last = address.LastIndexOf(':');
                if (last < 0) throw new ConfigurationException($"{owner}: expects {kind}:host:port, for example {kind}::3333,server=on,wait=off");
                List<OptionPair> options = [new("host", address[..last].Trim('[', ']')), new("port", address[(last + 1)..])];
                options.AddRange(list.Pairs.Where(p => p.Name != "address"));
                if (kind != "tcp") options.Add(new(kind, "on"));
                return ("socket", options);
            case "udp": return ("udp", [new("address", rest)]);
            default:
                if (text.StartsWith("/dev/", StringComparison.Ordinal)) return ("serial", [new("path", text)]);
                throw new ConfigurationException($"{owner}: '{text}' is no character device"
                    + Suggestion.For(kind, ["stdio", "null", "none", "pty", "file", "unix", "tcp", "telnet", "mon", "chardev", "vc"]));
        }
    }

}
