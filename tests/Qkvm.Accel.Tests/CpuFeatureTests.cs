using Qkvm.Accel.Tcg;
using Qkvm.Accel.Tcg.Model;
using Qkvm.Core.Accel;
using M = Qkvm.Accel.Tests.SystemMachine;

namespace Qkvm.Accel.Tests;

/// <summary>What CPUID shows and what works agree, bit by bit: with a feature its instruction, register or control bit
/// works, without it that faults.</summary>
public sealed unsafe class CpuFeatureTests
{
    /// <summary>Something that only works with a feature.</summary>
    /// <param name="Works">Asked in a machine where all that depends on control registers is switched on.</param>
    /// <param name="Only64">Exists in 64-bit mode alone.</param>
    sealed record Witness(string Feature, Func<SystemMachine, bool> Works, bool Only64 = false);

    const ulong At = M.Data;

    /// <summary>An instruction that is undefined without the feature. EBX leads to aligned memory, ECX is 0.</summary>
    static Witness Code(string feature, params byte[] code) =>
        new(feature, m => Execute(m, code) != Vector.InvalidOpcode);
    static Witness Code64(string feature, params byte[] code) =>
        new(feature, m => Execute(m, code) != Vector.InvalidOpcode, Only64: true);
    static Witness Register(string feature, uint msr) => new(feature, m => m.Cpu.ReadMsr(msr, out _));
    static Witness Control4(string feature, ulong bit) =>
        new(feature, m => (m.Cpu.Cr4Supported & bit) == bit && TrySetCr4(m, bit));
    static Witness Extended(string feature, ulong bit) => new(feature, m => (m.Cpu.EferSupported & bit) != 0);

