namespace Qkvm.Core.Configuration;

public enum PropertyKind { Number, Size, Bool, OnOffAuto, Text, Enum, Drive, Chardev, Netdev, Tpmdev, Audiodev, Object,
    Mac, PciAddress, Bus, Node, Tree, Texts }

/// <summary>One option of a device, a backend, a machine … as users type it: <c>name=value</c>, with QEMU's name and
/// default.</summary>
/// <param name="Default">As typed; null where there is none.</param>
/// <param name="Min">Of a number or a size.</param>
/// <param name="IsAutomatic">"auto" (or QEMU's -1) leaves the number to the model, which then sees null.</param>
public sealed record Property(string Name, PropertyKind Kind, string? Default = null, string Help = "",
    string[]? Values = null, ulong Min = 0, ulong Max = ulong.MaxValue, bool IsAutomatic = false)
{
    public const string Auto = "auto";

    public static Property Number(string name, ulong value, ulong min = 0, ulong max = ulong.MaxValue,
        string help = "") =>
        new(name, PropertyKind.Number, value.ToString(), help, Min: min, Max: max);

    /// <summary>A number that is the model's to choose unless the user gives one.</summary>
    public static Property Automatic(string name, ulong min = 0, ulong max = ulong.MaxValue, string help = "") =>
        new(name, PropertyKind.Number, Auto, help, Min: min, Max: max, IsAutomatic: true);

    /// <summary>Bytes, with or without a suffix.</summary>
    public static Property Size(string name, ulong? value = null, string help = "") =>
        new(name, PropertyKind.Size, value?.ToString(), help);
    public static Property Bool(string name, bool value, string help = "") =>
        new(name, PropertyKind.Bool, value ? "on" : "off", help);
    public static Property OnOffAuto(string name, string help = "") => new(name, PropertyKind.OnOffAuto, Auto, help);
    public static Property Text(string name, string? value = null, string help = "") =>
        new(name, PropertyKind.Text, value, help);
    public static Property Enum(string name, string? value, string[] values, string help = "") =>
        new(name, PropertyKind.Enum, value, help, values);
    public static Property Drive(string name = "drive", string help = "block backend or node") =>
        new(name, PropertyKind.Drive, null, help);
    public static Property Chardev(string name = "chardev", string help = "character backend") =>
        new(name, PropertyKind.Chardev, null, help);
    public static Property Netdev(string name = "netdev", string help = "network backend") =>
        new(name, PropertyKind.Netdev, null, help);
    public static Property Tpmdev(string name = "tpmdev", string help = "TPM backend") =>
        new(name, PropertyKind.Tpmdev, null, help);
    public static Property Audiodev(string name = "audiodev", string help = "audio backend") =>
        new(name, PropertyKind.Audiodev, null, help);
    public static Property Object(string name, string help) => new(name, PropertyKind.Object, null, help);
    public static Property Mac(string name = "mac", string help = "Ethernet address") =>
        new(name, PropertyKind.Mac, null, help);

    /// <summary>A block node: its name, or its own options below this one.</summary>
    public static Property Node(string name, string help = "") => new(name, PropertyKind.Node, null, help);

    /// <summary>Values below this name alone: <c>cache.direct=on</c>.</summary>
    public static Property Tree(string name, string help = "") => new(name, PropertyKind.Tree, null, help);

    /// <summary>A text that may be given several times, or as a list; see <see cref="Properties.Texts"/>.</summary>
    public static Property Texts(string name, string help = "") => new(name, PropertyKind.Texts, null, help);

    /// <summary>What QEMU has and we have not: only the value that means "without" is taken.</summary>
    public static Property Missing(string name, string? accepted = null, string remedy = "leave it out") =>
        new(name, PropertyKind.Text, accepted, "not built yet") { Remedy = remedy };

    /// <summary>What to do without it, of a <see cref="Missing"/> one.</summary>
    public string? Remedy { get; private init; }

    /// <summary>The value as it is kept: numbers in decimal digits or "auto", on or off.</summary>
    /// <exception cref="ConfigurationException">It is not of the property's kind, or outside its range.</exception>
    public string Checked(string text, string owner)
    {
        bool isWithout = text == Default || (Default != null && Options.ParseBool(text) == (Options.ParseBool(Default)
            ?? false));
        if (Remedy != null && !isWithout)
            throw new ConfigurationException($"{owner}: {Name}={text} is not built yet; {Remedy}");
        switch (Kind)
        {
            case PropertyKind.Number when IsAutomatic && text is Auto or "-1": return Auto;
            case PropertyKind.Number:
                if (!Properties.TryParseNumber(text, out ulong number))
                    throw new ConfigurationException($"{owner}: Parameter '{Name}' expects a "
                        + $"number{(IsAutomatic ? " or auto" : "")}, not '{text}'");
                return InRange(number, text, owner);
            case PropertyKind.Size:
                if (!Sizes.TryParse(text, 1, out ulong size))
                    throw new ConfigurationException($"{owner}: Parameter '{Name}' expects a size such as 512, 64k "
                        + $"or 10G, not '{text}'");
                return InRange(size, text, owner);
            case PropertyKind.Bool:
                return Options.ParseBool(text) is { } isOn ? isOn ? "on" : "off"
                    : throw new ConfigurationException($"{owner}: Parameter '{Name}' expects 'on' or 'off', not "
                        + $"'{text}'");
            case PropertyKind.OnOffAuto:
                return text == Auto ? Auto : Options.ParseBool(text) is { } choice ? choice ? "on" : "off"
                    : throw new ConfigurationException($"{owner}: Parameter '{Name}' expects 'on', 'off' or 'auto', "
                        + $"not '{text}'");
            case PropertyKind.Enum when Values?.Contains(text) != true:
                throw new ConfigurationException($"{owner}: {Name}={text}: one of {string.Join(", ", Values ?? [])} "
                    + "is expected");
            default: return text;
        }
    }

    string InRange(ulong number, string text, string owner) => number >= Min && number <= Max ? number.ToString()
        : throw new ConfigurationException($"{owner}: {Name}={text} is not in {Min} to {Max}");

    /// <summary>The kind as -device NAME,help shows it: "number", "on|off|auto".</summary>
    public string KindText => Values is { } values ? string.Join('|', values) : Kind switch
    {
        PropertyKind.Bool => "bool",
        PropertyKind.OnOffAuto => "on|off|auto",
        PropertyKind.Text => "str",
        PropertyKind.Texts => "str, several times",
        PropertyKind.PciAddress => "slot.function",
        _ => Kind.ToString().ToLowerInvariant(),
    };
}
