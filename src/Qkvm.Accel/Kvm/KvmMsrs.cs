using Qkvm.Core.State;
using Qkvm.Host;

namespace Qkvm.Accel.Kvm;

// SAFETY: tables of the kernel's size, freed after the call that is given them.
/// <summary>The model-specific registers that are part of a vCPU's state. Intel SDM vol. 4.</summary>
static unsafe class KvmMsrs
{
    public const uint TimeStampCounter = 0x10;

    static readonly (uint Index, string Name)[] All =
    [
        (TimeStampCounter, "tsc"), (0x3B, "tsc-adjust"), (0x174, "sysenter-cs"), (0x175, "sysenter-esp"),
            (0x176, "sysenter-eip"), (0x277, "pat"),
        (0x1A0, "misc-enable"), (0x2FF, "mtrr-default"), (0xC0000081, "star"), (0xC0000082, "lstar"),
            (0xC0000083, "cstar"),
        (0xC0000084, "fmask"), (0xC0000102, "kernel-gs-base"), (0xC0000103, "tsc-aux"),
        (0x4B564D00, "kvm-wall-clock"), (0x4B564D01, "kvm-system-time"), (0x4B564D02, "kvm-async-pf"),
            (0x4B564D03, "kvm-steal-time"), (0x4B564D04, "kvm-eoi"),
        (0x6E0, "tsc-deadline"),
    ];

    public static ulong Read(int vcpu, uint index)
    {
        TryTransfer(vcpu, KvmApi.GetMsrs, index, 0, out ulong value);
        return value;
    }

    public static void Exchange(int vcpu, StateStream state)
    {
        foreach ((uint index, string name) in All)
        {
            if (!TryTransfer(vcpu, KvmApi.GetMsrs, index, 0, out ulong value)) continue; // a register this kernel lacks
            state.Field(name, ref value);
            if (state.IsLoading) TryTransfer(vcpu, KvmApi.SetMsrs, index, value, out _);
        }
    }

    static bool TryTransfer(int vcpu, uint request, uint index, ulong value, out ulong result)
    {
        byte* block = stackalloc byte[8 + sizeof(KvmMsrEntry)];
        *(ulong*)block = 1;                                        // struct kvm_msrs: one entry
        var entry = (KvmMsrEntry*)(block + 8);
        *entry = new KvmMsrEntry { Index = index, Data = value };
        bool done = Libc.ioctl(vcpu, request, block) == 1;
        result = entry->Data;
        return done;
    }
}