    static readonly Witness[] s_witnesses =
    [
        Code("fpu", 0xD9, 0xE8), Control4("vme", Cr4.Vme | Cr4.Pvi), Control4("de", Cr4.De), Control4("pse", Cr4.Pse),
            Code("tsc", 0x0F, 0x31), Register("tsc", 0x10),
        Control4("tsc", Cr4.Tsd),
            new("msr", m =>
            { m.Cpu.Rcx = m.Cpu.Model.Has("tsc") ? 0x10u : 0x8B; return Execute(m, [0x0F, 0x32], keepsRcx: true) < 0;
            }), Control4("pae", Cr4.Pae),
        Control4("mce", Cr4.Mce), Code("cx8", 0x0F, 0xC7, 0x0B), Register("apic", 0x1B), Register("sep", 0x174),
            Register("mtrr", 0xFE), Register("mtrr", 0x250),
        Register("mtrr", 0x200), Register("mtrr", 0x2FF), Control4("pge", Cr4.Pge), Register("mca", 0x179),
            Register("mca", 0x400), Code("cmov", 0x0F, 0x44, 0xC1),
        Register("pat", 0x277), new("pse36", TakesHighLargePages), Code("clflush", 0x0F, 0xAE, 0x3B),
            Code("mmx", 0x0F, 0xFC, 0xC1), Code("fxsr", 0x0F, 0xAE, 0x03),
        Control4("fxsr", Cr4.Osfxsr), Code("sse", 0x0F, 0x58, 0xC1), Control4("sse", Cr4.Osxmmexcpt),
            Code("sse2", 0x66, 0x0F, 0x58, 0xC1),
        Code("pni", 0xF2, 0x0F, 0xD0, 0xC1), Code("pclmulqdq", 0x66, 0x0F, 0x3A, 0x44, 0xC1, 0),
            Code("monitor", 0x0F, 0x01, 0xC8), Code("ssse3", 0x66, 0x0F, 0x38, 0, 0xC1),
        Code("fma", 0xC4, 0xE2, 0x79, 0x98, 0xC1), Code64("cx16", 0x48, 0x0F, 0xC7, 0x0B), Control4("pcid", Cr4.Pcide),
            Code("sse4.1", 0x66, 0x0F, 0x38, 0x38, 0xC1),
        Code("sse4.2", 0x66, 0x0F, 0x38, 0x37, 0xC1), new("x2apic", m => TakesX2Apic(m)),
            Code("movbe", 0x0F, 0x38, 0xF0, 0x03), Code("popcnt", 0xF3, 0x0F, 0xB8, 0xC1),
        Register("tsc-deadline", 0x6E0), Code("aes", 0x66, 0x0F, 0x38, 0xDC, 0xC1), Code("xsave", 0x0F, 0xAE, 0x23),
            Control4("xsave", Cr4.Osxsave),
        Code("xsave", 0x0F, 0x01, 0xD0), Code("avx", 0xC5, 0xF8, 0x58, 0xC1),
            new("avx", m => (m.Cpu.Xcr0Supported & 4) != 0), Code("f16c", 0xC4, 0xE2, 0x79, 0x13, 0xC1),
        Code("rdrand", 0x0F, 0xC7, 0xF0), Code64("fsgsbase", 0xF3, 0x0F, 0xAE, 0xC0),
            Control4("fsgsbase", Cr4.Fsgsbase), Register("tsc-adjust", 0x3B),
        Code("bmi1", 0xC4, 0xE2, 0x78, 0xF2, 0xC1),
            new("bmi1", m => Result(m, 0x8000, 0xF3, 0x0F, 0xBC, 0xC1) == 15
            && Result(m, 0, 0xF3, 0x0F, 0xBC, 0xC1) == 32),
        Code("avx2", 0xC5, 0xFD, 0xFC, 0xC1), Control4("smep", Cr4.Smep), Code("bmi2", 0xC4, 0xE2, 0x79, 0xF7, 0xC1),
            Code("invpcid", 0x66, 0x0F, 0x38, 0x82, 0x03),
        Code("rdseed", 0x0F, 0xC7, 0xF8), Code("adx", 0x66, 0x0F, 0x38, 0xF6, 0xC1), Control4("smap", Cr4.Smap),
            Code("smap", 0x0F, 0x01, 0xCA),
        Code("clflushopt", 0x66, 0x0F, 0xAE, 0x3B), Code("clwb", 0x66, 0x0F, 0xAE, 0x33),
            Code("sha-ni", 0x0F, 0x38, 0xC8, 0xC1), Control4("umip", Cr4.Umip),
        Control4("pku", Cr4.Pke), Code64("pku", 0x0F, 0x01, 0xEE), new("pku", m => (m.Cpu.Xcr0Supported & 0x200) != 0),
            Control4("pks", Cr4.Pks), Register("pks", 0x6E1),
        Control4("la57", Cr4.La57), Code("rdpid", 0xF3, 0x0F, 0xC7, 0xF8), Code("movdiri", 0x0F, 0x38, 0xF9, 0x03),
            Control4("lam", Cr4.LamSup),
        Code("serialize", 0x0F, 0x01, 0xE8), Code("gfni", 0x66, 0x0F, 0x38, 0xCF, 0xC1),
            Code("vaes", 0xC4, 0xE2, 0x7D, 0xDC, 0xC1),
        Code("avx512f", 0x62, 0xF1, 0x75, 0x48, 0xFE, 0xC2), new("avx512f", m => (m.Cpu.Xcr0Supported & 0xE0) == 0xE0),
            Code("avx512dq", 0x62, 0xF2, 0xF5, 0x48, 0x40, 0xC2),
        Code("avx512bw", 0x62, 0xF1, 0x75, 0x48, 0xFC, 0xC2), Code("avx512vl", 0x62, 0xF1, 0x75, 8, 0xFE, 0xC2),
            Code("avx512cd", 0x62, 0xF2, 0x7D, 0x48, 0xC4, 0xC2),
        Code("avx512ifma", 0x62, 0xF2, 0xF5, 0x48, 0xB4, 0xC2), Code("avx512vbmi", 0x62, 0xF2, 0x75, 0x48, 0x8D, 0xC2),
            Code("avx512vbmi2", 0x62, 0xF2, 0x7D, 0x48, 0x63, 0xD0),
        Code("avx512vnni", 0x62, 0xF2, 0x75, 0x48, 0x50, 0xC2),
            Code("avx512bitalg", 0x62, 0xF2, 0x7D, 0x48, 0x54, 0xC2),
            Code("avx512-bf16", 0x62, 0xF2, 0x76, 0x48, 0x52, 0xC2),
        Code("avx512-vpopcntdq", 0x62, 0xF2, 0x7D, 0x48, 0x55, 0xC2),
            Code("avx512-vp2intersect", 0x62, 0xF2, 0x77, 0x48, 0x68, 0xC2),
        Code("avx512-fp16", 0x62, 0xF5, 0x74, 0x48, 0x58, 0xC2), Code("avx-vnni", 0xC4, 0xE2, 0x71, 0x50, 0xC2),
        Code("vpclmulqdq", 0xC4, 0xE3, 0x7D, 0x44, 0xC1, 0), Extended("syscall", Efer.Sce),
            Register("syscall", 0xC0000081), Extended("nx", Efer.Nx),
        new("pdpe1gb", TakesGigabytePages, Only64: true), Code("rdtscp", 0x0F, 0x01, 0xF9), Extended("lm", Efer.Lme),
            Register("lm", 0xC0000082), Register("lm", 0xC0000100),
        Code64("lahf-lm", 0x9F), Code64("lahf-lm", 0x9E),
            new("abm", m => Result(m, 0x8000, 0xF3, 0x0F, 0xBD, 0xC1) == 16), Code("clzero", 0x0F, 0x01, 0xFC),
        Code("xsaveopt", 0x0F, 0xAE, 0x33), Code("xsavec", 0x0F, 0xC7, 0x23),
            new("xgetbv1", m => { m.Cpu.Rcx = 1; return Execute(m, [0x0F, 0x01, 0xD0], keepsRcx: true) < 0; }),
        Code("xsaves", 0x0F, 0xC7, 0x2B), Register("xsaves", 0xDA0),
        Code("sse4a", 0xF2, 0x0F, 0x79, 0xC1), new("misalignsse", m => (m.Cpu.MxcsrValid >> 17 & 1) != 0),
            Extended("fxsr-opt", Efer.Ffxsr), Code("rtm", 0x0F, 0x01, 0xD5),
        Code("movdir64b", 0x66, 0x0F, 0x38, 0xF8, 0x1B), Code("3dnow", 0x0F, 0x0F, 0xC1, 0x9E),
            Code("3dnowext", 0x0F, 0x0F, 0xC1, 0xBB),
        Extended("auto-ibrs", Efer.Aibrse), new("auto-ibrs", m => TakesEfer(m, Efer.Aibrse)),
        Extended("svm", Efer.Svme), Register("svm", 0xC0010117), new("svm", m => TakesEfer(m, Efer.Svme)),
    ];

