namespace Qkvm.Accel.Kvm;

/// <summary>What a kernel must have for a machine.</summary>
static class KvmRequirements
{
    const int LeastCpus = 4;                                       // where the kernel does not tell, api.rst

    static readonly (int Extension, string What)[] s_always =
    [
        (KvmApi.ExtensionUserMemory, "user memory"),
        (KvmApi.ExtensionIrqChip, "interrupt controllers in the kernel"),
        (KvmApi.ExtensionImmediateExit, "immediate exits (Linux 4.12)"),
        (KvmApi.ExtensionReadOnlyMemory, "read-only memory"),
        (KvmApi.ExtensionIoEventFdAnyLength, "doorbells of any width (Linux 4.4)"),
    ];

    /// <summary>One line on why it cannot be, and what can; null where nothing is missing.</summary>
    /// <param name="check">KVM_CHECK_EXTENSION.</param>
    /// <param name="cpus">As many may come.</param>
    public static string? WhyNot(Func<int, int> check, KernelIrqChip irqChip, int cpus)
    {
        foreach ((int extension, string what) in s_always)
            if (check(extension) <= 0) return $"-accel kvm: this kernel lacks {what}; use -accel tcg";
        if (irqChip == KernelIrqChip.Split && check(KvmApi.ExtensionSplitIrqChip) <= 0)
            return "-accel kvm: this kernel lacks kernel-irqchip=split (Linux 4.5): give on or off; use -accel tcg";
        int most = Math.Max(LeastCpus, check(KvmApi.ExtensionMaxVCpus));
        return cpus <= most ? null : $"-smp: Number of SMP cpus requested ({cpus}) exceeds the maximum cpus supported "
            + $"by KVM ({most}); give {most} or fewer, or use -accel tcg";
    }

    /// <summary>The same of one processor's APIC id, which is the kernel's number of it.</summary>
    public static string? WhyNot(Func<int, int> check, int apicId)
    {
        int beyond = check(KvmApi.ExtensionMaxVCpuId);             // 0: the kernel has only that of its processors
        if (beyond <= 0) beyond = Math.Max(LeastCpus, check(KvmApi.ExtensionMaxVCpus));
        return apicId < beyond ? null : $"-smp: APIC id {apicId} exceeds the last that KVM supports ({beyond - 1}): "
            + "give fewer sockets, or numbers of dies, cores and threads that are powers of two, or use -accel tcg";
    }
}
