using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;
using System.Text;
using Qkvm.Accel.Tcg.Model;
using Qkvm.Core.Accel;
using Qkvm.Host;

namespace Qkvm.Accel.Kvm;

// SAFETY: tables of the kernel's size, freed by who asked for them.
/// <summary>One leaf and subleaf.</summary>
readonly record struct CpuidLeaf(uint Function, uint Index, bool IsIndexed, CpuidResult Result);

/// <summary>What CPUID shows a guest under KVM: the model of -cpu, of which the kernel must support each feature, with
/// this vCPU's place in the topology. Linux, Documentation/virt/kvm/api.rst, KVM_GET_SUPPORTED_CPUID and
/// KVM_SET_CPUID2.</summary>
static unsafe class KvmCpuid
{
    const int MaxEntries = 256, HeaderSize = 8;
    const uint SignificantIndex = 1, Hypervisor = 0x40000000, Extended = 0x80000000, KvmFeatures = Hypervisor + 1;
    const uint XsaveLeaf = 0xD;

    /// <summary>QEMU's, for every model but max and host.</summary>
    const string Defaults = "kvmclock kvm-nopiodelay kvm-asyncpf kvm-steal-time kvm-pv-eoi kvmclock-stable-bit x2apic",
        Withdrawn = "acpi monitor svm",
        NeedsLocalApic = "x2apic tsc-deadline kvm-pv-eoi kvm-pv-unhalt kvm-pv-ipi kvm-asyncpf kvm-asyncpf-int "
            + "kvm-pv-sched-yield";

    /// <summary>Not reported although they are there, or reported where they must not be: the kernel's documentation,
    /// and invtsc, which a guest that may move to another machine must not count on.</summary>
    const string Unreported = "hypervisor arat topoext", Unasked = "invtsc intel-pt topoext";

    /// <summary>What this kernel and processor support.</summary>
    public static CpuidLeaf[] Supported(int device) => Ask(device, KvmApi.GetSupportedCpuid);

    /// <summary>Hyper-V's enlightenments that this kernel has; none where it cannot be asked before there are
    /// vCPUs.</summary>
    public static HyperVFeatures SupportedHyperV(int device)
    {
        if (Libc.ioctl(device, KvmApi.CheckExtension, KvmApi.ExtensionSystemHyperVCpuid) <= 0)
            return HyperVFeatures.None;
        CpuidLeaf[] leaves = Ask(device, KvmApi.GetSupportedHyperVCpuid);
        CpuidResult access = Find(leaves, Hypervisor + 3);
        return HyperV.Of(access.Eax, access.Edx, Find(leaves, Hypervisor + 4).Eax);
    }

    /// <summary>What is left without the kernel's local APICs, and what becomes possible with nothing but these: QEMU
    /// offers the same.</summary>
    public static CpuidLeaf[] Fit(CpuidLeaf[] supported, KernelIrqChip mode, bool hasWideIds)
    {
        uint[] lost = CpuFeatures.Parse(mode == KernelIrqChip.Off ? NeedsLocalApic : ""),
            added = CpuFeatures.Parse(mode == KernelIrqChip.Split && hasWideIds ? "kvm-msi-ext-dest-id" : "");
        return [.. supported.Select(leaf => leaf.Function switch
        {
            1 => leaf with { Result = leaf.Result with { Ecx = leaf.Result.Ecx & ~lost[(int)CpuidWord.Leaf1Ecx] } },
            KvmFeatures => leaf with { Result = leaf.Result with
                { Eax = leaf.Result.Eax & ~lost[(int)CpuidWord.Kvm] | added[(int)CpuidWord.Kvm] } },
            _ => leaf,
        })];
    }

    static CpuidLeaf[] Ask(int device, uint request)
    {
        byte* block = Allocate(MaxEntries);
        try
        {
            KvmApi.Call(device, request, block, "cannot read the supported CPUID");
            var entries = (KvmCpuidEntry*)(block + HeaderSize);
            var leaves = new CpuidLeaf[*(uint*)block];
            for (int i = 0; i < leaves.Length; i++)
            {
                ref KvmCpuidEntry e = ref entries[i];
                leaves[i] =
                    new(e.Function, e.Index, (e.Flags & SignificantIndex) != 0, new(e.Eax, e.Ebx, e.Ecx, e.Edx));
            }
            return leaves;
        }
        finally
        {
            NativeMemory.Free(block);
        }
    }

