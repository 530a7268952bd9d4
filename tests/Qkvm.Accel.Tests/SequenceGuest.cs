using Iced.Intel;
using Qkvm.Accel.Tcg;
using Qkvm.Core.Memory;
using Qkvm.Host;
using static Iced.Intel.AssemblerRegisters;

namespace Qkvm.Accel.Tests;

/// <summary>A guest that runs sequences in user mode at the addresses of <see cref="SequenceArena"/>, through the
/// vCPU's own loop. A little kernel enters them by IRET and ends them by its interrupt handlers, so nothing here knows
/// how the CPU works.</summary>
sealed unsafe class SequenceGuest : IDisposable
{
    const ulong Gdt = 0x1000, Idt = 0x2000, Tss = 0x3000, Handlers = 0x4000, Enter = 0x6000, Stack = 0x8000,
        Frame = 0x9000;
    const ulong Tables = 0x100000, ArenaTable = Tables + 0x3000;
    const int HandlerStep = 16;
    // as on Linux
    const ushort KernelCode = 0x10, KernelData = 0x18, UserCode32 = 0x23, UserData = 0x2B, UserCode64 = 0x33;
    const ulong Flags = Rflags.If | 2;
    public static readonly TimeSpan DefaultPatience = TimeSpan.FromSeconds(20);

    readonly int _bits;
    readonly GuestMachine _machine;
    readonly GuestRam _code = new("code", SequenceArena.CodeSize), _scratch = new("scratch", SequenceArena.ScratchSize),
        _exit = new("exit", SequenceArena.PageSize);
    readonly Timer _watchdog;

    /// <param name="bits">64, or 32: protected mode.</param>
    /// <param name="translated">On the translator; or on the interpreter.</param>
    /// <param name="vendor">As CPUID tells it; null: the usual one.</param>
    public SequenceGuest(int bits, bool translated, string? vendor = null)
    {
        _bits = bits;
        _machine = vendor == null ? new GuestMachine() : new GuestMachine(vendor);
        Map(SequenceArena.Code, _code);
        Map(SequenceArena.Scratch, _scratch);
        Map(SequenceArena.Exit, _exit);
        _machine.Memory.Write(SequenceArena.Exit, [0xCD, SequenceArena.Done]);
        _machine.Ports.OnWrite = _ => _machine.VCpu.Kick();
        _watchdog = new Timer(_ => _machine.VCpu.Kick());
        FillTables();
        FillKernel();
        _machine.Flat(bits == 64 ? 64 : 32);
        EnablePaging();
        _machine.Cpu.Translates = translated;
    }

    public CpuState* State => _machine.S;
    public Span<byte> Scratch => new(_scratch.Pointer, SequenceArena.ScratchSize);

    /// <summary>Vector state was written from outside.</summary>
    public void VectorsChanged() => _machine.Cpu.FindVectorsInUse();

    /// <summary>How long a sequence may run.</summary>
    public TimeSpan Patience { get; set; } = DefaultPatience;

    /// <summary>What the sequence left of RFLAGS.</summary>
    public ulong FlagsAfter { get; private set; }

    public ReadOnlySpan<byte> CodeAt(ulong address, int length) =>
        new(_code.Pointer + (address - SequenceArena.Code), length);

    /// <summary>Writes code as a device would.</summary>
    public void Write(ulong address, ReadOnlySpan<byte> code) => _machine.Memory.Write(address, code.ToArray());

