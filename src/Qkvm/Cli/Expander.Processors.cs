using Qkvm.Accel.Kvm;
using Qkvm.Accel.Tcg;
using Qkvm.Core.Machine;

namespace Qkvm.Cli;

/// <summary>Accelerators, the processors' model, and how many there are.</summary>
public sealed partial class Expander
{
    readonly List<AcceleratorConfig> _accelerators = [];
    CpuConfig? _cpu;
    string? _idlesInGuest;                                         // -overcommit cpu-pm=on, as typed
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

    /// <summary>What is missing follows from the rest: cores before sockets before threads; before QEMU 6.2, sockets
    /// first.</summary>
    CpuTopology TakeTopology(string text, string owner, bool prefersSockets)
    {
        const int Most = 4096;                                     // so that products stay small
        Options options = Options.Parse(text, owner, "cpus");
        bool hasZero = false;
        int cpus = Count("cpus"), sockets = Count("sockets"), dies = Count("dies"), cores = Count("cores");
        int threads = Count("threads"), max = Count("maxcpus");
        if (Count("clusters") > 1) throw options.Error("clusters not supported by this machine's CPU topology");
        options.Close();
        if (hasZero)
            _warn($"{owner}: Deprecated CPU topology (considered invalid): CPU topology parameters must be greater "
                + "than zero");
        dies = Math.Max(dies, 1);
        int known = max > 0 ? max : cpus;
        if (known == 0) (sockets, cores, threads) = (Math.Max(sockets, 1), Math.Max(cores, 1), Math.Max(threads, 1));
        else if (sockets == 0 && (prefersSockets || cores > 0))
        {
            (cores, threads) = (Math.Max(cores, 1), Math.Max(threads, 1));
            sockets = (int)(known / ((long)dies * cores * threads));
        }
        else if (cores == 0)
        {
            (sockets, threads) = (Math.Max(sockets, 1), Math.Max(threads, 1));
            cores = (int)(known / ((long)sockets * dies * threads));
        }
        if (threads == 0) threads = (int)(known / ((long)sockets * dies * cores));
        long total = (long)sockets * dies * cores * threads;
        string product = $"sockets ({sockets}) * dies ({dies}) * cores ({cores}) * threads ({threads})";
        if (known > 0 && total != known)
            throw options.Error("Invalid CPU topology: product of the hierarchy must match maxcpus: "
                + $"{product} != maxcpus ({known})");
        if (total < cpus)
            throw options.Error("Invalid CPU topology: maxcpus must be equal to or greater than smp: "
                + $"{product} == maxcpus ({total}) < smp_cpus ({cpus})");
        if (total > Most) throw options.Error($"Invalid SMP CPUs {total}: {Most} are more than any machine has");
        return new CpuTopology(cpus > 0 ? cpus : (int)total, sockets, dies, cores, threads, (int)total);

        int Count(string name)
        {
            int? count = options.Int(name, 0, Most);
            hasZero |= count == 0;
            return count ?? 0;
        }
    }

    void FinishProcessors()
    {
        if (_accelerators.Count == 0) _accelerators.Add(new AcceleratorConfig(TcgAccelerator.Model.Name));
        _config = _config with { Accelerators = [.. _accelerators] };
        // The software CPU has no processor to give away, and so it changes nothing there, as in QEMU.
        if (_idlesInGuest != null && _accelerators.Exists(one => one.Name == KvmAccelerator.Model.Name))
            throw new ConfigurationException($"{_idlesInGuest}: cpu-pm=on is not built yet under KVM; leave it out");
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
