namespace Qkvm.Accel.Tcg.Model;

/// <remarks>Names that QEMU knows of words that no model here shows: they can be given, are off, and count as missing
/// where they are asked for.</remarks>
public static partial class CpuFeatures
{
    /// <summary>IA32_ARCH_CAPABILITIES, SGX's, Centaur's.</summary>
    const string Others = """
        rdctl-no ibrs-all rsba skip-l1dfl-vmentry ssb-no mds-no pschange-mc-no tsx-ctrl taa-no
        split-lock-detect sgx1 sgx2 sgx-debug sgx-exinfo sgx-kss sgx-mode64 sgx-provisionkey sgx-tokenkey
        xstore xstore-en xcrypt xcrypt-en ace2 ace2-en phe phe-en pmm pmm-en full-width-write intel-pt-lip
        kvm-hint-dedicated
        """;

    /// <summary>Of VMX's registers, without vmx- in front.</summary>
    const string Vmx = """
        activity-hlt activity-shutdown activity-wait-sipi apicv-register apicv-vid apicv-x2apic apicv-xapic
        cr3-load-noexit cr3-store-noexit cr8-load-exit cr8-store-exit desc-exit encls-exit entry-ia32e-mode
        entry-load-bndcfgs entry-load-efer entry-load-pat entry-load-perf-global-ctrl entry-load-pkrs
        entry-load-rtit-ctl entry-noload-debugctl ept ept-1gb ept-2mb ept-advanced-exitinfo ept-execonly eptad
        eptp-switching exit-ack-intr exit-clear-bndcfgs exit-clear-rtit-ctl exit-load-efer exit-load-pat
        exit-load-perf-global-ctrl exit-load-pkrs exit-nosave-debugctl exit-save-efer exit-save-pat
        exit-save-preemption-timer flexpriority hlt-exit ins-outs intr-exit invept invept-all-context
        invept-single-context invept-single-context-noglobals invlpg-exit invpcid-exit invvpid
        invvpid-all-context invvpid-single-addr io-bitmap io-exit monitor-exit movdr-exit msr-bitmap mtf
        mwait-exit nmi-exit page-walk-4 page-walk-5 pause-exit ple pml posted-intr preemption-timer rdpmc-exit
        rdrand-exit rdseed-exit rdtsc-exit rdtscp-exit secondary-ctls shadow-vmcs store-lma true-ctls
        tsc-offset tsc-scaling unrestricted-guest vintr-pending vmfunc vmwrite-vmexit-fields vnmi vnmi-pending
        vpid wbinvd-exit xsaves zero-len-inject
        """;

    static readonly Lazy<string[]> s_absent = new(() =>
        [.. Words(Others), .. Words(Vmx).Select(name => "vmx-" + name)]);

    static string[] Words(string text) => text.Split([' ', '\n'], StringSplitOptions.RemoveEmptyEntries);

    public static bool IsOfAbsentWord(string name) => Array.IndexOf(s_absent.Value, name) >= 0;

    /// <summary>Their first names.</summary>
    public static IEnumerable<string> Absent => s_absent.Value.Where(name => !name.Contains('_'));

    /// <summary>All first names, those that no model has too: -cpu help, and QMP.</summary>
    public static string[] AllAndAbsent() => [.. All().Concat(Absent).Order(StringComparer.Ordinal)];
}
