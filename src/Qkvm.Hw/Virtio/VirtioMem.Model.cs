using System.Numerics;
using System.Text.Json;
using System.Text.Json.Nodes;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Host;

namespace Qkvm.Hw.Virtio;

/// <summary>What users say of it, and change while it runs.</summary>
public sealed partial class VirtioMem
{
    const ulong SmallestBlock = 1 << 20;
    const string BlockSizeName = "block-size", RequestedSizeName = "requested-size";

    public static readonly DeviceModel Model = VirtioPciModels.Family("virtio-mem-pci", "memory that grows and "
        + "shrinks", DeviceCategory.Misc, 0x00FF00,
        [
            Property.Object("memdev", "what has the memory: -object memory-backend-ram,id=…"),
            Property.Number("memaddr", 0, help: "where the guest has it; 0 for where there is room"),
            Property.Number("node", 0, help: "the NUMA node that it is of"),
            Property.Size(BlockSizeName, null, "what is plugged at once: a power of two (default: a huge page)"),
            Property.Size(RequestedSizeName, 0, "how much the guest is to have; qom-set changes it"),
            Property.OnOffAuto("unplugged-inaccessible", "drivers must not read what is unplugged"),
            Property.Bool("prealloc", false, "the pages of a block exist when it is plugged"),
        ], null, FromProperties, isModern: true)[0] with { Aliases = [] }; // alone: no machine takes it on another bus

    public IEnumerable<QomProperty> LiveProperties =>
    [
        new("size", "size", () => JsonValue.Create(Size)),
        new(RequestedSizeName, "size", () => JsonValue.Create(_requestedSize), SetRequestedSize),
        new(BlockSizeName, "size", () => JsonValue.Create(BlockSize)),
        new("memaddr", "uint64", () => JsonValue.Create(Address)),
        new("unplugged-inaccessible", "OnOffAuto", () => JsonValue.Create(_isInaccessible ? "on" : "off")),
    ];

    static VirtioMem FromProperties(string name, Properties values, DeviceSite site)
    {
        string id = values.Text("memdev") ?? throw values.Error("'memdev' property must be set");
        MemoryBackend memory = site.Object<MemoryBackend>(id, "memory");
        if (memory.IsTaken) throw values.Error($"'memdev' property specifies a busy memdev: {id}");
        int nodes = Math.Max(site.Board.NumaNodes, 1);
        ulong node = values.Number("node"), page = memory.Ram.File?.PageSize ?? GuestRam.PageSize;
        if (node >= (ulong)nodes)
            throw values.Error($"'node' property has value '{node}', which exceeds the number of numa nodes: {nodes}");
        ulong usual = Math.Max(page, MemoryWish.LargePage), block = values.NumberOrAuto(BlockSizeName) ?? usual;
        ulong requested = values.Size(RequestedSizeName);
        if (block < SmallestBlock)
            throw values.Error($"'{BlockSizeName}' property has to be at least 0x{SmallestBlock:x}");
        if (!BitOperations.IsPow2(block)) throw values.Error($"'{BlockSizeName}' property has to be a power of two");
        if (block < page)
            throw values.Error($"'{BlockSizeName}' property has to be at least the page size (0x{page:x})");
        if (requested % block != 0)
            throw values.Error($"'{RequestedSizeName}' property has to be multiples of '{BlockSizeName}' "
                + $"(0x{block:x})");
        if (requested > memory.Size) throw values.Error(TooMuch(memory.Size));
        if (memory.Size % block != 0) throw values.Error($"backend memory size must be multiple of 0x{block:x}");
        var device = new VirtioMem(name, memory, block, (int)node, site.Board.NumaNodes > 0,
            values.OnOffAuto("unplugged-inaccessible") ?? memory.Ram.File != null, values.Bool("prealloc"))
        {
            Id = site.Id, Backend = id, _requestedSize = requested,
        };
        device.ResizeUsable(mayShrink: true);
        // blocks have their pages when they are plugged, whatever the object says
        (memory with { IsPreallocated = false }).Prepare(message => values.Error(message));
        if (memory.Ram.File != null) memory.Ram.Discard(0, memory.Size);
        site.PlaceMemory(device, MemoryRegion.OfRam(id, memory.Ram, 0, memory.Size),
            new MemoryWish(values.Number("memaddr"), block, message => values.Error(message)),
            at => device.Address = at);
        string path = site.ObjectPath;
        device.SizeChanged += () => site.Board.Raise(new MemoryDeviceSizeChangeEvent(device.Id, device.Size, path));
        return device;
    }

    static string TooMuch(ulong size) => $"'{RequestedSizeName}' cannot exceed the memory backend size(0x{size:x})";

    void SetRequestedSize(JsonElement value)
    {
        if (value.ValueKind != JsonValueKind.Number || !value.TryGetUInt64(out ulong size))
            throw new CommandException($"Invalid parameter type for '{RequestedSizeName}', expected: integer");
        if (size % BlockSize != 0)
            throw new CommandException($"'{RequestedSizeName}' has to be multiples of '{BlockSizeName}' "
                + $"(0x{BlockSize:x})");
        if (size > Room) throw new CommandException(TooMuch(Room));
        RequestedSize = size;
    }
}
