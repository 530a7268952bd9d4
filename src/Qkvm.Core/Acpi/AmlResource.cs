using static Qkvm.Core.Acpi.Aml;

namespace Qkvm.Core.Acpi;

/// <summary>Resource descriptors for _CRS and _PRS. Spec: ACPI 6.3, section 6.4 "Resource Data Types for
/// ACPI".</summary>
public readonly struct AmlResource(byte[] bytes)
{
    enum Kind : byte { Memory = 0, Io = 1, BusNumber = 2 }

    const byte FixedRange = 0x0C;                                  // _MIF and _MAF
    const byte ReadWrite = 0x01, CacheableReadWrite = 0x03, EntireRange = 0x03;

    byte[] Bytes { get; } = bytes;

    /// <summary>A resource template: the descriptors and an end tag with a checksum of zero ("ignore").</summary>
    public static Aml Template(params ReadOnlySpan<AmlResource> resources)
    {
        var bytes = new List<byte>();
        foreach (AmlResource resource in resources) bytes.AddRange(resource.Bytes);
        return Buffer([.. bytes, 0x79, 0x00]);
    }

    /// <summary>Ports that decode 16 address bits.</summary>
    public static AmlResource Io(ushort start, byte length, byte alignment = 1) =>
        new([0x47, 1, .. Number(start, 2), .. Number(start, 2), alignment, length]);

    /// <summary>An ISA interrupt: edge, active high, exclusive.</summary>
    /// <summary>ACPI section 6.4.2.2: compatibility timing, 8 bits, no bus master.</summary>
    public static AmlResource Dma(int channel) => new([0x2A, (byte)(1 << channel), 0]);

    public static AmlResource Irq(int irq) => new([0x22, .. Number(1UL << irq, 2)]);

    public static AmlResource Memory32(uint start, uint length, bool writable) =>
        new([0x86, 9, 0, writable ? (byte)1 : (byte)0, .. Number(start, 4), .. Number(length, 4)]);

    /// <summary>Level triggered, active high, shared, as the PC's PCI interrupts reach the controllers.</summary>
    public static AmlResource PciInterrupts(params ReadOnlySpan<int> gsis)
    {
        const byte Consumer = 1, Shared = 8;
        var bytes = new List<byte>();
        foreach (int gsi in gsis) bytes.AddRange(Number((ulong)gsi, 4));
        return new([0x89, .. Number((ulong)(2 + bytes.Count), 2), Consumer | Shared, (byte)gsis.Length, .. bytes]);
    }

    /// <summary>A global system interrupt of one device alone, active high.</summary>
    public static AmlResource Interrupt(int gsi, bool isEdge)
    {
        const byte Consumer = 1, Edge = 2;
        return new([0x89, .. Number(6, 2), (byte)(Consumer | (isEdge ? Edge : 0)), 1, .. Number((ulong)gsi, 4)]);
    }

    // Windows that a bridge forwards, section 6.4.3.5

    public static AmlResource BusNumbers(ushort first, ushort last) => Window(0x88, Kind.BusNumber, 0, 2, first, last);
    public static AmlResource IoWindow(ushort first, ushort last) => Window(0x88, Kind.Io, EntireRange, 2, first, last);
    public static AmlResource MemoryWindow32(uint first, uint last, bool cacheable = false) =>
        Window(0x87, Kind.Memory, cacheable ? CacheableReadWrite : ReadWrite, 4, first, last);
    public static AmlResource MemoryWindow64(ulong first, ulong last) =>
        Window(0x8A, Kind.Memory, CacheableReadWrite, 8, first, last);

    static AmlResource Window(byte tag, Kind kind, byte flags, int width, ulong first, ulong last) => new(
    [
        tag, .. Number((ulong)(3 + 5 * width), 2), (byte)kind, FixedRange, flags,
        .. Number(0, width), .. Number(first, width), .. Number(last, width), .. Number(0, width),
        .. Number(last - first + 1, width),
    ]);
}
