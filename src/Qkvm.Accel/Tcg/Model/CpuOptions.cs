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
    /// <remarks>Under KVM each has this machine's maker, as with QEMU: instructions that makers have differently
    /// (SYSENTER, SYSCALL) work as the processor does, whatever CPUID says.</remarks>
    CpuModel _model = host.IsKvm ? model with { Vendor = host.Max.Vendor } : model;
    readonly uint[] _supported = [.. host.Supported];
    readonly List<string> _missing = [];
    uint[] _words = [];
    bool _checks = host.IsKvm, _enforces, _level, _extendedLevel;
    int? _physicalBits;
    readonly CpuidExtras _extras = new() { Kvm = host.IsKvm };

    /// <summary>What concerns migration alone, or parts that are not there whatever the value: nothing
    /// changes.</summary>
    static readonly string[] s_indifferent =
        ["pmu", "fill-mtrr-mask", "x-migrate-smi-count", "kvm-no-smi-migration", "x-intel-pt-auto-level",
        "x-hv-synic-kvm-only"];

    /// <summary>Properties whose default is all there is, and why.</summary>
    static readonly Dictionary<string, string> s_refused = new()
    {
        ["lmce"] = "machine checks are told to all processors; leave it off",
        ["x-force-features"] = "would show features that are not there; leave it off",
        ["start-powered-off"] = "x86 processors start by INIT and SIPI; leave it off",
    };

    /// <summary>QEMU's properties of one processor, not of all.</summary>
    const string PlaceProperties = " apic-id socket-id die-id core-id thread-id node-id ";

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
            _missing.AddRange(without.Where(feature => !_missing.Contains(feature) && IsAsked(feature)));
        return new Cpuid(_model, _words, setup
            with { PhysicalAddressBits = _physicalBits ?? Math.Min(setup.PhysicalAddressBits, host.PhysicalBits) },
            _extras)
        {
            Missing = _missing, IsLevelFixed = _level, IsExtendedLevelFixed = _extendedLevel,
        };

        // And not added to every model.
        bool IsAsked(string feature) => CpuFeatures.TryFind(feature, out CpuidWord word, out int bit)
            && (wanted[(int)word] >> bit & 1) != 0 || setup.Features.Any(f => f.Value && f.Key == feature);
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
            case "kvm-pv-enforce-cpuid":
                if (on && host.IsKvm) throw Refuse(property, "the kernel is not told so here; leave it off");
                return;                                            // what CPUID does not show is never there
            case "legacy-cache": TakeLegacyCaches(on); return;
            case "host-cache-info" when IsMax: _extras.HasHostCaches = on; return;
            case "host-cache-info": throw Refuse(property, "only max and host have it");
            case "x-vendor-cpuid-only": _extras.IsVendorOnly = on; return;
            case "full-cpuid-auto-level":
                if (!on) _level = _extendedLevel = true;
                return;
            case "l3-cache": _extras.HasL3Cache = on; return;
            case "vmware-cpuid-freq": _extras.HasFrequencies = on; return;
            case "host-phys-bits":
                if (on) _physicalBits = HostPhysicalBits();
                return;
        }
        if (s_refused.TryGetValue(property, out string? reason))
        {
            if (on) throw Refuse(property, reason);
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
            if (!CpuFeatures.IsOfAbsentWord(property))
                throw Unknown("feature", property);
            if (on) _missing.Add(property);
            return;
        }
        uint mask = 1u << bit;
        if (!on) _words[(int)word] &= ~mask;
        else if ((_supported[(int)word] & mask) != 0) _words[(int)word] |= mask;
        else _missing.Add(property);
    }

    void TakeLegacyCaches(bool on)
    {
        if (!on && CpuCaches.Of(_model.Name) == null)
            throw Refuse("legacy-cache=off", "this model has no caches of its own; EPYC and Dhyana have");
        _extras.HasLegacyCaches = on;
    }

    ConfigurationException Unknown(string kind, string property)
    {
        string near = CpuModels.Suggest(property, [.. CpuFeatures.AllAndAbsent(), .. s_valued]);
        return new($"-cpu {name}: there is no {kind} '{property}'{near}; -cpu help lists features");
    }

    /// <summary>Properties with values, and those that are no features.</summary>
    static readonly string[] s_valued =
        [.. ("vendor model-id family model stepping level xlevel min-level min-xlevel level-func7 phys-bits "
        + "host-phys-bits-limit tsc-frequency ucode-rev host-phys-bits check enforce migratable kvm l3-cache "
        + "legacy-cache host-cache-info cpuid-0xb tcg-cpuid vmware-cpuid-freq full-cpuid-auto-level "
        + "hv-spinlocks hv-vendor-id").Split(' ')];

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
            case "level-func7": _extras.SevenLimit = (uint)Number(property, value, 0, uint.MaxValue); break;
            case "ucode-rev": TakeMicrocode(value); break;
            case "xlevel2" or "min-xlevel2" or "lbr-fmt" or "lbr_fmt":
                if (Number(property, value, 0, ulong.MaxValue) != 0)
                    throw Refuse($"{property}={value}", property[0] == 'l' ? "there are no records of branches; leave "
                        + "it 0" : "there are no leaves of Centaur's; leave it 0");
                break;
            case "x-hv-max-vps" when value == "-1": break;
            case "phys-bits":
                ulong bits = Number(property, value, 0, 52);
                if (bits != 0 && !CanAddressLong) throw Refuse($"phys-bits={value}", "is not for 32-bit processors");
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
                if (PlaceProperties.Contains($" {property} ", StringComparison.Ordinal))
                    throw Refuse(property, "is one processor's, and -cpu says what all are; -smp and -numa place them");
                throw IsSwitch(property) ? Refuse($"{property}={value}", "expects on or off")
                    : Unknown("property", property);
        }
    }

    static bool IsSwitch(string property) => CpuFeatures.TryFind(property, out _, out _)
        || CpuFeatures.IsOfAbsentWord(property) || s_refused.ContainsKey(property) || s_indifferent.Contains(property)
        || s_valued.Contains(property);

    bool CanAddressLong => CpuFeatures.TryFind("lm", out CpuidWord word, out int bit)
        && (_words[(int)word] >> bit & 1) != 0;

    /// <summary>IA32_BIOS_SIGN_ID; 0: as the model has it.</summary>
    void TakeMicrocode(string value)
    {
        ulong revision = Number("ucode-rev", value, 0, ulong.MaxValue);
        if (revision != 0 && host.IsKvm) throw Refuse($"ucode-rev={value}", "the kernel shows this machine's");
        if (revision != 0) _extras.MicrocodeRevision = revision;
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

    /// <summary>Not the model's own; this machine's; leaves 2 and 4 not on AMD's.</summary>
    public bool HasLegacyCaches { get; set; }
    public bool HasHostCaches { get; set; }
    public bool IsVendorOnly { get; set; } = true;

    /// <summary>Of leaf 7; null: that of its features.</summary>
    public uint? SevenLimit { get; set; }

    /// <summary>Null: as the model's maker has it.</summary>
    public ulong? MicrocodeRevision { get; set; }

    public HyperV HyperV { get; } = new();

    /// <summary>Leaf 40000010h says the frequencies of TSC and local APIC where the leaves are KVM's.</summary>
    public bool HasFrequencies { get; set; } = true;
    public ulong TscHertz { get; set; } = DefaultTscHertz;
}
