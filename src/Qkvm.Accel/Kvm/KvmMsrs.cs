using Qkvm.Core.Accel;
using Qkvm.Host;

namespace Qkvm.Accel.Kvm;

// SAFETY: tables of the kernel's size, freed after the call that is given them.
/// <summary>The model-specific registers that are part of a vCPU's state. Intel SDM vol. 4.</summary>
static unsafe class KvmMsrs
{
    public const uint TimeStampCounter = 0x10, SmBase = 0x9E;

    /// <summary>In the order to write them. The time stamp counter comes first: its deadline depends on it.</summary>
    static readonly uint[] All =
    [
        // TSC adjustment, SYSENTER, PAT, miscellaneous enables, default MTRR type
        0x3B, 0x174, 0x175, 0x176, 0x277, 0x1A0, 0x2FF,
        // STAR, LSTAR, CSTAR, FMASK, kernel GS base, TSC_AUX
        0xC0000081, 0xC0000082, 0xC0000083, 0xC0000084, 0xC0000102, 0xC0000103,
        // KVM: wall clock, system time, page faults, steal time, EOI
        0x4B564D00, 0x4B564D01, 0x4B564D02, 0x4B564D03, 0x4B564D04,
        0x6E0,                                                     // TSC deadline
    ];

    /// <summary>Hyper-V's: name of the guest, pages, reference time, crash parameters, SynIC, timers,
    /// reenlightenment.</summary>
    static readonly uint[] HyperV =
    [
        0x40000000, 0x40000001, 0x40000021, 0x40000073, 0x40000080, 0x40000082, 0x40000083,
        .. Numbers(0x40000090, 16), .. Numbers(0x400000B0, 8), .. Numbers(0x40000100, 5), 0x40000106, 0x40000107,
        0x40000108,
    ];

    static IEnumerable<uint> Numbers(uint first, int count) => Enumerable.Range(0, count).Select(i => first + (uint)i);

    public static ulong Read(int vcpu, uint index)
    {
        TryTransfer(vcpu, KvmApi.GetMsrs, index, 0, out ulong value);
        return value;
    }

    public static void Write(int vcpu, uint index, ulong value) =>
        TryTransfer(vcpu, KvmApi.SetMsrs, index, value, out _);

    /// <summary>Those that this kernel has.</summary>
    /// <param name="hasHyperV">Hyper-V's too.</param>
    public static void Read(int vcpu, CpuRegisters registers, bool hasHyperV)
    {
        registers.Tsc = Read(vcpu, TimeStampCounter);
        foreach (uint index in ListOf(hasHyperV))
            if (TryTransfer(vcpu, KvmApi.GetMsrs, index, 0, out ulong value)) registers.Msrs[index] = value;
    }

    public static void Write(int vcpu, CpuRegisters registers, bool hasHyperV)
    {
        TryTransfer(vcpu, KvmApi.SetMsrs, TimeStampCounter, registers.Tsc, out _);
        foreach (uint index in ListOf(hasHyperV))
            if (registers.Msrs.TryGetValue(index, out ulong value))
                TryTransfer(vcpu, KvmApi.SetMsrs, index, value, out _);
    }

    static IEnumerable<uint> ListOf(bool hasHyperV) => hasHyperV ? All.Concat(HyperV) : All;

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
