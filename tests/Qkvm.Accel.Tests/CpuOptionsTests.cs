using Qkvm.Accel.Tcg.Model;
using Qkvm.Core.Accel;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Host;

namespace Qkvm.Accel.Tests;

/// <summary>-cpu's models, versions and properties.</summary>
public sealed class CpuOptionsTests
{
    /// <summary>As on the command line: model,+a,-b,c=on,d=value.</summary>
    static Cpuid Resolve(string text)
    {
        string[] parts = text.Split(',');
        var features = new List<KeyValuePair<string, bool>>();
        var properties = new List<OptionPair>();
        foreach (string part in parts.Skip(1))
        {
            int equals = part.IndexOf('=');
            if (part[0] is '+' or '-') features.Add(new(part[1..], part[0] == '+'));
            else if (equals < 0) features.Add(new(part, true));
            else if (part[(equals + 1)..] is "on" or "off")
                features.Add(new(part[..equals], part.EndsWith("=on", StringComparison.Ordinal)));
            else properties.Add(new OptionPair(part[..equals], part[(equals + 1)..]));
        }
        return CpuModels.Resolve(new CpuSetup(parts[0], features, 0, 1, 1, 1) { Properties = properties });
    }

    static CpuidResult Query(Cpuid cpuid, uint leaf, uint subleaf = 0) => cpuid.Query(leaf, subleaf, 0, 1, 0xFEE00900);

    static string Text(params uint[] words) =>
        System.Text.Encoding.ASCII.GetString([.. words.SelectMany(BitConverter.GetBytes)]).TrimEnd('\0');

    static string Hypervisor(Cpuid cpuid)
    {
        CpuidResult leaf = Query(cpuid, 0x40000000);
        return Text(leaf.Ebx, leaf.Ecx, leaf.Edx);
    }

    [Theory]
    [InlineData("host", "max")]
    [InlineData("Haswell", "Haswell-v1")]
    [InlineData("Haswell-noTSX", "Haswell-v2")]
    [InlineData("Skylake-Client-noTSX-IBRS", "Skylake-Client-v3")]
    [InlineData("EPYC-IBPB", "EPYC-v2")]
    [InlineData("qemu64", "qemu64-v1")]
    [InlineData("Nehalem-v2", "Nehalem-v2")]
    public void Names_without_version_mean_one(string name, string model) =>
        Assert.Equal(model, Resolve(name).Model.Name);

    [Fact]
    public void Versions_differ_as_in_qemu()
    {
        Assert.Equal("Intel Core Processor (Haswell, no TSX)", CpuModels.Find("Haswell-v2")!.Text);
        Assert.DoesNotContain("rtm", CpuModels.Find("Haswell-v2")!.Features.Split(' '));
        Assert.Contains("rtm", CpuModels.Find("Haswell-v1")!.Features.Split(' '));
        Assert.True(Resolve("EPYC-v3").Has("xsaves"));
        Assert.False(Resolve("EPYC-v1").Has("xsaves"));
    }

    [Fact]
    public void Identity_can_be_given()
    {
        Cpuid cpuid = Resolve("max,vendor=GenuineIntel,family=6,model=0x5e,stepping=3,model-id=My " +
            "CPU,level=0x16,xlevel=0x80000004,phys-bits=46");
        CpuidResult zero = Query(cpuid, 0);
        Assert.Equal((0x16u, "GenuineIntel"), (zero.Eax, Text(zero.Ebx, zero.Edx, zero.Ecx)));
        Assert.Equal(0x506E3u, Query(cpuid, 1).Eax);
        CpuidResult name = Query(cpuid, 0x80000002);
        Assert.Equal("My CPU", Text(name.Eax, name.Ebx, name.Ecx, name.Edx));
        Assert.Equal(0x80000004u, Query(cpuid, 0x80000000).Eax);
        Assert.Equal(46, cpuid.PhysicalBits);
        Assert.Equal(46u, Query(Resolve("max,phys-bits=46"), 0x80000008).Eax & 0xFF);
    }

