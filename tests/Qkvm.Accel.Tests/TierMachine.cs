using Iced.Intel;
using Qkvm.Accel.Tcg;

namespace Qkvm.Accel.Tests;

/// <summary>A 64-bit kernel in ring 0 on one tier, for what both tiers must do alike. RAM is mapped one to one in large
/// pages; a window of small pages at <see cref="Window"/> is for the test to fill. Exceptions end in a handler that
/// halts.</summary>
sealed unsafe class TierMachine : IDisposable
{
    public const ulong Window = 0x40000000, Frames = 0x200000, Code = 0x10000, Page = 0x1000, Present = 3;
    const ulong Gdt = 0x1000, Idt = 0x2000, Handlers = 0x4000, Stacks = 0x8000, StackStep = 0x1000;
    const ulong Directory = GuestMachine.Tables + 0x3000, Table = GuestMachine.Tables + 0x4000;
    /// <summary>Seconds: vCPUs that take turns may share one processor of the host with others.</summary>
    const int Patience = 300;
    const int Vectors = 0x100, HandlerStep = 16;

    public readonly GuestMachine Machine;

    /// <param name="translated">On the translator; or on the interpreter.</param>
    /// <param name="codeCache">Bytes for translations, if not as many as usual.</param>
    /// <param name="features">Of -cpu max, beside the usual.</param>
    public TierMachine(bool translated, int cpus = 1, long codeCache = 0, params (string, bool)[] features)
    {
        Machine = new GuestMachine(cpus, codeCache, "max", features);
        for (int i = 0; i < cpus; i++)
        {
            Machine.Flat(64, index: i);
            Cpu cpu = CpuAt(i);
            cpu.Translates = translated;
            CpuState* s = cpu.State;
            (s->GdtrBase, s->GdtrLimit, s->IdtrBase, s->IdtrLimit) = (Gdt, 0x17, Idt, Vectors * 16 - 1);
            s->Cr0 |= Cr0.Ne | Cr0.Mp;
            s->Cr4 |= Cr4.Osfxsr | Cr4.Osxmmexcpt | Cr4.Osxsave;
            s->Xcr0 = cpu.Xcr0Supported;
            s->Gpr[4] = Stacks + StackStep * (ulong)(i + 1);
            cpu.ModeChanged();
        }
        Write(Gdt + 8, 0x00AF9B000000FFFF);
        Write(Gdt + 16, 0x00CF93000000FFFF);
        for (uint vector = 0; vector < Vectors; vector++) Handle(vector, Handlers + vector * HandlerStep);
        for (uint vector = 0; vector < Vectors; vector++) Machine.Memory.Write(Handlers + vector * HandlerStep, [0xF4]);
        Write(GuestMachine.Tables + 0x1000 + (Window >> 30) * 8, Directory | Present);
        Write(Directory, Table | Present);
    }

    public Cpu Cpu => Machine.Cpu;
    public byte* Ram => Machine.Ram.Pointer;
    public Cpu CpuAt(int index) => ((SoftwareVCpu)Machine.VCpus[index]).Cpu;

    /// <summary>The exception that ended the last run, or -1.</summary>
    public int Vector => Cpu.State->Rip is var rip && rip - Handlers < Vectors * HandlerStep
        ? (int)((rip - Handlers) / HandlerStep) : -1;

    /// <summary>Of an exception: what its handler found on the stack.</summary>
    public ulong FaultRip => Machine.Memory.Read(Cpu.Rsp + (HasErrorCode ? 8u : 0), 8);
    public ulong FaultRsp => Machine.Memory.Read(Cpu.Rsp + (HasErrorCode ? 32u : 24), 8);

    /// <summary>The instruction that faulted.</summary>
    public Code FaultCode
    {
        get
        {
            var bytes = new byte[15];
            Machine.Memory.Read(FaultRip, bytes);
            return Decoder.Create(64, bytes).Decode().Code;
        }
    }

    bool HasErrorCode => Vector is 8 or (>= 10 and <= 14) or 17;

    public static ulong Linear(int page) => Window + (ulong)page * Page;
    public static ulong Frame(int page) => Frames + (ulong)page * Page;

    /// <summary>The window's page leads to this physical page; 0: to none. Nothing is flushed.</summary>
    public void Map(int page, ulong physical) => Write(EntryOf(page), physical == 0 ? 0 : physical | Present);

    /// <summary>Where the window's entry for a page lies.</summary>
    public static ulong EntryOf(int page) => Table + (ulong)page * 8;

    public void Write(ulong physical, ulong value) => Machine.Memory.Write(physical, 8, value);
    public ulong Read(ulong physical) => Machine.Memory.Read(physical, 8);

    /// <summary>Page faults are handled on a stack that begins here.</summary>
    public void UseFaultStack(ulong top)
    {
        const ulong tss = 0x3000;
        Cpu.State->Tr = new Segment { Selector = 0x40, Base = tss, Limit = 0x67, Access = 0x8B };
        Write(tss + 0x24, top);
        Machine.Memory.Write(Idt + (ulong)Tcg.Vector.PageFault * 16 + 4, 1, 1);
    }

    /// <summary>An interrupt gate.</summary>
    public void Handle(uint vector, ulong handler)
    {
        Write(Idt + vector * 16, handler & 0xFFFF | 8 << 16 | 0x8EUL << 40 | (handler & 0xFFFF0000) << 32);
        Write(Idt + vector * 16 + 8, 0);
    }

    public int Place(ulong at, Action<Assembler> program) => Machine.Place(at, 64, program).Length;
    public void Run(ulong rip = Code, bool masked = false) => Machine.RunToHalt(rip, masked: masked);

    /// <summary>Runs all vCPUs at once, each until its HLT.</summary>
    public void RunAll(params ulong[] starts)
    {
        var threads = new Thread[starts.Length];
        var failures = new Exception?[starts.Length];
        for (int i = 0; i < starts.Length; i++)
        {
            int index = i;
            threads[i] = new Thread(() =>
            {
                try
                {
                    Machine.RunToHalt(starts[index], index, Patience);
                }
                catch (Exception failure)
                {
                    failures[index] = failure;
                }
            });
        }
        foreach (Thread thread in threads) thread.Start();
        foreach (Thread thread in threads) thread.Join();
        foreach (Exception? failure in failures)
            if (failure != null) throw new InvalidOperationException("a vCPU did not end", failure);
    }

    public void Dispose() => Machine.Dispose();
}
