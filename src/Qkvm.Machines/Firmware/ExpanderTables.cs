using Qkvm.Core.Acpi;
using Qkvm.Core.Devices;
using Qkvm.Core.Pci;
using static Qkvm.Core.Acpi.Aml;

namespace Qkvm.Machines.Firmware;

/// <summary>What ACPI is told of the root buses beside the first: ACPI 6.3, sections 6.5.5 "_BBN", 6.2.15 "_PXM"
/// and 6.2.13 "_PRT".</summary>
static class ExpanderTables
{
    /// <summary>For \_SB.</summary>
    /// <param name="routing">The _PRT of each.</param>
    /// <param name="areExpress">They are PCI Express's.</param>
    public static IEnumerable<Aml> Terms(PciBus first, Aml routing, bool areExpress) =>
        first.Expanders.Select(expander => Device($"PC{expander.Root.Number:X2}",
        [
            Name("_UID", expander.Root.Number),
            Name("_BBN", expander.Root.Number),
            .. areExpress ? [.. PcieTables.Identity, PcieTables.Control(hasNativeHotPlug: true)]
                : new[] { Name("_HID", EisaId("PNP0A03")) },
            .. expander.NumaNode is { } node ? [Name("_PXM", node)] : Array.Empty<Aml>(),
            routing,
            Name("_CRS", AmlResource.Template(PciWindows.Of(expander.Root))),
        ]));

    /// <summary>The buses that are left to the first root.</summary>
    /// <param name="last">That there can be.</param>
    public static AmlResource FirstBuses(PciBus first, int last = 0xFF) => AmlResource.BusNumbers(0,
        (ushort)(first.Expanders.FirstOrDefault() is { } next ? Math.Min(last, next.Root.Number - 1) : last));
}
