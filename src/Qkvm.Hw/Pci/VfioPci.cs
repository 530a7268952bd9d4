using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Host;

namespace Qkvm.Hw.Pci;

/// <summary>A PCI function of the host's, which its driver vfio-pci has. It is not built, but what users would want to
/// know first is what stands in its way on this host.</summary>
public static class VfioPci
{
    const string Instead = "functions of the host are not given to guests yet; use virtio-net-pci or virtio-blk-pci";

    /// <summary>QEMU's, which nobody looks at.</summary>
    static readonly string[] s_others =
    [
        "display", "failover_pair_id", "x-balloon-allowed", "x-enable-migration", "x-igd-gms", "x-igd-opregion",
        "x-intx-mmap-timeout-ms", "x-msix-relocation", "x-no-geforce-quirks", "x-no-kvm-intx", "x-no-kvm-ioeventfd",
        "x-no-kvm-msi", "x-no-kvm-msix", "x-no-mmap", "x-no-vfio-ioeventfd", "x-nv-gpudirect-clique",
        "x-pci-device-id", "x-pci-sub-device-id", "x-pci-sub-vendor-id", "x-pci-vendor-id",
        "x-pre-copy-dirty-page-tracking", "x-req", "x-vga", "xres", "yres",
    ];

    public static readonly DeviceModel[] Models =
        [.. new[] { "vfio-pci", "vfio-pci-nohotplug" }.Select(name => new DeviceModel(name, BusKind.Pci,
            [
                Property.Text("host", help: "address of the host's function, [DDDD:]BB:DD.F"),
                Property.Text("sysfsdev", help: "its folder in sysfs"),
                .. s_others.Select(other => Property.Text(other)),
            ],
            static (values, _) => throw Refusal(values, new VfioHost()))
            {
                Description = "a PCI function of the host",
            })];

    /// <summary>What is wrong with the function that is asked for, or that none can be had.</summary>
    public static ConfigurationException Refusal(Properties values, VfioHost host)
    {
        string? device = values.Text("sysfsdev"), address = values.Text("host");
        if (device == null)
        {
            if (address == null)
                return values.Error("No provided host device; write host=DDDD:BB:DD.F, or sysfsdev=FOLDER");
            device = host.Find(address);
            if (device == null)
                return values.Error($"Property 'vfio-pci.host' doesn't take value '{address}'; write [DDDD:]BB:DD.F, "
                    + "as lspci -D does");
        }
        return values.Error(host.Obstacle(device) is { } why ? $"{why}; besides, {Instead}" : Instead);
    }
}
