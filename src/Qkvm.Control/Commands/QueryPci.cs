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
        IReadOnlyList<PciRegionInfo> Regions)
{
    /// <summary>The chip, for the human monitor alone.</summary>
    [JsonIgnore] public string Name { get; init; } = "";
}

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
        [.. context.Machine.Board.Pci is not { } root ? [] : (PciInfo[])[new PciInfo(0,
            [.. root.Devices.Select(device => Describe(device, IdOf(context, device)))])]])
    {
        Human = new("info pci", "", "show PCI info", null,
            (monitor, buses) =>
            { foreach (PciDeviceInfo device in buses.SelectMany(b => b.Devices)) Print(monitor, device); }),
    };

    static string IdOf(CommandContext context, PciDevice device) =>
        context.Devices.FirstOrDefault(d => d.Device.Device == device).Device?.Id ?? "";

    static PciDeviceInfo Describe(PciDevice device, string id)
    {
        PciConfig config = device.Config;
        int classCode = (int)(config.Get32(PciConfig.RevisionId) >> 16), pin = config[PciConfig.InterruptPin];
        int subsystemVendor = config.Get16(PciConfig.SubsystemVendorId);
        bool hasSubsystem = subsystemVendor != 0;
        return new PciDeviceInfo(0, device.DevFn >> 3, device.DevFn & 7,
            new PciClassInfo(classCode, PciClasses.Describe(classCode)),
            new PciIdInfo(config.Get16(PciConfig.DeviceId), config.Get16(PciConfig.VendorId),
                hasSubsystem ? config.Get16(PciConfig.SubsystemId) : null, hasSubsystem ? subsystemVendor : null),
            pin != 0 ? config[PciConfig.InterruptLine] : null, pin, id, [.. Regions(device)])
        {
            Name = device.Name,
        };
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
    }
}

[JsonSerializable(typeof(IReadOnlyList<PciInfo>))]
sealed partial class PciJson : JsonSerializerContext;
