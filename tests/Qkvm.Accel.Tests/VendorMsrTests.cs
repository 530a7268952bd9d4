using Qkvm.Accel.Tcg;
using M = Qkvm.Accel.Tests.SystemMachine;

namespace Qkvm.Accel.Tests;

/// <summary>Registers of one maker. AMD APM vol. 2, appendix A; Intel SDM vol. 4.</summary>
public sealed unsafe class VendorMsrTests
{
    static bool Write(SystemMachine m, uint msr, ulong value) => m.Cpu.WriteMsr(msr, value);
    static ulong? Read(SystemMachine m, uint msr) => m.Cpu.ReadMsr(msr, out ulong value) ? value : null;

    [Theory]
    [InlineData("max")]
    [InlineData("qemu64")]
    [InlineData("EPYC")]
    [InlineData("athlon")]
    public void Amds_legacy_counters(string model)
    {
        using var m = new M(model);
        m.Protected32();
        for (uint i = 0; i < 4; i++)
        {
            Assert.Equal((0ul, 0ul), (Read(m, 0xC0010000 + i), Read(m, 0xC0010004 + i)));
            Assert.True(Write(m, 0xC0010000 + i, 0x430076));
            Assert.Equal(0x430076ul, Read(m, 0xC0010000 + i));
            Assert.True(Write(m, 0xC0010004 + i, 0xFFFF_8000_0000_0001));
            Assert.Equal(0x8000_0000_0001ul, Read(m, 0xC0010004 + i));                  // 48 bits
            m.Cpu.Rcx = i;
            m.Run(0x0F, 0x33);                                                         // RDPMC
            Assert.Equal((1ul, 0x8000ul), (m.Cpu.Rax, m.Cpu.Rdx));
        }
        Assert.Null(Read(m, 0xC0010008));
        Assert.Null(Read(m, 0xC0010200));                                              // those that CPUID would show
        Assert.Null(Read(m, 0xC1));
    }

    [Fact]
    public void Intels_processors_count_their_cores_and_threads()
    {
        using var intel = new M("Nehalem");
        Assert.Equal(0x1_0001ul, Read(intel, 0x35));
        Assert.False(Write(intel, 0x35, 0x1_0001));
        using var amd = new M("EPYC");
        Assert.Null(Read(amd, 0x35));
    }

    /// <summary>Bank 1: CTL, STATUS, ADDR, MISC.</summary>
    [Fact]
    public void Machine_check_banks_of_both()
    {
        using var amd = new M("EPYC");
        Assert.True(Write(amd, 0x404, 0x1234) && Write(amd, 0x406, 0x1234_5678_9ABC)
            && Write(amd, 0x407, ulong.MaxValue));
        Assert.Equal((0x1234ul, 0x1234_5678_9ABCul, 0ul), (Read(amd, 0x404), Read(amd, 0x406), Read(amd, 0x407)));
        Assert.False(Write(amd, 0x405, 1));
        Assert.True(Write(amd, 0x405, 0));
        Assert.True(Write(amd, 0xC0010015, 1 << 18));                                  // McStatusWrEn
        Assert.True(Write(amd, 0x405, 0xBE00_0000_0000_0001));
        Assert.Equal(0xBE00_0000_0000_0001ul, Read(amd, 0x405));

        using var intel = new M("Nehalem");
        Assert.True(Write(intel, 0x404, 0) && Write(intel, 0x404, ulong.MaxValue) && Write(intel, 0x405, 0)
            && Write(intel, 0x406, 0) && Write(intel, 0x407, 0));
        Assert.False(Write(intel, 0x404, 0x1234) || Write(intel, 0x405, 1) || Write(intel, 0x406, 1)
            || Write(intel, 0x407, 1));
        Assert.Null(Read(intel, 0xC0010015));
    }

