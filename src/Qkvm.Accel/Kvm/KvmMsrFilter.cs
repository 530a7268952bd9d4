using System.Runtime.InteropServices;
using Qkvm.Host;

namespace Qkvm.Accel.Kvm;

/// <summary>struct kvm_msr_filter with one range, of sixteen.</summary>
[StructLayout(LayoutKind.Sequential)]
unsafe struct KvmMsrFilterBlock
{
    public const uint Reads = 1;
    public ulong Flags;                                            // 0: what no range has is allowed
    public uint RangeFlags, Count, First, Pad;
    public byte* Allowed;                                          // a bit for each
    public fixed ulong Rest[15 * 3];
}

// SAFETY: structures lie on the stack for the time of the call; the kernel copies the bitmap.
/// <summary>Which model-specific registers are read here instead of in the kernel: KVM_X86_SET_MSR_FILTER of
/// Documentation/virt/kvm/api.rst, Linux 5.10. The kernel knows no topology, so it has no MSR_CORE_THREAD_COUNT, by
/// which firmware and systems on Intel's processors count cores.</summary>
static unsafe class KvmMsrFilter
{
    public const uint CoreThreadCount = 0x35;                      // Intel SDM vol. 4, table 2-15
    const uint ReasonFilter = 4;                                   // KVM_MSR_EXIT_REASON_FILTER

    /// <summary>Without effect where the kernel is older: the register is not there then.</summary>
    public static void Install(int machine)
    {
        if (Libc.ioctl(machine, KvmApi.CheckExtension, KvmApi.ExtensionUserSpaceMsr) <= 0
            || Libc.ioctl(machine, KvmApi.CheckExtension, KvmApi.ExtensionMsrFilter) <= 0) return;
        var exits = new KvmCapability { Capability = KvmApi.ExtensionUserSpaceMsr };
        exits.Arguments[0] = ReasonFilter;
        KvmApi.Call(machine, KvmApi.EnableMachineCapability, &exits, "cannot read registers of the guest's here");
        byte allowed = 0;
        var filter = new KvmMsrFilterBlock { RangeFlags = KvmMsrFilterBlock.Reads, Count = 1, First = CoreThreadCount,
            Allowed = &allowed };
        KvmApi.Call(machine, KvmApi.SetMsrFilter, &filter, "cannot set which registers are read here");
    }
}