    /// <summary>Hints, promises and names: nothing works with them that does not work without. CR8 by a LOCK prefix is
    /// a form that only AMD's decoder knows; SSE has what mmxext has; Intel's alone have registers for acpi.</summary>
    const string NoWitness = "ss ht hypervisor erms fsrm cmp-legacy cr8legacy 3dnowprefetch invtsc wbnoinvd arat " +
        "kvm-nopiodelay kvmclock-stable-bit "
        + "mmxext acpi hle osvw topoext cldemote xsaveerptr null-sel-clr-base amd-no-ssb "
        + "no-nested-data-bp lfence-always-serializing "
        + CpuFeatures.OfSvm + " "                                  // in a VMCB: SvmTests
        + CpuFeatures.KvmDefaults;

    public static TheoryData<string> Models() => [.. CpuModels.All.Select(model => model.Name)];

    [Theory, MemberData(nameof(Models))]
    public void In_each_model_what_it_shows_works_and_the_rest_faults(string model)
    {
        using SystemMachine m = Enable(new M(model));
        CheckAll(m, model);
    }

    public static TheoryData<string> Switchable()
    {
        var names = new TheoryData<string>();
        foreach (string name in CpuFeatures.All())
            if (CpuFeatures.TryFind(name, out CpuidWord word, out int bit)
                && (CpuFeatures.Supported()[(int)word] >> bit & 1) != 0 && word != CpuidWord.Kvm) names.Add(name);
        return names;
    }

    [Theory, MemberData(nameof(Switchable))]
    public void A_feature_switched_off_takes_its_instructions_registers_and_bits_along(string feature)
    {
        Assert.True(s_witnesses.Any(w => w.Feature == feature) || NoWitness.Split(' ').Contains(feature),
            $"{feature}: say what works with it and not without");
        using SystemMachine without = Enable(new M("max", (feature, false)));
        Assert.False(without.Cpu.Model.Has(feature));
        CheckAll(without, $"max,-{feature}");
        using SystemMachine with = Enable(new M("qemu64", (feature, true)));
        CheckAll(with, $"qemu64,+{feature}");
    }

    static void CheckAll(SystemMachine m, string name)
    {
        foreach (Witness witness in s_witnesses)
        {
            if (witness.Only64 && !m.Cpu.Is64Bit) continue;
            Enable(m);
            Assert.True(witness.Works(m) == m.Cpu.Model.Has(witness.Feature),
                $"{name}: {witness.Feature} is " +
                $"{(m.Cpu.Model.Has(witness.Feature) ? "shown and does not work" : "hidden and works")}");
        }
        bool hasAux = m.Cpu.Model.Has("rdtscp") || m.Cpu.Model.Has("rdpid");
        Assert.Equal(hasAux, m.Cpu.ReadMsr(0xC0000103, out _));
    }

    /// <summary>64-bit mode, or protected mode where there is none, with all control bits that exist.</summary>
    static SystemMachine Enable(SystemMachine m)
    {
        if (m.Cpu.Model.Has("lm")) m.Long64();
        else m.Protected32();
        m.S->Cr4 = m.S->Cr4 & Cr4.Pae | (Cr4.Osfxsr | Cr4.Osxmmexcpt | Cr4.Osxsave | Cr4.Fsgsbase | Cr4.Pke)
            & m.Cpu.Cr4Supported;
        m.S->Xcr0 = m.Cpu.Xcr0Supported | 1;
        m.S->Xsave.Bytes[0] = 0x7F;
        m.S->Xsave.Bytes[1] = 3;
        m.S->Efer = m.Cpu.Is64Bit ? Efer.Lme | Efer.Lma | (Efer.Sce | Efer.Nx) & m.Cpu.EferSupported : 0;
        m.Cpu.ModeChanged();
        return m;
    }

