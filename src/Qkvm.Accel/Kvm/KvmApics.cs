using Qkvm.Core.Accel;

namespace Qkvm.Accel.Kvm;

// SAFETY: structures lie on the stack, or pinned, for the time of the call.
/// <summary>The kernel's local APICs where all else is ours: KVM_CAP_SPLIT_IRQCHIP of
/// Documentation/virt/kvm/api.rst.</summary>
/// <remarks>The kernel tells of an interrupt's end where a route of its table has the vector and is level
/// triggered.</remarks>
sealed unsafe class KvmApics : IKernelApics
{
    const int Inputs = 2 * 24;                                     // of the I/O APICs that a board may have
    const ulong Use32BitIds = 1, DisableBroadcastQuirk = 2;
    const int HeaderSize = 8;                                      // struct kvm_irq_routing: a count, and flags
    const uint ExtendedDestination = 0xFE0;                        // of an MSI's address: bits 14:8 of the id
    const int ToWide = 35;

    readonly int _machine;
    readonly (ulong Address, uint Data)?[] _watched = new (ulong, uint)?[Inputs];

    /// <exception cref="Qkvm.Host.HostException">The kernel is too old.</exception>
    public KvmApics(int machine)
    {
        _machine = machine;
        var split = new KvmCapability { Capability = KvmApi.ExtensionSplitIrqChip };
        split.Arguments[0] = Inputs;
        KvmApi.Call(machine, KvmApi.EnableMachineCapability, &split, "cannot split the interrupt controllers");
        if (Host.Libc.ioctl(machine, KvmApi.CheckExtension, KvmApi.ExtensionX2ApicApi) <= 0) return;
        var wide = new KvmCapability { Capability = KvmApi.ExtensionX2ApicApi };
        wide.Arguments[0] = Use32BitIds | DisableBroadcastQuirk;
        KvmApi.Call(machine, KvmApi.EnableMachineCapability, &wide, "cannot use wide APIC ids");
        HasWideIds = true;
    }

    public bool HasWideIds { get; }
    public Func<int>? AcknowledgeIntr { get; set; }
    public Action<int>? Ended { get; set; }

    /// <summary>INTR, which the boot processor looks at.</summary>
    public bool Intr => Volatile.Read(ref _intr);

    bool _intr;                                                    // not migrated: the 8259's

    /// <summary>INTR has risen.</summary>
    public Action? Rising { get; set; }

    public void SendMsi(ulong address, uint data)
    {
        // Ids of 15 bits in messages: CPUID's KVM_FEATURE_MSI_EXT_DEST_ID.
        if (HasWideIds) address = address & ~(ulong)ExtendedDestination | (address & ExtendedDestination) << ToWide;
        var message = new KvmMsi { AddressLow = (uint)address, AddressHigh = (uint)(address >> 32), Data = data };
        // Fails where no CPU takes it, as a message to nobody does on a machine.
        Host.Libc.ioctl(_machine, KvmApi.SignalMsi, &message);
    }

    public void SetIntr(bool level)
    {
        Volatile.Write(ref _intr, level);
        if (level) Rising?.Invoke();
    }

    public void Watch(int input, ulong address, uint data)
    {
        if (_watched[input] == (address, data)) return;
        _watched[input] = (address, data);
        Update();
    }

    public void Unwatch(int input)
    {
        if (_watched[input] == null) return;
        _watched[input] = null;
        Update();
    }

    void Update()
    {
        byte* table = stackalloc byte[HeaderSize + Inputs * sizeof(KvmRoute)];
        new Span<byte>(table, HeaderSize + Inputs * sizeof(KvmRoute)).Clear();
        var routes = (KvmRoute*)(table + HeaderSize);
        int count = 0;
        for (int i = 0; i < Inputs; i++)
            if (_watched[i] is var (address, data))
                routes[count++] = new KvmRoute
                {
                    Gsi = (uint)i, Type = KvmRoute.Message, AddressLow = (uint)address,
                    AddressHigh = (uint)(address >> 32), Data = data,
                };
        *(int*)table = count;
        KvmApi.Call(_machine, KvmApi.SetGsiRouting, table, "cannot route interrupts");
    }
}
