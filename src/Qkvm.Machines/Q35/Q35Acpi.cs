using Qkvm.Core.Acpi;
using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Hw.Pci;
using Qkvm.Machines.Firmware;
using Qkvm.Machines.Pc;
using static Qkvm.Core.Acpi.Aml;
using static Qkvm.Core.Acpi.AmlResource;

namespace Qkvm.Machines.Q35;

/// <summary>What ACPI is told of the Q35's PCI Express bus: the windows that the host bridge forwards, what the
/// operating system may control itself, and how the ICH9 routes interrupts.</summary>
static class Q35Acpi
{
    const uint PciHoleEnd = 0xFEBF_FFFF;
    const ulong FourGiB = PcMemory.FourGiB;
    static readonly int[] s_inputs = [.. Enumerable.Range(0, Ich9Lpc.Inputs)];

    public static Aml[] HostBridge(PcMemory memory, PciBus bus, (ulong Base, ulong Size)? ecam,
        bool hasNativeHotPlug)
    {
        var others = new PciWindows(bus.Expanders.Select(expander => expander.Root));
        List<AmlResource> resources =
        [
            ExpanderTables.FirstBuses(bus, (int)((ecam?.Size ?? PciEcam.FullSize) / (PciEcam.FullSize / 256) - 1)),
            Io(0x0CF8, 8),
            IoWindow(0x0000, 0x0CF7),
            .. others.RestOfPorts(0x0D00, 0xFFFF),
            MemoryWindow32(0xA0000, 0xBFFFF, cacheable: true),
        ];
        ulong start = memory.Below;
        if (ecam is { } hole && hole.Base < PciHoleEnd)
        {
            if (hole.Base > start) resources.AddRange(others.Rest(start, hole.Base - 1));
            start = Math.Max(start, hole.Base + hole.Size);
        }
        resources.AddRange(others.Rest(start, PciHoleEnd));
        (ulong first, ulong last) = High(memory, bus);
        resources.AddRange(others.Rest(first, last));
        return
        [
            .. PcieTables.Identity,
            Name("_ADR", 0),
            Name("_UID", 0),
            Name("_CRS", Template([.. resources])),
            PcieTables.Control(hasNativeHotPlug),
            Routing,
        ];
    }

    /// <summary>Reserves the window of configuration space. PCI Firmware 3.3, section 4.1.2.</summary>
    public static Aml[] ConfigurationSpace((ulong Base, ulong Size)? ecam) =>
    [
        Name("_HID", EisaId("PNP0C01")),
        Name("_CRS", ecam is { } window
            ? Template(MemoryWindow32((uint)window.Base, (uint)(window.Base + window.Size - 1))) : Template()),
    ];

    public static Aml[] IsaBridge() =>
    [
        Name("_ADR", 0x001F_0000),
        OperationRegion("PIRQ", AmlRegionSpace.PciConfig, 0x60, 0x0C),
        Field("PIRQ", AmlAccess.Byte, ("PRQA", 8), ("PRQB", 8), ("PRQC", 8), ("PRQD", 8), (null, 32), ("PRQE", 8),
            ("PRQF", 8), ("PRQG", 8), ("PRQH", 8)),
    ];

    /// <summary>_PRT, of each root bus.</summary>
    static Aml Routing => Method("_PRT", 0,
        If(Ref("\\PICF"), Return(Ref("\\_SB.PCI0.PRTA"))),
        Return(Ref("\\_SB.PCI0.PRTP")));

    /// <summary>PIRQ A to H as link devices, over the route control registers for the 8259 and fixed for the I/O APIC;
    /// the routing tables; the interrupt model that the operating system has chosen; the root buses that these are for
    /// beside the first.</summary>
    public static Aml[] Links(Ich9Lpc lpc, PciBus bus) =>
    [
        Name("\\PICF", 0),
        Method("\\_PIC", 1, Store(Arg0, Ref("\\PICF"))),
        Name("\\_SB.PCI0.PRTP", Pins(lpc, "LNK")),
        Name("\\_SB.PCI0.PRTA", Pins(lpc, "GSI")),
        .. PciLinks.Routed([.. s_inputs.Select(input => $"\\_SB.PCI0.ISA.PRQ{PciLinks.Letter(input)}")]),
        .. s_inputs.Select(input => PciLinks.Fixed($"GSI{PciLinks.Letter(input)}", Ich9Lpc.FirstGsi + input,
            Ich9Lpc.FirstGsi + input)),
        .. ExpanderTables.Terms(bus, Routing, areExpress: true),
    ];

    /// <summary>The window above 4 GiB: behind RAM, and wherever else firmware has put a BAR.</summary>
    static (ulong First, ulong Last) High(PcMemory memory, PciBus bus)
    {
        ulong first = memory.PciHole64, last = first + memory.PciHole64Size - 1;
        foreach (PciDevice device in bus.AllDevices)
        {
            foreach (MemoryRegion? region in device.BarRegions)
                if (region is { Parent: not null, Address: >= FourGiB })
                    (first, last) = (Math.Min(first, region.Address), Math.Max(last, region.Address + region.Size - 1));
            if (device is PciBridge { PrefetchableRange: { Base: >= FourGiB } range } && range.Limit > range.Base)
                (first, last) = (Math.Min(first, range.Base), Math.Max(last, range.Limit));
        }
        return (first, last);
    }

    /// <summary>Each slot's pins, as the chip leads them.</summary>
    static Aml Pins(Ich9Lpc lpc, string link) =>
        PciLinks.Routing((slot, pin) => $"{link}{PciLinks.Letter(lpc.RouteSlot(slot, pin))}");
}
