using Qkvm.Core.Memory;

namespace Qkvm.Accel.Kvm;

// SAFETY: the kernel reads a structure of the stack's during the call.
/// <summary>Keeps the kernel's ioeventfds equal to the doorbells that an address space shows. KVM_IOEVENTFD of the
/// kernel's
/// Documentation/virt/kvm/api.rst.</summary>
/// <param name="isPorts">The space is that of ports.</param>
sealed unsafe class KvmDoorbells(int machine, bool isPorts)
{
    const int PortWidth = 2;                                       // of a notification register
    const uint DataMatch = 1, Ports = 2, Deassign = 4;

    readonly record struct Place(ulong Address, ulong? Value, Doorbell Doorbell);

    HashSet<Place> _places = [];

    public void Follow(AddressSpace space)
    {
        Update(space.View);
        space.ViewChanged += (_, now) => Update(now);
    }

    void Update(FlatView view)
    {
        HashSet<Place> wanted = [];
        foreach (FlatRange range in view.Ranges)
        {
            foreach (DoorbellPlace place in range.Region.Doorbells ?? [])
                if (place.Offset >= range.Offset && place.Offset - range.Offset < range.End - range.Start)
                    wanted.Add(new Place(range.Start + (place.Offset - range.Offset), place.Value, place.Doorbell));
        }
        foreach (Place gone in _places)
            if (!wanted.Contains(gone)) Set(gone, Deassign);
        foreach (Place place in wanted)
            if (!_places.Contains(place)) Set(place, 0);
        _places = wanted;
    }

    void Set(Place place, uint flags)
    {
        var request = new KvmIoEvent
        {
            Address = place.Address,
            Value = place.Value ?? 0,
            Length = isPorts || place.Value != null ? PortWidth : 0,   // 0: of any width
            Fd = place.Doorbell.Fd,
            Flags = flags | (isPorts ? Ports : 0) | (place.Value != null ? DataMatch : 0),
        };
        // SAFETY: the request lives on this stack until the call returns; the kernel copies it.
        KvmApi.Call(machine, KvmApi.IoEventFd, &request, $"cannot watch the doorbell at {place.Address:x}");
    }
}
