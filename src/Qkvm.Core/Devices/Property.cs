namespace Qkvm.Core.Devices;

public enum PropertyKind { Number, Size, Bool, OnOffAuto, Text, Enum, Drive, Chardev, Netdev, Mac, PciAddress, Bus }

/// <summary>One option of a device as users type it: <c>name=value</c>, with QEMU's name and default.</summary>
public sealed record Property(string Name, PropertyKind Kind, string? Default = null, string Help = "",
    string[]? Values = null, ulong Min = 0, ulong Max = ulong.MaxValue)
{
    public static Property Number(string name, ulong value, ulong min = 0, ulong max = ulong.MaxValue, string help = "") =>
        new(name, PropertyKind.Number, value.ToString(), help, Min: min, Max: max);
    public static Property Size(string name, ulong value, string help = "") => new(name, PropertyKind.Size, value.ToString(), help);
    public static Property Bool(string name, bool value, string help = "") => new(name, PropertyKind.Bool, value ? "on" : "off", help);
    public static Property OnOffAuto(string name, string help = "") => new(name, PropertyKind.OnOffAuto, "auto", help);
    public static Property Text(string name, string? value = null, string help = "") => new(name, PropertyKind.Text, value, help);
    public static Property Enum(string name, string value, string[] values, string help = "") => new(name, PropertyKind.Enum, value, help, values);
    public static Property Drive(string name = "drive", string help = "block backend or node") => new(name, PropertyKind.Drive, null, help);
    public static Property Chardev(string name = "chardev", string help = "character backend") => new(name, PropertyKind.Chardev, null, help);
    public static Property Netdev(string name = "netdev", string help = "network backend") => new(name, PropertyKind.Netdev, null, help);
    public static Property Mac(string name = "mac", string help = "Ethernet address") => new(name, PropertyKind.Mac, null, help);
}

/// <summary>A device's property values, checked against its model: every declared property answers.</summary>
public sealed class Properties(string owner, IReadOnlyDictionary<string, string?> values)
{
    /// <summary>Whose these are, for messages: <c>-device virtio-net-pci,id=net0</c>.</summary>
    public string Owner { get; } = owner;

    /// <summary>The value as text, or null where neither user nor model gives one.</summary>
    public string? Text(string name) => values.TryGetValue(name, out string? value) ? value
        : throw new InvalidOperationException($"{Owner}: the model declares no property '{name}'");

    public bool Has(string name) => values.TryGetValue(name, out string? value) && value != null;

    /// <summary>Decimal, 0x hexadecimal or 0 octal.</summary>
    public ulong Number(string name) => TryParseNumber(Text(name), out ulong value) ? value
        : throw new ConfigurationException($"{Owner}: {name}: '{Text(name)}' is not a number");

    public ulong Size(string name) => Number(name);                // the grammar has resolved suffixes

    public bool Bool(string name) => Text(name) is "on" or "yes" or "true" or "y";

    /// <summary>Null for auto.</summary>
    public bool? OnOffAuto(string name) => Text(name) is null or "auto" ? null : Bool(name);

    public static bool TryParseNumber(string? text, out ulong value)
    {
        value = 0;
        if (string.IsNullOrEmpty(text)) return false;
        if (text.StartsWith("0x", StringComparison.OrdinalIgnoreCase))
            return ulong.TryParse(text.AsSpan(2), System.Globalization.NumberStyles.AllowHexSpecifier, null, out value);
        return ulong.TryParse(text, System.Globalization.NumberStyles.None, null, out value);
    }
}

/// <summary>The user asked for something impossible: names the option, what was wrong and what would be right.
/// The program prints the message on stderr and exits with 1.</summary>
public sealed class ConfigurationException(string message, Exception? inner = null) : Exception(message, inner);
