using Iced.Intel;
using Qkvm.Accel.Tcg;
using Qkvm.Core.Accel;
using static Iced.Intel.AssemblerRegisters;

namespace Qkvm.Accel.Tests;

/// <summary>MONITOR and MWAIT. Intel SDM vol. 3, section 9.10.</summary>
public sealed unsafe class MonitorTests
{
    const ulong Code = 0x10000, Line = 0x30040;

    static void Wait(Assembler a, int extensions = 0)
    {
        a.mov(eax, (int)Line);
        a.xor(ecx, ecx);
        a.xor(edx, edx);
        a.monitor();
        a.xor(eax, eax);
        a.mov(ecx, extensions);
        a.mwait();
        a.mov(ebx, 1);
        a.hlt();
    }

    [Fact]
    public void A_store_to_the_line_ends_the_wait()
    {
        using GuestMachine machine = new GuestMachine().Flat(64);
        machine.Place(Code, 64, a => Wait(a));
        machine.S->Rip = Code;
        var thread = new Thread(() => machine.VCpu.Run());
        thread.Start();
        while (!machine.VCpu.IsHalted) Thread.Sleep(1);
        Thread.Sleep(20);
        Assert.Equal(0ul, machine.Cpu.Rbx);
        machine.Memory.Write(Line + 60, 4, 1);
        for (int i = 0; i < 60_000 && Volatile.Read(ref machine.Cpu.Rbx) == 0; i++) Thread.Sleep(1);
        Assert.Equal(1ul, machine.Cpu.Rbx);
        machine.VCpu.Kick();
        thread.Join();
    }

    [Fact]
    public void A_store_between_monitor_and_mwait_lets_it_pass()
    {
        using GuestMachine machine = new GuestMachine().Flat(64);
        machine.Place(Code, 64, a =>
        {
            a.mov(eax, (int)Line);
            a.xor(ecx, ecx);
            a.xor(edx, edx);
            a.monitor();
            a.mov(__dword_ptr[Line], 5);
            a.mwait();
            a.mov(ebx, 2);
            a.hlt();
        });
        machine.RunToHalt(Code);
        Assert.Equal(2ul, machine.Cpu.Rbx);
    }

    [Fact]
    public void Mwait_without_monitor_does_not_wait()
    {
        using GuestMachine machine = new GuestMachine().Flat(64);
        machine.Place(Code, 64, a => { a.xor(ecx, ecx); a.mwait(); a.mov(ebx, 3); a.hlt(); });
        machine.RunToHalt(Code);
        Assert.Equal(3ul, machine.Cpu.Rbx);
    }

    [Theory]
    [InlineData(0, false)]
    [InlineData(1, true)]
    public void A_masked_interrupt_ends_it_if_asked_to(int extensions, bool ends)
    {
        using GuestMachine machine = new GuestMachine().Flat(64);
        var apic = new PendingInterrupt();
        machine.VCpu.Apic = apic;
        machine.Place(Code, 64, a => Wait(a, extensions));
        machine.S->Rip = Code;
        var thread = new Thread(() => machine.VCpu.Run());
        thread.Start();
        while (!machine.VCpu.IsHalted) Thread.Sleep(1);
        apic.Waits = true;
        machine.VCpu.InterruptPending();
        if (ends)
            for (int i = 0; i < 60_000 && Volatile.Read(ref machine.Cpu.Rbx) == 0; i++) Thread.Sleep(1);
        else Thread.Sleep(30);
        Assert.Equal(ends ? 1ul : 0ul, machine.Cpu.Rbx);
        machine.VCpu.Kick();
        thread.Join();
    }

    [Theory]
    [InlineData(new byte[] { 0x0F, 0x01, 0xC8 }, 1u, 0, 13)]
    [InlineData(new byte[] { 0x0F, 0x01, 0xC9 }, 2u, 0, 13)]
    [InlineData(new byte[] { 0x0F, 0x01, 0xC8 }, 0u, 3, 6)]
    [InlineData(new byte[] { 0x0F, 0x01, 0xC9 }, 0u, 3, 6)]
    public void Unknown_extensions_and_programs_fault(byte[] code, uint ecx, int ring, int vector)
    {
        using SystemMachine m = new SystemMachine().Long64();
        if (ring == 3) m.Ring3();
        m.Cpu.Rcx = ecx;
        m.Run(code);
        Assert.Equal(vector, m.HandlerVector);
    }

    sealed class PendingInterrupt : FakeApic
    {
        public volatile bool Waits;
        public override bool HasInterrupt => Waits;
        public override int Acknowledge() => 0x30;
    }
}
