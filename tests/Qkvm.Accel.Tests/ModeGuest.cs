using Qkvm.Accel.Tcg;

namespace Qkvm.Accel.Tests;

public enum FuzzedMode { Real, Unreal, Virtual8086, Protected16, Protected32 }

/// <summary>A machine in one of the modes with segments, whose interrupt handlers tell their vector to a
/// port.</summary>
sealed unsafe class ModeGuest : IDisposable
{
    public const int Compared = 0x110000;
    const ulong System = 0x600000, Gdt = System, Idt = System + 0x1000, Tss = System + 0x2000,
        Handlers = System + 0x4000, Stack = System + 0x8000, PageTable = System + 0x10000, Directory = System + 0x11000,
        RealHandlers = 0xF0000;
    const int HandlerStep = 16, Vectors = 32;
    /// <summary>What goes on for longer than the first has no end, and is not compared; what has one reaches it in the
    /// second, however busy the host.</summary>
    public static readonly TimeSpan Glance = TimeSpan.FromMilliseconds(100), Patience = TimeSpan.FromSeconds(20);

    readonly FuzzedMode _mode;
    readonly GuestMachine _machine = new();
    readonly Timer _watchdog;

    public ModeGuest(FuzzedMode mode, bool translated)
    {
        _mode = mode;
        _machine.Cpu.Translates = translated;
        _machine.Ports.OnWrite = _ => _machine.VCpu.Kick();
        _watchdog = new Timer(_ => _machine.VCpu.Kick());
    }

    /// <summary>Selectors for segment loads; in protected modes of what <see cref="Setup"/> describes.</summary>
    public static ushort[] Selectors(FuzzedMode mode) => mode >= FuzzedMode.Protected16 ? [0x23, 0x2B, 0x33, 0x3B, 0x43]
        : [0x2000, 0x2ABC, 0x3001, 0x4000, 0x2FFF, 0x10];

    public static bool IsReal(FuzzedMode mode) => mode < FuzzedMode.Protected16;

    public CpuState* State => _machine.S;
    public Cpu Cpu => _machine.Cpu;
    public ReadOnlySpan<byte> Ram => new(_machine.Ram.Pointer, Compared);

    public void Dispose()
    {
        _watchdog.Dispose();
        _machine.Dispose();
    }

