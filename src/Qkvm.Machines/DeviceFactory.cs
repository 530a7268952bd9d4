using System.Globalization;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Host;

namespace Qkvm.Machines;

/// <summary>Makes devices from what users wrote: finds the model, checks the properties, plugs PCI functions.</summary>
public sealed class DeviceFactory(IBoard board, IReadOnlyList<DeviceModel> catalogue, IReadOnlyList<GlobalConfig> globals)
{
    const int LargestRom = 16 << 20, SmallestRom = 2048;

    /// <summary>A device that was made, with all its property values as text.</summary>
    public sealed record Made(DeviceModel Model, IDevice Device, Properties Properties, IReadOnlyList<OptionPair> Values);

    public static DeviceModel? Find(IReadOnlyList<DeviceModel> catalogue, string name) =>
        catalogue.FirstOrDefault(m => m.Name == name) ?? catalogue.FirstOrDefault(m => m.Aliases.Contains(name));

    public bool Knows(string name) => Find(catalogue, name) != null;

    public Made Create(DeviceConfig config)
    {
        DeviceModel model = Find(catalogue, config.Driver)
            ?? throw new ConfigurationException($"{config.Owner}: '{config.Driver}' is not a valid device model name{Suggestion.For(config.Driver, catalogue.SelectMany(m => m.Aliases.Append(m.Name)))}");
        Dictionary<string, string?> values = Resolve(model, config);
        var properties = new Properties(config.Owner, values);
        IDevice device = model.Create(properties, board);
        if (device is PciDevice function) Plug(function, model, values, config);
        OptionPair[] shown = [.. model.Properties.Where(p => values[p.Name] != null).Select(p => new OptionPair(p.Name, values[p.Name]!))];
        return new Made(model, device, properties, shown);
    }

    /// <summary>Defaults, then -global, then the device's own.</summary>
    Dictionary<string, string?> Resolve(DeviceModel model, DeviceConfig config)
    {
        var values = model.Properties.ToDictionary(p => p.Name, p => p.Default, StringComparer.Ordinal);
        foreach (GlobalConfig global in globals)
            if (global.Driver == model.Name && Declared(model, global.Property) is { } property)
                values[property.Name] = Checked(property, global.Value, $"-global {global.Driver}.{global.Property}={global.Value}");
        foreach (OptionPair pair in config.Properties)
        {
            if (Declared(model, pair.Name) is { } property) values[property.Name] = Checked(property, pair.Value, config.Owner);
            else if (pair.Name == "bus") CheckBus(model, pair.Value, config.Owner);
            else throw new ConfigurationException($"{config.Owner}: Property '{model.Name}.{pair.Name}' not found{Suggestion.For(pair.Name, model.Properties.Select(p => p.Name))}");
        }
        return values;
    }

    static Property? Declared(DeviceModel model, string name) => Array.Find(model.Properties, p => p.Name == name);

    void CheckBus(DeviceModel model, string bus, string owner)
    {
        object found = board.FindBus(bus) ?? throw new ConfigurationException($"{owner}: Bus '{bus}' not found");
        if (found is PciBus != (model.Bus == "PCI"))
            throw new ConfigurationException($"{owner}: Device '{model.Name}' can't go on bus '{bus}'");
    }

    static string Checked(Property property, string value, string owner)
    {
        switch (property.Kind)
        {
            case PropertyKind.Number or PropertyKind.Size:
                if (!Properties.TryParseNumber(value, out ulong number))
                    throw new ConfigurationException($"{owner}: Parameter '{property.Name}' expects a number, not '{value}'");
                if (number < property.Min || number > property.Max)
                    throw new ConfigurationException($"{owner}: {property.Name}={value} is not in {property.Min} to {property.Max}");
                break;
            case PropertyKind.Bool when value is not ("on" or "off" or "yes" or "no" or "true" or "false" or "y" or "n"):
                throw new ConfigurationException($"{owner}: Parameter '{property.Name}' expects 'on' or 'off', not '{value}'");
            case PropertyKind.OnOffAuto when value is not ("on" or "off" or "auto"):
                throw new ConfigurationException($"{owner}: Parameter '{property.Name}' expects 'on', 'off' or 'auto', not '{value}'");
            case PropertyKind.Enum when property.Values?.Contains(value) != true:
                throw new ConfigurationException($"{owner}: {property.Name}={value}: one of {string.Join(", ", property.Values ?? [])} is expected");
        }
        return value;
    }

    void Plug(PciDevice function, DeviceModel model, Dictionary<string, string?> values, DeviceConfig config)
    {
        if (Value("multifunction") is "on" or "yes" or "true" or "y") function.IsMultifunction = true;
        if (Properties.TryParseNumber(Value("bootindex"), out ulong index)) function.BootIndex = index;
        if (Value("romfile") is { Length: > 0 } romFile && Value("rombar") is null or "on") AddRom(function, romFile, config.Owner);
        try { board.Pci.Plug(function, Value("addr") is { } address ? ParseAddress(address, config.Owner) : -1); }
        catch (ConfigurationException e) { throw new ConfigurationException($"{config.Owner}: {e.Message}", e); }

        string? Value(string name) => values.GetValueOrDefault(name);
    }

    void AddRom(PciDevice function, string file, string owner)
    {
        byte[] contents = board.FindFirmware(file) ?? ReadFile(file, owner);
        if (contents.Length > LargestRom) throw new ConfigurationException($"{owner}: romfile={file}: {contents.Length} bytes; at most 16 MiB are possible");
        ulong size = System.Numerics.BitOperations.RoundUpToPowerOf2((ulong)Math.Max(contents.Length, Math.Max(SmallestRom, GuestRam.PageSize)));
        var ram = new GuestRam($"{function.Name}.rom", size);
        contents.CopyTo(ram.Span(0, contents.Length));
        function.ExpansionRom(MemoryRegion.Rom($"{function.Name}.rom", ram, 0, size));
    }

    static byte[] ReadFile(string file, string owner)
    {
        try { return File.ReadAllBytes(file); }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new ConfigurationException($"{owner}: failed to find romfile \"{file}\": {e.Message}", e);
        }
    }

    /// <summary>slot[.function], hexadecimal with or without 0x.</summary>
    static int ParseAddress(string address, string owner)
    {
        string[] parts = address.Split('.');
        if (parts.Length <= 2 && TryHex(parts[0], 31, out int slot))
        {
            if (parts.Length == 1) return slot << 3;
            if (TryHex(parts[1], 7, out int function)) return slot << 3 | function;
        }
        throw new ConfigurationException($"{owner}: addr={address} is no PCI address; slot or slot.function is expected, 0x4 or 0x4.0x1");

        static bool TryHex(string text, int limit, out int value) =>
            int.TryParse(text.StartsWith("0x", StringComparison.OrdinalIgnoreCase) ? text[2..] : text, NumberStyles.AllowHexSpecifier,
                CultureInfo.InvariantCulture, out value) && value <= limit;
    }
}
