using System.Globalization;
using Qkvm.Core.Accel;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Host;

namespace Qkvm.Accel.Tcg.Model;

/// <summary>What follows the model's name in -cpu: features switched by name, and properties. QEMU's names and
/// meanings; what is not built is refused.</summary>
sealed partial class CpuOptions(string name, CpuModel model, CpuHost host)
{
    CpuModel _model = model;
    readonly uint[] _supported = [.. host.Supported];
    readonly List<string> _missing = [];
    uint[] _words = [];
    bool _checks = host.IsKvm, _enforces, _level, _extendedLevel;
    int? _physicalBits;
    readonly CpuidExtras _extras = new() { Kvm = host.IsKvm };

    /// <summary>Properties that may be given, and whose default is all there is: the value that changes
    /// nothing.</summary>
    static readonly Dictionary<string, bool> s_fixed = new()
    {
        ["full-cpuid-auto-level"] = true, ["fill-mtrr-mask"] = true, ["legacy-cache"] = true, ["host-cache-info"]
        = false, ["lmce"] = false,
        ["x-vendor-cpuid-only"] = true, ["x-migrate-smi-count"] = true, ["start-powered-off"]
        = false, ["x-force-features"] = false,
    };

    /// <summary>Without performance counters and migration to other hosts these mean nothing, whatever their
    /// value.</summary>
    static readonly string[] s_indifferent = ["pmu"];

    bool IsMax => _model.Name == "max";

    /// <summary>What one vCPU shows, or a <see cref="ConfigurationException"/>.</summary>
    public Cpuid Resolve(CpuSetup setup)
    {
        foreach ((string property, bool on) in setup.Features)
            if (property == "kvm") _extras.Kvm = on;               // first: the features of its leaf depend on it
            else if (property == "migratable") TakeMigratable();
        SwitchKvm();
        uint[] wanted = IsMax ? [.. host.Maximum] : CpuFeatures.Parse(_model.Features);
        wanted[(int)CpuidWord.Kvm] = _extras.Kvm
            ? (IsMax && host.IsKvm ? host.Supported : host.Added)[(int)CpuidWord.Kvm] : 0;
        _words = [.. wanted];
        for (int i = 0; i < _words.Length; i++)
        {
            if (!IsMax) _words[i] &= ~host.Removed[i];
            if (!IsMax && host.IsKvm && i != (int)CpuidWord.Kvm) _words[i] |= host.Added[i];
            _words[i] &= _supported[i];
        }
        if (!host.IsKvm && setup.Features.Any(feature => feature is { Key: "svm", Value: true })) AddSvm();
        foreach ((string property, bool on) in setup.Features) Switch(property, on);
        foreach (OptionPair property in setup.Properties) Set(property.Name, property.Value);
        if (_extras.HyperV.Complaint(host.HyperV, host.Name) is { } complaint)
            throw new ConfigurationException($"-cpu {name}: {complaint}");
        var without = CpuFeatures.DropDependent(_words);
        if (_enforces || _checks) AddMissing(wanted);
        if (_enforces && _missing.Count > 0)
            throw new ConfigurationException($"-cpu {name},enforce: {host.Name} lacks {string.Join(", ", _missing)}");
        if (without.Count > 0 && (_enforces || _checks))
            _missing.AddRange(without.Where(feature => !_missing.Contains(feature)));
        return new Cpuid(_model, _words, setup
            with { PhysicalAddressBits = _physicalBits ?? Math.Min(setup.PhysicalAddressBits, host.PhysicalBits) },
            _extras)
        {
            Missing = _missing, IsLevelFixed = _level, IsExtendedLevelFixed = _extendedLevel,
        };
    }

    /// <summary>The features of KVM's leaf exist where the leaf does.</summary>
    void SwitchKvm()
    {
        if (!_extras.Kvm) _supported[(int)CpuidWord.Kvm] = 0;
    }

    /// <summary>The features that come with it, before any is switched off.</summary>
    void AddSvm()
    {
        uint[] features = CpuFeatures.Parse(CpuFeatures.OfSvm);
        for (int i = 0; i < _words.Length; i++) _words[i] |= features[i];
    }

    /// <summary>Changes nothing: max has all of its features either way.</summary>
    void TakeMigratable()
    {
        if (!IsMax) throw Refuse("migratable", "only max and host have it");
    }

    void Switch(string property, bool on)
    {
        switch (property)
        {
            case "kvm" or "migratable": return;
            case "check": _checks = on; return;
            case "enforce": _enforces = on; return;
            case "tcg-cpuid": _extras.ShowsTcg = on; return;
            case "cpuid-0xb": _extras.HasTopology = on; return;
            case "l3-cache": _extras.HasL3Cache = on; return;
            case "vmware-cpuid-freq": _extras.HasFrequencies = on; return;
            case "host-phys-bits":
                if (on) _physicalBits = HostPhysicalBits();
                return;
        }
        if (s_fixed.TryGetValue(property, out bool given))
        {
            if (on != given) throw Refuse(property, "is not built");
            return;
        }
        if (s_indifferent.Contains(property)) return;
        if (IsHyperV(property))
        {
            SwitchHyperV(property, on);
            return;
        }
        if (!CpuFeatures.TryFind(property, out CpuidWord word, out int bit))
        {
            // Of words that no model here ever shows.
            if (!property.StartsWith("vmx-", StringComparison.Ordinal) && !CpuFeatures.IsOfAbsentWord(property))
                throw new ConfigurationException($"-cpu {name}: there is no feature " +
                    $"'{property}'{CpuModels.Suggest(property, CpuFeatures.All())}; -cpu help lists them");
            if (on) _missing.Add(property);
            return;
        }
        uint mask = 1u << bit;
        if (!on) _words[(int)word] &= ~mask;
        else if ((_supported[(int)word] & mask) != 0) _words[(int)word] |= mask;
        else _missing.Add(property);
    }

