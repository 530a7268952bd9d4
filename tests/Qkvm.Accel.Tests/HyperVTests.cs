using Iced.Intel;
using Qkvm.Accel.Tcg;
using Qkvm.Accel.Tcg.Model;
using Qkvm.Core.Accel;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using static Iced.Intel.AssemblerRegisters;

namespace Qkvm.Accel.Tests;

/// <summary>Hyper-V's CPUID leaves, registers and hypercalls. Hypervisor Top Level Functional Specification
/// 6.0b.</summary>
public sealed unsafe class HyperVTests
{
    const uint GuestOsId = 0x40000000, Hypercall = 0x40000001, VpIndex = 0x40000002, VpRuntime = 0x40000010,
        Time = 0x40000020, ReferenceTsc = 0x40000021, TscFrequency = 0x40000022, ApicFrequency = 0x40000023;
    const ulong Page = 0x20000, Input = 0x22000;
    const uint Success = 0, InvalidCode = 2, InvalidInput = 3, InvalidAlignment = 4, InvalidConnection = 0x12;

    static readonly (string, bool)[] s_all =
        [.. ("hv-relaxed hv-vapic hv-time hv-crash hv-reset hv-vpindex hv-runtime hv-synic hv-stimer hv-stimer-direct "
            + "hv-frequencies hv-reenlightenment hv-tlbflush hv-ipi").Split(' ').Select(name => (name, true))];

    static GuestMachine Machine(int cpus = 1) => new GuestMachine(cpus, "max", s_all).Flat(64);

    static Cpuid Resolve(string features, params OptionPair[] properties) =>
        CpuModels.Resolve(new CpuSetup("max", [.. features.Split(',', StringSplitOptions.RemoveEmptyEntries)
            .Select(name => KeyValuePair.Create(name.TrimStart('-'), name[0] != '-'))], 0, 1, 1, 1)
            { Properties = properties });

    static CpuidResult Query(Cpuid cpuid, uint leaf) => cpuid.Query(leaf, 0, 0, 1, 0xFEE00900);

    static ulong? Read(Cpu cpu, uint msr) => cpu.ReadMsr(msr, out ulong value) ? value : null;

    /// <summary>The result of one call by VMCALL.</summary>
    static ulong Call(GuestMachine m, ulong control, ulong input = Input, ulong third = 0)
    {
        m.Cpu.WriteMsr(GuestOsId, 0x8100_0000);
        m.Place(0x10000, 64, c =>
        {
            c.vmcall();
            c.hlt();
        });
        (m.Cpu.Rcx, m.Cpu.Rdx, m.Cpu.State->Gpr[8]) = (control, input, third);
        m.RunToHalt(0x10000);
        return m.Cpu.Rax;
    }

    /// <summary>QEMU's leaves for the same switches.</summary>
    [Fact]
    public void Leaves()
    {
        Cpuid cpuid = Resolve("hv-relaxed,hv_vapic,hv-time,hv-vpindex,hv-synic,hv-stimer,hv-ipi,kvm",
            new OptionPair("hv-spinlocks", "0x1fff"), new OptionPair("hv-vendor-id", "KVM Hv"));
        Assert.Equal(new CpuidResult(0x40000005, 0x204D564B, 0x7648, 0), Query(cpuid, 0x40000000));
        Assert.Equal(new CpuidResult(0x31237648, 0, 0, 0), Query(cpuid, 0x40000001));
        Assert.Equal(new CpuidResult(0x3839, 0xA0000, 0, 0), Query(cpuid, 0x40000002));
        Assert.Equal(new CpuidResult(0x27E, 0x30, 0, 8), Query(cpuid, 0x40000003));
        Assert.Equal(new CpuidResult(0xC28, 0x1FFF, 0, 0), Query(cpuid, 0x40000004));
        Assert.Equal(new CpuidResult(uint.MaxValue, 0x40, 0, 0), Query(cpuid, 0x40000005));
        Assert.Equal((0x40000101u, 0x4B4D564Bu), (Query(cpuid, 0x40000100).Eax, Query(cpuid, 0x40000100).Ebx));
        Assert.NotEqual(0u, Query(cpuid, 0x40000101).Eax);
    }

    [Fact]
    public void Without_them_all_is_as_ever()
    {
        Assert.Equal(Query(Resolve(""), 0x40000000), Query(Resolve("-hv-relaxed,-hv-time"), 0x40000000));
        using var m = new GuestMachine();
        Assert.Null(Read(m.Cpu, GuestOsId));
        Assert.False(m.Cpu.WriteMsr(GuestOsId, 1));
    }

