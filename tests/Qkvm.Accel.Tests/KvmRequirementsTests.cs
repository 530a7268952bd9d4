using Qkvm.Accel.Kvm;

namespace Qkvm.Accel.Tests;

/// <summary>Kernels that lack something are refused in one line. Needs no KVM.</summary>
public sealed class KvmRequirementsTests
{
    /// <summary>KVM_CHECK_EXTENSION of Linux 6.1 on AMD, but for these.</summary>
    static Func<int, int> Kernel(params (int Extension, int Value)[] other) => extension =>
    {
        foreach ((int changed, int value) in other)
            if (changed == extension) return value;
        return extension switch
        {
            KvmApi.ExtensionMaxVCpus => 1024,
            KvmApi.ExtensionMaxVCpuId => 4096,
            _ => 1,
        };
    };

    [Fact]
    public void Nothing_is_missing_today()
    {
        foreach (KernelIrqChip mode in Enum.GetValues<KernelIrqChip>())
            Assert.Null(KvmRequirements.WhyNot(Kernel(), mode, 1024));
        Assert.Null(KvmRequirements.WhyNot(Kernel(), 4095));
    }

    [Theory]
    [InlineData(KvmApi.ExtensionUserMemory, "user memory")]
    [InlineData(KvmApi.ExtensionIrqChip, "interrupt controllers in the kernel")]
    [InlineData(KvmApi.ExtensionImmediateExit, "immediate exits (Linux 4.12)")]
    [InlineData(KvmApi.ExtensionReadOnlyMemory, "read-only memory")]
    [InlineData(KvmApi.ExtensionIoEventFdAnyLength, "doorbells of any width (Linux 4.4)")]
    public void A_capability_that_is_missing_is_named_and_what_would_do(int extension, string what)
    {
        foreach (int answer in new[] { 0, -1 })
            Assert.Equal($"-accel kvm: this kernel lacks {what}; use -accel tcg",
                KvmRequirements.WhyNot(Kernel((extension, answer)), KernelIrqChip.On, 1));
    }

    [Fact]
    public void Only_who_splits_the_controllers_needs_the_kernel_to()
    {
        Func<int, int> old = Kernel((KvmApi.ExtensionSplitIrqChip, 0));
        Assert.Equal("-accel kvm: this kernel lacks kernel-irqchip=split (Linux 4.5): give on or off; use -accel tcg",
            KvmRequirements.WhyNot(old, KernelIrqChip.Split, 1));
        Assert.Null(KvmRequirements.WhyNot(old, KernelIrqChip.On, 1));
    }

    [Theory]
    [InlineData(1025, 1024, 1024)]
    [InlineData(5, 0, 4)]
    public void More_processors_than_there_may_be_are_refused_with_the_most(int cpus, int told, int most) =>
        Assert.Equal($"-smp: Number of SMP cpus requested ({cpus}) exceeds the maximum cpus supported by KVM ({most}); "
            + $"give {most} or fewer, or use -accel tcg",
            KvmRequirements.WhyNot(Kernel((KvmApi.ExtensionMaxVCpus, told)), KernelIrqChip.On, cpus));

    [Theory]
    [InlineData(4096, 4096, 4095)]
    [InlineData(1024, 0, 1023)]
    public void An_apic_id_beyond_the_last_is_refused(int apicId, int told, int last) =>
        Assert.StartsWith($"-smp: APIC id {apicId} exceeds the last that KVM supports ({last}): ",
            KvmRequirements.WhyNot(Kernel((KvmApi.ExtensionMaxVCpuId, told)), apicId));
}
