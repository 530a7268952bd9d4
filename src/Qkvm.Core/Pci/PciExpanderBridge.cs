using Qkvm.Core.Devices;
using Qkvm.Core.State;

namespace Qkvm.Core.Pci;

/// <summary>A function of the root bus that brings another root bus, with a number and windows of its own, as a machine
/// with several host bridges has them. Spec: QEMU's docs/pci_expander_bridge.txt.</summary>
public abstract class PciExpanderBridge : PciDevice
{
    const ushort Capable66 = 0x20, FastBackToBack = 0x80;

    /// <param name="parent">The root bus that it will sit on.</param>
    /// <param name="bus">The name of the root bus that it brings; <paramref name="number"/> its number.</param>
    /// <param name="bypassesIommu">What is behind it reaches memory without asking an IOMMU.</param>
    protected PciExpanderBridge(PciIdentity identity, string name, PciBus parent, string bus, byte number,
        bool bypassesIommu) : base(identity, name)
    {
        (Parent, BypassesIommu) = (parent, bypassesIommu);
        Root = new PciBus(bus, parent, this, number);
        Config.Define16(PciConfig.Status, Capable66 | FastBackToBack);
    }

    /// <summary>The bus that it brings.</summary>
    public PciBus Root { get; }

    /// <summary>As <see cref="PciDevice.Bus"/>, also before it is plugged.</summary>
    internal PciBus Parent { get; }

    public new bool BypassesIommu { get; }

    /// <summary>The NUMA node that its cards are near, or null.</summary>
    public int? NumaNode { get; protected init; }

    /// <summary>Firmware numbers the roots by their buses, from 1 on.</summary>
    internal string Path => $"/pci@i0cf8,{Parent.Expanders.Count(other => other.Root.Number <= Root.Number):x}";

    protected override void ResetDevice() { }
    protected override void ExchangeDevice(StateStream state) { }
}
