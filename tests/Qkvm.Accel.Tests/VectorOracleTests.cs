using System.Text;
using Iced.Intel;
using Qkvm.Accel.Tcg;
using Qkvm.Core.Memory;
using Qkvm.Host;

namespace Qkvm.Accel.Tests;

/// <summary>Random x87, MMX, SSE, AVX and AVX-512 instructions in the interpreter and on the host: all state and memory
/// must agree.</summary>
public sealed unsafe class VectorOracleTests
{
    const ulong CodeStart = 0x200000;
    const int CodeStep = 16, Slots = 0x50000;

    [Avx512Fact]
    public void The_interpreter_computes_AVX512_as_the_host_does() =>
        The_software_CPU_computes_what_the_host_computes(VectorGroup.Avx512, 15, 120_000, false);

    [Avx512Fact]
    public void The_translator_computes_AVX512_as_the_host_does() =>
        The_software_CPU_computes_what_the_host_computes(VectorGroup.Avx512, 16, 120_000, true);

    [Theory]
    [InlineData(VectorGroup.Vector, 11, 120_000, false)]
    [InlineData(VectorGroup.X87, 12, 60_000, false)]
    [InlineData(VectorGroup.Vector, 13, 120_000, true)]
    [InlineData(VectorGroup.X87, 14, 60_000, true)]
    public void The_software_CPU_computes_what_the_host_computes(VectorGroup group, int seed, int count,
        bool translated)
    {
        using var oracle = new HostOracle(64, vectors: true);
        using var machine = new GuestMachine();
        using var scratch = new GuestRam("scratch", HostOracle.ScratchSize);
        machine.Root.Map((ulong)oracle.Scratch, MemoryRegion.OfRam("scratch", scratch, 0, scratch.Size));
        machine.Cpu.Translates = machine.Cpu.Lockstep = translated;
        machine.Flat(64);
        MapLow4GiB(machine);
        machine.S->Cr0 |= Cr0.Ne;
        machine.S->Cr4 |= Cr4.Osfxsr | Cr4.Osxmmexcpt | Cr4.Osxsave;
        machine.S->Xcr0 = machine.Cpu.Xcr0Supported;
        machine.Cpu.ModeChanged();
        new Random(seed).NextBytes(new Span<byte>(oracle.Scratch, HostOracle.ScratchSize));
        Native(oracle).CopyTo(Interpreted(scratch));
        var fuzzer = new VectorFuzzer(seed, group, (ulong)oracle.Scratch);
        var report = new Report(seed);
        for (int n = 0; n < HostNeeds.Share(count); n++)
        {
            fuzzer.Next();
            ulong at = CodeStart + (ulong)(n % Slots * CodeStep);
            fuzzer.Bytes.CopyTo(new Span<byte>(machine.Ram.Pointer + at, 15));
            if (n >= Slots) machine.Memory.Write(at, fuzzer.Bytes.ToArray());
            Prepare(fuzzer, oracle, machine.Cpu, at, unmasked: group == VectorGroup.X87 && n % 4 == 0);
            try
            {
                machine.Cpu.ModeChanged();                          // MXCSR and FCW are new
                if (!machine.Cpu.TryRunOneTranslated()) machine.Cpu.RunOne();
            }
            catch (GuestFault fault)
            {
                report.Add(fuzzer, n, $"fault {fault.Number}");
                continue;
            }
            oracle.Run(fuzzer.Bytes);
            Compare(fuzzer, oracle, machine.Cpu, scratch, at, report, n);
        }
        Assert.True(report.Count == 0, report.ToString());
        Assert.True(report.Kinds
            > (group switch { VectorGroup.X87 => 100, VectorGroup.Vector => HostFeatures.Current.Has("avx2")
            ? HostNeeds.Kinds(900) : 200, _ => HostNeeds.Kinds(1200) }), $"only {report.Kinds} forms");
    }

    static void MapLow4GiB(GuestMachine machine)
    {
        machine.Memory.Write(GuestMachine.Tables, 8, GuestMachine.Tables + 0x1000 | 7);
        for (ulong i = 0; i < 4; i++)
            machine.Memory.Write(GuestMachine.Tables + 0x1000 + i * 8, 8,
                GuestMachine.Tables + 0x2000 + i * 0x1000 | 7);
        for (ulong i = 0; i < 2048; i++) machine.Memory.Write(GuestMachine.Tables + 0x2000 + i * 8, 8, i << 21 | 0x87);
    }

