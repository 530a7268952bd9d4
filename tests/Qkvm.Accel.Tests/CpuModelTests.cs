using Qkvm.Accel.Tcg;
using Qkvm.Accel.Tcg.Model;
using Qkvm.Core.Accel;
using Qkvm.Core.Devices;

namespace Qkvm.Accel.Tests;

/// <summary>-cpu: CPUID and model-specific registers.</summary>
public sealed unsafe class CpuModelTests
{
    static Cpuid Resolve(string model, int cores = 1, int threads = 1, int apicId = 0,
        params (string, bool)[] features) =>
        CpuModels.Resolve(new CpuSetup(model, [.. features.Select(f => KeyValuePair.Create(f.Item1, f.Item2))], apicId,
            1, cores, threads));

    static CpuidResult Query(Cpuid cpuid, uint leaf, uint subleaf = 0, ulong cr4 = 0, ulong xcr0 = 1) =>
        cpuid.Query(leaf, subleaf, cr4, xcr0, 0xFEE00900);

    [Theory]
    [InlineData("qemu64", "AuthenticAMD", 0x60FB1u)]
    [InlineData("Nehalem", "GenuineIntel", 0x106A3u)]
    [InlineData("Haswell", "GenuineIntel", 0x306C4u)]
    [InlineData("Skylake-Client", "GenuineIntel", 0x506E3u)]
    [InlineData("EPYC", "AuthenticAMD", 0x800F12u)]
    public void ModelsHaveQemusIdentity(string model, string vendor, uint signature)
    {
        Cpuid cpuid = Resolve(model);
        CpuidResult zero = Query(cpuid, 0);
        byte[] text = [.. BitConverter.GetBytes(zero.Ebx), .. BitConverter.GetBytes(zero.Edx),
            .. BitConverter.GetBytes(zero.Ecx)];
        Assert.Equal(vendor, System.Text.Encoding.ASCII.GetString(text));
        Assert.Equal(signature, Query(cpuid, 1).Eax);
    }

    [Fact]
    public void FeaturesAreSwitchedByName()
    {
        Assert.False(Resolve("qemu64").Has("popcnt"));
        Assert.True(Resolve("qemu64", features: ("popcnt", true)).Has("popcnt"));
        Assert.False(Resolve("max", features: ("sse4_1", false)).Has("sse4.1"));
        Assert.Equal(["skinit"], Resolve("qemu64", features: ("skinit", true)).Missing);
        Assert.Equal(["avx512er"], Resolve("max", features: ("avx512er", true)).Missing);
        Assert.True(Resolve("max", features: ("avx2", false)).Has("xsave"));
        Assert.False(Resolve("max", features: ("xsave", false)).Has("avx2"));
    }

    [Fact]
    public void FeaturesNeedWhatTheyDependOn()
    {
        Assert.False(Resolve("qemu64", features: ("xsaveopt", true)).Has("xsaveopt"));
        Assert.True(Resolve("qemu64", 1, 1, 0, ("xsaveopt", true), ("xsave", true)).Has("xsaveopt"));
        Assert.False(Resolve("max", features: ("avx2", false)).Has("avx512f"));
        Assert.False(Resolve("max", features: ("avx512f", false)).Has("avx512vl"));
        Assert.False(Resolve("max", features: ("avx512_bf16", false)).Has("avx512-bf16"));
    }

    [Fact]
    public void UnknownNamesAreRefusedWithASuggestion()
    {
        Assert.Contains("did you mean 'Haswell'?",
            Assert.Throws<ConfigurationException>(() => Resolve("haswel")).Message);
        Assert.Contains("did you mean 'avx2'?",
            Assert.Throws<ConfigurationException>(() => Resolve("max", features: ("avx22", true))).Message);
    }