    /// <summary>Memory, registers and segments that follow from a number alone.</summary>
    /// <returns>The base of CS, and where in it code is to go.</returns>
    public (ulong CodeBase, ulong Start) Setup(int seed, byte[] memory)
    {
        var random = new Random(seed);
        CpuState* s = State;
        _machine.Memory.Write(0, memory);
        FillSystem(random);
        bool isReal = IsReal(_mode);
        ulong codeBase = random.Next(3) switch { 0 => 0x10120u, _ => 0x10000u };
        uint codeLimit = isReal ? 0xFFFFu : random.Next(3) switch { 0 => uint.MaxValue, 1 => 0x8FFFu, _ => 0xFFFFu };
        if (_mode == FuzzedMode.Protected32 && random.Next(4) == 0) (codeBase, codeLimit) = (0, uint.MaxValue);
        // Now and then so near to the end of 64 KiB that code runs into it.
        ulong start = codeBase == 0 ? 0x14000 : codeBase == 0x10000 && random.Next(8) == 0 ? 0xFFC0u
            : (ulong)random.Next(0x100, 0x6000);
        if (codeBase == 0x10000 && codeLimit == 0x8FFF && start > 0x8000) start = 0x8FD0;
        for (int i = 0; i < 16; i++) s->Gpr[i] = i < 8 ? ModeFuzzer.Number(random) : 0;
        s->Gpr[4] = (ulong)random.Next(0x1000, 0xF000) & ~1UL | (random.Next(4) == 0 ? 0xABCD0000u : 0);
        bool isVirtual = _mode == FuzzedMode.Virtual8086;
        s->Efer = 0;
        s->Cr0 = Cr0.Et | Cr0.Ne | (isReal && !isVirtual ? 0 : Cr0.Pe) | (isVirtual ? Cr0.Pg : 0);
        s->Cr4 = Cr4.Osfxsr | Cr4.Osxmmexcpt | Cr4.Pse | (isReal ? 0 : Cr4.Osxsave);
        s->Xcr0 = _machine.Cpu.Xcr0Supported;
        s->Cr3 = Directory;
        s->Cr2 = 0;
        s->Cpl = isVirtual || !isReal ? 3 : 0;
        (s->GdtrBase, s->GdtrLimit, s->IdtrBase, s->IdtrLimit) = (Gdt, 0xFF, isReal && !isVirtual ? 0 : Idt, 0x3FF);
        s->Tr = new Segment { Selector = 0x58, Base = Tss, Limit = 0x67, Access = 0x8B };
        (s->WaitForSipi, s->Halted, s->InterruptShadow) = (0, 0, 0);
        if (isReal)
            for (int i = 0; i < Seg.Count; i++)
            {
                ushort selector = i == Seg.Cs ? (ushort)(codeBase >> 4) : i == Seg.Ss ? (ushort)0x5000
                    : Selectors(_mode)[random.Next(4)];
                s->Segment(i) = new Segment
                {
                    Selector = selector, Base = (ulong)selector << 4, Access = (ushort)(isVirtual ? 0xF3 : 0x93),
                    Limit = _mode == FuzzedMode.Unreal && random.Next(2) == 0 && i != Seg.Cs ? uint.MaxValue : 0xFFFF,
                };
            }
        else
        {
            ushort size = _mode == FuzzedMode.Protected32 ? Segment.Big : (ushort)0;
            for (int i = 0; i < Seg.Count; i++)
            {
                int number = i == Seg.Ss ? 0 : random.Next(5);
                s->Segment(i) = _described[number] with { Selector = Selectors(_mode)[number] };
            }
            s->Cs = new Segment { Selector = 0x1B, Base = codeBase, Limit = codeLimit, Access = (ushort)(0xFB | size) };
        }
        _machine.Cpu.AllFlags = 2 | (ulong)random.NextInt64() & Rflags.Arithmetic
            | (random.Next(5) == 0 ? Rflags.Df : 0) | (isVirtual ? Rflags.Vm : 0);
        new Span<byte>(s->Xsave.Bytes, sizeof(XsaveArea)).Clear();
        random.NextBytes(new Span<byte>(s->Xsave.Bytes + XsaveArea.Xmm0, 128));
        *(ushort*)s->Xsave.Bytes = 0x37F;
        *(uint*)(s->Xsave.Bytes + XsaveArea.Mxcsr) = 0x1F80;
        s->Xsave.Bytes[XsaveArea.Header] = 3;
        s->Rip = start;
        _machine.Cpu.FlushTlb(global: true);
        _machine.Cpu.ModeChanged();
        return (codeBase, start);
    }

    public void Write(ulong at, byte[] code) => _machine.Memory.Write(at, code);