    /// <summary>Runs until the exit or a fault. Registers are input and output; <paramref name="flags"/> are
    /// arithmetic.</summary>
    public SequenceEnd Run(ulong start, ulong flags)
    {
        int size = _bits / 8;
        ulong stack = State->Gpr[4];
        Push(Frame, start, _bits == 64 ? UserCode64 : UserCode32, flags | Flags, stack, UserData);
        State->Gpr[4] = Frame;
        State->Rip = Enter;
        _machine.Ports.Writes.Clear();
        _watchdog.Change(Patience, Timeout.InfiniteTimeSpan);
        _machine.VCpu.Run();
        _watchdog.Change(Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
        if (_machine.Ports.Writes.Count == 0)
        {
            // The caller reports it; this guest is of no more use.
            return new SequenceEnd(-1, State->Rip);
        }
        int vector = (int)_machine.Ports.Writes[0].Offset;
        ulong frame = State->Gpr[4];
        uint error = 0;
        if (HasErrorCode(vector))
        {
            error = (uint)_machine.Memory.Read(frame, size);
            frame += (ulong)size;
        }
        ulong rip = Pop(0);
        FlagsAfter = Pop(2);
        State->Gpr[4] = Pop(3);
        if (vector == SequenceArena.Done) return new SequenceEnd(vector, rip - 2);
        return vector == Vector.PageFault ? new SequenceEnd(vector, rip, error, State->Cr2)
            : new SequenceEnd(vector, rip);

        ulong Pop(int index) => _machine.Memory.Read(frame + (ulong)(index * size), size);

        void Push(ulong at, params ReadOnlySpan<ulong> values)
        {
            foreach (ulong value in values)
            {
                _machine.Memory.Write(at, size, value);
                at += (ulong)size;
            }
        }
    }

    public void Dispose()
    {
        _watchdog.Dispose();
        _machine.Dispose();
        _code.Dispose();
        _scratch.Dispose();
        _exit.Dispose();
    }

    void Map(ulong at, GuestRam ram) => _machine.Root.Map(at, MemoryRegion.OfRam(ram.Name, ram, 0, ram.Size));

    static bool HasErrorCode(int vector) => vector is 8 or (>= 10 and <= 14) or 17 or 21;

    /// <summary>The kernel's first megabytes for the supervisor, the arena's pages for the user, nothing between
    /// them.</summary>
    void FillTables()
    {
        const ulong user = 7, wide = 0x83;
        bool isLong = _bits == 64;
        int entry = isLong ? 8 : 4, shift = isLong ? 21 : 22;
        ulong directory = isLong ? Tables + 0x2000 : Tables;
        if (isLong)
        {
            _machine.Memory.Write(Tables, 8, Tables + 0x1000 | user);
            _machine.Memory.Write(Tables + 0x1000, 8, directory | user);
        }
        Set(directory, 0, wide);
        Set(directory, SequenceArena.Base >> shift, ArenaTable | user);
        Pages(SequenceArena.Code, SequenceArena.CodeSize);
        Pages(SequenceArena.Scratch, SequenceArena.ScratchSize);
        Pages(SequenceArena.Exit, SequenceArena.PageSize);

        void Pages(ulong from, int length)
        {
            for (ulong at = from; at < from + (ulong)length; at += SequenceArena.PageSize)
                Set(ArenaTable, at >> 12 & (isLong ? 0x1FFu : 0x3FFu), at | user);
        }

        void Set(ulong table, ulong index, ulong value) =>
            _machine.Memory.Write(table + index * (ulong)entry, entry, value);
    }

    /// <summary>Descriptors, a task's ring 0 stack, and a handler for each vector that tells it to a port.</summary>
    void FillKernel()
    {
        bool isLong = _bits == 64;
        Descriptor(KernelCode, isLong ? 0x00AF9B000000FFFFu : 0x00CF9B000000FFFF);
        Descriptor(KernelData, 0x00CF93000000FFFF);
        Descriptor(UserCode32, 0x00CFFB000000FFFF);
        Descriptor(UserData, 0x00CFF3000000FFFF);
        Descriptor(UserCode64, 0x00AFFB000000FFFF);
        _machine.Memory.Write(Tss + 4, isLong ? 8 : 4, Stack);
        if (!isLong) _machine.Memory.Write(Tss + 8, 4, KernelData);
        for (uint vector = 0; vector <= SequenceArena.Done; vector++)
        {
            ulong handler = Handlers + vector * HandlerStep;
            ulong gate = handler & 0xFFFF | KernelCode << 16 | 0xEE00UL << 32;
            if (isLong) _machine.Memory.Write(Idt + vector * 16, 8, gate);
            else _machine.Memory.Write(Idt + vector * 8, 8, gate);
            _machine.Memory.Write(handler, [0xE6, (byte)vector, 0xEB, 0xFE]);     // out vector,al; jmp to itself
        }
        _machine.Place(Enter, _bits, c =>
        {
            if (isLong) c.iretq();
            else c.iretd();
        });
        (State->GdtrBase, State->GdtrLimit, State->IdtrBase, State->IdtrLimit) = (Gdt, 0xFF, Idt, 0xFFF);
        State->Tr = new Segment { Selector = 0x40, Base = Tss, Limit = 0x67, Access = 0x8B };

        void Descriptor(ushort selector, ulong value) => _machine.Memory.Write(Gdt + (selector & 0xFFF8u), 8, value);
    }

    void EnablePaging()
    {
        if (_bits == 32) _machine.Paging(PagingMode.Legacy);
        State->Cs.Selector = KernelCode;
        State->Ss.Selector = KernelData;
        State->Cr0 |= Cr0.Ne | Cr0.Mp | Cr0.Am;                     // as on Linux
        State->Cr4 |= Cr4.Osfxsr | Cr4.Osxmmexcpt | Cr4.Osxsave;
        State->Xcr0 = _machine.Cpu.Xcr0Supported;
        State->Ds = State->Es = State->Ss with { Selector = UserData, Access = 0xC0F3 };
        _machine.Cpu.ModeChanged();
    }
}
