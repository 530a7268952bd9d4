using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Host;

namespace Qkvm.Machines;

/// <summary>nvdimm: memory that outlasts the machine, with labels of its name spaces at its end. Spec: ACPI 6.5,
/// section 9.20 "NVDIMM Devices".</summary>
/// <remarks>Deviation: it is there from the start; QEMU takes one while the machine runs, too.</remarks>
public sealed class Nvdimm : Dimm
{
    const ulong SmallestLabels = 128 << 10;

    public static new readonly DeviceModel Model = new("nvdimm", BusKind.None,
        [
            .. Options,
            Property.Size("label-size", 0, "bytes of labels at the memory's end, 0 or at least 128K"),
            Property.Bool("unarmed", false, "the guest is told that nothing outlasts a loss of power, and does not "
                + "write"),
            Property.Text("uuid", null, "of no use on this machine"),
        ], static (properties, site) => new Nvdimm(properties, site)) { Description = "NVDIMM memory module" };

    readonly ulong _labels;                                        // where they begin

    Nvdimm(Properties properties, DeviceSite site)
        : base(properties, site, memory => Visible(memory, properties))
    {
        if (properties.Text("uuid") is { } uuid && !Guid.TryParse(uuid, out _))
            throw properties.Error($"uuid={uuid}: expects a UUID such as 12345678-1234-1234-1234-123456789abc");
        IsUnarmed = properties.Bool("unarmed");
        LabelSize = properties.Size("label-size");
        _labels = Memory.Size - LabelSize;
    }

    public override string Name => Model.Name;
    public override string Kind => "nvdimm";
    public override string? WhyKept => "nvdimm device hot unplug is not supported yet.";

    /// <summary>Nothing that is written outlasts a loss of power.</summary>
    internal bool IsUnarmed { get; }

    /// <summary>How tables and methods name it.</summary>
    internal uint Handle => (uint)Slot + 1;

    /// <summary>Bytes; 0: there are none.</summary>
    internal ulong LabelSize { get; }

    /// <param name="offset">Within them, as is offset + length.</param>
    internal ReadOnlySpan<byte> Labels(uint offset, uint length) =>
        Memory.Ram.Span(_labels + offset, (int)length);

    internal void WriteLabels(uint offset, ReadOnlySpan<byte> data)
    {
        data.CopyTo(Memory.Ram.Span(_labels + offset, data.Length));
        Memory.Ram.MarkWritten(_labels + offset, (ulong)data.Length);
    }

    static ulong Visible(MemoryBackend memory, Properties properties)
    {
        ulong labels = properties.Size("label-size"), alignment = MemoryWish.AlignmentOf(memory);
        if (labels != 0 && labels < SmallestLabels)
            throw properties.Error($"Property 'nvdimm.label-size' (0x{labels:x}) is required at least "
                + $"0x{SmallestLabels:x}");
        if (labels % GuestRam.PageSize != 0)
            throw properties.Error($"label-size={labels} is no multiple of {GuestRam.PageSize} bytes");
        if (memory.Size < labels + alignment)
            throw properties.Error($"the size of memdev {properties.Text("memdev")} (0x{memory.Size:x}) is too small "
                + $"to contain nvdimm label (0x{labels:x}) and aligned PMEM (0x{alignment:x})");
        return (memory.Size - labels) / alignment * alignment;
    }
}
