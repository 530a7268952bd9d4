namespace Qkvm.Accel.Kvm;

/// <summary>How often KVM_RUN ended, by reason. Written by the processor's thread alone.</summary>
sealed class KvmExits
{
    /// <summary>KVM_EXIT_ of Documentation/virt/kvm/api.rst, by number.</summary>
    static readonly string[] Names =
    [
        "unknown", "exception", "io", "hypercall", "debug", "hlt", "mmio", "irq-window-open", "shutdown", "fail-entry",
        "intr", "set-tpr", "tpr-access", "s390-sieic", "s390-reset", "dcr", "nmi", "internal-error", "osi",
        "papr-hcall", "s390-ucontrol", "watchdog", "s390-tsch", "epr", "system-event", "s390-stsi", "ioapic-eoi",
        "hyperv", "arm-nisv", "x86-rdmsr", "x86-wrmsr", "dirty-ring-full", "ap-reset-hold", "x86-bus-lock", "xen",
    ];

    readonly ulong[] _counts = new ulong[Names.Length + 1];        // and all later ones

    public void Count(uint reason) => _counts[Math.Min(reason, (uint)Names.Length)]++;

    public static string NameOf(uint reason) => reason < Names.Length ? Names[reason] : "other";

    public IEnumerable<(string Reason, ulong Count)> All =>
        _counts.Select((_, i) => (NameOf((uint)i), Volatile.Read(ref _counts[i])));
}
