using System.Text;
using Iced.Intel;
using Qkvm.Accel.Tcg;
using Qkvm.Core.Memory;
using Qkvm.Host;

namespace Qkvm.Accel.Tests;

/// <summary>Random integer instructions in the interpreter, in the translator and on the host: registers, defined flags
/// and memory must agree.</summary>
public sealed unsafe class IntegerOracleTests
{
    const ulong CodeStart = 0x200000, CodeStep = 16;

    [Code32Theory]
    [InlineData(2, 60_000, 135, false)]
    [InlineData(4, 60_000, 135, true)]
    public void So_it_does_in_32_bit_code(int seed, int count, int mnemonics, bool translated) =>
        The_software_CPU_computes_what_the_host_computes(32, seed, count, mnemonics, translated);

    [Theory]
    [InlineData(64, 1, 200_000, 135, false)]
    [InlineData(64, 3, 200_000, 135, true)]
    public void The_software_CPU_computes_what_the_host_computes(int bits, int seed, int count, int mnemonics,
        bool translated)
    {
        var seen = new HashSet<Mnemonic>();
        using var oracle = new HostOracle(bits);
        using var machine = new GuestMachine();
        using var scratch = new GuestRam("scratch", HostOracle.ScratchSize);
        machine.Root.Map((ulong)oracle.Scratch, MemoryRegion.OfRam("scratch", scratch, 0, scratch.Size));
        MapLow4GiB(machine);
        machine.Cpu.Translates = machine.Cpu.Lockstep = translated;
        machine.Flat(bits);
        new Span<byte>(machine.Ram.Pointer + CodeStart, (int)(machine.Ram.Size - CodeStart)).Fill(0xF4);
        new Random(seed).NextBytes(new Span<byte>(oracle.Scratch, HostOracle.ScratchSize));
        Native(oracle).CopyTo(Interpreted(scratch));
        var fuzzer = new IntegerFuzzer(seed, bits, (ulong)oracle.Scratch);
        var report = new Failures(seed);
        for (int n = 0; n < HostNeeds.Share(count); n++)
        {
            fuzzer.Next(oracle.Scratch);
            seen.Add(fuzzer.Instruction.Mnemonic);
            ulong at = CodeStart + (ulong)n * CodeStep;
            fuzzer.Bytes.CopyTo(new Span<byte>(machine.Ram.Pointer + at, 15));
            Prepare(fuzzer, oracle, machine.Cpu, at);
            if (!RunInterpreted(machine.Cpu, fuzzer, report, n)) continue;
            oracle.Run(fuzzer.Bytes);
            Compare(fuzzer, oracle, machine.Cpu, scratch, at, report, n);
        }
        Assert.True(report.Count == 0, report.ToString());
        Assert.True(seen.Count >= HostNeeds.Kinds(mnemonics), $"only {seen.Count} mnemonics: " +
            $"{string.Join(' ', seen.Order())}");
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

    static void Prepare(IntegerFuzzer fuzzer, HostOracle oracle, Cpu cpu, ulong rip)
    {
        for (int i = 0; i < 16; i++) cpu.State->Gpr[i] = oracle.State->Gpr[i] = fuzzer.Gpr[i];
        cpu.AllFlags = fuzzer.Flags;
        oracle.State->Flags = fuzzer.Flags | Rflags.If;
        cpu.State->Rip = rip;
    }

    /// <summary>False if it faulted, which only divisions may, and only where they must.</summary>
    static bool RunInterpreted(Cpu cpu, IntegerFuzzer fuzzer, Failures report, int n)
    {
        ref Instruction x = ref fuzzer.Instruction;
        ulong before = cpu.State->Rip;
        bool isRepeat = x.HasRepPrefix || x.HasRepnePrefix;
        try
        {
            do
            {
                if (!cpu.TryRunOneTranslated()) cpu.RunOne();
            }
            while (isRepeat && cpu.State->Rip == before);
            return true;
        }
        catch (GuestFault fault) when (fault.Number == Vector.DivideError
            && x.Mnemonic is Mnemonic.Div or Mnemonic.Idiv)
        {
            if (cpu.State->Rip != before) report.Add(fuzzer, n, "#DE moved RIP");
        }
        catch (GuestFault fault)
        {
            report.Add(fuzzer, n, $"fault {fault.Number}");
        }
        return false;
    }

    static void Compare(IntegerFuzzer fuzzer, HostOracle oracle, Cpu cpu, GuestRam scratch, ulong at, Failures report,
        int n)
    {
        ref Instruction x = ref fuzzer.Instruction;
        int bits = x.Op0Kind == OpKind.Register ? x.Op0Register.GetSize() * 8 : x.MemorySize.GetSize() * 8;
        int count = ShiftCount(x, fuzzer.Gpr[1], bits);
        ulong undefined = UndefinedResults.Flags(x, count, bits);
        bool isResultUndefined = UndefinedResults.IsResult(x, count, bits, isZero: (cpu.AllFlags & Rflags.Zf) != 0);
        int excepted = isResultUndefined && x.Op0Kind == OpKind.Register
            ? x.Op0Register.GetFullRegister().GetNumber() : -1;
        for (int i = 0; i < 16; i++)
            if (i != excepted && cpu.State->Gpr[i] != oracle.State->Gpr[i])
                report.Add(fuzzer, n, $"register {i}: {cpu.State->Gpr[i]:x}, on the host {oracle.State->Gpr[i]:x}");
        const ulong compared = Rflags.Arithmetic | Rflags.Df;
        ulong difference = (cpu.AllFlags ^ oracle.State->Flags) & compared & ~undefined;
        if (difference != 0)
            report.Add(fuzzer, n, $"flags {cpu.AllFlags & compared:x}, on the host {oracle.State->Flags & compared:x}");
        if (cpu.State->Rip != at + (ulong)x.Length) report.Add(fuzzer, n, "RIP");
        if (Native(oracle).SequenceEqual(Interpreted(scratch))) return;
        int where = Native(oracle).CommonPrefixLength(Interpreted(scratch));
        if (!isResultUndefined || x.Op0Kind == OpKind.Register) report.Add(fuzzer, n, $"memory at +{where:x}");
        Native(oracle).CopyTo(Interpreted(scratch));
    }

    static int ShiftCount(in Instruction x, ulong rcx, int bits)
    {
        int last = x.OpCount - 1;
        ulong count = last >= 0 && x.GetOpKind(last) is OpKind.Immediate8 ? x.GetImmediate(last) : rcx;
        return (int)count & (bits == 64 ? 63 : 31);
    }

    /// <summary>The first few differences, and how to see them again.</summary>
    sealed class Failures(int seed)
    {
        const int Shown = 40;

        readonly StringBuilder _text = new($"seed {seed}\n");
        readonly Dictionary<Code, int> _codes = [];

        public int Count { get; private set; }

        public void Add(IntegerFuzzer fuzzer, int number, string what)
        {
            Count++;
            int seen = _codes.GetValueOrDefault(fuzzer.Instruction.Code);
            _codes[fuzzer.Instruction.Code] = seen + 1;
            if (seen > 0 || _codes.Count > Shown) return;
            _text.Append($"#{number} {Convert.ToHexString(fuzzer.Bytes)} {fuzzer.Instruction.Code} " +
                $"{fuzzer.Instruction}: {what}; before: flags {fuzzer.Flags:x}");
            for (int i = 0; i < 16; i++) if (fuzzer.Gpr[i] != 0) _text.Append($" {i}={fuzzer.Gpr[i]:x}");
            _text.Append('\n');
        }

        public override string ToString() => $"{Count} differences, {_codes.Count} kinds; {_text}";
    }
}
