using Qkvm.Core.Configuration;
using Qkvm.Core.Machine;

namespace Qkvm.Machines.Firmware;

/// <summary>What -smbios says, checked: fields of structures, and whole structures from files.</summary>
public sealed class SmbiosOptions
{
    public const int OnboardDevice = 41;

    const int HeaderLength = 4, LongestFile = ushort.MaxValue;

    // Fields that -smbios type=N takes
    static readonly Dictionary<int, string[]> s_fields = new()
    {
        [0] = ["vendor", "version", "date", "release", "uefi"],
        [1] = ["manufacturer", "product", "version", "serial", "uuid", "sku", "family"],
        [2] = ["manufacturer", "product", "version", "serial", "asset", "location"],
        [3] = ["manufacturer", "version", "serial", "asset", "sku"],
        [4] = ["sock_pfx", "manufacturer", "version", "serial", "asset", "part", "max-speed", "current-speed",
            "processor-id"],
        [8] = ["internal_reference", "external_reference", "connector_type", "port_type"],
        [11] = ["value", "path"],
        [17] = ["loc_pfx", "bank", "manufacturer", "serial", "asset", "part", "speed"],
        [41] = ["designation", "kind", "instance", "pcidev"],
    };

    readonly IReadOnlyList<SmbiosConfig> _options;
    readonly List<(int Type, byte[] Structure)> _files = [];

    /// <exception cref="ConfigurationException">An unknown type or field, a file that cannot be read or holds no
    /// structure, or both a file and fields for one type.</exception>
    public SmbiosOptions(IReadOnlyList<SmbiosConfig> options)
    {
        _options = options;
        foreach (SmbiosConfig option in options)
        {
            if (option.File is { } file) Load(file);
            else Check(option);
        }
    }

    SmbiosOptions(SmbiosConfig one) => _options = [one];

    /// <summary>Structures as they are in files, and the type of each.</summary>
    public IReadOnlyList<(int Type, byte[] Structure)> Files => _files;

    public bool Has(int type) => _options.Any(option => option.Type == type);

    /// <summary>Each -smbios of a type by itself.</summary>
    public IEnumerable<SmbiosOptions> Each(int type) =>
        _options.Where(option => option.Type == type).Select(option => new SmbiosOptions(option));

    /// <summary>Names and values as given.</summary>
    public IEnumerable<OptionPair> Fields => _options.SelectMany(option => option.Fields);

    /// <summary>The last that is given.</summary>
    public string? Text(int type, string name, string? otherwise = null) =>
        _options.Where(option => option.Type == type).SelectMany(option => option.Fields)
            .Where(field => field.Name == name).Select(field => field.Value).LastOrDefault() ?? otherwise;

    /// <exception cref="ConfigurationException">It is no number up to <paramref name="max"/>.</exception>
    public ulong Number(int type, string name, ulong otherwise, ulong max = ushort.MaxValue)
    {
        if (Text(type, name) is not { } text) return otherwise;
        return Properties.TryParseNumber(text, out ulong value) && value <= max ? value
            : throw new ConfigurationException($"-smbios type={type}: {name}={text} is not a number up to {max}");
    }

    static void Check(SmbiosConfig option)
    {
        if (option.Type is not { } type || !s_fields.TryGetValue(type, out string[]? known))
            throw new ConfigurationException($"-smbios type={option.Type}: Don't know how to build fields for SMBIOS "
                + $"type {option.Type}; known are {string.Join(", ", s_fields.Keys.Order())}");
        foreach (OptionPair field in option.Fields)
            if (!known.Contains(field.Name))
                throw new ConfigurationException(
                    $"-smbios type={type}: Invalid parameter '{field.Name}'; known are {string.Join(", ", known)}");
    }

    /// <summary>One structure with its strings. Spec: DSP0134, section 6.1.</summary>
    void Load(string path)
    {
        byte[] bytes;
        try
        {
            if (new FileInfo(path).Length > LongestFile)
                throw Bad($"it is longer than {LongestFile} bytes, more than the tables hold");
            bytes = File.ReadAllBytes(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new ConfigurationException($"-smbios file={path}: Cannot read SMBIOS file: {e.Message}", e);
        }
        if (bytes.Length < HeaderLength || bytes[1] < HeaderLength || bytes[1] > bytes.Length)
            throw Bad("it holds no SMBIOS structure: type, length and handle come first");
        ReadOnlySpan<byte> strings = bytes.AsSpan(bytes[1]);
        if (strings.Length < 2 || strings.IndexOf("\0\0"u8) != strings.Length - 2)
            throw Bad("it holds more or less than one structure: its strings end with two zero bytes");
        int type = bytes[0];
        if (Has(type)) throw Bad($"can't load type {type} struct, fields already specified!");
        _files.Add((type, bytes));

        ConfigurationException Bad(string why) => new($"-smbios file={path}: {why}");
    }
}