    void Set(string property, string value)
    {
        const int vendorLength = 12, mostFamily = 0xFF + 0xF, mostModel = 0xFF, mostStepping = 0xF;
        switch (property)
        {
            case "vendor":
                if (value.Length != vendorLength) throw Refuse($"vendor={value}", "expects 12 characters");
                _model = _model with { Vendor = value };
                break;
            case "model-id": _model = _model with { Text = value.Length <= 48 ? value : value[..48] }; break;
            case "family": _model = _model with { Family = (int)Number(property, value, 0, mostFamily) }; break;
            case "model": _model = _model with { Model = (int)Number(property, value, 0, mostModel) }; break;
            case "stepping": _model = _model with { Stepping = (int)Number(property, value, 0, mostStepping) }; break;
            case "level": (_model, _level) =
                (_model with { Level = (uint)Number(property, value, 0, uint.MaxValue) }, true); break;
            case "xlevel": (_model, _extendedLevel) =
                (_model with { ExtendedLevel = (uint)Number(property, value, 0, uint.MaxValue) }, true); break;
            case "min-level": _model = _model
                with { Level = Math.Max(_model.Level, (uint)Number(property, value, 0, uint.MaxValue)) }; break;
            case "min-xlevel": _model = _model
                with { ExtendedLevel =
                Math.Max(_model.ExtendedLevel, (uint)Number(property, value, 0, uint.MaxValue)) }; break;
            case "phys-bits":
                ulong bits = Number(property, value, 0, 52);
                if (bits is > 0 and < 32) throw Refuse($"phys-bits={value}", "expects 32 to 52, or 0 for the default");
                if (bits != 0) _physicalBits = (int)bits;
                break;
            case "host-phys-bits-limit":
                ulong limit = Number(property, value, 0, 52);
                if (limit != 0 && _physicalBits > (int)limit) _physicalBits = (int)limit;
                break;
            case "tsc-frequency" or "tsc-freq": _extras.TscHertz = Frequency(property, value); break;
            default:
                if (IsHyperV(property) && TrySetHyperV(property.Replace('_', '-'), value)) break;
                throw new ConfigurationException(CpuFeatures.TryFind(property, out _, out _)
                    || property is "check" or "enforce" or "kvm"
                    ? $"-cpu {name}: {property}={value}: expects on or off"
                    : $"-cpu {name}: there is no property '{property}'");
        }
    }

    /// <summary>What the model has and the software CPU lacks, for check and enforce.</summary>
    void AddMissing(uint[] wanted)
    {
        for (int i = 0; i < wanted.Length; i++)
            for (int bit = 0; bit < 32; bit++)
                if (((wanted[i] & ~_supported[i] & ~host.Removed[i]) >> bit & 1) != 0
                    && CpuFeatures.NameOf((CpuidWord)i, bit) is { Length: > 0 } feature && !_missing.Contains(feature))
                    _missing.Add(feature);
    }

    ulong Number(string property, string value, ulong least, ulong most)
    {
        bool isHex = value.StartsWith("0x", StringComparison.OrdinalIgnoreCase);
        bool isNumber = isHex
            ? ulong.TryParse(value.AsSpan(2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture,
            out ulong number)
            : ulong.TryParse(value, NumberStyles.None, CultureInfo.InvariantCulture, out number);
        return isNumber && number >= least && number <= most ? number
            : throw Refuse($"{property}={value}", $"expects a number from {least} to {most}");
    }

    /// <summary>Hertz; K, M and G are powers of 1000.</summary>
    ulong Frequency(string property, string value)
    {
        const ulong least = 1_000_000, most = 100_000_000_000;
        ulong unit = value.Length == 0 ? 1
            : char.ToUpperInvariant(value[^1])
            switch { 'K' => 1_000ul, 'M' => 1_000_000ul, 'G' => 1_000_000_000ul, _ => 1ul };
        string digits = unit == 1 ? value : value[..^1];
        if (!decimal.TryParse(digits, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out decimal number)
            || number > most)
            throw Refuse($"{property}={value}", "expects hertz, as 2500000000 or 2.5G");
        decimal hertz = number * unit;
        if (hertz == 0) return CpuidExtras.DefaultTscHertz;
        return hertz is >= least and <= most ? (ulong)hertz
            : throw Refuse($"{property}={value}", "expects 1 MHz to 100 GHz");
    }

    static int HostPhysicalBits() => Math.Clamp(HostFeatures.PhysicalBits, 32, 52);

    ConfigurationException Refuse(string what, string why) => new($"-cpu {name}: {what}: {why}");
}

/// <summary>What -cpu says beyond model and features.</summary>
public sealed class CpuidExtras
{
    public const ulong DefaultTscHertz = 1_000_000_000;

    /// <summary>The hypervisor's leaves are KVM's, with its paravirtual devices.</summary>
    public bool Kvm { get; set; }

    /// <summary>Otherwise they say TCG, or nothing.</summary>
    public bool ShowsTcg { get; set; } = true;
    public bool HasTopology { get; set; } = true;
    public bool HasL3Cache { get; set; } = true;

    public HyperV HyperV { get; } = new();

    /// <summary>Leaf 40000010h says the frequencies of TSC and local APIC where the leaves are KVM's.</summary>
    public bool HasFrequencies { get; set; } = true;
    public ulong TscHertz { get; set; } = DefaultTscHertz;
}