    /// <summary>The brand of this machine's processor: the kernel does not report it.</summary>
    public static string HostBrand()
    {
        Span<int> words = stackalloc int[12];
        if ((uint)X86Base.CpuId(unchecked((int)Extended), 0).Eax < Extended + 4) return "";
        for (int i = 0; i < 3; i++)
            (words[i * 4], words[i * 4 + 1], words[i * 4 + 2], words[i * 4 + 3]) =
                X86Base.CpuId(unchecked((int)(Extended + 2 + (uint)i)), 0);
        return Encoding.ASCII.GetString(MemoryMarshal.AsBytes(words)).TrimEnd('\0').Trim();
    }

    /// <summary>-cpu over these; a ConfigurationException where it cannot be.</summary>
    /// <param name="hasDeadline">KVM_CAP_TSC_DEADLINE_TIMER.</param>
    public static Cpuid Resolve(CpuSetup setup, CpuidLeaf[] supported, string brand, bool hasDeadline,
        HyperVFeatures hyperV = HyperVFeatures.None) =>
        CpuModels.Resolve(setup, HostOf(supported, brand, hasDeadline) with { HyperV = hyperV });

    public static ICpuModels ModelsOf(CpuidLeaf[] supported, string brand, bool hasDeadline) =>
        new CpuModelCatalogue(HostOf(supported, brand, hasDeadline));

    static CpuHost HostOf(CpuidLeaf[] supported, string brand, bool hasDeadline)
    {
        uint[] words = WordsOf(supported),
            unreported = CpuFeatures.Parse(Unreported + (hasDeadline ? " tsc-deadline" : "")),
            unasked = CpuFeatures.Parse(Unasked);
        for (int i = 0; i < words.Length; i++) words[i] |= unreported[i];
        uint[] maximum = [.. words];
        for (int i = 0; i < words.Length; i++)
            for (int bit = 0; bit < 32; bit++)
                if ((unasked[i] >> bit & 1) != 0 || CpuFeatures.NameOf((CpuidWord)i, bit).Length == 0)
                    maximum[i] &= ~(1u << bit);
        CpuidResult vendor = Find(supported, 0), version = Find(supported, 1);
        uint family = version.Eax >> 8 & 15, model = version.Eax >> 4 & 15 | version.Eax >> 12 & 0xF0;
        if (family == 15) family += version.Eax >> 20 & 0xFF;
        Span<uint> name = [vendor.Ebx, vendor.Edx, vendor.Ecx];
        var max = new CpuModel("max", Encoding.ASCII.GetString(MemoryMarshal.AsBytes(name)), brand, (int)family,
            (int)model, (int)(version.Eax & 15),
            Math.Min(vendor.Eax, 0x1F), Find(supported, Extended).Eax);
        int bits = (int)(Find(supported, Extended + 8).Eax & 0xFF);
        return new CpuHost("KVM here", words, maximum, max)
        {
            IsKvm = true, Added = CpuFeatures.Parse(Defaults), Removed = CpuFeatures.Parse(Withdrawn),
                PhysicalBits = bits == 0 ? 36 : bits,
        };
    }

    static uint[] WordsOf(CpuidLeaf[] supported)
    {
        var words = new uint[(int)CpuidWord.Count];
        for (var word = CpuidWord.Leaf1Edx; word < CpuidWord.Count; word++)
            words[(int)word] = word switch
            {
                CpuidWord.Leaf1Edx => Find(supported, 1).Edx,
                CpuidWord.Leaf1Ecx => Find(supported, 1).Ecx,
                CpuidWord.Leaf7Ebx => Find(supported, 7).Ebx,
                CpuidWord.Leaf7Ecx => Find(supported, 7).Ecx,
                CpuidWord.Leaf7Edx => Find(supported, 7).Edx,
                CpuidWord.Leaf71Eax => Find(supported, 7, 1).Eax,
                CpuidWord.Leaf80000001Edx => Find(supported, Extended + 1).Edx,
                CpuidWord.Leaf80000001Ecx => Find(supported, Extended + 1).Ecx,
                CpuidWord.Leaf80000007Edx => Find(supported, Extended + 7).Edx,
                CpuidWord.Leaf80000008Ebx => Find(supported, Extended + 8).Ebx,
                CpuidWord.Leaf8000000AEdx => Find(supported, Extended + 0xA).Edx,
                CpuidWord.Leaf80000021Eax => Find(supported, Extended + 0x21).Eax,
                CpuidWord.LeafD1Eax => Find(supported, XsaveLeaf, 1).Eax,
                CpuidWord.Leaf6Eax => Find(supported, 6).Eax,
                CpuidWord.Kvm => Find(supported, KvmFeatures).Eax,
                _ => 0,
            };
        return words;
    }

