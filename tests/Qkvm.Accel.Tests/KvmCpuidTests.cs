using System.Text;
using Qkvm.Accel.Kvm;
using Qkvm.Accel.Tcg.Model;
using Qkvm.Core.Accel;
using Qkvm.Core.Devices;

namespace Qkvm.Accel.Tests;

/// <summary>-cpu under KVM, on what KVM_GET_SUPPORTED_CPUID tells on a machine: here an Intel Xeon of the Skylake
/// family, without TSX.</summary>
public sealed class KvmCpuidTests
{
    const string Brand = "Intel(R) Xeon(R) Gold 6130 CPU @ 2.10GHz";

    static CpuidLeaf Leaf(uint function, uint eax, uint ebx, uint ecx, uint edx) =>
        new(function, 0, false, new(eax, ebx, ecx, edx));
    static CpuidLeaf Leaf(uint function, uint index, uint eax, uint ebx, uint ecx, uint edx) =>
        new(function, index, true, new(eax, ebx, ecx, edx));

    /// <summary>No leaf Bh, and a brand of zeros, as the kernel has them.</summary>
    static readonly CpuidLeaf[] s_skylake =
    [
        Leaf(0, 0x16, 0x756E6547, 0x6C65746E, 0x49656E69), Leaf(1, 0x50654, 0x800, 0xF6FA3203, 0x1F8BFBFF),
        Leaf(4, 0, 0x3C004121, 0x1C0003F, 0x3F, 0), Leaf(6, 4, 0, 0, 0), Leaf(7, 0, 0, 0xD19F27EB, 0x1C, 0xAC000400),
        Leaf(0xD, 0, 0x2E7, 0xA88, 0xA88, 0), Leaf(0xD, 1, 0xF, 0xA08, 0x100, 0), Leaf(0xD, 2, 0x100, 0x240, 0, 0),
        Leaf(0xD, 5, 0x40, 0x440, 0, 0), Leaf(0xD, 6, 0x200, 0x480, 0, 0), Leaf(0xD, 7, 0x400, 0x680, 0, 0),
            Leaf(0xD, 9, 8, 0xA80, 0, 0),
        Leaf(0x40000000, 0x40000001, 0x4B4D564B, 0x564B4D56, 0x4D), Leaf(0x40000001, 0x1007AFB, 0, 0, 0),
        Leaf(0x80000000, 0x80000008, 0, 0, 0), Leaf(0x80000001, 0x50654, 0, 0x121, 0x2C100800),
            Leaf(0x80000002, 0, 0, 0, 0),
        Leaf(0x80000008, 0x302E, 0xD000, 0, 0),
    ];

    static Cpuid Resolve(string text, int cores = 1, int threads = 1, int apicId = 0)
    {
        string[] parts = text.Split(',');
        var features = parts.Skip(1).Select(p => p[0] is '+' or '-' ? KeyValuePair.Create(p[1..], p[0] == '+')
            : p.Contains('=') ? KeyValuePair.Create(p[..p.IndexOf('=')], p.EndsWith("=on", StringComparison.Ordinal))
            : KeyValuePair.Create(p, true)).ToArray();
        return KvmCpuid.Resolve(new CpuSetup(parts[0], features, apicId, 1, cores, threads), s_skylake, Brand,
            hasDeadline: true);
    }

    static CpuidLeaf[] Make(Cpuid cpuid) => KvmCpuid.Make(cpuid, s_skylake);
    static CpuidResult? At(CpuidLeaf[] leaves, uint function, uint index = 0)
    {
        foreach (CpuidLeaf leaf in leaves)
            if (leaf.Function == function && leaf.Index == index) return leaf.Result;
        return null;
    }

    static string Text(params uint[] words) =>
        Encoding.ASCII.GetString([.. words.SelectMany(BitConverter.GetBytes)]).TrimEnd('\0');

    static string BrandOf(CpuidLeaf[] leaves)
    {
        uint[] words = [];
        for (uint i = 0x80000002; i <= 0x80000004; i++)
            if (At(leaves, i) is { } part) words = [.. words, part.Eax, part.Ebx, part.Ecx, part.Edx];
        return Text(words);
    }