    [Theory]
    [InlineData("max,hv-evmcs", "does not have it")]
    [InlineData("max,hv-syndbg", "hv-syndbg")]
    [InlineData("max,vendor=Intel", "12 characters")]
    [InlineData("max,phys-bits=20", "32 to 52")]
    [InlineData("max,family=6x", "expects a number")]
    [InlineData("max,tsc-frequency=fast", "hertz")]
    [InlineData("max,colour=red", "no property 'colour'")]
    [InlineData("max,sse2=maybe", "expects on or off")]
    [InlineData("Haswell,migratable=off", "only max")]
    [InlineData("Haswell,host-cache-info=on", "only max")]
    [InlineData("Haswell,legacy-cache=off", "no caches of its own")]
    [InlineData("coreduo,phys-bits=40", "not for 32-bit processors")]
    [InlineData("max,lmce=on", "leave it off")]
    [InlineData("max,x-force-features=on", "leave it off")]
    [InlineData("max,lbr-fmt=5", "leave it 0")]
    [InlineData("max,xlevel2=0xC0000004", "Centaur")]
    [InlineData("max,socket-id=1", "-smp")]
    [InlineData("max,family=300", "0 to 270")]
    [InlineData("max,l3cache=on", "did you mean 'l3-cache'?")]
    [InlineData("max,tsc-freqency=1G", "did you mean 'tsc-frequency'?")]
    [InlineData("max,l3-cache=maybe", "expects on or off")]
    [InlineData("max,+vmx-eptx", "did you mean 'vmx-ept'?")]
    [InlineData("qemu64,+mpx,+xop,enforce", "mpx, xop")]
    [InlineData("Haswel-v9", "unable to find CPU model")]
    public void What_cannot_be_is_refused(string text, string why) =>
        Assert.Contains(why, Assert.Throws<ConfigurationException>(() => Resolve(text)).Message);

    [Theory]
    [InlineData("max,pmu=on")]
    [InlineData("max,pmu=off")]
    [InlineData("max,migratable=on")]
    [InlineData("max,hv-time=off")]
    [InlineData("max,lmce=off")]
    [InlineData("max,host-phys-bits=on")]
    [InlineData("max,fill-mtrr-mask=off")]
    [InlineData("max,x-migrate-smi-count=off")]
    [InlineData("max,kvm-pv-enforce-cpuid=on")]
    [InlineData("max,min-xlevel2=0")]
    [InlineData("max,host-cache-info=on")]
    [InlineData("max,ucode-rev=0x42")]
    [InlineData("max,enforce")]
    public void What_qemu_takes_is_taken(string text) => Assert.Empty(Resolve(text).Missing);

    [Fact]
    public void Check_names_what_the_model_has_and_this_processor_lacks()
    {
        string[] lacked =
            [.. "fma cx16 sse4.1 sse4.2 avx avx2 f16c pni ssse3 pclmulqdq aes".Split(' ')
            .Where(name => !HostFeatures.Current.Has(name))];
        Assert.Empty(Resolve("Haswell").Missing);
        Assert.Equal(lacked.Order(), Resolve("Haswell,check").Missing.Order());
        Assert.Equal(["vmx-ept"], Resolve("max,+vmx-ept,-vmx-ept").Missing);
        Assert.True(Resolve("max").Has("invtsc"));
        Assert.False(Resolve("max,-invtsc").Has("invtsc"));
    }

    [Fact]
    public void Features_go_with_those_that_they_need()
    {
        Cpuid cpuid = Resolve("max,-xsave");
        foreach (string dependent in (string[])["avx", "avx2", "fma", "xsaves", "pku"])
            Assert.False(cpuid.Has(dependent), dependent);
        Assert.Equal(0ul, cpuid.Xcr0Mask);
        Assert.Equal(default, Query(cpuid, 0xD));
    }

    [Fact]
    public void The_hypervisors_leaf_says_tcg_unless_told_otherwise()
    {
        Assert.Equal(("TCGTCGTCGTCG", 0x40000001u),
            (Hypervisor(Resolve("max")), Query(Resolve("max"), 0x40000000).Eax));
        Assert.Equal("", Hypervisor(Resolve("max,tcg-cpuid=off")));
        Assert.Equal("KVMKVMKVM", Hypervisor(Resolve("max,kvm=on")));
        Assert.Equal(default, Query(Resolve("max"), 0x40000001));
        const uint clock = 1, noDelay = 2, newerClock = 8, eoi = 0x40, unhalt = 0x80, stable = 1 << 24;
        Assert.Equal(clock | noDelay | newerClock | eoi | unhalt | stable,
            Query(Resolve("max,kvm=on"), 0x40000001).Eax);
        Assert.Equal(noDelay | unhalt, Query(Resolve("max,kvm=on,-kvmclock,kvm-pv-eoi=off"), 0x40000001).Eax);
        Assert.Equal(["kvm-asyncpf"], Resolve("max,kvm=on,+kvm-asyncpf").Missing);
        Assert.Equal(["kvmclock"], Resolve("max,+kvmclock").Missing);
    }

