using Qkvm.Accel.Tcg.Model;
using Qkvm.Core.Accel;
using Iced.Intel;
using Qkvm.Accel.Tcg;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Host;

namespace Qkvm.Accel.Tests;

/// <summary>A CPU with plain RAM, descriptor tables, stacks and handlers at known places; runs instruction by
/// instruction.</summary>
sealed unsafe class SystemMachine : IDisposable
{
    public const ulong Gdt = 0x1000, Idt = 0x2000, Tss = 0x3000, OtherTss = 0x3800, Ldt = 0x4000, Handlers = 0x5000,
        Code = 0x10000, Data = 0x18000, Tables = 0x40000;
    public const ulong Stack0 = 0x9000, Stack1 = 0xA000, Stack3 = 0xB000, StackIst = 0xC000;

    // Selectors of the GDT.
    public const ushort Code0 = 0x08, Data0 = 0x10, Code64 = 0x18, Code3 = 0x2B, Data3 = 0x33, Code64User = 0x3B,
        TssSelector = 0x40, LdtSelector = 0x50, Conforming = 0x60, Code16 = 0x68, Data16 = 0x70, AbsentCode = 0x78,
        AbsentData = 0x80, ExecuteOnly = 0x88, ReadOnly = 0x90, Code1 = 0x99, Data1 = 0xA1, OtherTssSelector = 0xA8,
        Tss16Selector = 0xB0, Gate = 0xB8, Gate2 = 0xC8, Beyond = 0x208;
    const uint GdtLimit = 0x1FF;

    /// <summary>In system management mode there is other RAM at the first address; at the second one it is what it
    /// always is.</summary>
    public const ulong Smram = 0x30000, OtherSmBase = 0x1C0000;

    readonly GuestRam _ram = new("ram", 0x200000), _smram = new("smram", 0x10000);
    readonly CodeMaps _maps = new();

    public SystemMachine(string model = "max", params (string, bool)[] features)
    {
        var machineLock = new MachineLock();
        var memory = MemoryRegion.Container("memory", 1UL << 52);
        var ports = MemoryRegion.Container("ports", 0x10000);
        memory.Map(0, MemoryRegion.OfRam("ram", _ram, 0, _ram.Size));
        memory.Map(0xFEE00000, MemoryRegion.Io("messages", 0x100000, Messages, AccessSizes.UpToDword));
        ports.Map(0, MemoryRegion.Io("ports", 0x10000, Ports, AccessSizes.UpToQword));
        var smm = MemoryRegion.Container("smm", 1UL << 52);
        smm.Map(0, MemoryRegion.Alias("system", memory, 0, memory.Size));
        smm.Map(Smram, MemoryRegion.OfRam("smram", _smram, 0, _smram.Size), 1);
        var space = new AddressSpace("memory", memory, machineLock);
        Smm = new AddressSpace("smm", smm, machineLock, space);
        Cpu = new Cpu(0, space, new AddressSpace("io", ports, machineLock),
            _maps, CpuModels.Resolve(new CpuSetup(model, GuestMachine.Features(model, features), 0, 1, 1, 1)),
            smm: Smm);
        FillGdt();
        for (ulong vector = 0; vector < 256; vector++) Write(Handlers + vector * 16, 0xF4, 1);
        S->GdtrBase = Gdt;
        S->GdtrLimit = GdtLimit;
    }

    public Cpu Cpu { get; }

    /// <summary>Memory as it is seen in system management mode.</summary>
    public AddressSpace Smm { get; }
    public PortLog Ports { get; } = new();

    /// <summary>The window of interrupt messages.</summary>
    public PortLog Messages { get; } = new();
    public CpuState* S => Cpu.State;
    public ref ulong Rsp => ref Cpu.Rsp;

    /// <summary>What selected the handler that RIP is in.</summary>
    public int HandlerVector => (int)((S->Rip - Handlers) / 16);

    public static ulong Descriptor(uint start, uint limit, int access, int flags) =>
        limit & 0xFFFF | (ulong)(start & 0xFFFFFF) << 16 | (ulong)access << 40 | (ulong)(limit >> 16 & 15) << 48
        | (ulong)flags << 52 | (ulong)(start >> 24) << 56;

    /// <summary>An interrupt, trap or call gate.</summary>
    public static ulong GateTo(ushort selector, uint offset, int access, int parameters = 0) =>
        offset & 0xFFFF | (ulong)selector << 16 | (ulong)parameters << 32 | (ulong)access << 40 | (ulong)(offset >> 16)
            << 48;

