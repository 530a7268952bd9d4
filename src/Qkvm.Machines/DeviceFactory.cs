using System.Globalization;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Host;

namespace Qkvm.Machines;

/// <summary>Makes devices from what users wrote: finds the model, checks the properties, plugs PCI functions.</summary>
public sealed class DeviceFactory(IBoard board, Catalogue<DeviceModel> catalogue, IReadOnlyList<GlobalConfig> globals)
{
    const int LargestRom = 16 << 20, SmallestRom = 2048;

    /// <summary>A device that was made.</summary>
    public sealed record Made(DeviceModel Model, IDevice Device, Properties Properties, DeviceSite Site)
    {
        /// <summary>What `info qtree` shows.</summary>
        public IReadOnlyList<OptionPair> Values =>
            [.. Properties.Shown.Where(p => Model.Find(p.Name)!.Kind != PropertyKind.Bus)];
    }

    /// <summary>Makes and plugs it; where that fails, all that it had taken is free again.</summary>
    /// <param name="hot">The machine is running, or has run.</param>
    public Made Create(DeviceConfig config, bool hot = false)
    {
        DeviceModel model = catalogue.Get(config.Driver, config.Owner);
        if (hot && !model.Bus.IsHotPluggable)
            throw new ConfigurationException($"{config.Owner}: Bus '{DefaultBus(model)}' does not support hotplugging");
        if (hot && !model.IsHotPluggable)
            throw new ConfigurationException($"{config.Owner}: Device '{model.Name}' does not support hotplugging");
        var properties = new Properties(model, config.Properties, Globals(model, globals));
        QBus? bus = properties.Text("bus") is { } name ? BusOf(model, name, config.Owner) : null;
        var site = new DeviceSite(board, config.Owner);
        try
        {
            IDevice device = model.Create(properties, site);
            if (device is PciDevice function) Plug(function, (PciBus?)bus?.Wires ?? board.Pci, properties, site);
            return new Made(model, device, properties, site);
        }
        catch
        {
            site.Dispose();
            throw;
        }
    }

    static string DefaultBus(DeviceModel model) => model.Bus == BusKind.Ide ? "ide.0" : "isa.0";

    /// <summary>What -global says of a model: name, value and owner.</summary>
    public static IEnumerable<(string Name, string Value, string Owner)> Globals(DeviceModel model,
        IEnumerable<GlobalConfig> globals) =>
        globals.Where(g => model.Has(g.Driver)).Select(g =>
            (g.Property, g.Value, $"-global {g.Driver}.{g.Property}={g.Value}"));

    QBus BusOf(DeviceModel model, string bus, string owner)
    {
        QBus found = board.FindBus(bus) ?? throw new ConfigurationException($"{owner}: Bus '{bus}' not found");
        if (found.Kind != model.Bus)
            throw new ConfigurationException($"{owner}: Device '{model.Name}' can't go on bus '{bus}'");
        return found;
    }

    void Plug(PciDevice function, PciBus bus, Properties properties, DeviceSite site)
    {
        function.IsMultifunction = properties.Bool("multifunction");
        function.BootIndex = properties.NumberOrAuto("bootindex");
        if (properties.Text("romfile") is { Length: > 0 } romFile && properties.Bool("rombar")) AddRom(function,
            romFile, properties.Owner, site);
        try { bus.Plug(function, properties.Text("addr") is { } address ? ParseAddress(address, properties.Owner)
            : -1); }
        catch (ConfigurationException e) { throw properties.Error(e.Message, e); }
        site.OnLeave(() => bus.Unplug(function));
    }

    void AddRom(PciDevice function, string file, string owner, DeviceSite site)
    {
        byte[] contents = board.FindFirmware(file) ?? ReadFile(file, owner);
        if (contents.Length > LargestRom)
            throw new ConfigurationException($"{owner}: romfile={file}: {contents.Length} bytes; at most 16 MiB are " +
                "possible");
        ulong size =
            System.Numerics.BitOperations.RoundUpToPowerOf2((ulong)Math.Max(contents.Length,
            Math.Max(SmallestRom, GuestRam.PageSize)));
        GuestRam ram = site.Ram($"{function.Name}.rom", size);
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
        throw new ConfigurationException($"{owner}: addr={address} is no PCI address; slot or slot.function is " +
            "expected, 0x4 or 0x4.0x1");

        static bool TryHex(string text, int limit, out int value) =>
            int.TryParse(text.StartsWith("0x", StringComparison.OrdinalIgnoreCase) ? text[2..]
                : text, NumberStyles.AllowHexSpecifier,
                CultureInfo.InvariantCulture, out value) && value <= limit;
    }
}
