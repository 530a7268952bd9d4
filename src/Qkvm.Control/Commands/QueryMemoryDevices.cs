using System.Text.Json.Serialization;
using Qkvm.Core.Devices;

namespace Qkvm.Control.Commands;

/// <param name="Memdev">The path of the object that has the memory.</param>
public sealed record DimmInfo(string Memdev, bool Hotplugged, long Addr, bool Hotpluggable, long Size, int Slot,
    int Node, string? Id);

/// <param name="Type">"dimm".</param>
public sealed record MemoryDeviceInfo(string Type, DimmInfo Data);

/// <summary>query-memory-devices: memory beside that of -m, by its addresses.</summary>
static class QueryMemoryDevices
{
    public static readonly Command Command = new Command<Nothing, IReadOnlyList<MemoryDeviceInfo>>(
        "query-memory-devices", MemoryDevicesJson.Default, static (context, _) => [.. In(context)
            .OrderBy(pair => pair.Dimm.Address).Select(pair => new MemoryDeviceInfo("dimm", new DimmInfo(
                $"/objects/{pair.Dimm.Backend}", pair.Dimm.IsHotPlugged, (long)pair.Dimm.Address, pair.IsHotPluggable,
                (long)pair.Dimm.Size, pair.Dimm.Slot, pair.Dimm.Node, pair.Id)))])
    {
        Human = new("info memory-devices", "", "show memory devices", null, static (monitor, devices) =>
        {
            foreach ((string type, DimmInfo dimm) in devices)
                monitor.Write($"Memory device [{type}]: \"{dimm.Id}\"\n  addr: 0x{dimm.Addr:x}\n  slot: {dimm.Slot}\n"
                    + $"  node: {dimm.Node}\n  size: {dimm.Size}\n  memdev: {dimm.Memdev}\n"
                    + $"  hotplugged: {Text(dimm.Hotplugged)}\n  hotpluggable: {Text(dimm.Hotpluggable)}\n");
        }),
    };

    /// <summary>Bytes of memory beside that of -m.</summary>
    public static long Plugged(CommandContext context) => In(context).Sum(pair => (long)pair.Dimm.Size);

    /// <summary>Bytes of it that are a node's.</summary>
    public static long Plugged(CommandContext context, int node) =>
        In(context).Where(pair => pair.Dimm.Node == node).Sum(pair => (long)pair.Dimm.Size);

    static IEnumerable<(IMemoryDevice Dimm, string? Id, bool IsHotPluggable)> In(CommandContext context) =>
        context.Devices.Where(d => d.Device.Device is IMemoryDevice)
            .Select(d => ((IMemoryDevice)d.Device.Device!, d.Device.Id, d.Device.IsHotPluggable));

    static string Text(bool value) => value ? "true" : "false";
}

/// <summary>query-acpi-ospm-status: what the guest has last said of the slots of memory and processors.</summary>
static class QueryAcpiStatus
{
    public static readonly Command Command = new Command<Nothing, IReadOnlyList<Core.Machine.AcpiOst>>(
        "query-acpi-ospm-status", MemoryDevicesJson.Default, static (context, _) => context.Machine.AcpiSlots);
}

[JsonSerializable(typeof(IReadOnlyList<MemoryDeviceInfo>))]
[JsonSerializable(typeof(IReadOnlyList<Core.Machine.AcpiOst>))]
sealed partial class MemoryDevicesJson : JsonSerializerContext;
