using System.Runtime.InteropServices;
using Qkvm.Core.Accel;

namespace Qkvm.Accel.Kvm;

/// <summary>What CPUID shows a guest under KVM: what the kernel supports, with this vCPU's place in the topology.</summary>
static unsafe class KvmCpuid
{
    const int MaxEntries = 256, HeaderSize = 8;
    const uint SignificantIndex = 1;

    /// <summary>struct kvm_cpuid2 in unmanaged memory; the caller frees it.</summary>
    public static byte* Build(int device, CpuSetup setup)
    {
        var block = (byte*)NativeMemory.AllocZeroed((nuint)(HeaderSize + MaxEntries * sizeof(KvmCpuidEntry)));
        *(uint*)block = MaxEntries;
        KvmApi.Call(device, KvmApi.GetSupportedCpuid, block, "cannot read the supported CPUID");
        var entries = (KvmCpuidEntry*)(block + HeaderSize);
        uint count = *(uint*)block;
        for (uint i = 0; i < count; i++) Adjust(ref entries[i], setup);
        return block;
    }

    static void Adjust(ref KvmCpuidEntry entry, CpuSetup setup)
    {
        uint logical = (uint)(setup.Cores * setup.Threads), apicId = (uint)setup.ApicId;
        switch (entry.Function)
        {
            case 1:
                entry.Ebx = entry.Ebx & 0x0000FFFF & ~0xFFu << 8 | apicId << 24 | logical << 16 | 8 << 8; // CLFLUSH 64 bytes
                entry.Ecx |= 1u << 31;                             // a hypervisor is present
                if (logical > 1) entry.Edx |= 1u << 28;            // HTT: the logical count is valid
                break;
            case 4:
                entry.Eax = entry.Eax & 0x3FFF | (uint)(setup.Cores - 1) << 26 | (uint)(setup.Threads - 1) << 14;
                break;
            case 0xB or 0x1F:
                entry.Edx = apicId;
                if (entry.Index == 0) (entry.Eax, entry.Ebx, entry.Ecx) = (Bits(setup.Threads), (uint)setup.Threads, 0x100);
                else if (entry.Index == 1) (entry.Eax, entry.Ebx, entry.Ecx) = (Bits(setup.Cores) + Bits(setup.Threads), logical, 0x201);
                else (entry.Eax, entry.Ebx, entry.Ecx) = (0, 0, entry.Index);
                break;
            case 0x80000008:
                if (logical > 1) entry.Ecx = entry.Ecx & ~0xFFu | logical - 1;
                break;
            case 0x8000001E:
                (entry.Eax, entry.Ebx, entry.Ecx) = (apicId, apicId / (uint)setup.Threads & 0xFF | (uint)(setup.Threads - 1) << 8, 0);
                break;
        }
    }

    static uint Bits(int count) => count <= 1 ? 0 : (uint)System.Numerics.BitOperations.Log2((uint)count - 1) + 1;
}
