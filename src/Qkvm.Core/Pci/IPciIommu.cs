using Qkvm.Core.Irq;
using Qkvm.Core.Memory;

namespace Qkvm.Core.Pci;

/// <summary>Stands between the functions of a host bridge and memory.</summary>
public interface IPciIommu
{
    /// <summary>A function's addresses.</summary>
    IDmaTranslation TranslationOf(PciDevice device);

    /// <summary>Where a function's messages go; null: as without an IOMMU.</summary>
    IMsiTarget? MessagesOf(PciDevice device);
}