    [Theory]
    [InlineData("", "GenuineIntel", 0x60FB1u, "QEMU Virtual CPU version 2.5+")]
    [InlineData("qemu64", "GenuineIntel", 0x60FB1u, "QEMU Virtual CPU version 2.5+")]
    [InlineData("Haswell-noTSX", "GenuineIntel", 0x306C1u, "Intel Core Processor (Haswell, no TSX)")]
    [InlineData("host", "GenuineIntel", 0x50654u, Brand)]
    [InlineData("max", "GenuineIntel", 0x50654u, Brand)]
    public void The_model_is_the_one_asked_for_and_its_maker_this_machines(string model, string vendor,
        uint signature, string brand)
    {
        CpuidLeaf[] leaves = Make(Resolve(model));
        CpuidResult zero = At(leaves, 0)!.Value;
        Assert.Equal((vendor, signature, brand),
            (Text(zero.Ebx, zero.Edx, zero.Ecx), At(leaves, 1)!.Value.Eax, BrandOf(leaves)));
    }

    [Fact]
    public void Features_are_the_models_as_far_as_the_kernel_has_them()
    {
        Assert.False(Resolve("qemu64").Has("avx2"));
        Assert.True(Resolve("host").Has("avx512f") && Resolve("host").Has("hypervisor")
            && Resolve("host").Has("tsc-deadline") && Resolve("host").Has("arat"));
        Assert.False(Resolve("host,-avx2").Has("avx2"));
        Assert.True(Resolve("qemu64,+avx2,+avx,+xsave").Has("avx2"));
        Assert.True(Resolve("qemu64").Has("x2apic"));                    // as QEMU adds it for KVM
        Assert.False(Resolve("qemu64").Has("monitor") || Resolve("host").Has("invtsc"));
        Assert.Equal(0u, At(Make(Resolve("host,-avx2")), 7)!.Value.Ebx & 1 << 5);
    }

    [Fact]
    public void What_is_missing_is_told_and_enforce_refuses()
    {
        Assert.Equal(["hle", "rtm"], Resolve("Haswell").Missing.Order());
        Assert.Empty(Resolve("Haswell-noTSX").Missing);
        Assert.Empty(Resolve("qemu64").Missing);
        Assert.Empty(Resolve("486").Missing);                            // x2apic is added to all: nobody asked for it
        Assert.Equal(["x2apic"], Resolve("486,+x2apic").Missing);
        Assert.Contains("KVM here lacks", Assert.Throws<ConfigurationException>(() => Resolve("Haswell,enforce"))
            .Message);
        Assert.Contains("unable to find CPU model 'nonsense'",
            Assert.Throws<ConfigurationException>(() => Resolve("nonsense")).Message);
        Assert.Contains("there is no feature 'avx22'",
            Assert.Throws<ConfigurationException>(() => Resolve("host,+avx22")).Message);
    }

    [Fact]
    public void Topology_is_made_though_the_kernel_reports_none()
    {
        CpuidLeaf[] leaves = Make(Resolve("Haswell-noTSX", cores: 2, threads: 2, apicId: 3));
        Assert.Equal(new CpuidResult(1, 2, 0x100, 3), At(leaves, 0xB, 0));
        Assert.Equal(new CpuidResult(2, 4, 0x201, 3), At(leaves, 0xB, 1));
        Assert.Equal((3u, 4u), (At(leaves, 1)!.Value.Ebx >> 24, At(leaves, 1)!.Value.Ebx >> 16 & 0xFF));
        Assert.Equal(1u, At(leaves, 4, 0)!.Value.Eax >> 26);
        Assert.Equal(0u, At(leaves, 4, 4)!.Value.Eax);
    }

    [Fact]
    public void The_hypervisors_leaves_are_kvms_unless_hidden()
    {
        CpuidLeaf[] leaves = Make(Resolve("qemu64"));
        CpuidResult signature = At(leaves, 0x40000000)!.Value;
        Assert.Equal("KVMKVMKVM", Text(signature.Ebx, signature.Ecx, signature.Edx));
        Assert.Equal(0x1000079u, At(leaves, 0x40000001)!.Value.Eax & ~2u);
        Assert.Null(At(Make(Resolve("qemu64,kvm=off")), 0x40000000));
    }

    /// <summary>Where the components of XSAVE lie is the processor's own business.</summary>
    [Fact]
    public void Xsaves_area_is_the_processors()
    {
        CpuidLeaf[] leaves = Make(Resolve("host,-avx512f"));
        Assert.Equal(new CpuidResult(0x207, 0xA88, 0xA88, 0), At(leaves, 0xD));
        Assert.Equal(new CpuidResult(8, 0xA80, 0, 0), At(leaves, 0xD, 9));
        Assert.Null(At(leaves, 0xD, 5));
        Assert.Equal(default(CpuidResult), At(Make(Resolve("host,-xsave")), 0xD));
    }
}