    [Theory]
    [InlineData("hv-synic", "-cpu max: hv-synic: needs hv-vpindex")]
    [InlineData("hv-vpindex,hv-synic,hv-stimer", "-cpu max: hv-stimer: needs hv-time")]
    [InlineData("hv-evmcs,hv-vapic", "-cpu max: hv-evmcs: the software CPU does not have it")]
    [InlineData("hv-nonsense", "-cpu max: hv-nonsense: there is no such enlightenment")]
    public void What_cannot_be_is_said(string features, string message) =>
        Assert.Equal(message, Assert.Throws<ConfigurationException>(() => Resolve(features)).Message);

    [Fact]
    public void Properties_are_judged()
    {
        Assert.Equal("-cpu max: hv-vendor-id=thirteen chars: expects at most 12 ASCII characters",
            Assert.Throws<ConfigurationException>(() => Resolve("", new OptionPair("hv-vendor-id", "thirteen chars")))
                .Message);
        Assert.Equal("-cpu max: hv-spinlocks=many: expects a number from 0 to 4294967295",
            Assert.Throws<ConfigurationException>(() => Resolve("", new OptionPair("hv-spinlocks", "many"))).Message);
        Assert.True(Resolve("hv-passthrough").HyperV.Has(HyperVFeatures.Ipi));
    }

    [Fact]
    public void Registers_go_with_their_features()
    {
        using GuestMachine m = Machine();
        Assert.Equal((0ul, 1_000_000_000ul, 1_000_000_000ul),
            (Read(m.Cpu, VpIndex), Read(m.Cpu, TscFrequency), Read(m.Cpu, ApicFrequency)));
        foreach (uint msr in (uint[])[VpIndex, VpRuntime, Time, TscFrequency, ApicFrequency])
            Assert.False(m.Cpu.WriteMsr(msr, 1));
        Assert.NotNull(Read(m.Cpu, VpRuntime));
        Assert.Null(Read(m.Cpu, 0x40000070));                      // EOI is for writing
        using var few = new GuestMachine(1, "max", ("hv-relaxed", true));
        Assert.NotNull(Read(few.Cpu, GuestOsId));
        Assert.Null(Read(few.Cpu, VpIndex));
        Assert.Null(Read(few.Cpu, Time));
    }

    [Theory]
    [InlineData("AuthenticAMD", 0xC3D9010Fu)] [InlineData("GenuineIntel", 0xC3C1010Fu)]
    public void The_hypercall_page(string vendor, uint code)
    {
        using GuestMachine m = new(vendor, s_all);
        m.Cpu.WriteMsr(Hypercall, Page | 1);
        Assert.Equal(Page, Read(m.Cpu, Hypercall));                // nobody has given a name
        m.Cpu.WriteMsr(GuestOsId, 1);
        m.Cpu.WriteMsr(Hypercall, Page | 1);
        Assert.Equal((Page | 1, (ulong)code), (Read(m.Cpu, Hypercall), m.Memory.Read(Page, 4)));
        m.Cpu.WriteMsr(GuestOsId, 0);
        Assert.Equal(Page, Read(m.Cpu, Hypercall));
        m.Cpu.WriteMsr(GuestOsId, 1);
        m.Cpu.WriteMsr(Hypercall, Page | 3);                       // locked
        m.Cpu.WriteMsr(Hypercall, 0);
        Assert.Equal(Page | 3, Read(m.Cpu, Hypercall));
    }

    /// <summary>Section 12.7.3: the page and the register say the same.</summary>
    [Fact]
    public void The_reference_page_keeps_the_time()
    {
        using GuestMachine m = Machine();
        m.Cpu.WriteMsr(ReferenceTsc, Page | 1);
        Assert.Equal(1ul, m.Memory.Read(Page, 4));
        ulong before = Read(m.Cpu, Time)!.Value, tsc = Read(m.Cpu, 0x10)!.Value, after = Read(m.Cpu, Time)!.Value;
        Assert.InRange(FromPage(tsc), before - 1, after + 1);
        m.Cpu.WriteMsr(0x10, 5_000_000_000_000);                   // the page follows the counter
        (before, tsc, after) = (Read(m.Cpu, Time)!.Value, Read(m.Cpu, 0x10)!.Value, Read(m.Cpu, Time)!.Value);
        Assert.InRange(FromPage(tsc), before - 1, after + 1);
        Assert.Equal(2ul, m.Memory.Read(Page, 4));

        ulong FromPage(ulong counter) =>
            (ulong)((UInt128)counter * m.Memory.Read(Page + 8, 8) >> 64) + m.Memory.Read(Page + 16, 8);
    }