    [Theory]
    [InlineData("Nehalem", 0x17, 0ul)]
    [InlineData("Nehalem", 0xCE, 10ul << 8)]
    [InlineData("Nehalem", 0x198, 1000 | 4ul << 40)]
    [InlineData("Nehalem", 0x1A0, 0x1801ul)]
    [InlineData("pentium3", 0x186, 0ul)]
    [InlineData("pentium3", 0x2A, 0ul)]
    [InlineData("pentium3", 0xCE, null)]
    [InlineData("pentium", 0x11, 0ul)]
    [InlineData("pentium", 0x186, null)]
    [InlineData("pentium", 0x8B, null)]
    [InlineData("kvm64", 0x300, 0ul)]
    [InlineData("kvm64", 0xC1, null)]
    [InlineData("EPYC", 0x17, null)]
    [InlineData("EPYC", 0x1A0, null)]
    [InlineData("EPYC", 0x198, null)]
    [InlineData("EPYC", 0x3A, null)]
    [InlineData("EPYC", 0xC0010061, 0ul)]
    [InlineData("EPYC", 0xC0010064, 1ul << 63)]
    [InlineData("Opteron_G1", 0xC0010064, null)]
    [InlineData("Opteron_G1", 0xC0010041, 0ul)]
    [InlineData("EPYC", 0xC0010041, null)]
    [InlineData("Dhyana", 0xC0010000, 0ul)]
    [InlineData("486", 0x10, null)]
    public void Reset_values(string model, uint msr, ulong? value)
    {
        using var m = new M(model);
        Assert.Equal(value, Read(m, msr));
    }

    [Theory]
    [InlineData("EPYC", 0xC0010061, 0ul, false)]                                       // read-only
    [InlineData("EPYC", 0xC0010062, 1ul, true)]
    [InlineData("EPYC", 0xC0010020, 0x1000ul, true)]                                   // write-only
    [InlineData("Nehalem", 0x79, 0x1000ul, true)]
    [InlineData("Nehalem", 0x17, 0ul, false)]
    [InlineData("Nehalem", 0x1D9, 3ul, true)]
    [InlineData("Nehalem", 0x1D9, 4ul, false)]                                         // reserved with Intel
    [InlineData("EPYC", 0x1D9, 4ul, true)]                                             // PB0 with AMD
    [InlineData("EPYC", 0x1D9, 0x40ul, false)]
    public void Writes(string model, uint msr, ulong value, bool taken)
    {
        using var m = new M(model);
        Assert.Equal(taken, Write(m, msr, value));
    }

    /// <summary>Bases by the width that the processor supports, not by the one in use.</summary>
    [Theory]
    [InlineData("max", 0x0100_0000_0000_0000ul, false)]
    [InlineData("max", 0x00AA_0000_0000_0000ul, true)]
    [InlineData("max", 0xFF00_0000_0000_0000ul, true)]
    [InlineData("Nehalem", 0x00AA_0000_0000_0000ul, false)]
    [InlineData("Nehalem", 0x0000_8000_0000_0000ul, false)]
    [InlineData("Nehalem", 0xFFFF_8000_0000_0000ul, true)]
    public void Canonical_bases(string model, ulong value, bool taken)
    {
        foreach (uint msr in (uint[])[0xC0000082, 0xC0000083, 0xC0000100, 0xC0000101, 0xC0000102])
        {
            using var m = new M(model);
            m.Long64();
            Assert.Equal(taken, Write(m, msr, value));
        }
        foreach (bool isIdt in (bool[])[false, true])
        {
            using var m = new M(model);
            m.Long64();
            m.Cpu.Rbx = M.Data;
            m.Write(M.Data, 0xFFF, 2);
            m.Write(M.Data + 2, value, 8);
            m.Run(0x0F, 0x01, (byte)(isIdt ? 0x1B : 0x13));
            Assert.Equal(taken ? value : isIdt ? M.Idt : M.Gdt, isIdt ? m.S->IdtrBase : m.S->GdtrBase);
        }
        foreach (bool isTask in (bool[])[false, true])
        {
            using var m = new M(model);
            m.Long64();
            ushort selector = isTask ? M.OtherTssSelector : M.LdtSelector;
            m.SetDescriptor(selector, M.Descriptor(0, 0x67, isTask ? 0x89 : 0x82, 0), value >> 32, wide: true);
            m.Cpu.Rax = selector;
            m.Run(0x0F, 0x00, (byte)(isTask ? 0xD8 : 0xD0));
            if (taken) Assert.Equal(value & ~0xFFFFFFFFul, isTask ? m.S->Tr.Base : m.S->Ldtr.Base);
            else Assert.Equal((13, (ulong)selector), (m.HandlerVector, m.Top(0, 8)));
        }
    }
}
