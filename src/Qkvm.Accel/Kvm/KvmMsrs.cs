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
        0x3A,                                                      // feature control, which others depend on
        // TSC adjustment, SYSENTER, PAT, miscellaneous enables
        0x3B, 0x174, 0x175, 0x176, 0x277, 0x1A0,
        // speculation control, two of them, UMWAIT, TSX, protection keys of supervisors and other states, XFD
        0x48, 0xC001011F, 0xE1, 0x122, 0x6E1, 0xDA0, 0x1C4, 0x1C5, 0xD90,
        // MTRRs: variable, fixed, and last their default type with the bits that enable them
        .. Numbers(0x200, 16), 0x250, 0x258, 0x259, .. Numbers(0x268, 8), 0x2FF,
        // STAR, LSTAR, CSTAR, FMASK, kernel GS base, TSC_AUX, AMD's TSC ratio, hardware configuration, host save area
        0xC0000081, 0xC0000082, 0xC0000083, 0xC0000084, 0xC0000102, 0xC0000103, 0xC0000104, 0xC0010015, 0xC0010117,
        // machine checks: status and control
        0x17A, 0x17B, 0x4D0,
        // performance counters: global control off, fixed, general, their events, control again
        0x38F, .. Numbers(0x309, 4), .. Numbers(0xC1, 8), .. Numbers(0x186, 8), 0x38D, 0x38E,
        .. Numbers(0xC0010000, 8), .. Numbers(0xC0010200, 12),
        // KVM: wall clock, system time, steal time, EOI, poll control; page faults' interrupt before they begin
        0x4B564D00, 0x4B564D01, 0x4B564D03, 0x4B564D04, 0x4B564D05, 0x4B564D08, 0x4B564D06, 0x4B564D02,
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
        Span<KvmMsrEntry> one = [new KvmMsrEntry { Index = index }];
        Transfer(vcpu, KvmApi.GetMsrs, one, static _ => { });
        return one[0].Data;
    }

    public static void Write(int vcpu, uint index, ulong value) =>
        Transfer(vcpu, KvmApi.SetMsrs, [new KvmMsrEntry { Index = index, Data = value }], static _ => { });

    /// <summary>Those that this kernel and this vCPU have.</summary>
    /// <param name="hasHyperV">Hyper-V's too.</param>
    public static void Read(int vcpu, CpuRegisters registers, bool hasHyperV)
    {
        registers.Tsc = Read(vcpu, TimeStampCounter);
        KvmMsrEntry[] entries = [.. ListOf(hasHyperV).Select(index => new KvmMsrEntry { Index = index })];
        Transfer(vcpu, KvmApi.GetMsrs, entries, entry => registers.Msrs[entry.Index] = entry.Data);
    }

    /// <summary>What cannot be written is left: read-only ones hold what they held.</summary>
    public static void Write(int vcpu, CpuRegisters registers, bool hasHyperV)
    {
        Write(vcpu, TimeStampCounter, registers.Tsc);
        KvmMsrEntry[] entries = [.. ListOf(hasHyperV).Where(registers.Msrs.ContainsKey)
            .Select(index => new KvmMsrEntry { Index = index, Data = registers.Msrs[index] })];
        Transfer(vcpu, KvmApi.SetMsrs, entries, static _ => { });
    }

    static IEnumerable<uint> ListOf(bool hasHyperV) => hasHyperV ? All.Concat(HyperV) : All;

    /// <summary>All that can be done, in order. The kernel stops at the first that it does not have, and says how many
    /// it did.</summary>
    static void Transfer(int vcpu, uint request, Span<KvmMsrEntry> entries, Action<KvmMsrEntry> done)
    {
        const int header = 8;                                      // struct kvm_msrs: a count, and padding
        byte* block = stackalloc byte[header + entries.Length * sizeof(KvmMsrEntry)];
        var inside = new Span<KvmMsrEntry>(block + header, entries.Length);
        for (int next = 0; next < entries.Length;)
        {
            Span<KvmMsrEntry> rest = entries[next..];
            *(ulong*)block = (ulong)rest.Length;
            rest.CopyTo(inside);
            int count = Math.Max(0, Libc.ioctl(vcpu, request, block));
            inside[..count].CopyTo(rest);
            foreach (KvmMsrEntry entry in rest[..count]) done(entry);
            next += count + 1;                                     // past the one that failed
        }
    }
}
