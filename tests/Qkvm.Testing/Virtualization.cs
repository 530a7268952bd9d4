using System.Runtime.Intrinsics.X86;

namespace Qkvm.Testing;

/// <summary>What is behind /dev/kvm. A kernel can have one without VMX or SVM, which runs a guest's real mode and its
/// kernel instruction by instruction: too slow for Linux, and with single steps of its own.</summary>
public static class Virtualization
{
    /// <summary>Why not to expect a processor's behaviour of it; null where there is one.</summary>
    public static string? Missing =>
        HasVmx || HasSvm ? null : "needs a processor with VMX or SVM behind /dev/kvm";

    // CPUID.01H:ECX.VMX and CPUID.80000001H:ECX.SVM
    static bool HasVmx => (X86Base.CpuId(1, 0).Ecx & 1 << 5) != 0;
    static bool HasSvm => (X86Base.CpuId(unchecked((int)0x8000_0001), 0).Ecx & 1 << 2) != 0;
}
