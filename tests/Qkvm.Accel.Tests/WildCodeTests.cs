using System.Text;
using Iced.Intel;
using Qkvm.Accel.Tcg;

namespace Qkvm.Accel.Tests;

/// <summary>Hostile user code, translated and interpreted: faults, registers and memory must agree, and nothing else
/// may be touched.</summary>
public sealed unsafe class WildCodeTests
{
    const int Sequences = 3000, Shown = 3;

    [Fact]
    public void It_does_to_its_memory_what_the_interpreter_does()
    {
        int first = int.Parse(Environment.GetEnvironmentVariable("QKVM_FUZZ_SEED") ?? "1");
        int count = int.Parse(Environment.GetEnvironmentVariable("QKVM_FUZZ_COUNT")
            ?? HostNeeds.Share(Sequences).ToString());
        using WildGuest translated = new(true), interpreted = new(false);
        var fuzzer = new WildFuzzer();
        var reports = new List<string>();
        var ends = new int[WildGuest.Vectors];
        for (int seed = first; seed < first + count && reports.Count < Shown; seed++)
        {
            ulong start = WildFuzzer.Code + (ulong)new Random(seed).Next(0x1000 - 16);
            List<byte> code = fuzzer.Next(seed, start);
            int right = interpreted.Run(seed, start, code, fuzzer.Registers),
                ended = translated.Run(seed, start, code, fuzzer.Registers);
            if (Difference(translated, interpreted, ended, right) is not { Length: > 0 } difference)
            {
                ends[right]++;
                continue;
            }
            reports.Add($"seed {seed}: vector {right}\n{List(code, start)}{difference}");
        }
        Assert.True(reports.Count == 0, string.Join('\n', reports));
        // Among all that fault, enough comes to its end or to a page that is not there.
        Assert.True(ends[Vector.InvalidOpcode] > count / 20
            && ends[Vector.PageFault] > count / 20, string.Join(' ', ends));
    }

    static string Difference(WildGuest mine, WildGuest other, int ended, int right)
    {
        if (ended != right) return $"  vector {ended}, right {right}\n";
        var text = new StringBuilder();
        ReadOnlySpan<string> names = ["error code", "RIP", "CR2"];
        ReadOnlySpan<ulong> values = mine.Fault, rights = other.Fault;
        for (int i = 0; i < names.Length; i++)
            if (values[i] != rights[i]) text.Append($"  {names[i]} {values[i]:x}, right {rights[i]:x}\n");
        for (int i = 0; i < 16; i++)
            if (mine.State->Gpr[i] != other.State->Gpr[i])
                text.Append($"  register {i}: {mine.State->Gpr[i]:x}, right {other.State->Gpr[i]:x}\n");
        const int vectors = XsaveArea.Xmm0, length = 256;
        if (!new ReadOnlySpan<byte>(mine.State->Xsave.Bytes + vectors, length)
            .SequenceEqual(new ReadOnlySpan<byte>(other.State->Xsave.Bytes + vectors, length)))
            text.Append("  vector registers\n");
        int same = mine.Memory.CommonPrefixLength(other.Memory);
        if (same < mine.Memory.Length)
            text.Append($"  memory at {WildFuzzer.Pages[same >> 12] + (ulong)(same & 0xFFF):x}: " +
                $"{mine.Memory[same]:x}, right {other.Memory[same]:x}\n");
        return text.ToString();
    }

    static string List(List<byte> code, ulong start)
    {
        var decoder = Iced.Intel.Decoder.Create(64, code.ToArray(), DecoderOptions.AMD);
        decoder.IP = start;
        var text = new StringBuilder();
        while (decoder.IP < start + (ulong)code.Count)
        {
            Instruction x = decoder.Decode();
            text.Append($"  {x.IP:x}: {x} ({x.Code})\n");
        }
        return text.ToString();
    }
}

/// <summary>User mode in pages scattered over the address space; handlers tell their vector to a port.</summary>
sealed unsafe class WildGuest : IDisposable
{
    public const int Vectors = 32;
    const ulong Gdt = 0x1000, Idt = 0x2000, Tss = 0x3000, Handlers = 0x4000, Stack = 0x8000, Tables = 0x100000,
        Frames = 0x200000;
    const ulong System = 0xFFFFFFFFC0000000, PresentWritable = 3, User = 4, Writable = 2, LargePage = 0x80;
    const int HandlerStep = 16;
    static readonly TimeSpan s_patience = TimeSpan.FromSeconds(20);

    readonly GuestMachine _machine = new();
    readonly Timer _watchdog;
    readonly byte[] _fill = new byte[WildFuzzer.Pages.Length * 0x1000];
    readonly ulong[] _entries;
    ulong _nextTable = Tables + 0x1000;

    public WildGuest(bool translated)
    {
        _machine.Cpu.Translates = translated;
        _machine.Ports.OnWrite = _ => _machine.VCpu.Kick();
        _watchdog = new Timer(_ => _machine.VCpu.Kick());
        new Random(1).NextBytes(_fill);
        *EntryOf(System, large: true) = PresentWritable | LargePage;
        _entries = [.. WildFuzzer.Pages.Select(page => (ulong)((byte*)EntryOf(page) - _machine.Ram.Pointer))];
        Write(Gdt + 8, 0x00AF9B000000FFFF);
        Write(Gdt + 0x10, 0x00CF93000000FFFF);
        Write(Tss + 4, System + Stack);
        Write(Tss + 0x60, 0x68UL << 48);                            // no port is the program's
        for (uint vector = 0; vector < Vectors; vector++)
        {
            ulong handler = System + Handlers + vector * HandlerStep;
            Write(Idt + vector * 16, handler & 0xFFFF | 8 << 16 | 0x8EUL << 40 | (handler & 0xFFFF0000) << 32);
            Write(Idt + vector * 16 + 8, handler >> 32);
            // out vector, al; jmp to itself
            _machine.Memory.Write(Handlers + vector * HandlerStep, [0xE6, (byte)vector, 0xEB, 0xFE]);
        }
    }

