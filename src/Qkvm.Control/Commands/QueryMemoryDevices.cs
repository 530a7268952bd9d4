using System.Text.Json.Serialization;
using Qkvm.Core.Devices;

namespace Qkvm.Control.Commands;

/// <summary>What a memory device tells; some of it is of one kind alone.</summary>
/// <param name="Memdev">The path of the object that has the memory.</param>
/// <param name="Memaddr">As <paramref name="Addr"/>, of devices on a bus.</param>
/// <param name="Size">Bytes that the guest may use now.</param>
public sealed record MemoryDeviceData(string Memdev, string? Id, long Size)
{
    public long? Addr { get; init; }
    public int? Slot { get; init; }
    public bool? Hotplugged { get; init; }
    public bool? Hotpluggable { get; init; }
    public long? Memaddr { get; init; }
    public int? Node { get; init; }
    public long? RequestedSize { get; init; }
    public long? MaxSize { get; init; }
    public long? BlockSize { get; init; }
}

/// <param name="Type">"dimm", "nvdimm", "virtio-mem" or "virtio-pmem".</param>
public sealed record MemoryDeviceInfo(string Type, MemoryDeviceData Data);

/// <summary>query-memory-devices: memory beside that of -m, by its addresses.</summary>
static class QueryMemoryDevices
{
    public static readonly Command Command = new Command<Nothing, IReadOnlyList<MemoryDeviceInfo>>(
        "query-memory-devices", MemoryDevicesJson.Default, static (context, _) => [.. In(context)
            .OrderBy(pair => pair.Memory.Address)
            .Select(pair => new MemoryDeviceInfo(pair.Memory.Kind, Describe(pair.Memory, pair.IsHotPluggable)))])
    {
        Human = new("info memory-devices", "", "show memory devices", null, static (monitor, devices) =>
        {
            foreach ((string type, MemoryDeviceData data) in devices)
            {
                monitor.Write($"Memory device [{type}]: \"{data.Id}\"\n"
                    + $"  {(data.Addr == null ? "memaddr" : "addr")}: 0x{data.Addr ?? data.Memaddr:x}\n");
                Write(monitor, "slot", data.Slot);
                Write(monitor, "node", data.Node);
                Write(monitor, "requested-size", data.RequestedSize);
                Write(monitor, "size", data.Size);
                Write(monitor, "max-size", data.MaxSize);
                Write(monitor, "block-size", data.BlockSize);
                monitor.Write($"  memdev: {data.Memdev}\n");
                if (data.Hotplugged is { } came)
                    monitor.Write($"  hotplugged: {Text(came)}\n  hotpluggable: {Text(data.Hotpluggable == true)}\n");
            }
        }),
    };

    /// <summary>Bytes of memory beside that of -m.</summary>
    public static long Plugged(CommandContext context) => In(context).Sum(pair => (long)pair.Memory.Size);

    /// <summary>Bytes of it that are a node's.</summary>
    public static long Plugged(CommandContext context, int node) =>
        In(context).Where(pair => pair.Memory.Node == node).Sum(pair => (long)pair.Memory.Size);

    static MemoryDeviceData Describe(IMemoryDevice memory, bool isHotPluggable)
    {
        var data = new MemoryDeviceData($"/objects/{memory.Backend}", memory.Id, (long)memory.Size);
        long address = (long)memory.Address;
        return memory switch
        {
            IDimm dimm => data with
            {
                Addr = address, Slot = dimm.Slot, Node = dimm.Node, Hotplugged = dimm.IsHotPlugged,
                Hotpluggable = isHotPluggable,
            },
            IGrowingMemory growing => data with
            {
                Memaddr = address, Node = growing.Node, RequestedSize = (long)growing.RequestedSize,
                MaxSize = (long)growing.Room, BlockSize = (long)growing.BlockSize,
            },
            _ => data with { Memaddr = address },
        };
    }

    static IEnumerable<(IMemoryDevice Memory, bool IsHotPluggable)> In(CommandContext context) =>
        context.Devices.Select(d => (Memory: d.Device.Device?.Facet<IMemoryDevice>(), d.Device.IsHotPluggable))
            .Where(pair => pair.Memory != null).Select(pair => (pair.Memory!, pair.IsHotPluggable));

    static void Write(Hmp.IMonitor monitor, string name, long? value)
    {
        if (value is { } known) monitor.Write($"  {name}: {known}\n");
    }

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
