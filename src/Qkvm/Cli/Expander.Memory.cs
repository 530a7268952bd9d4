using Qkvm.Backends.Objects;
using Qkvm.Core.Machine;

namespace Qkvm.Cli;

/// <summary>How much memory there is, and where.</summary>
public sealed partial class Expander
{
    ulong? _memory;                                                // bytes, where -m gives them
    string? _memoryPath;
    readonly List<(string Text, string Owner)> _numa = [];         // read last: it is about what there is

    void TakeMemory(string text, string owner)
    {
        const ulong Megabyte = 1 << 20;
        const int MostSlots = 256;
        Options options = Options.Parse(text, owner, "size");
        ulong size = (ulong?)options.Size("size", Megabyte) is { } given and not 0 ? given : 128 * Megabyte;
        ulong max = (ulong?)options.Size("maxmem") ?? 0;
        int slots = options.Int("slots", 0, int.MaxValue) ?? 0;
        options.Close();
        if (size < Megabyte)
            throw new ConfigurationException($"{owner}: {size} bytes of memory are too little; write for example -m " +
                "512M");
        if (slots > 0 && max == 0) throw new ConfigurationException($"{owner}: slots specified but no max-size; give "
            + "maxmem=, all that there may be");
        if (max != 0 && max < size)
            throw new ConfigurationException($"{owner}: invalid value of maxmem: maximum memory size (0x{max:x}) must "
                + $"be at least the initial memory size (0x{size:x})");
        if (slots > 0 && max == size)
            throw new ConfigurationException($"{owner}: invalid value of maxmem: memory slots were specified but "
                + $"maximum memory size (0x{max:x}) is equal to the initial memory size (0x{size:x})");
        if (slots > MostSlots)
            throw new ConfigurationException($"{owner}: unsupported amount of memory slots: {slots}; {MostSlots} are "
                + "possible");
        if (max % 4096 != 0)
            throw new ConfigurationException($"{owner}: maximum memory size must by aligned to multiple of 4096 bytes");
        _memory = (size + 8191) / 8192 * 8192;
        _config = _config with { Memory = _config.Memory with { Size = _memory.Value, MaxSize = max, Slots = slots } };
    }

    void FinishMemory()
    {
        if (_memory == null && _machineOptions.Text("memory-backend") is { } id
            && _config.Objects.FirstOrDefault(o => o.Id == id)?.Options.Size("size") is { } size)
            _config = _config with { Memory = _config.Memory with { Size = (ulong)size } };
        FinishNuma();
        if (_memoryPath is not { } path) return;
        if (_config.Numa.Nodes.Any(node => node.Backend != null))
            _warn($"-mem-path {path}: no effect, as NUMA nodes have memory of their own");
        else AddMemoryFile(path);
    }

    void FinishNuma()
    {
        if (_machine is not { Defaults.HasDevices: true } machine)
        {
            if (_numa is [var first, ..])
                throw new ConfigurationException($"{first.Owner}: NUMA is not supported by this machine-type");
            return;
        }
        var numa = new NumaOptions(_config, machine.Defaults.TakesNumaSizes,
            SaidToMachine("hmat") is { } hmat && Options.ParseBool(hmat) == true, _warn);
        foreach ((string text, string owner) in _numa) numa.Take(text, owner);
        _config = _config with { Numa = numa.Finish() };
        if (SaidToMachine("memory-backend") is { } other && _config.Numa.Nodes.Any(node => node.Backend != null))
            throw new ConfigurationException($"-numa node,memdev=: cannot be used together with -machine "
                + $"memory-backend={other}; leave one of them out");
    }

    /// <summary>Of -machine; the machine takes it.</summary>
    string? SaidToMachine(string name) =>
        _machineOptions.All.Where(pair => pair.Name == name).Select(pair => pair.Value).LastOrDefault();

    /// <summary>-mem-path is short for an object of the size that -m gives.</summary>
    void AddMemoryFile(string path)
    {
        const string Id = "pc.ram";
        string owner = $"-mem-path {path}";
        if (_machineOptions.Text("memory-backend") is { } other)
            throw new ConfigurationException($"{owner}: cannot be used together with -machine memory-backend={other}; "
                + "leave one of them out");
        _config = _config with { Objects = [.. _config.Objects, new ObjectConfig(MemoryBackendFile.Model.Name, Id,
            Options.Of(owner, [new("size", $"{_config.Memory.Size}"), new("mem-path", path)]))] };
        _machineOptions = Options.Of(_machineOptions.Owner, [.. _machineOptions.Rest, new("memory-backend", Id)]);
    }
}
