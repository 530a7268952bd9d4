using Iced.Intel;
using Qkvm.Accel.Tcg;
using static Iced.Intel.AssemblerRegisters;

namespace Qkvm.Accel.Tests;

/// <summary>A host in 64-bit mode with one guest, whose VMCB is written and read here. Both see memory one to one, in
/// 64-bit mode, unless a test says otherwise.</summary>
sealed unsafe class SvmMachine : IDisposable
{
    public const ulong HostCode = 0x10000, GuestCode = 0x20000, VmcbAt = 0x40000, HostSave = 0x41000, IoMap = 0x44000,
        MsrMap = 0x48000, NestedTables = 0x50000, NestedPages = 0x53000, Idt = 0x60000, Gdt = 0x62000;
    public const uint HostSaveMsr = 0xC0010117;

    /// <summary>What each program of a host begins with RAX as.</summary>
    const int Present = 7;

    public GuestMachine Machine { get; }
    public Cpu Cpu => Machine.Cpu;
    public Qkvm.Core.Accel.IVCpu VCpu => Machine.VCpu;

    public SvmMachine(bool translated = true, int cpus = 1, params (string, bool)[] features)
    {
        Machine = new GuestMachine(cpus, "max", [("svm", true), .. features]).Flat(64);
        Cpu.Translates = translated;
        Machine.S->Efer |= Efer.Svme;
        Cpu.WriteMsr(HostSaveMsr, HostSave);
        Cpu.ModeChanged();
        WriteGuest();
        Intercept(SvmExit.Vmrun);
        Intercept(SvmExit.Hlt);
        (this[Vmcb.Asid], this[Vmcb.IoMap], this[Vmcb.MsrMap]) = (1, IoMap, MsrMap);
        Machine.Place(HostCode, 64, c =>
        {
            c.vmrun();
            c.hlt();
        });
        Cpu.Rax = VmcbAt;
    }

    public void Dispose() => Machine.Dispose();

    public ulong this[int at]
    {
        get => Machine.Memory.Read(VmcbAt + (ulong)at, 8);
        set => Machine.Memory.Write(VmcbAt + (ulong)at, 8, value);
    }

    public ulong ExitCode => this[Vmcb.ExitCode];
    public ulong Info1 => this[Vmcb.ExitInfo1];
    public ulong Info2 => this[Vmcb.ExitInfo2];

    public void Intercept(uint exit)
    {
        ulong at = VmcbAt + exit / 8;
        Machine.Memory.Write(at, 1, Machine.Memory.Read(at, 1) | 1u << (int)(exit % 8));
    }

    public void Guest(Action<Assembler> program, int bits = 64) => Machine.Place(GuestCode, bits, program);

    /// <summary>VMRUN until the exit.</summary>
    /// <returns>The exit's code.</returns>
    public ulong Run()
    {
        Cpu.Rax = VmcbAt;
        Machine.RunToHalt(HostCode);
        return ExitCode;
    }

    /// <summary>A guest of this program, which ends with HLT if nothing comes before.</summary>
    public ulong Run(Action<Assembler> program, int bits = 64)
    {
        Guest(program, bits);
        return Run();
    }

    public void Segment(int number, int bits, int cpl = 0)
    {
        bool isCode = number == Seg.Cs;
        uint size = bits switch { 16 => 0u, 32 => 0x400u, _ => isCode ? 0x200u : 0x400u };
        ulong attributes = 0x800 | size | (isCode ? 0x9Bu : 0x93u) | (uint)cpl << 5;
        ulong selector = (isCode ? 8u : 16u) | (uint)cpl;
        this[Vmcb.SegmentAt(number)] = selector | attributes << 16 | (bits == 16 ? 0xFFFFul : uint.MaxValue) << 32;
        this[Vmcb.SegmentAt(number) + 8] = 0;
    }

    void WriteGuest()
    {
        CpuState* s = Machine.S;
        for (int i = 0; i < Seg.Count; i++) Segment(i, 64);
        (this[Vmcb.Cr0], this[Vmcb.Cr3], this[Vmcb.Cr4]) = (s->Cr0, s->Cr3, s->Cr4);
        this[Vmcb.Efer] = s->Efer;
        (this[Vmcb.Rip], this[Vmcb.Rsp], this[Vmcb.Rflags]) = (GuestCode, 0x30000, 2);
        (this[Vmcb.Dr6], this[Vmcb.Dr7]) = (0xFFFF0FF0, 0x400);
        this[Vmcb.Idtr] = 0xFFFul << 32;
        this[Vmcb.Idtr + 8] = Idt;
        this[Vmcb.Gdtr] = 0xFFul << 32;
        this[Vmcb.Gdtr + 8] = Gdt;
        Machine.Memory.Write(Gdt + 8, 8, 0x00AF9B000000FFFF);
        Machine.Memory.Write(Gdt + 16, 8, 0x00CF93000000FFFF);
    }

    /// <summary>An interrupt gate to this address.</summary>
    public void Gate(int vector, ulong target)
    {
        Machine.Memory.Write(Idt + (ulong)vector * 16, 8,
            target & 0xFFFF | 8 << 16 | 0x8EUL << 40 | (target >> 16 & 0xFFFF) << 48);
        Machine.Memory.Write(Idt + (ulong)vector * 16 + 8, 8, target >> 32);
    }

    /// <summary>Nested tables: the first 2 MiB one to one in small pages, the rest of RAM in large ones.</summary>
    public void Nest()
    {
        this[Vmcb.NestedControl] = 1;
        this[Vmcb.NestedCr3] = NestedTables;
        Machine.Memory.Write(NestedTables, 8, NestedTables + 0x1000 | Present);
        Machine.Memory.Write(NestedTables + 0x1000, 8, NestedTables + 0x2000 | Present);
        Machine.Memory.Write(NestedTables + 0x2000, 8, NestedPages | Present);
        for (uint i = 1; i < 4; i++) Machine.Memory.Write(NestedTables + 0x2000 + i * 8, 8, i << 21 | 0x80 | Present);
        for (uint i = 0; i < 512; i++) NestedPage(i << 12, i << 12 | Present);
    }

    public void NestedPage(ulong guest, ulong entry) =>
        Machine.Memory.Write(NestedPages + (guest >> 12) * 8, 8, entry);
}