    [Theory]
    [InlineData("1000000000", 1_000_000_000ul, 1u, 1u)]
    [InlineData("2.5G", 2_500_000_000ul, 2u, 5u)]
    [InlineData("3000M", 3_000_000_000ul, 1u, 3u)]
    public void The_frequency_of_the_time_stamp_counter_shows_in_its_leaves(string given, ulong hertz, uint denominator,
        uint numerator)
    {
        Cpuid cpuid = Resolve($"max,level=0x16,kvm=on,tsc-frequency={given}");
        Assert.Equal(hertz, cpuid.TscHertz);
        CpuidResult ratio = Query(cpuid, 0x15);
        Assert.Equal((denominator, numerator, 1_000_000_000u), (ratio.Eax, ratio.Ebx, ratio.Ecx));
        Assert.Equal((uint)(hertz / 1_000_000), Query(cpuid, 0x16).Eax);
        Assert.Equal((uint)(hertz / 1000), Query(cpuid, 0x40000010).Eax);
    }

    [Fact]
    public void Caches_are_the_models_own_unless_told_otherwise()
    {
        CpuidResult Second(string text) => Query(Resolve(text), 0x80000006);
        Assert.Equal((0x02006140u, 0x00408140u), (Second("EPYC").Ecx, Second("EPYC").Edx));
        Assert.Equal(0x01008140u, Second("EPYC-Milan").Edx);
        Assert.Equal((0x02008140u, 0x00808140u), (Second("EPYC,legacy-cache=on").Ecx, Second("qemu64").Edx));
        Assert.Equal(0u, Second("EPYC,l3-cache=off").Edx);
        Assert.Equal(default, Query(Resolve("EPYC,l3-cache=off"), 0x8000001D, 3));
        Assert.Equal(new CpuidResult(0x163, 0x3C0003F, 0x1FFF, 6), Query(Resolve("EPYC"), 0x8000001D, 3));
        Assert.Equal(new CpuidResult(0x163, 0x3C0003F, 0x3FFF, 6), Query(Resolve("Haswell"), 4, 3));
        Assert.Equal(default, Query(Resolve("EPYC"), 4));
        Assert.NotEqual(default, Query(Resolve("EPYC,x-vendor-cpuid-only=off"), 4));
    }

    [Fact]
    public void Limits_are_as_given()
    {
        Assert.Equal(0u, Query(Resolve("max,level-func7=0"), 7).Eax);
        Assert.Equal(default, Query(Resolve("max,level-func7=0"), 7, 1));
        Assert.Equal(4u, Query(Resolve("qemu32,+smep,full-cpuid-auto-level=off"), 0).Eax);
        Assert.Equal(default, Query(Resolve("max,cpuid-0xb=off"), 0xB));
        Assert.Equal(0x42ul, Resolve("max,ucode-rev=0x42").MicrocodeRevision);
        Assert.Equal(32u, Query(Resolve("coreduo"), 0x80000008).Eax);
        Assert.Equal(36u, Query(Resolve("athlon"), 0x80000008).Eax);
    }

    [Fact]
    public void Leaves_rise_with_what_is_in_them()
    {
        Assert.Equal(4u, Query(Resolve("qemu32"), 0).Eax);
        Assert.Equal(7u, Query(Resolve("qemu32,+smep"), 0).Eax);
        Assert.Equal(0xDu, Query(Resolve("qemu32,+xsave"), 0).Eax);
        Assert.Equal(1u, Query(Resolve("max"), 7).Eax);
        Assert.Equal(1u << 26, Query(Resolve("max"), 7, 1).Eax & 1 << 26);
        Assert.Equal(new CpuidResult(64, 64, 3, 0), Query(Resolve("max"), 5));
    }
}
