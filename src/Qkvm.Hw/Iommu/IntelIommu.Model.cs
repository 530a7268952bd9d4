using Qkvm.Core.Devices;
using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Hw.Intc;

namespace Qkvm.Hw.Iommu;

/// <remarks>As users name it.</remarks>
public sealed partial class IntelIommu
{
    public static readonly DeviceModel Model = new("intel-iommu", BusKind.System,
        [
            Property.OnOffAuto("intremap", "remaps interrupts; auto: where the interrupt controllers are ours"),
            Property.OnOffAuto("eim", "APIC ids of 32 bits; auto: with intremap"),
            Property.Number("aw-bits", 39, help: "of devices' addresses: 39 or 48"),
            Property.Bool("caching-mode", false, "drivers tell of new mappings, too"),
            Property.Bool("device-iotlb", false, "for devices with ats=on"),
            Property.Bool("dma-drain", true), Property.Bool("dma-translation", true), Property.Bool("pt", true),
            Property.Bool("snoop-control", false), Property.Missing("version", "0"),
            Property.Missing("x-buggy-eim", "off"), Property.Missing("x-scalable-mode", "off"),
            Property.Missing("x-pasid-mode", "off"),
        ], Create)
    {
        Description = "Intel IOMMU (VT-d) DMA Remapping device",
        IsHotPluggable = false,
    };

    static IntelIommu Create(Properties properties, DeviceSite site)
    {
        if (!site.Board.TakesIommu || site.Board.Pci is not { } pci)
            throw properties.Error("Parameter 'driver' expects a dynamic sysbus device type for the machine; use "
                + "-machine q35");
        if (pci.Iommu != null) throw properties.Error("QEMU does not support multiple vIOMMUs for x86 yet.");
        ulong bits = properties.Number("aw-bits");
        if (bits is not (39 or 48)) throw properties.Error("Supported values for aw-bits are: 39, 48");
        var bus = site.Board.Msi as ApicBus;
        bool remaps = properties.OnOffAuto("intremap") ?? bus != null;
        if (remaps && bus == null)
            throw properties.Error("Intel Interrupt Remapping cannot work with kernel-irqchip=on, please use "
                + "'split|off'.");
        bool? isWide = properties.OnOffAuto("eim");
        if (isWide == true && !remaps) throw properties.Error("eim=on cannot be selected without intremap=on");
        var iommu = new IntelIommu(site.Board.Memory, bus, site.Board.Lock, site.Board.Post,
            new IntelIommuOptions(remaps, isWide ?? remaps, (int)bits, properties.Bool("dma-translation"),
                properties.Bool("pt"), properties.Bool("snoop-control"), properties.Bool("device-iotlb"),
                properties.Bool("caching-mode"), properties.Bool("dma-drain")));
        site.MapMemory(DefaultAddress, MemoryRegion.Io(iommu.Name, Size, iommu, new AccessSizes(4, 8, 4, 4)),
            priority: 1);
        if (remaps) bus!.Remapper = iommu;
        pci.JoinAll(iommu);
        return iommu;
    }
}