    static CpuidResult Find(CpuidLeaf[] leaves, uint function, uint index = 0)
    {
        foreach (CpuidLeaf leaf in leaves)
            if (leaf.Function == function && (leaf.Index == index || !leaf.IsIndexed)) return leaf.Result;
        return default;
    }

    /// <summary>All leaves of a vCPU: made, whether the kernel has such or not. Only how XSAVE lays out its area is the
    /// processor's own.</summary>
    public static CpuidLeaf[] Make(Cpuid cpuid, CpuidLeaf[] supported)
    {
        var leaves = new List<CpuidLeaf>();
        for (uint leaf = 0; leaf <= Math.Min(cpuid.BasicLevel, 0x1F); leaf++)
            switch (leaf)
            {
                case 4: AddUntilEmpty(leaf); break;
                case 7:
                    for (uint i = 0; i <= Query(leaf, 0).Eax; i++) Add(leaf, i, true);
                    break;
                case 0xB or 0x1F: for (uint i = 0; i < 4; i++) Add(leaf, i, true); break;
                case XsaveLeaf: AddXsave(); break;
                case 0x15 or 0x16: leaves.Add(new(leaf, 0, false, default)); break;    // the counter is the host's
                default: Add(leaf, 0, false); break;
            }
        if (cpuid.HyperV.IsOn)
            for (uint leaf = Hypervisor; leaf <= cpuid.HyperV.Limit; leaf++) Add(leaf, 0, false);
        if (cpuid.HasKvm)
        {
            uint first = cpuid.KvmBase;
            leaves.Add(new(first, 0, false, Query(first, 0) with { Eax = first + 1 }));
            Add(first + 1, 0, false);
        }
        for (uint leaf = Extended; leaf <= Math.Min(cpuid.ExtendedLimit, Extended + 0x21); leaf++)
            if (leaf == Extended + 0x1D) AddUntilEmpty(leaf);
            else if (leaf == Extended + 0xA && cpuid.Has("svm")) leaves.Add(new(leaf, 0, false, Find(supported, leaf)));
            else Add(leaf, 0, false);
        return [.. leaves];

        CpuidResult Query(uint leaf, uint index) => cpuid.Query(leaf, index, cr4: 0, xcr0: 1, apicBase: 0x800);

        void Add(uint leaf, uint index, bool isIndexed) => leaves.Add(new(leaf, index, isIndexed, Query(leaf, index)));

        void AddUntilEmpty(uint leaf)
        {
            uint index = 0;
            do Add(leaf, index, true);
            while ((Query(leaf, index++).Eax & 0x1F) != 0);
        }

        void AddXsave()
        {
            ulong mask = cpuid.Xcr0Mask & Find(supported, XsaveLeaf).Eax;
            uint end = 576;
            CpuidLeaf[] parts =
                [.. supported.Where(leaf => leaf.Function == XsaveLeaf && leaf.Index is >= 2 and < 64
                && (mask >> (int)leaf.Index & 1) != 0)];
            foreach (CpuidLeaf part in parts) end = Math.Max(end, part.Result.Ebx + part.Result.Eax);
            leaves.Add(new(XsaveLeaf, 0, true, mask == 0 ? default : new((uint)mask, end, end, 0)));
            leaves.Add(new(XsaveLeaf, 1, true, mask == 0 ? default : new(Query(XsaveLeaf, 1).Eax, 0, 0, 0)));
            leaves.AddRange(parts);
        }
    }

    /// <summary>struct kvm_cpuid2 in unmanaged memory; the caller frees it.</summary>
    public static byte* Write(CpuidLeaf[] leaves)
    {
        byte* block = Allocate(leaves.Length);
        var entries = (KvmCpuidEntry*)(block + HeaderSize);
        for (int i = 0; i < leaves.Length; i++)
        {
            CpuidResult r = leaves[i].Result;
            entries[i] = new KvmCpuidEntry
            {
                Function = leaves[i].Function, Index = leaves[i].Index, Flags = leaves[i].IsIndexed
                    ? SignificantIndex : 0,
                Eax = r.Eax, Ebx = r.Ebx, Ecx = r.Ecx, Edx = r.Edx,
            };
        }
        return block;
    }

    static byte* Allocate(int entries)
    {
        var block = (byte*)NativeMemory.AllocZeroed((nuint)(HeaderSize + entries * sizeof(KvmCpuidEntry)));
        *(uint*)block = (uint)entries;
        return block;
    }
}