    static Span<byte> Native(HostOracle oracle) => new(oracle.Scratch, HostOracle.ScratchSize);
    static Span<byte> Interpreted(GuestRam scratch) => new(scratch.Pointer, HostOracle.ScratchSize);

    static void Prepare(VectorFuzzer fuzzer, HostOracle oracle, Cpu cpu, ulong rip, bool unmasked)
    {
        for (int i = 0; i < 16; i++) cpu.State->Gpr[i] = oracle.State->Gpr[i] = fuzzer.Gpr[i];
        cpu.AllFlags = fuzzer.Flags;
        oracle.State->Flags = fuzzer.Flags | Rflags.If;
        cpu.State->Rip = rip;
        byte* image = cpu.State->Xsave.Bytes;
        new Span<byte>(image, sizeof(XsaveArea)).Clear();
        fuzzer.FillVectors(image, unmasked);
        cpu.FindVectorsInUse();
        oracle.LoadVectors(image);
    }

    static void Compare(VectorFuzzer fuzzer, HostOracle oracle, Cpu cpu, GuestRam scratch, ulong at, Report report,
        int n)
    {
        report.Seen(fuzzer.Instruction.Code);
        for (int i = 0; i < 16; i++)
            if (cpu.State->Gpr[i] != oracle.State->Gpr[i])
                report.Add(fuzzer, n, $"register {i}: {cpu.State->Gpr[i]:x}, on the host {oracle.State->Gpr[i]:x}");
        if (((cpu.AllFlags ^ oracle.State->Flags) & Rflags.Arithmetic) != 0)
            report.Add(fuzzer, n, $"flags {cpu.AllFlags & Rflags.Arithmetic:x}, on the host " +
                $"{oracle.State->Flags & Rflags.Arithmetic:x}");
        if (cpu.State->Rip != at + (ulong)fuzzer.Instruction.Length) report.Add(fuzzer, n, "RIP");
        byte* mine = cpu.State->Xsave.Bytes, host = stackalloc byte[sizeof(XsaveArea)];
        oracle.UnloadVectors(host);
        Same(fuzzer, report, n, "x87 control", mine, host, 0, 5);
        Same(fuzzer, report, n, "MXCSR", mine, host, 24, 4);
        for (int i = 0; i < 8; i++) Same(fuzzer, report, n, $"ST{i}", mine, host, 32 + i * 16, 10);
        Same(fuzzer, report, n, "XMM", mine, host, 160, 256);
        Same(fuzzer, report, n, "YMM", mine, host, 576, 256);
        if (HostOracle.HasAvx512)
            Same(fuzzer, report, n, "masks and ZMM", mine, host, XsaveArea.Opmask0,
                sizeof(XsaveArea) - XsaveArea.Opmask0);
        if (Native(oracle).SequenceEqual(Interpreted(scratch))) return;
        report.Add(fuzzer, n, $"memory at +{Native(oracle).CommonPrefixLength(Interpreted(scratch)):x}");
        Native(oracle).CopyTo(Interpreted(scratch));
    }

    static void Same(VectorFuzzer fuzzer, Report report, int n, string what, byte* mine, byte* host, int at, int count)
    {
        var left = new ReadOnlySpan<byte>(mine + at, count);
        var right = new ReadOnlySpan<byte>(host + at, count);
        if (left.SequenceEqual(right)) return;
        int from = left.CommonPrefixLength(right) & -16;
        int length = Math.Min(16, count - from);
        report.Add(fuzzer, n, $"{what}+{from}: {Convert.ToHexString(left.Slice(from, length))}, on the host " +
            $"{Convert.ToHexString(right.Slice(from, length))}");
    }

    /// <summary>The first few differences.</summary>
    sealed class Report(int seed)
    {
        const int Shown = 40;

        readonly StringBuilder _text = new($"seed {seed}\n");
        readonly HashSet<Code> _failed = [], _seen = [];

        public int Count { get; private set; }
        public int Kinds => _seen.Count;

        public void Seen(Code code) => _seen.Add(code);

        public void Add(VectorFuzzer fuzzer, int number, string what)
        {
            Count++;
            if (!_failed.Add(fuzzer.Instruction.Code) || _failed.Count > Shown) return;
            _text.Append($"#{number} {Convert.ToHexString(fuzzer.Bytes)} {fuzzer.Instruction.Code} " +
                $"{fuzzer.Instruction}: {what}\n");
        }

        public override string ToString() => $"{Count} differences, {_failed.Count} kinds; {_text}";
    }
}