    [Fact]
    public void TopologyLeavesDescribeThreadsAndCores()
    {
        Cpuid cpuid = Resolve("max", cores: 3, threads: 2, apicId: 5);
        Assert.Equal(new CpuidResult(1, 2, 0x100, 5), Query(cpuid, 0xB, 0));
        Assert.Equal(new CpuidResult(3, 6, 0x201, 5), Query(cpuid, 0xB, 1));
        CpuidResult one = Query(cpuid, 1);
        Assert.Equal(6u, one.Ebx >> 16 & 0xFF);
        Assert.Equal(5u, one.Ebx >> 24);
        Assert.NotEqual(0u, one.Edx & 1 << 28);
        Assert.Equal(5u, Query(cpuid, 0x80000008).Ecx & 0xFF);
        Assert.Equal(0u, Query(Resolve("max"), 1).Edx & 1 << 28);
    }

    [Fact]
    public void LeavesFollowTheControlRegisters()
    {
        Cpuid cpuid = Resolve("max");
        Assert.Equal(0u, Query(cpuid, 1).Ecx & 1 << 27);
        Assert.NotEqual(0u, Query(cpuid, 1, cr4: Cr4.Osxsave).Ecx & 1 << 27);
        Assert.Equal(576u, Query(cpuid, 0xD, xcr0: 3).Ebx);
        uint vectors = cpuid.Has("avx") ? 832u : 576u;
        Assert.Equal(vectors, Query(cpuid, 0xD, xcr0: cpuid.Xcr0Mask & 7).Ebx);
        Assert.Equal(2696u, Query(cpuid, 0xD, xcr0: cpuid.Xcr0Mask).Ebx);              // with PKRU
        Assert.Equal(40u | 57 << 8, Query(cpuid, 0x80000008).Eax);               // with la57
    }

    [Fact]
    public void EveryModelNamesOnlyKnownFeatures()
    {
        foreach (CpuModel model in CpuModels.All) CpuFeatures.Parse(model.Features);
        Assert.Contains("x86 qemu64", CpuModels.Help());
    }

    // Intel SDM vol. 4; vol. 3, sections 11.11.2.1 and 11.12.2.
    [Theory]
    [InlineData(0x277, 0x0007040600070406, true)]
    [InlineData(0x277, 0x0200000000000000, false)]                  // type 2 is reserved
    [InlineData(0x2FF, 0xC06, true)]
    [InlineData(0x2FF, 0x1000, false)]
    [InlineData(0x201, 0xFF80000800, true)]
    [InlineData(0x201, 0x10000000000, false)]                       // above 40 physical bits
    [InlineData(0x250, 0x0606060606060606, true)]
    [InlineData(0x250, 0x0707070707070707, false)]
    [InlineData(0xC0000082, 0x0100000000000000, false)]                // not canonical
    [InlineData(0xC0000100, 0x7FFFFFFFFFFF, true)]
    [InlineData(0xCE, 0, false)]                                    // unknown
    public void RegistersTakeWhatIsValid(uint msr, ulong value, bool valid)
    {
        using GuestMachine machine = new();
        Assert.Equal(valid, machine.Cpu.WriteMsr(msr, value));
        if (!valid) return;
        Assert.True(machine.Cpu.ReadMsr(msr, out ulong read));
        Assert.Equal(value, read);
    }

    [Fact]
    public void WritingTheTimeStampMovesItsAdjustment()
    {
        const uint tsc = 0x10, adjust = 0x3B;
        using GuestMachine machine = new();
        Assert.True(machine.Cpu.ReadMsr(adjust, out ulong before));
        Assert.Equal(0UL, before);
        Assert.True(machine.Cpu.WriteMsr(adjust, 1UL << 60));
        Assert.True(machine.Cpu.ReadMsr(tsc, out ulong time));
        Assert.InRange(time, 1UL << 60, (1UL << 60) + (1UL << 50));
        Assert.True(machine.Cpu.WriteMsr(tsc, 0));
        Assert.True(machine.Cpu.ReadMsr(adjust, out ulong after));
        Assert.True((long)after < 1L << 60);
        Assert.True(machine.VCpu.TimeStampCounter < 1UL << 50);
    }
}