    void FillGdt()
    {
        const int page = 8, big = 4, wide = 2;
        SetDescriptor(Code0, Descriptor(0, 0xFFFFF, 0x9A, page | big));
        SetDescriptor(Data0, Descriptor(0, 0xFFFFF, 0x92, page | big));
        SetDescriptor(Code64, Descriptor(0, 0xFFFFF, 0x9A, page | wide));
        SetDescriptor(Code3, Descriptor(0, 0xFFFFF, 0xFA, page | big));
        SetDescriptor(Data3, Descriptor(0, 0xFFFFF, 0xF2, page | big));
        SetDescriptor(Code64User, Descriptor(0, 0xFFFFF, 0xFA, page | wide));
        SetDescriptor(TssSelector, Descriptor((uint)Tss, 0x7FF, 0x89, 0));
        SetDescriptor(LdtSelector, Descriptor((uint)Ldt, 0xFF, 0x82, 0));
        SetDescriptor(Conforming, Descriptor(0, 0xFFFFF, 0x9E, page | big));
        SetDescriptor(Code16, Descriptor(0x10000, 0xFFFF, 0x9A, 0));
        SetDescriptor(Data16, Descriptor(0x8000, 0xFFFF, 0x92, 0));
        SetDescriptor(AbsentCode, Descriptor(0, 0xFFFFF, 0x1A, page | big));
        SetDescriptor(AbsentData, Descriptor(0, 0xFFFFF, 0x12, page | big));
        SetDescriptor(ExecuteOnly, Descriptor(0, 0xFFFFF, 0x98, page | big));
        SetDescriptor(ReadOnly, Descriptor(0, 0xFFFFF, 0x90, page | big));
        SetDescriptor(Code1, Descriptor(0, 0xFFFFF, 0xBA, page | big));
        SetDescriptor(Data1, Descriptor(0, 0xFFFFF, 0xB2, page | big));
        SetDescriptor(OtherTssSelector, Descriptor((uint)OtherTss, 0x67, 0x89, 0));
        SetDescriptor(Tss16Selector, Descriptor((uint)OtherTss, 0x2B, 0x81, 0));
    }

    public void SetDescriptor(ushort selector, ulong low, ulong high = 0, bool wide = false)
    {
        Write(Gdt + (selector & 0xFFF8u), low, 8);
        if (wide) Write(Gdt + (selector & 0xFFF8u) + 8, high, 8);
    }

    public byte AccessByte(ushort selector) => (byte)Read(Gdt + (selector & 0xFFF8u) + 5, 1);

    public void SetGate32(int vector, ushort selector, int access, uint? offset = null) =>
        Write(Idt + (uint)vector * 8, GateTo(selector, offset ?? (uint)Handlers + (uint)vector * 16, access), 8);

    public void SetGate64(int vector, ushort selector, int access, int ist = 0, ulong? offset = null)
    {
        ulong target = offset ?? Handlers + (uint)vector * 16;
        Write(Idt + (uint)vector * 16, GateTo(selector, (uint)target, access, ist), 8);
        Write(Idt + (uint)vector * 16 + 8, target >> 32, 8);
    }

    /// <summary>Real-address mode at 1000:0000, stack 0900:0000, IVT full of handlers.</summary>
    public SystemMachine Real()
    {
        for (uint vector = 0; vector < 256; vector++) Write(vector * 4, Handlers + vector * 16, 4);
        (S->IdtrBase, S->IdtrLimit) = (0, 0x3FF);
        S->Cs.Selector = (ushort)(Code >> 4);
        S->Cs.Base = Code;
        S->Rip = 0;
        Cpu.LoadSegment(Seg.Ss, (ushort)(Data >> 4));
        Rsp = 0x1000;
        Cpu.ModeChanged();
        return this;
    }

