using System.Globalization;
using System.Numerics;
using Qkvm.Core.Devices;
using Qkvm.Core.Memory;
using Qkvm.Host;

namespace Qkvm.Core.Pci;

/// <summary>How devices that users name come to their slots, and what their paths are.</summary>
public sealed partial class PciBus
{
    const int LargestRom = 16 << 20, SmallestRom = 2048;

    /// <summary>Where distributions put iPXE.</summary>
    static readonly string[] RomDirectories = ["/usr/lib/ipxe/qemu", "/usr/share/ipxe/qemu", "/usr/share/qemu"];

    /// <summary>Open Firmware's names by class and subclass. PCI Bus Binding to IEEE 1275-1994, section
    /// 2.5.</summary>
    static readonly string[] PathNames =
    [
        "0100 scsi", "0101 ide", "0102 fdc", "0103 ipi", "0104 raid", "0200 ethernet", "0201 token-ring", "0202 fddi",
        "0203 atm", "0300 display", "0400 video", "0401 sound", "0403 sound", "0500 memory", "0501 flash", "0601 isa",
        "0602 eisa", "0603 mca", "0604 pci-bridge", "0605 pcmcia", "0606 nubus", "0607 cardbus", "0700 serial",
        "0701 parallel", "0c00 firewire", "0c01 access-bus", "0c02 ssa", "0c03 usb", "0c04 fibre-channel",
    ];

    /// <summary>A root beside the first is for those who name it.</summary>
    public bool IsFull => Expander != null || !Enumerable.Range(FirstSlot, SlotCount - FirstSlot).Any(IsFree);

    void IBusWires.Plug(IDevice device, Properties properties, DeviceSite site)
    {
        var function = (PciDevice)device;
        function.IsMultifunction = properties.Bool("multifunction");
        function.Id = site.Id;
        function.AcpiIndex = TakeIndex(properties, site);
        if (properties.Number("rombar") != 0) AddRom(function, properties, site);
        try { Plug(function, properties.Text("addr") is { } address ? ParseAddress(address, properties) : -1); }
        catch (ConfigurationException e) { throw properties.Error(e.Message, e); }
        site.OnLeave(() => Unplug(function));
    }

    /// <summary>Behind a conventional bridge without a controller they come and go unannounced.</summary>
    bool IBusWires.TakesHotPlug => HotPlug != null || Bridge is { LeadsToExpress: false };

    bool IBusWires.RequestUnplug(IDevice device)
    {
        HotPlug?.RequestRemoval((PciDevice)device);
        return HotPlug != null;
    }

    string IBusWires.PathOf(IDevice device)
    {
        var function = (PciDevice)device;
        if (function is PciExpanderBridge expander) return expander.Path;
        string code = $"{function.Identity.ClassCode >> 8:x4} ";
        string name = Array.Find(PathNames, n => n.StartsWith(code, StringComparison.Ordinal))?[code.Length..]
            ?? $"pci{function.Identity.VendorId:x4},{function.Identity.DeviceId:x4}";
        return $"{name}@{function.DevFn >> 3:x}" + ((function.DevFn & 7) != 0 ? $",{function.DevFn & 7:x}" : "");
    }

    /// <summary>acpi-index: what the guest names a card by, one of its own in the machine.</summary>
    static uint TakeIndex(Properties properties, DeviceSite site)
    {
        const uint Most = 16383;
        uint index = (uint)properties.Number("acpi-index");
        if (index > Most) throw properties.Error($"acpi-index should be less or equal to {Most}");
        return index == 0 || site.Board.Pci?.AllDevices.All(other => other.AcpiIndex != index) != false ? index
            : throw properties.Error($"a PCI device with acpi-index = {index} already exist");
    }

    /// <summary>The ROM that the user names, or the function's own where it is installed.</summary>
    static void AddRom(PciDevice function, Properties properties, DeviceSite site)
    {
        string? file = properties.Text("romfile");
        byte[]? contents = file == null ? FindRom(function, site)
            : file.Length == 0 ? null : site.Board.FindFirmware(file) ?? ReadFile(file, properties);
        if (contents == null) return;
        if (contents.Length > LargestRom)
            throw properties.Error($"romfile={file}: {contents.Length} bytes; at most 16 MiB are possible");
        ulong size = BitOperations.RoundUpToPowerOf2(
            (ulong)Math.Max(contents.Length, Math.Max(SmallestRom, GuestRam.PageSize)));
        GuestRam ram = site.Ram($"{function.Name}.rom", size);
        if (file == null) OptionRom.Adopt(contents, function.Identity);
        contents.CopyTo(ram.Span(0, contents.Length));
        function.ExpansionRom(MemoryRegion.Rom($"{function.Name}.rom", ram, 0, size));
    }

    static byte[]? FindRom(PciDevice function, DeviceSite site)
    {
        if (function.InstalledRom is not { } name) return null;
        if (site.Board.FindFirmware(name) is { } found) return [.. found];
        foreach (string directory in RomDirectories)
        {
            try { return File.ReadAllBytes(Path.Combine(directory, name)); }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException) { } // it works without
        }
        return null;
    }

    static byte[] ReadFile(string file, Properties properties)
    {
        try { return File.ReadAllBytes(file); }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw properties.Error($"failed to find romfile \"{file}\": {e.Message}", e);
        }
    }

    /// <summary>slot[.function], hexadecimal with or without 0x.</summary>
    static int ParseAddress(string address, Properties properties)
    {
        string[] parts = address.Split('.');
        if (parts.Length <= 2 && TryHex(parts[0], Slots - 1, out int slot))
        {
            if (parts.Length == 1) return slot << 3;
            if (TryHex(parts[1], 7, out int function)) return slot << 3 | function;
        }
        throw properties.Error($"addr={address} is no PCI address; slot or slot.function is expected, 0x4 or 0x4.0x1");

        static bool TryHex(string text, int limit, out int value) =>
            int.TryParse(text.StartsWith("0x", StringComparison.OrdinalIgnoreCase) ? text[2..] : text,
                NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out value) && value <= limit;
    }

    bool IsFree(int slot)
    {
        for (int function = 0; function < 8; function++)
            if (_devices[slot << 3 | function] != null) return false;
        return true;
    }
}
