using Qkvm.Accel.Kvm;
using Qkvm.Core.Accel;
using Qkvm.Core.Machine;
using Qkvm.Testing;

namespace Qkvm.Accel.Tests;

/// <remarks>Interrupts and kicks from other threads: none is lost, whoever has the controllers.</remarks>
public sealed partial class KvmTests
{
    const byte Vector = 0x20, NmiVector = 2, StartPage = 2;
    const ulong HandlerAt = 0x700;

    /// <summary>The master 8259: edges, vectors from 20h, no EOI needed, nothing masked.</summary>
    const string InitPic = "B0 11 E6 20 B0 20 E6 21 B0 04 E6 21 B0 03 E6 21 B0 00 E6 21";
    const string SleepForEver = "FB F4 EB FD";                     // sti; hlt; jmp to hlt

    [KvmFact]
    public void Interrupts_of_our_own_apic_end_a_halt_and_none_is_lost_between_kicks()
    {
        using var kvm = new KvmAccelerator(KernelIrqChip.Off);
        IVCpu cpu = Create(kvm);
        var apic = new CountingApic();
        cpu.Apic = apic;
        Assert.False(cpu.HasTscDeadline);
        Shower(cpu, "", () =>
        {
            apic.Pend();
            cpu.InterruptPending();
        });
    }

    [KvmFact]
    public void Interrupts_of_our_own_8259_reach_the_kernels_local_apic()
    {
        using var kvm = new KvmAccelerator(KernelIrqChip.Split);
        IVCpu cpu = Create(kvm);
        IKernelApics apics = kvm.Apics!;
        apics.AcknowledgeIntr = () =>
        {
            apics.SetIntr(false);
            return Vector;
        };
        Shower(cpu, "", () => { using (_lock.Hold()) apics.SetIntr(true); });
    }

    [KvmFact]
    public void Interrupts_of_the_kernels_controllers_survive_kicks()
    {
        using var kvm = new KvmAccelerator();
        IVCpu cpu = Create(kvm);
        Shower(cpu, InitPic, () =>
        {
            kvm.IrqChip!.SetGsi(0, true);
            kvm.IrqChip.SetGsi(0, false);
        });
    }

    [KvmFact]
    public void An_nmi_reaches_a_vcpu_that_sleeps()
    {
        foreach (KernelIrqChip mode in Enum.GetValues<KernelIrqChip>())
        {
            using var kvm = new KvmAccelerator(mode);
            IVCpu cpu = Create(kvm);
            if (mode == KernelIrqChip.Off) cpu.Apic = new CountingApic();
            Shower(cpu, "", () => cpu.Signal(CpuSignal.Nmi), NmiVector);
        }
    }

    [KvmFact]
    public void Init_and_startup_of_our_own_apic_start_a_processor()
    {
        using var kvm = new KvmAccelerator(KernelIrqChip.Off, cpus: 2);
        Create(kvm);
        IVCpu second = kvm.CreateVCpu(1, new CpuSetup("host", [], 1, 1, 2, 1));
        second.Apic = new CountingApic();
        Assert.True(second.IsHalted);
        Convert.FromHexString("B02AE60F").CopyTo(_ram.Span(StartPage << 12, 4)); // mov al,2Ah; out 0Fh,al
        _end.OnWrite = second.Kick;
        second.Signal(CpuSignal.Init);
        second.Signal(CpuSignal.StartUp, StartPage);
        Assert.Equal(ExitReason.Kicked, second.Run().Reason);
        Assert.Equal(["w1@0=2a"], _end.Writes);
        Assert.Equal((ulong)StartPage << 12, second.ReadRegisters().Segments[CpuRegisters.Cs].Base);
        second.Reset();
        Assert.True(second.IsHalted);
    }

    /// <summary>Raises one interrupt after the other, with kicks around them; the handler has told of each before the
    /// next.</summary>
    void Shower(IVCpu cpu, string prologue, Action raise, byte vector = Vector)
    {
        const int count = 200;
        using var handled = new SemaphoreSlim(0);
        Place($"{prologue} E6 0F {SleepForEver}");                 // out 0Fh,al: interrupts are expected now
        // The handler: out 0Fh,al; iret. And its vector: 0000:HandlerAt.
        Convert.FromHexString("E60FCF").CopyTo(_ram.Span(HandlerAt, 3));
        BitConverter.GetBytes((uint)HandlerAt).CopyTo(_ram.Span((ulong)vector * 4, 4));
        _end.OnWrite = () => handled.Release();
        bool stops = false;
        VCpuExit exit = default;
        var thread = new Thread(() =>
        {
            do exit = cpu.Run();
            while (exit.Reason == ExitReason.Kicked && !Volatile.Read(ref stops));
        });
        thread.Start();
        Assert.True(handled.Wait(ModeGuest.Patience), "it does not begin");
        for (int i = 0; i < count; i++)
        {
            if (i % 2 == 0) cpu.Kick();
            raise();
            if (i % 3 == 0) cpu.Kick();
            Assert.True(handled.Wait(ModeGuest.Patience), $"interrupt {i} was lost ({exit})");
        }
        if (cpu.Apic != null) Assert.True(SpinWait.SpinUntil(() => cpu.IsHalted, ModeGuest.Patience), "it goes on");
        Volatile.Write(ref stops, true);
        cpu.Kick();
        Assert.True(thread.Join(ModeGuest.Patience));
        Assert.Equal(ExitReason.Kicked, exit.Reason);
        Assert.Equal(1 + count, _end.Writes.Count);
        _end.Writes.Clear();
    }

    sealed class CountingApic : FakeApic
    {
        int _pending;

        public override bool HasInterrupt => Volatile.Read(ref _pending) > 0;
        public void Pend() => Interlocked.Increment(ref _pending);

        public override int Acknowledge()
        {
            Interlocked.Decrement(ref _pending);
            return Vector;
        }
    }
}
