using Qkvm.Accel.Tcg;
using Qkvm.Core.Machine;

namespace Qkvm.Cli;

/// <summary>Accelerators, the processors' model, and how many there are.</summary>
public sealed partial class Expander
{
    readonly List<AcceleratorConfig> _accelerators = [];
    CpuConfig? _cpu;
    (string Text, string Owner)? _topology;                        // read last: what it leaves open is the machine's

    /// <summary>Of several, those that nobody knows are passed over: programs name what newer versions have.</summary>
    void AddAccelerators(string[] names, string owner)
    {
        foreach (string name in names)
            if (names.Length == 1 || Catalogue.Accelerators.Known(name) != null)
                AddAccelerator(name, new Options(owner));
            else _warn($"{owner}: there is no accelerator '{name}'; the others are tried");
        if (_accelerators.Count == 0) AddAccelerator(names[0], new Options(owner));
    }

    void TakeAccelerator(string text, string owner)
    {
        Options options = Options.Parse(text, owner, "accel");
        AddAccelerator(options.Text("accel") ?? "", options);
    }

    void AddAccelerator(string name, Options options) =>
        _accelerators.Add(new AcceleratorConfig(Catalogue.Accelerators.Known(name, options.Owner).Name, options));

    static CpuConfig TakeCpu(string text, string owner)
    {
        string[] parts = text.Split(',');
        var features = new List<KeyValuePair<string, bool>>();
        var properties = new List<OptionPair>();
        foreach (string part in parts.Skip(1))
        {
            int equals = part.IndexOf('=');
            if (part.Length == 0) continue;
            if (part[0] is '+' or '-') features.Add(new(part[1..], part[0] == '+'));
            else if (equals < 0) features.Add(new(part, true));
            else if (part[(equals + 1)..] is "on" or "off" or "yes" or "no" or "true" or "false")
                features.Add(new(part[..equals], part[(equals + 1)..] is "on" or "yes" or "true"));
            else properties.Add(new OptionPair(part[..equals], part[(equals + 1)..]));
        }
        if (parts[0].Length == 0) throw new ConfigurationException($"{owner}: names no model; '-cpu help' lists them");
        return new CpuConfig(parts[0]) { Features = features, Properties = properties };
    }

    static CpuTopology TakeTopology(string text, string owner, bool prefersSockets)
    {
        const int Most = 512;
        Options options = Options.Parse(text, owner, "cpus");
        int? cpus = options.Int("cpus", 1, Most), sockets = options.Int("sockets", 1, Most),
            dies = options.Int("dies", 1, Most);
        int? cores = options.Int("cores", 1, Most), threads = options.Int("threads", 1, Most),
            max = options.Int("maxcpus", 1, Most);
        options.Int("clusters", 1, 1);
        options.Close();
        long product = (long)(sockets ?? 1) * (dies ?? 1) * (cores ?? 1) * (threads ?? 1);
        if (product > int.MaxValue)
            throw new ConfigurationException($"{owner}: {product} CPUs; at most {Most} are possible");
        // What is missing follows from the rest, cores before sockets before threads; before QEMU 6.2, sockets first.
        int d = dies ?? 1, t = threads ?? 1;
        int known = max ?? cpus ?? (sockets ?? 1) * d * (cores ?? 1) * t;
        int c = cores ?? Math.Max(1, known / ((sockets ?? 1) * d * t));
        int left = Math.Max(1, known / (d * t));
        if (cores == null && sockets == null) (c, sockets) = prefersSockets ? (1, left) : (left, 1);
        int s = sockets ?? Math.Max(1, known / (d * c * t));
        if (threads == null && cores != null && sockets != null) t = Math.Max(1, known / (s * d * c));
        int n = cpus ?? known, total = s * d * c * t;
        if (total != (max ?? n)
            && (max != null || total < n || cpus == null || sockets != null || cores != null || threads != null)
            && total != Math.Max(n, max ?? n))
            throw new ConfigurationException($"{owner}: product of sockets ({s}) * dies ({d}) * cores ({c}) * " +
                $"threads ({t}) is {total}, not {Math.Max(n, max ?? n)} CPUs");
        if (n > (max ?? n)) throw new ConfigurationException($"{owner}: cpus={n} is more than maxcpus={max}");
        return new CpuTopology(n, s, d, c, t, max ?? total);
    }

    void FinishProcessors()
    {
        if (_accelerators.Count == 0) _accelerators.Add(new AcceleratorConfig(TcgAccelerator.Model.Name));
        _config = _config with { Accelerators = [.. _accelerators] };
        if (_topology is { } topology) _config = _config with { Topology = TakeTopology(topology.Text, topology.Owner,
            _machine?.Defaults.PrefersSockets ?? false) };
        if (_machine is { } machine && _config.Topology.MaxCpus > machine.Defaults.MaxCpus)
            throw new ConfigurationException($"{_topology?.Owner}: Invalid SMP CPUs {_config.Topology.MaxCpus}. The "
                + $"max CPUs supported by machine '{machine.Name}' is {machine.Defaults.MaxCpus}");
        if (_cpu == null && _program.Contains("i386", StringComparison.Ordinal)) _config = _config
            with { Cpu = new CpuConfig("qemu32") };
        if (_cpu == null && _machine?.Defaults.Cpu is { } own) _config = _config with { Cpu = new CpuConfig(own) };
    }
}