    /// <summary>Flat 32-bit protected mode in ring 0, without paging; all vectors are interrupt gates of DPL 3 to ring
    /// 0.</summary>
    public SystemMachine Protected32()
    {
        for (int vector = 0; vector < 256; vector++) SetGate32(vector, Code0, 0xEE);
        (S->IdtrBase, S->IdtrLimit) = (Idt, 0x7FF);
        SetDescriptor(TssSelector, Descriptor((uint)Tss, 0x7FF, 0x89, 0));
        SetDescriptor(LdtSelector, Descriptor((uint)Ldt, 0xFF, 0x82, 0));
        S->Cr0 = Cr0.Pe | Cr0.Et;
        SetCs(Code0);
        foreach (int segment in new[] { Seg.Ds, Seg.Es, Seg.Fs, Seg.Gs, Seg.Ss }) Cpu.LoadSegment(segment, Data0);
        Write(Tss + 4, Stack0, 4);
        Write(Tss + 8, Data0, 4);
        Write(Tss + 12, Stack1, 4);
        Write(Tss + 16, Data1, 4);
        Write(Tss + 0x66, 0x68, 2);
        for (uint i = 0; i < 0x100; i++) Write(Tss + 0x68 + i, 0xFF, 1);
        Cpu.LoadTaskRegister(TssSelector);
        Cpu.LoadLdt(LdtSelector);
        S->Rip = Code;
        Rsp = Stack0 - 0x100;
        Cpu.ModeChanged();
        return this;
    }

    /// <summary>64-bit mode in ring 0; the first 2 MiB are mapped one to one for all, likewise at the top of the
    /// address space.</summary>
    public SystemMachine Long64()
    {
        MapIdentity();
        for (int vector = 0; vector < 256; vector++) SetGate64(vector, Code64, 0xEE);
        (S->IdtrBase, S->IdtrLimit) = (Idt, 0xFFF);
        S->Cr4 = Cr4.Pae;
        S->Efer = Efer.Lme | Efer.Lma | Efer.Sce | Efer.Nx;
        S->Cr3 = Tables;
        S->Cr0 = Cr0.Pe | Cr0.Pg | Cr0.Wp | Cr0.Et;
        SetDescriptor(TssSelector, Descriptor((uint)Tss, 0x7FF, 0x89, 0), 0, wide: true);
        SetDescriptor(LdtSelector, Descriptor((uint)Ldt, 0xFF, 0x82, 0), 0, wide: true);
        SetCs(Code64);
        Cpu.LoadSegment(Seg.Ss, Data0);
        foreach (int segment in new[] { Seg.Ds, Seg.Es, Seg.Fs, Seg.Gs }) Cpu.LoadSegment(segment, Data3);
        Write(Tss + 4, Stack0, 8);
        Write(Tss + 12, Stack1, 8);
        Write(Tss + 0x24, StackIst, 8);
        Write(Tss + 0x66, 0x68, 2);
        for (uint i = 0; i < 0x100; i++) Write(Tss + 0x68 + i, 0xFF, 1);
        Cpu.LoadTaskRegister(TssSelector);
        Cpu.LoadLdt(LdtSelector);
        S->Rip = Code;
        Rsp = Stack0 - 0x100;
        Cpu.ModeChanged();
        return this;
    }

    /// <summary>Four levels of tables at <see cref="Tables"/>, 4 KiB pages.</summary>
    public void MapIdentity()
    {
        const ulong all = 7;
        Write(Tables, Tables + 0x1000 | all, 8);
        Write(Tables + 0xFF8, Tables + 0x1000 | all, 8);
        Write(Tables + 0x1000, Tables + 0x2000 | all, 8);
        Write(Tables + 0x1FF8, Tables + 0x2000 | all, 8);
        Write(Tables + 0x2000, Tables + 0x3000 | all, 8);
        for (uint i = 0; i < 512; i++) Write(Tables + 0x3000 + i * 8, i * 0x1000 | all, 8);
    }

    /// <summary>The leaf entry of a page of the identity map.</summary>
    public void SetPage(ulong linear, ulong entry)
    {
        Write(Tables + 0x3000 + (linear >> 12) * 8, entry, 8);
        Cpu.FlushTlb(true);
    }

    /// <summary>To ring 3 (or 1) as if by a return: stack and data segments of that ring.</summary>
    public SystemMachine Ring(ushort code, ushort data, ulong stack)
    {
        SetCs(code);
        Cpu.LoadSegment(Seg.Ss, data);
        foreach (int segment in new[] { Seg.Ds, Seg.Es, Seg.Fs, Seg.Gs }) Cpu.LoadSegment(segment, data);
        Rsp = stack;
        Cpu.ModeChanged();
        return this;
    }

    public SystemMachine Ring3() => Ring(Cpu.Is64Bit ? Code64User : Code3, Data3, Stack3);

