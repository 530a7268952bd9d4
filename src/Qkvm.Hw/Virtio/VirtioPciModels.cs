using Qkvm.Core.Devices;
using Qkvm.Core.Pci;
using Qkvm.Core.Virtio;

namespace Qkvm.Hw.Virtio;

/// <summary>Makes the models that users know of each virtio device: on PCI plain, -transitional and -non-transitional;
/// and without a transport, -device.</summary>
static class VirtioPciModels
{
    const ulong MostVectors = 128;                                 // room of the table
    const string ClassCode = "class";

    /// <param name="name">QEMU's name: "virtio-blk-pci".</param>
    /// <param name="defaultVectors">MSI-X vectors of a device; null: the device has none and takes no such
    /// property.</param>
    /// <param name="isModern">It came after the legacy interface: there is one model on PCI, or two
    /// (<paramref name="hasNonTransitional"/>) that are the same.</param>
    /// <param name="bareName">Without a transport, where that is not -device.</param>
    public static DeviceModel[] Family(string name, string description, DeviceCategory category, uint classCode,
        Property[] own, Func<VirtioDevice, int>? defaultVectors,
        Func<string, Properties, DeviceSite, VirtioDevice> create, bool isModern = false,
        bool hasNonTransitional = false, bool isMigratable = true, string? bareName = null)
    {
        Property[] ring = [Property.Bool("event_idx", true), Property.Bool("indirect_desc", true),
            Property.Bool("packed", false, "rings that driver and device share, for drivers that know them")];
        Property[] vectors = defaultVectors == null ? []
            : [Property.Automatic("vectors", max: MostVectors, help: "MSI-X vectors, 0 for INTx")];
        Property[] either = [Property.OnOffAuto("disable-legacy"), Property.Bool("disable-modern", false)];
        Property[] platform = [Property.Bool("iommu_platform", false, "memory as an IOMMU lets it reach it"),
            Property.Bool("ats", false, "of PCI Express: it can ask an IOMMU itself")];
        Property[] shared = [.. own, .. ring, .. vectors, .. platform];
        string plain = name[..^"-pci".Length];
        string[] aliases = plain.StartsWith("virtio", StringComparison.Ordinal) ? [plain] : [];
        DeviceModel bare = Bare(bareName ?? $"{plain}-device");
        if (hasNonTransitional)
            return [Model(name, shared, (Legacy: false, Modern: true), aliases),
                Model($"{name}-non-transitional", shared, (Legacy: false, Modern: true), []), bare];
        if (isModern) return [Model(name, shared, (Legacy: false, Modern: true), aliases), bare];
        return
        [
            Model(name, [.. shared, .. either], (Legacy: true, Modern: true), aliases),
            Model($"{name}-transitional", shared, (Legacy: true, Modern: true), []),
            Model($"{name}-non-transitional", shared, (Legacy: false, Modern: true), []),
            bare,
        ];

        // of a transport in memory, which has neither a class nor vectors
        DeviceModel Bare(string modelName) =>
            new(modelName, BusKind.Virtio, [.. own.Where(p => p.Name != ClassCode), .. ring], (values, site) =>
                new VirtioBusDevice(create(modelName, values, site), VirtioFeatures.Of(values.Bool("indirect_desc"),
                    values.Bool("event_idx"), values.Bool("packed"))))
            {
                Category = category,
                Description = description,
                IsHotPluggable = false,
                IsMigratable = isMigratable,
            };

        DeviceModel Model(string modelName, Property[] properties, (bool Legacy, bool Modern) interfaces,
            string[] aliases) =>
            new(modelName, BusKind.Pci, properties, (values, site) =>
            {
                VirtioDevice device = create(modelName, values, site);
                var options = new VirtioPciOptions(ClassOf(values), VectorsOf(values, device), interfaces.Legacy,
                    interfaces.Modern,
                    values.Bool("indirect_desc"), values.Bool("event_idx"), values.Bool("packed"))
                    { Lock = site.Board.Lock, IsExpress = site.Bus.Wires is PciBus { IsExpress: true } };
                if (modelName == name && !isModern)
                    options = options with { Legacy = !(values.OnOffAuto("disable-legacy") ?? options.IsExpress),
                        Modern = !values.Bool("disable-modern") };
                if (values.Bool("iommu_platform")) CheckPlatform(values, device, options.Legacy);
                return new VirtioPci(modelName, device, options with
                    { AccessesPlatform = values.Bool("iommu_platform"), HasAts = values.Bool("ats") });
            })
            {
                Category = category,
                Description = description,
                Aliases = aliases,
                IsHotPluggable = category != DeviceCategory.Display,
                IsMigratable = isMigratable,
            };

        static void CheckPlatform(Properties values, VirtioDevice device, bool isLegacy)
        {
            if (isLegacy)
                throw values.Error("VIRTIO_F_IOMMU_PLATFORM was supported by neither legacy nor transitional device; "
                    + "add disable-legacy=on");
            if ((device.PossibleRingFeatures & VirtioFeatures.AccessPlatform) == 0)
                throw values.Error("iommu_platform=true is not supported by the device");
        }

        uint ClassOf(Properties values) =>
            own.Any(p => p.Name == ClassCode) && values.Number(ClassCode) != 0 ? (uint)values.Number(ClassCode) << 8
                : classCode;

        int VectorsOf(Properties values, VirtioDevice device) =>
            defaultVectors == null ? 0
                : (int?)values.NumberOrAuto("vectors") ?? (int)Math.Min(MostVectors, (uint)defaultVectors(device));
    }
}
