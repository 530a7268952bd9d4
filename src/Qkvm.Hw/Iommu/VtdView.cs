using Qkvm.Core.Irq;
using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Hw.Intc;

namespace Qkvm.Hw.Iommu;

/// <summary>One function's addresses and messages as the IOMMU lets them through, with a small cache of pages. From any
/// thread.</summary>
sealed class VtdView(IntelIommu iommu, PciDevice device, ApicBus? bus) : IDmaTranslation, IMsiTarget
{
    const int Slots = 64, PageShift = 12;                          // a power of two

    readonly Lock _sync = new();
    // not migrated: a cache
    readonly VtdPage[] _pages = new VtdPage[Slots];
    int _generation = -1;
    ushort _source;

    public bool TryTranslate(ulong address, bool write, out ulong translated, out ulong length)
    {
        if (!iommu.IsTranslating)
        {
            (translated, length) = (address, ulong.MaxValue - address | 1);
            return true;
        }
        ushort source = device.RequesterId;
        VtdFault fault;
        bool isSilent;
        lock (_sync)
        {
            // before the walk: what the guest invalidates meanwhile is void the next time
            int generation = iommu.Generation;
            if (generation != _generation || source != _source)
            {
                Array.Clear(_pages);
                (_generation, _source) = (generation, source);
            }
            ref VtdPage page = ref _pages[(int)(address >> PageShift) & Slots - 1];
            if (address - page.Base < page.Size && (write ? page.Writable : page.Readable))
                return Found(page, address, out translated, out length);
            fault = iommu.Walk(source, address, write, out VtdPage found, out isSilent);
            if (fault == VtdFault.None) return Found(page = found, address, out translated, out length);
        }
        (translated, length) = (0, 0);
        if (!isSilent) iommu.Report(new VtdRecord(fault, source, address, IsRead: !write));
        return false;
    }

    static bool Found(in VtdPage page, ulong address, out ulong translated, out ulong length)
    {
        ulong inside = address - page.Base;
        (translated, length) = (page.Target + inside, page.Size - inside);
        return true;
    }

    public void Send(ulong address, uint data)
    {
        if (iommu.TryRemap(device.RequesterId, address, data, out InterruptMessage message)) bus!.Deliver(message);
    }

    public bool TryPost(ulong address, uint data) =>
        !iommu.TryRemap(device.RequesterId, address, data, out InterruptMessage message) || bus!.TryPost(message);
}
