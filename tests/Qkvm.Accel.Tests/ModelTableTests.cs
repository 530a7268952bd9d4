using System.Text;
using Qkvm.Accel.Tcg;
using Qkvm.Core.Accel;
using Qkvm.Accel.Tcg.Model;
using Qkvm.Testing;
using M = Qkvm.Accel.Tests.SystemMachine;

namespace Qkvm.Accel.Tests;

/// <summary>For every CPU model: which model-specific registers answer, which reserved NOPs do nothing, and that what
/// CPUID shows is what exists. Judged by Intel's SDM, volumes 2 and 4, and AMD's APM, volumes 2 and 3.</summary>
public sealed unsafe class ModelTableTests
{
    const int Ud = 6, Bp = 3;

    static string[] Models => [.. CpuModels.All.Select(model => model.Name).Order(StringComparer.Ordinal)];

    /// <summary>Models that agree stand together: registers that can be read, then those that can be written with zero
    /// though not read.</summary>
    [Fact]
    public Task Registers()
    {
        var tables = new SortedDictionary<string, List<string>>(StringComparer.Ordinal);
        foreach (string name in Models)
        {
            using var m = new M(name);
            string table = $"  read: {Ranges(m, msr => m.Cpu.ReadMsr(msr, out _))}\n  write only: " +
                $"{Ranges(m, msr => !m.Cpu.ReadMsr(msr, out _) && m.Cpu.WriteMsr(msr, 0))}\n";
            (tables.TryGetValue(table, out List<string>? names) ? names : tables[table] = []).Add(name);
        }
        var text = new StringBuilder();
        foreach ((string table, List<string> names) in tables.OrderBy(t => t.Value[0], StringComparer.Ordinal))
            text.Append($"{string.Join(' ', names)}\n{table}");
        return Verifier.Verify(text.ToString());
    }

    static string Ranges(SystemMachine m, Func<uint, bool> answers)
    {
        var found = new List<string>();
        foreach ((uint from, uint to) in new[] { (0u, 0xFFFu), (0x4B564D00u, 0x4B564DFFu), (0xC0000000u, 0xC00001FFu),
            (0xC0010000u, 0xC00112FFu) })
            for (uint msr = from; msr <= to; msr++)
            {
                if (!answers(msr)) continue;
                uint first = msr;
                while (msr < to && answers(msr + 1)) msr++;
                found.Add(first == msr ? $"{first:X}" : $"{first:X}-{msr:X}");
            }
        return string.Join(' ', found);
    }

    /// <summary>The same for the reserved NOPs: "mem" and "reg" are the two halves of ModRM.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public Task Hints(bool translated)
    {
        byte[] opcodes = [0x0D, 0x18, 0x19, 0x1A, 0x1B, 0x1C, 0x1D, 0x1E, 0x1F];
        var tables = new SortedDictionary<string, List<string>>(StringComparer.Ordinal);
        foreach (string name in Models)
        {
            using var m = new M(name);
            string Outcome(byte opcode, byte modRm) => VectorOf(m, translated, [0x0F, opcode, modRm]) switch
            {
                Bp => "nop",
                Ud => "#UD",
                var other => $"{other}",
            };
            string table = string.Concat(opcodes.Select(opcode =>
                $"  0F {opcode:X2}: mem {Outcome(opcode, 0x08)}, reg {Outcome(opcode, 0xC8)}\n"));
            (tables.TryGetValue(table, out List<string>? names) ? names : tables[table] = []).Add(name);
        }
        var text = new StringBuilder();
        foreach ((string table, List<string> names) in tables) text.Append($"{string.Join(' ', names)}\n{table}");
        return Verifier.Verify(text.ToString());
    }

    /// <summary>The exception that ends the code: its own, or the breakpoint's behind it.</summary>
    static int VectorOf(M m, bool translated, byte[] code)
    {
        m.Protected32();
        m.S->Cr4 = Cr4.Osfxsr & m.Cpu.Cr4Supported | Cr4.Osxsave & m.Cpu.Cr4Supported;
        m.S->Xcr0 = m.Cpu.Xcr0Supported | 1;
        m.S->Xsave.Bytes[XsaveArea.Ftw] = 0;
        (m.Cpu.Rax, m.Cpu.Rcx, m.Cpu.Rdx, m.Cpu.Rbx) = (M.Data, 0, 0, M.Data);
        for (ulong i = 0; i < XsaveArea.Header; i += 8) m.Write(M.Data + i, 0, 8);
        m.Place([.. code, 0xCC]);
        m.Go(translated);
        return m.HandlerVector;
    }