    /// <summary>The vector of the fault, or -1.</summary>
    static int Execute(SystemMachine m, byte[] code, bool keepsRcx = false)
    {
        m.S->Rip = M.Code;
        m.Place(code);
        (m.Cpu.Rax, m.Cpu.Rbx, m.Cpu.Rdx) = (At, At, 0);
        if (!keepsRcx) m.Cpu.Rcx = 0;
        for (uint i = 0; i < 64; i += 8) m.Write(At + 512 + i, 0, 8);
        try
        {
            m.Cpu.RunOne();
            return -1;
        }
        catch (GuestFault fault)
        {
            return fault.Number;
        }
    }

    /// <summary>EAX after an instruction with this ECX; another number if it faulted.</summary>
    static ulong Result(SystemMachine m, uint rcx, params byte[] code)
    {
        m.Cpu.Rcx = rcx;
        return Execute(m, code, keepsRcx: true) < 0 ? m.Cpu.Rax : ulong.MaxValue;
    }

    static bool TrySetCr4(SystemMachine m, ulong bit)
    {
        try
        {
            // Level changes are refused in long mode, PCIDs outside.
            if ((bit & (Cr4.La57 | Cr4.Pae)) != 0 || (bit & Cr4.Pcide) != 0 && !m.Cpu.Is64Bit) return true;
            m.Cpu.SetCr4(m.S->Cr4 | bit);
            return true;
        }
        catch (GuestFault)
        {
            return false;
        }
    }

    static bool TakesEfer(SystemMachine m, ulong bit)
    {
        const uint efer = 0xC0000080;
        if (!m.Cpu.ReadMsr(efer, out ulong old)) return false;
        try
        {
            return m.Cpu.WriteMsr(efer, old | bit) && m.Cpu.ReadMsr(efer, out ulong value) && value == (old | bit);
        }
        catch (GuestFault fault)
        {
            Assert.Equal(Vector.GeneralProtection, fault.Number);
            return false;
        }
    }

    /// <summary>Bits 13 to 20 of an entry for 4 MiB are the address's, or reserved.</summary>
    static bool TakesHighLargePages(SystemMachine m)
    {
        if (!m.Cpu.Model.Has("pse")) return m.Cpu.Model.Has("pse36");
        m.S->Efer = 0;
        m.Protected32();
        m.Write(M.Tables, 0x83, 4);
        m.Write(M.Tables + 4, 1 << 13 | 0x83, 4);
        (m.S->Cr3, m.S->Cr4, m.S->Efer) = (M.Tables, Cr4.Pse, 0);
        m.S->Cr0 |= Cr0.Pg;
        m.Cpu.ModeChanged();
        m.Cpu.FlushTlb(true);
        bool works = m.Cpu.TryTranslate(0x400000, out ulong physical) && physical == 1UL << 32;
        m.S->Cr0 &= ~Cr0.Pg;
        m.Cpu.ModeChanged();
        return works;
    }

    static bool TakesGigabytePages(SystemMachine m)
    {
        m.Write(M.Tables + 0x1008, 0x40000083, 8);
        m.Cpu.FlushTlb(true);
        bool works = m.Cpu.TryTranslate(0x40000000, out ulong physical) && physical == 0x40000000;
        m.Write(M.Tables + 0x1008, 0, 8);
        return works;
    }

    static bool TakesX2Apic(SystemMachine m)
    {
        const ulong x2ApicBase = 0xFEE00D00;
        m.Cpu.Apic = new WillingApic();
        bool takes = m.Cpu.WriteMsr(0x1B, x2ApicBase) || !m.Cpu.Model.Has("apic");
        m.Cpu.Apic = null;
        return takes && m.Cpu.Model.Has("apic");
    }

    /// <summary>Lets itself be switched.</summary>
    sealed class WillingApic : ILocalApic
    {
        public bool HasInterrupt => false;
        public int Acknowledge() => -1;
        public ulong BaseMsr { get; private set; } = 0xFEE00900;
        public bool WriteBaseMsr(ulong value)
        {
            BaseMsr = value;
            return true;
        }

        public uint ReadMmio(uint offset) => 0;
        public void WriteMmio(uint offset, uint value) { }
        public bool ReadMsr(uint msr, out ulong value) { value = 0; return false; }
        public bool WriteMsr(uint msr, ulong value) => false;
        public byte Cr8 { get; set; }
        public ulong TscDeadline { get; set; }
    }
}
