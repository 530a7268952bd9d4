using System.Runtime.InteropServices;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Host;

namespace Qkvm.Accel.Kvm;

/// <summary>struct kvm_coalesced_mmio_zone.</summary>
[StructLayout(LayoutKind.Sequential)]
struct KvmCoalescedZone
{
    public ulong Address;
    public uint Size, Pad;
}

/// <summary>struct kvm_coalesced_mmio, and struct kvm_coalesced_mmio_ring before the first.</summary>
[StructLayout(LayoutKind.Sequential)]
unsafe struct KvmCoalescedWrite
{
    public ulong Address;
    public uint Length, Pad;
    public fixed byte Data[8];
}

// SAFETY: the ring is a page of a vCPU's mapping, which stays until all vCPUs have ended; the kernel's indices are
// taken modulo its size.
/// <summary>Writes that the kernel gathers instead of leaving the guest for each: KVM_REGISTER_COALESCED_MMIO of
/// Documentation/virt/kvm/api.rst. Where the kernel lacks it, nothing is gathered.</summary>
/// <remarks>One ring for all vCPUs: the kernel moves its end, and we its begin under the machine lock.</remarks>
sealed unsafe class KvmLateWrites(int machine)
{
    const int PageSize = 4096, HeaderSize = 8;                     // two indices of 32 bits: first, and behind the last

    static readonly uint Most = (PageSize - HeaderSize) / (uint)sizeof(KvmCoalescedWrite);

    readonly int _page = Libc.ioctl(machine, KvmApi.CheckExtension, KvmApi.ExtensionCoalescedMmio); // of a mapping
    HashSet<KvmCoalescedZone> _zones = [];
    AddressSpace? _memory;
    MachineLock? _lock;
    uint* _ring;

    public void Follow(AddressSpace memory, MachineLock machineLock)
    {
        (_memory, _lock) = (memory, machineLock);
        if (_page <= 0) return;
        Update(memory.View);
        memory.ViewChanged += (_, now) => Update(now);
    }

    /// <summary>A vCPU's mapping; the ring is the same in all.</summary>
    /// <param name="size">Bytes.</param>
    public void Attach(void* run, nuint size)
    {
        if (_page > 0 && ((nuint)_page + 1) * PageSize <= size) _ring = (uint*)((byte*)run + _page * PageSize);
    }

    /// <summary>The mappings are going to end, as all vCPUs have.</summary>
    public void Detach()
    {
        if (_lock != null) _lock.Run(() => _ring = null);
    }

    /// <summary>Writes what has been gathered. From any thread that runs a vCPU or holds the machine lock.</summary>
    public void Settle()
    {
        uint* ring = _ring;
        if (ring == null || Volatile.Read(ref ring[0]) == Volatile.Read(ref ring[1])) return;
        using MachineLock.Scope held = _lock!.Hold();
        var writes = (KvmCoalescedWrite*)(ring + 2);
        for (uint first = ring[0] % Most; first != Volatile.Read(ref ring[1]) % Most;)
        {
            KvmCoalescedWrite write = writes[first];
            first = (first + 1) % Most;
            Volatile.Write(ref ring[0], first);
            ulong value = 0;
            int size = (int)Math.Min(write.Length, sizeof(ulong));
            for (int i = 0; i < size; i++) value |= (ulong)write.Data[i] << (i * 8);
            _memory!.Write(write.Address, size, value);
        }
    }

    void Update(FlatView view)
    {
        HashSet<KvmCoalescedZone> wanted = [];
        foreach (FlatRange range in view.Ranges)
        {
            if (range.Region.LateWrites is not { } late) continue;
            wanted.Add(new() { Address = range.Start, Size = (uint)(range.End - range.Start) });
            late.Gathered = Settle;
        }
        foreach (KvmCoalescedZone gone in _zones.Where(zone => !wanted.Contains(zone)))
            Set(KvmApi.UnregisterCoalesced, gone);
        foreach (KvmCoalescedZone zone in wanted.Where(zone => !_zones.Contains(zone)))
            Set(KvmApi.RegisterCoalesced, zone);
        _zones = wanted;
    }

    /// <summary>Where it fails each write is an exit.</summary>
    void Set(uint request, KvmCoalescedZone zone) => Libc.ioctl(machine, request, &zone);
}