    /// <summary>Virtual-8086 mode at 1000:0000, stack 1800:1000, in a protected 32-bit machine.</summary>
    public SystemMachine Virtual8086(int iopl = 3)
    {
        Protected32();
        for (uint vector = 0; vector < 256; vector++) Write(vector * 4, 0x0F000000 | vector * 16, 4);
        S->Cpl = 3;
        S->RflagsSystem = 2 | Rflags.Vm | Rflags.If | (ulong)iopl << 12;
        SetVirtual(Seg.Cs, (ushort)(Code >> 4));
        foreach (int segment in new[] { Seg.Ds, Seg.Es, Seg.Fs, Seg.Gs }) SetVirtual(segment, 0x2000);
        SetVirtual(Seg.Ss, (ushort)(Data >> 4));
        S->Rip = 0;
        Rsp = 0x1000;
        Cpu.ModeChanged();
        return this;
    }

    void SetVirtual(int segment, ushort selector) =>
        S->Segment(segment) = new Segment { Selector = selector, Base = (ulong)selector << 4, Limit = 0xFFFF,
            Access = 0xF3 };

    void SetCs(ushort selector)
    {
        var descriptor = new Descriptor(Read(Gdt + (selector & 0xFFF8u), 8), 0, 0);
        S->Cs = descriptor.ToSegment(selector);
        S->Cpl = selector & 3;
        Cpu.ModeChanged();
    }

    public ulong Read(ulong physical, int size) => Cpu.Memory.Read(physical, size);
    public void Write(ulong physical, ulong value, int size) => Cpu.Memory.Write(physical, size, value);

    /// <summary>The n-th element from the top of the stack.</summary>
    public ulong Top(int number, int size) =>
        Read((Cpu.Is64Bit ? 0 : S->Ss.Base) + (Rsp & Cpu.StackMask) + (ulong)(number * size), size);

    /// <summary>Puts values on the current stack, the last one on top.</summary>
    public void PushAll(int size, params ulong[] values)
    {
        foreach (ulong value in values)
        {
            Rsp -= (ulong)size;
            Write((Cpu.Is64Bit ? 0 : S->Ss.Base) + Rsp, value, size);
        }
    }

    /// <summary>Assembles code at CS:RIP and runs that many instructions of it; exceptions are delivered.</summary>
    public void Run(Action<Assembler> program, int steps = 1)
    {
        Place(program);
        Step(steps);
    }

    public void Place(Action<Assembler> program)
    {
        var assembler = new Assembler(Cpu.Is64Bit ? 64 : (S->Cs.Access & Segment.Big) != 0 ? 32 : 16);
        program(assembler);
        using var stream = new MemoryStream();
        assembler.Assemble(new StreamCodeWriter(stream), S->Rip);
        Place(stream.ToArray());
    }

    public void Place(params byte[] code)
    {
        ulong at = ((Cpu.Is64Bit ? 0 : S->Cs.Base) + S->Rip) & (_ram.Size - 1);
        for (int i = 0; i < code.Length; i++) Write(at + (ulong)i, code[i], 1);
        TakeNotices();
    }

    /// <summary>Lets the CPU hear that code has changed, and do nothing else.</summary>
    void TakeNotices()
    {
        Cpu.Kick();
        Cpu.Run();
    }

    public void Run(params byte[] code)
    {
        Place(code);
        Step();
    }

    /// <summary>Runs through the vCPU's own loop until a handler, which leaves it by a write to a port, or OUT in the
    /// code itself.</summary>
    public void Go(bool translated)
    {
        for (ulong vector = 0; vector < 256; vector++) Write(Handlers + vector * 16, 0x80E6, 2);
        Ports.OnWrite = Cpu.Kick;
        Cpu.Translates = translated;
        Cpu.ModeChanged();
        Assert.Equal(ExitReason.Kicked, Cpu.Run().Reason);
        S->Rip -= HandlerVector is >= 0 and < 256 ? 2u : 0;        // back at the handler
    }

    public void Step(int steps = 1)
    {
        for (int i = 0; i < steps; i++)
        {
            try { Cpu.RunOne(); }
            catch (GuestFault fault) { Cpu.DeliverFault(fault); }
        }
    }

    public void Dispose()
    {
        Cpu.Dispose();
        _ram.Dispose();
        _smram.Dispose();
    }
}

/// <summary>Ports that read as a counter and remember writes.</summary>
sealed class PortLog : IRegisterBank
{
    public List<(ulong Port, int Size, ulong Value)> Writes { get; } = [];
    public ulong Next { get; set; } = 1;
    public ulong Read(ulong offset, int size) => Next++;
    public Action? OnWrite { get; set; }

    public void Write(ulong offset, int size, ulong value)
    {
        Writes.Add((offset, size, value));
        OnWrite?.Invoke();
    }
}