    public CpuState* State => _machine.S;
    public ReadOnlySpan<byte> Memory => new(_machine.Ram.Pointer + Frames, _fill.Length);

    /// <summary>Error code, RIP, CR2.</summary>
    public ReadOnlySpan<ulong> Fault => new ulong[] { _hasCode ? Top(0) : 0, Top(_hasCode ? 1 : 0), State->Cr2 };
    bool _hasCode;

    public void Dispose()
    {
        _watchdog.Dispose();
        _machine.Dispose();
    }

    /// <summary>Code from a place that follows from a number, as is which pages are there.</summary>
    /// <returns>The vector that ended it.</returns>
    public int Run(int seed, ulong start, List<byte> code, ReadOnlySpan<ulong> registers)
    {
        var random = new Random(seed);
        CpuState* s = State;
        _machine.Memory.Write(Frames, _fill);
        for (int i = 0; i < _entries.Length; i++)
        {
            bool isCode = WildFuzzer.Pages[i] is WildFuzzer.Code or WildFuzzer.Code + WildFuzzer.Page;
            ulong rights = random.Next(10)
                switch { _ when isCode => PresentWritable | User, 0 => 0, 1 => 1 | User, _ => PresentWritable | User };
            Write(_entries[i], rights == 0 ? 0 : Frames + (ulong)i * 0x1000 | rights);
        }
        int codePage = Array.IndexOf(WildFuzzer.Pages, WildFuzzer.Code);
        _machine.Memory.Write(Frames + (ulong)codePage * 0x1000 + (start - WildFuzzer.Code), code.ToArray());
        s->Cr0 = Cr0.Pe | Cr0.Et | Cr0.Ne | Cr0.Mp | Cr0.Pg | Cr0.Wp;
        s->Cr4 = Cr4.Pae | Cr4.Osfxsr | Cr4.Osxmmexcpt | Cr4.Osxsave | Cr4.Fsgsbase;
        (s->Efer, s->Cr3, s->Cr2, s->Cpl) = (Efer.Lme | Efer.Lma | Efer.Nx, Tables, 0, 3);
        s->Xcr0 = _machine.Cpu.Xcr0Supported;
        (s->GdtrBase, s->GdtrLimit, s->IdtrBase, s->IdtrLimit) = (System + Gdt, 0x17, System + Idt, Vectors * 16 - 1);
        s->Tr = new Segment { Selector = 0x40, Base = System + Tss, Limit = 0x67, Access = 0x8B };
        for (int i = 0; i < Seg.Count; i++)
            s->Segment(i) = new Segment { Selector = 0x13, Limit = uint.MaxValue, Access = 0xC0F3 };
        s->Cs = new Segment { Selector = 0x0B, Limit = uint.MaxValue, Access = (ushort)(0x80FB | Segment.Long) };
        (s->WaitForSipi, s->Halted, s->InterruptShadow, s->Rip, s->KernelGsBase) = (0, 0, 0, start, 0);
        registers.CopyTo(new Span<ulong>(s->Gpr, 16));
        _machine.Cpu.AllFlags = 2;
        new Span<byte>(s->Xsave.Bytes, sizeof(XsaveArea)).Clear();
        random.NextBytes(new Span<byte>(s->Xsave.Bytes + XsaveArea.Xmm0, 256));
        *(ushort*)s->Xsave.Bytes = 0x37F;
        *(uint*)(s->Xsave.Bytes + XsaveArea.Mxcsr) = 0x1F80;
        s->Xsave.Bytes[XsaveArea.Header] = 3;
        _machine.Cpu.FlushTlb(global: true);
        _machine.Cpu.ModeChanged();
        _machine.Ports.Writes.Clear();
        _watchdog.Change(s_patience, Timeout.InfiniteTimeSpan);
        Core.Accel.VCpuExit exit = _machine.VCpu.Run();
        _watchdog.Change(Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
        Assert.True(exit.Reason == Core.Accel.ExitReason.Kicked && _machine.Ports.Writes.Count > 0, $"seed {seed}: " +
            $"{exit}");
        int vector = (int)_machine.Ports.Writes[0].Offset;
        _hasCode = ModeGuest.HasErrorCode(vector);
        return vector;
    }

    ulong Top(int number) => _machine.Memory.Read(State->Gpr[4] - System + (ulong)number * 8, 8);

    void Write(ulong physical, ulong value) => _machine.Memory.Write(physical, 8, value);

    /// <summary>The entry that maps a page, in tables made where there are none.</summary>
    ulong* EntryOf(ulong linear, bool large = false)
    {
        ulong table = Tables;
        for (int shift = 39; ; shift -= 9)
        {
            var entry = (ulong*)(_machine.Ram.Pointer + table + (linear >> shift & 511) * 8);
            if (shift == (large ? 21 : 12)) return entry;
            if (*entry == 0)
            {
                *entry = _nextTable | PresentWritable | User;
                _nextTable += 0x1000;
            }
            table = *entry & ~0xFFFUL;
        }
    }
}
