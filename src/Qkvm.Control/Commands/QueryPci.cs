using System.Text.Json.Serialization;
using Qkvm.Control.Hmp;
using Qkvm.Core.Memory;
using Qkvm.Core.Pci;

namespace Qkvm.Control.Commands;

public sealed record PciInfo(int Bus, IReadOnlyList<PciDeviceInfo> Devices);

/// <param name="Irq">What the firmware wrote; null without an interrupt pin.</param>
public sealed record PciDeviceInfo(int Bus, int Slot, int Function,
    [property: JsonPropertyName("class_info")] PciClassInfo ClassInfo, PciIdInfo Id,
    int? Irq, [property: JsonPropertyName("irq_pin")] int IrqPin, [property: JsonPropertyName("qdev_id")] string QdevId,
        IReadOnlyList<PciRegionInfo> Regions, [property: JsonPropertyName("pci_bridge")] PciBridgeInfo? PciBridge)
{
    /// <summary>The chip, for the human monitor alone.</summary>
    [JsonIgnore] public string Name { get; init; } = "";
}

public sealed record PciBridgeInfo(PciBridgeBusInfo Bus, IReadOnlyList<PciDeviceInfo> Devices);

public sealed record PciBridgeBusInfo(int Number, int Secondary, int Subordinate,
    [property: JsonPropertyName("io_range")] PciRange IoRange,
    [property: JsonPropertyName("memory_range")] PciRange MemoryRange,
    [property: JsonPropertyName("prefetchable_range")] PciRange PrefetchableRange);

/// <summary>Addresses that a bridge forwards; none where the limit is below the base.</summary>
public sealed record PciRange(ulong Base, ulong Limit);

public sealed record PciClassInfo(int Class, string Desc);

public sealed record PciIdInfo(int Device, int Vendor, int? Subsystem, int? SubsystemVendor);

/// <param name="Address">All ones while it is not mapped.</param>
/// <param name="Type">"memory" or "io".</param>
public sealed record PciRegionInfo(int Bar, string Type, ulong Address, ulong Size, bool? Prefetch,
    [property: JsonPropertyName("mem_type_64")] bool? MemType64)
{
    public const ulong Unmapped = ulong.MaxValue;

    /// <summary>For the human monitor alone.</summary>
    [JsonIgnore] public string Name { get; init; } = "";
}

static class QueryPci
{
    public static readonly Command Command = new Command<Nothing,
        IReadOnlyList<PciInfo>>("query-pci", PciJson.Default, (context, _) =>
        context.Machine.Board.Pci is not { } first ? []
            : [.. first.Expanders.Select(expander => expander.Root).Prepend(first)
                .Select(root => new PciInfo(root.Number, Describe(context, root)))])
    {
        Human = new("info pci", "", "show PCI info", null,
            (monitor, buses) =>
            { foreach (PciDeviceInfo device in buses.SelectMany(b => b.Devices)) Print(monitor, device); }),
    };

    static IReadOnlyList<PciDeviceInfo> Describe(CommandContext context, PciBus bus) =>
        [.. bus.Devices.Select(device => Describe(context, device))];

    static string IdOf(CommandContext context, PciDevice device) =>
        context.Devices.FirstOrDefault(d => d.Device.Device == device).Device?.Id ?? "";

    static PciDeviceInfo Describe(CommandContext context, PciDevice device)
    {
        PciConfig config = device.Config;
        int classCode = (int)(config.Get32(PciConfig.RevisionId) >> 16), pin = config[PciConfig.InterruptPin];
        int subsystemVendor = config.Get16(PciConfig.SubsystemVendorId);
        bool hasSubsystem = subsystemVendor != 0;
        return new PciDeviceInfo(device.Bus.Number, device.DevFn >> 3, device.DevFn & 7,
            new PciClassInfo(classCode, PciClasses.Describe(classCode)),
            new PciIdInfo(config.Get16(PciConfig.DeviceId), config.Get16(PciConfig.VendorId),
                hasSubsystem ? config.Get16(PciConfig.SubsystemId) : null, hasSubsystem ? subsystemVendor : null),
            pin != 0 ? config[PciConfig.InterruptLine] : null, pin, IdOf(context, device), [.. Regions(device)],
            device is PciBridge bridge ? Describe(context, bridge) : null)
        {
            Name = device.Name,
        };
    }