    /// <summary>Where two processors' counters differ no page can serve both.</summary>
    [Fact]
    public void The_reference_page_is_void_where_counters_differ()
    {
        using GuestMachine m = Machine(cpus: 2);
        m.Cpu.WriteMsr(ReferenceTsc, Page | 1);
        ((SoftwareVCpu)m.VCpus[1]).Cpu.WriteMsr(0x10, 5_000_000_000_000);
        Assert.Equal(0ul, m.Memory.Read(Page, 4));
    }

    [Theory]
    [InlineData(0x7Ful, Input, InvalidCode)]
    [InlineData(2ul, Input, Success)]
    [InlineData(2ul, Input + 4, InvalidAlignment)]
    [InlineData(2ul | 1 << 16, Input, InvalidInput)]               // by registers
    [InlineData(2ul | 5ul << 32, Input, InvalidInput)]             // no list
    [InlineData(2ul | 1ul << 17, Input, InvalidInput)]             // nor a variable head
    [InlineData(3ul, Input, InvalidInput)]                         // a list, and nothing on it
    [InlineData(3ul | 5ul << 32, Input, Success | 5ul << 32)]
    [InlineData(3ul | 5ul << 32 | 5ul << 48, Input, InvalidInput)]
    [InlineData(8ul, Input, Success)]
    [InlineData(0xBul, Input, InvalidInput)]                       // vector 0
    [InlineData(0xBul | 1 << 16, 0x55ul, Success)]
    [InlineData(0xBul | 1 << 16, 0x155ul, InvalidInput)]
    [InlineData(0x13ul, Input, Success)]
    [InlineData(0x13ul | 3ul << 17, Input, InvalidInput)]          // as many banks as the set says
    [InlineData(0x5Cul, Input, InvalidConnection)]
    [InlineData(0x5Dul | 1 << 16, 7ul, InvalidConnection)]
    [InlineData(2ul, 0xFFFF_FFFF_FFFF_FFF8ul, Success)]            // nothing lies there: no processor is meant
    public void Calls_and_their_results(ulong control, ulong input, ulong result)
    {
        using GuestMachine m = Machine();
        Assert.Equal(result, Call(m, control, input));
    }

    [Fact]
    public void Interrupts_reach_the_processors_of_a_set()
    {
        using GuestMachine m = Machine(cpus: 3);
        var apics = new InjectLog[3];
        for (int i = 0; i < 3; i++) m.VCpus[i].Apic = apics[i] = new InjectLog();
        Assert.Equal(0ul, Call(m, 0xB | 1 << 16, 0x41, 0b110));
        m.Memory.Write(Input, 8, 0x42);
        m.Memory.Write(Input + 8, 8, 0b001);
        Assert.Equal(0ul, Call(m, 0xB));
        m.Memory.Write(Input, 8, 0x43);
        m.Memory.Write(Input + 8, 8, 1);                           // all
        Assert.Equal(0ul, Call(m, 0x15));
        m.Memory.Write(Input, 8, 0x44);
        m.Memory.Write(Input + 8, 8, 0);                           // the first and the third bank of 64
        m.Memory.Write(Input + 16, 8, 0b101);
        m.Memory.Write(Input + 24, 8, 0b100);
        m.Memory.Write(Input + 32, 8, ulong.MaxValue);
        Assert.Equal(0ul, Call(m, 0x15 | 2ul << 17));
        Assert.Equal([[0x42, 0x43], [0x41, 0x43], [0x41, 0x43, 0x44]], apics.Select(apic => apic.Vectors.ToArray()));
    }

    [Fact]
    public void State_comes_back()
    {
        using GuestMachine m = Machine(), other = Machine();
        m.Cpu.WriteMsr(GuestOsId, 0x1234);
        m.Cpu.WriteMsr(Hypercall, Page | 1);
        m.Cpu.WriteMsr(0x40000073, Input | 1);
        ulong time = Read(m.Cpu, Time)!.Value;
        CpuRegisters registers = m.VCpu.ReadRegisters();
        registers.Msrs[Time] += 10_000_000_000;
        other.VCpu.WriteRegisters(registers);
        Assert.Equal((0x1234ul, Page | 1, Input | 1),
            (Read(other.Cpu, GuestOsId), Read(other.Cpu, Hypercall), Read(other.Cpu, 0x40000073)));
        Assert.True(Read(other.Cpu, Time) >= time + 10_000_000_000);
    }

    sealed class InjectLog : FakeApic
    {
        public List<byte> Vectors { get; } = [];
        public override bool HasInterrupt => false;
        public override int Acknowledge() => -1;
        public override void Inject(byte vector) => Vectors.Add(vector);
    }
}