    /// <summary>The vector that ended it; -1 none did in time, -2 it shut down.</summary>
    public int Run(TimeSpan patience)
    {
        _machine.Ports.Writes.Clear();
        _watchdog.Change(patience, Timeout.InfiniteTimeSpan);
        Core.Accel.VCpuExit exit = _machine.VCpu.Run();
        _watchdog.Change(Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
        if (exit.Reason == Core.Accel.ExitReason.Shutdown) return -2;
        if (exit.Reason != Core.Accel.ExitReason.Kicked) throw new InvalidOperationException(exit.ToString());
        return _machine.Ports.Writes.Count == 0 ? -1 : (int)_machine.Ports.Writes[0].Offset;
    }

    public static bool HasErrorCode(int vector) => vector is 8 or (>= 10 and <= 14) or 17;

    /// <summary>Where the handler finds IP and, behind CS, flags.</summary>
    public (ulong Ip, ulong Flags) Frame(int vector)
    {
        if (_mode is FuzzedMode.Real or FuzzedMode.Unreal)
        {
            ulong at = State->Ss.Base + (ushort)State->Gpr[4];
            return (_machine.Memory.Read(at, 2), State->Ss.Base + (ushort)(State->Gpr[4] + 4));
        }
        ulong frame = State->Gpr[4] + (HasErrorCode(vector) ? 4u : 0);
        return (_machine.Memory.Read(frame, 4), frame + 8);
    }

    public ulong FlagsAt(ulong at) => _machine.Memory.Read(at, 2);

    public uint ErrorCode => (uint)_machine.Memory.Read(State->Gpr[4], 4);

    readonly Segment[] _described = new Segment[5];

    void FillSystem(Random random)
    {
        if (_mode is FuzzedMode.Real or FuzzedMode.Unreal)
        {
            for (uint vector = 0; vector < Vectors; vector++)
            {
                _machine.Memory.Write(vector * 4, 4, 0xF0000000 | vector * HandlerStep);
                _machine.Memory.Write(RealHandlers + vector * HandlerStep, [0xE6, (byte)vector, 0xEB, 0xFE]);
            }
            return;
        }
        _machine.Memory.Write(Gdt + 8, 8, 0x00CF9B000000FFFF);
        _machine.Memory.Write(Gdt + 0x10, 8, 0x00CF93000000FFFF);
        _machine.Memory.Write(Tss + 4, 4, Stack);
        _machine.Memory.Write(Tss + 8, 4, 0x10);
        for (uint vector = 0; vector < Vectors; vector++)
        {
            ulong handler = Handlers + vector * HandlerStep;
            _machine.Memory.Write(Idt + vector * 8, 8,
                handler & 0xFFFF | 8 << 16 | 0xEE00UL << 32 | handler >> 16 << 48);
            _machine.Memory.Write(handler, [0xE6, (byte)vector, 0xEB, 0xFE]);     // out vector,al; jmp to itself
        }
        for (int i = 0; i < _described.Length && !IsReal(_mode); i++)
        {
            int kind = i == 0 ? 0 : random.Next(10);
            byte access = kind switch { < 7 => 0xF3, 7 => 0xF1, 8 => 0xF7, _ => 0xFB };
            bool isBig = random.Next(2) == 0, isPaged = random.Next(3) == 0;
            uint start = (uint)(0x20000 + random.Next(0x20) * 0x1000 + random.Next(2) * random.Next(0x1000));
            if (i == 0) start = 0x50000;
            uint limit = random.Next(4) switch { 0 => 0x7FF0u, 1 => 0x3FFFFu, _ => 0xFFFFu };
            if (i == 0 && random.Next(2) == 0) limit = 0xEFFF;
            if (isPaged) (start, limit) = (random.Next(2) == 0 ? 0 : start, 0xFFFFF);
            _described[i] = new Segment
            {
                Base = start, Limit = isPaged ? uint.MaxValue
                    : limit, Access = (ushort)(access | (isBig ? Segment.Big : 0) | (isPaged ? 0x8000 : 0)),
            };
            ulong descriptor = limit & 0xFFFF | (ulong)(start & 0xFFFFFF) << 16 | (ulong)access << 40
                | (ulong)(limit >> 16) << 48
                | (isBig ? 1UL << 54 : 0) | (isPaged ? 1UL << 55 : 0) | (ulong)(start >> 24) << 56;
            _machine.Memory.Write(Gdt + (ulong)(Selectors(_mode)[i] & ~7), 8, descriptor);
        }
        if (_mode != FuzzedMode.Virtual8086) return;
        const uint user = 7, readOnly = 5, wide = 0x83;
        _machine.Memory.Write(Directory, 4, PageTable | user);
        _machine.Memory.Write(Directory + 4, 4, 0x400000 | wide);
        for (uint page = 0; page < 0x110; page++)
        {
            bool isData = page is >= 0x20 and < 0x60;
            uint rights = isData && random.Next(20) == 0 ? random.Next(2) == 0 ? 0 : readOnly : user;
            // Some pages are others' doubles.
            uint frame = isData && random.Next(16) == 0 ? page ^ 1 : page;
            _machine.Memory.Write(PageTable + page * 4, 4, rights == 0 ? 0 : frame << 12 | rights);
        }
    }
}