    /// <summary>What is behind a bridge shows once the bridge has a number.</summary>
    static PciBridgeInfo Describe(CommandContext context, PciBridge bridge)
    {
        var bus = new PciBridgeBusInfo(bridge.PrimaryNumber, bridge.SecondaryNumber, bridge.SubordinateNumber,
            Range(bridge.IoRange), Range(bridge.MemoryRange), Range(bridge.PrefetchableRange));
        return new PciBridgeInfo(bus, bridge.SecondaryNumber != 0 ? Describe(context, bridge.Secondary) : []);

        static PciRange Range((ulong Base, ulong Limit) range) => new(range.Base, range.Limit);
    }

    /// <summary>Lines of info qtree: what a function is, and where.</summary>
    public static IEnumerable<string> Places(PciDevice device)
    {
        PciConfig config = device.Config;
        yield return $"class {PciClasses.Describe((int)(config.Get32(PciConfig.RevisionId) >> 16))}, "
            + $"addr {device.Bus.Number:x2}:{device.DevFn >> 3:x2}.{device.DevFn & 7:x}, "
            + $"pci id {config.Get16(PciConfig.VendorId):x4}:{config.Get16(PciConfig.DeviceId):x4} "
            + $"(sub {config.Get16(PciConfig.SubsystemVendorId):x4}:{config.Get16(PciConfig.SubsystemId):x4})";
        foreach (PciRegionInfo region in Regions(device))
            yield return $"bar {region.Bar}: {(region.Type == "io" ? "i/o" : "mem")} at 0x{region.Address:x} "
                + $"[0x{region.Address + region.Size - 1:x}]";
    }

    static IEnumerable<PciRegionInfo> Regions(PciDevice device)
    {
        const uint IoSpace = 1, Type64 = 4, Prefetchable = 8;
        for (int bar = 0; bar < device.BarRegions.Count; bar++)
        {
            if (device.BarRegions[bar] is not { } region) continue;
            bool isRom = bar == 6;
            uint flags = isRom ? 0 : device.Config.Get32(PciConfig.Bar0 + bar * 4);
            bool isIo = (flags & IoSpace) != 0;
            yield return new PciRegionInfo(bar, isIo ? "io" : "memory", region.Parent != null ? region.Address
                : PciRegionInfo.Unmapped, region.Size,
                isIo ? null : (flags & Prefetchable) != 0, isIo ? null : (flags & Type64) != 0)
            {
                Name = region.Name,
            };
        }
    }

    static void Print(IMonitor monitor, PciDeviceInfo device)
    {
        monitor.Write($"  Bus {device.Bus,2}, device {device.Slot,3}, function {device.Function}:\n");
        monitor.Write($"    {device.ClassInfo.Desc}: PCI device {device.Id.Vendor:x4}:{device.Id.Device:x4}\n");
        if (device.Id.Subsystem is { } subsystem)
            monitor.Write($"      PCI subsystem {device.Id.SubsystemVendor:x4}:{subsystem:x4}\n");
        if (device.Irq is { } irq) monitor.Write($"      IRQ {irq}, pin {(char)('A' + device.IrqPin - 1)}\n");
        if (device.PciBridge is { Bus: { } bus })
            monitor.Write($"      BUS {bus.Number}.\n      secondary bus {bus.Secondary}.\n"
                + $"      subordinate bus {bus.Subordinate}.\n"
                + $"      IO range [0x{bus.IoRange.Base:x4}, 0x{bus.IoRange.Limit:x4}]\n"
                + $"      memory range [0x{bus.MemoryRange.Base:x8}, 0x{bus.MemoryRange.Limit:x8}]\n"
                + $"      prefetchable memory range [0x{bus.PrefetchableRange.Base:x8}, "
                + $"0x{bus.PrefetchableRange.Limit:x8}]\n");
        foreach (PciRegionInfo r in device.Regions)
        {
            string kind = r.Type == "io" ? "I/O"
                : $"{(r.MemType64 == true ? 64 : 32)} bit{(r.Prefetch == true ? " prefetchable" : "")} memory";
            // as QEMU shows what is not mapped
            ulong last = r.Address == PciRegionInfo.Unmapped ? r.Size - 2 : r.Address + r.Size - 1;
            monitor.Write(r.Type == "io" ? $"      BAR{r.Bar}: I/O at 0x{(ushort)r.Address:x4} [0x{(ushort)last:x4}].\n"
                : $"      BAR{r.Bar}: {kind} at 0x{r.Address:x8} [0x{last:x8}].\n");
        }
        monitor.Write($"      id \"{device.QdevId}\"\n");
        foreach (PciDeviceInfo below in device.PciBridge?.Devices ?? []) Print(monitor, below);
    }
}

[JsonSerializable(typeof(IReadOnlyList<PciInfo>))]
sealed partial class PciJson : JsonSerializerContext;