    /// <summary>An instruction of a feature runs if CPUID shows the feature, and is undefined if not. EAX and EBX point
    /// to memory. SMSW exists without the feature that forbids it to programs.</summary>
    static readonly (string Feature, byte[] Code)[] Gated =
    [
        ("fpu", [0xD9, 0xE8]), ("cx8", [0x0F, 0xC7, 0x0B]), ("cmov", [0x0F, 0x44, 0xC8]), ("mmx", [0x0F, 0xEF, 0xC0]),
        ("fxsr", [0x0F, 0xAE, 0x03]), ("sse", [0x0F, 0x57, 0xC0]), ("sse2", [0x66, 0x0F, 0xEF, 0xC0]),
        ("pni", [0xF2, 0x0F, 0x7C, 0xC0]), ("ssse3", [0x66, 0x0F, 0x38, 0x1C, 0xC0]),
        ("sse4.1", [0x66, 0x0F, 0x38, 0x17, 0xC0]), ("sse4.2", [0xF2, 0x0F, 0x38, 0xF1, 0xC8]),
        ("popcnt", [0xF3, 0x0F, 0xB8, 0xC8]), ("aes", [0x66, 0x0F, 0x38, 0xDB, 0xC0]),
        ("pclmulqdq", [0x66, 0x0F, 0x3A, 0x44, 0xC0, 0]), ("movbe", [0x0F, 0x38, 0xF0, 0x0B]),
        ("rdrand", [0x0F, 0xC7, 0xF1]), ("rdseed", [0x0F, 0xC7, 0xF9]), ("xsave", [0x0F, 0x01, 0xD0]),
        ("tsc", [0x0F, 0x31]), ("rdtscp", [0x0F, 0x01, 0xF9]), ("monitor", [0x0F, 0x01, 0xC8]),
        ("clflush", [0x0F, 0xAE, 0x3B]), ("clflushopt", [0x66, 0x0F, 0xAE, 0x3B]), ("clwb", [0x66, 0x0F, 0xAE, 0x33]),
        ("adx", [0x66, 0x0F, 0x38, 0xF6, 0xC8]), ("bmi1", [0xC4, 0xE2, 0x70, 0xF2, 0xC9]),
        ("bmi2", [0xC4, 0xE2, 0x73, 0xF6, 0xC9]), ("avx", [0xC5, 0xF8, 0x57, 0xC0]), ("avx2", [0xC5, 0xFD, 0xEF, 0xC0]),
        ("fma", [0xC4, 0xE2, 0x79, 0x98, 0xC0]), ("f16c", [0xC4, 0xE2, 0x79, 0x13, 0xC0]),
        ("sha-ni", [0x0F, 0x38, 0xC8, 0xC0]), ("gfni", [0x66, 0x0F, 0x38, 0xCF, 0xC0]), ("smap", [0x0F, 0x01, 0xCA]),
        ("invpcid", [0x66, 0x0F, 0x38, 0x82, 0x0B]), ("serialize", [0x0F, 0x01, 0xE8]), ("clzero", [0x0F, 0x01, 0xFC]),
        ("movdiri", [0x0F, 0x38, 0xF9, 0x0B]), ("rdpid", [0xF3, 0x0F, 0xC7, 0xF9]), ("svm", [0x0F, 0x01, 0xDD]),
        ("vmx", [0x0F, 0x01, 0xC4]), ("sse4a", [0xF2, 0x0F, 0x79, 0xC0]), ("xop", [0x8F, 0xE8, 0x78, 0xA2, 0xC0, 0]),
        ("fma4", [0xC4, 0xE3, 0x79, 0x69, 0xC0, 0]), ("3dnow", [0x0F, 0x0F, 0xC0, 0x9E]),
        ("waitpkg", [0x66, 0x0F, 0xAE, 0xF1]), ("rtm", [0x0F, 0x01, 0xD6]), ("umip", [0x0F, 0x01, 0xE0]),
    ];

    public static TheoryData<string, bool> ModelsInBothWays()
    {
        var cases = new TheoryData<string, bool>();
        foreach (string name in Models)
        {
            cases.Add(name, false);
            cases.Add(name, true);
        }
        return cases;
    }

    [Theory, MemberData(nameof(ModelsInBothWays))]
    public void What_cpuid_shows_is_what_there_is(string model, bool translated)
    {
        const string always = "umip";
        using var m = new M(model);
        foreach ((string feature, byte[] code) in Gated)
        {
            bool exists = m.Cpu.Model.Has(feature) || feature == always;
            Assert.Equal((feature, exists ? Bp : Ud), (feature, VectorOf(m, translated, code)));
        }
    }

    /// <summary>Rules of the makers that hold over all their models.</summary>
    [Fact]
    public void Rules()
    {
        foreach (string name in Models)
        {
            using var m = new M(name);
            Cpuid cpuid = m.Cpu.Model;
            bool Answers(uint msr) => m.Cpu.ReadMsr(msr, out _);
            void Rule(bool expected, uint msr) => Assert.Equal((name, msr, expected), (name, msr, Answers(msr)));
            bool amd = cpuid.Model.IsAmd, intel = cpuid.Model.Vendor == CpuModel.Intel, msrs = cpuid.Has("msr");
            int family = cpuid.Model.Family;
            // APM vol. 2, appendix A: every AMD64 processor
            for (uint i = 0; i < 8; i++) Rule(amd && msrs, 0xC0010000 + i);
            Rule(amd && msrs && family >= 15, 0xC001001A);
            Rule(amd && msrs && family >= 16, 0xC0010064);
            // SDM vol. 4, table 2-2: from 06_01H on
            Rule(intel && msrs && family >= 6, 0x17);
            Rule(intel && msrs && family == 6, 0xC1);
            Rule(intel && msrs && family == 15, 0x300);
            Rule(intel && msrs && family == 5, 0x11);
            Rule(cpuid.Has("tsc"), 0x10);
            Rule(cpuid.Has("mca"), 0x400);
            Rule(cpuid.Has("mtrr"), 0xFE);
            Rule(cpuid.Has("pat"), 0x277);
            Rule(cpuid.Has("sep"), 0x174);
            Rule(cpuid.Has("syscall"), 0xC0000081);
            Rule(cpuid.Has("lm"), 0xC0000100);
            Rule(cpuid.Has("rdtscp") || cpuid.Has("rdpid"), 0xC0000103);
            // the counters that nothing here shows
            Rule(false, 0xC0010200);
            Rule(false, 0x48);
            Rule(false, 0x480);
        }
    }
}
