using Qkvm.Accel.Kvm;
using Qkvm.Core.Accel;
using Qkvm.Testing;

namespace Qkvm.Accel.Tests;

/// <summary>A debugger's points and steps on real-mode programs.</summary>
public sealed partial class KvmTests
{
    const ulong Code = 0xF0000, Low = 0x1000, ResetVector = 0xFFFFFFF0;

    static readonly DebugPoint Elsewhere = new(DebugPointKind.Software, Code + 0x800),
        ElsewhereInRegister = new(DebugPointKind.Hardware, Code + 0x800);

    /// <summary>mov bx,1234h; inc bx; inc bx; mov [1234h],bx; the end: out 0Fh,al</summary>
    const string Counts = "BB 34 12 43 43 89 1E 34 12 E6 0F";

    /// <summary>Stops after the jump at the reset vector, before the program.</summary>
    IVCpu Begin(KvmAccelerator kvm, string code)
    {
        IVCpu cpu = Create(kvm);
        Place(code);
        _end.OnWrite = cpu.Kick;
        cpu.Steps = VCpuSteps.OneUndisturbed;
        ExpectStop(cpu, null);
        Assert.Equal((0ul, Code), (cpu.InstructionPointer, cpu.ReadRegisters().Segments[CpuRegisters.Cs].Base));
        cpu.Steps = VCpuSteps.None;
        return cpu;
    }

    /// <summary>Likewise at 0000:1000, where linear addresses are those of the segment: else QEMU's software CPU fails
    /// at debug registers.</summary>
    IVCpu BeginLow(KvmAccelerator kvm, string code)
    {
        Convert.FromHexString(code.Replace(" ", "")).CopyTo(_ram.Span(Low, code.Replace(" ", "").Length / 2));
        IVCpu cpu = Begin(kvm, "EA 00 10 00 00");                  // jmp 0000:1000
        cpu.Steps = VCpuSteps.OneUndisturbed;
        ExpectStop(cpu, null);
        Assert.Equal(Low, cpu.InstructionPointer);
        cpu.Steps = VCpuSteps.None;
        return cpu;
    }

    static void ExpectStop(IVCpu cpu, DebugPoint? point)
    {
        VCpuExit exit = cpu.Run();
        Assert.Equal((ExitReason.Debug, point), (exit.Reason, exit.Stop.Point));
    }

    static void ExpectEnd(IVCpu cpu) => Assert.Equal(ExitReason.Kicked, cpu.Run().Reason);

    static ulong Bx(IVCpu cpu) => cpu.ReadRegisters().General[3];

    [KvmFact]
    public void Steps_make_one_instruction_each()
    {
        using var kvm = new KvmAccelerator();
        IVCpu cpu = Begin(kvm, Counts);
        cpu.Steps = VCpuSteps.OneUndisturbed;
        foreach ((ulong rip, ulong bx) in new[] { (3ul, 0x1234ul), (4ul, 0x1235ul), (5ul, 0x1236ul), (9ul, 0x1236ul) })
        {
            ExpectStop(cpu, null);
            Assert.Equal((rip, bx), (cpu.InstructionPointer, Bx(cpu) & 0xFFFF));
            Assert.Equal(0ul, cpu.ReadRegisters().Rflags & 0x100); // TF is not the guest's
        }
        Assert.Equal(0x1236u, _ram.Read(0x1234, 2));
        cpu.Steps = VCpuSteps.None;
        ExpectEnd(cpu);
    }

    [KvmStepFact]
    public void A_step_over_a_port_ends_behind_it()
    {
        using var kvm = new KvmAccelerator();
        IVCpu cpu = Begin(kvm, "BA 00 05 EE 90 E6 0F");            // mov dx,500h; out dx,al; nop; out 0Fh,al
        cpu.Steps = VCpuSteps.OneUndisturbed;
        ExpectStop(cpu, null);
        ExpectStop(cpu, null);
        Assert.Equal(4ul, cpu.InstructionPointer);
        Assert.Single(_port.Writes);
    }

    [KvmPointFact]
    public void A_software_point_stops_before_the_instruction_each_time_and_leaves_it_as_it_was()
    {
        using var kvm = new KvmAccelerator();
        IVCpu cpu = Begin(kvm, Counts);
        DebugPoint[] points = [new(DebugPointKind.Software, Code + 3), new(DebugPointKind.Software, Code + 4)];
        foreach ((DebugPoint point, ulong bx) in points.Zip([0x1234ul, 0x1235ul]))
        {
            Assert.True(kvm.CanStopAt([point], cpu));
            kvm.StopAt([point], cpu);
            ExpectStop(cpu, point);
            ExpectStop(cpu, point);
            kvm.StopAt([], cpu);
            Assert.Equal((point.Address - Code, bx), (cpu.InstructionPointer, Bx(cpu) & 0xFFFF));
            Assert.Equal(0x43u, _ram.Read(point.Address, 1));
        }
        ExpectEnd(cpu);
        Assert.Equal(0x1236ul, Bx(cpu) & 0xFFFF);
    }

    /// <summary>The reset vector is the end of the first megabyte, seen elsewhere.</summary>
    [KvmPointFact]
    public void The_same_code_at_another_address_does_not_stop()
    {
        using var kvm = new KvmAccelerator();
        IVCpu cpu = Create(kvm);
        Place(Counts);
        _end.OnWrite = cpu.Kick;
        kvm.StopAt([new(DebugPointKind.Software, ResetVector & 0xFFFFF)], cpu);
        ExpectEnd(cpu);
        Assert.Equal(0x1236u, _ram.Read(0x1234, 2));
        Assert.Equal(0xCCu, _ram.Read(ResetVector & 0xFFFFF, 1));  // there again, for the right address
        kvm.StopAt([], cpu);
        Assert.Equal(0xEAu, _ram.Read(ResetVector & 0xFFFFF, 1));
    }

    [KvmPointFact]
    public void The_guest_gets_its_own_INT3()
    {
        using var kvm = new KvmAccelerator();
        _ram.Write(3 * 4, 4, 0xF0000020);                          // the vector of #BP: F000:0020
        IVCpu cpu = Begin(kvm, "90 CC 90");
        Convert.FromHexString("58E60F").CopyTo(_ram.Span(Code + 0x20, 3)); // pop ax; out 0Fh,al
        kvm.StopAt([Elsewhere], cpu);
        ExpectEnd(cpu);
        Assert.Equal(["w1@0=2"], _end.Writes);                     // it returns behind the INT3
    }

    /// <summary>A trap flag that the guest set itself, while the debugger has the debug registers.</summary>
    [KvmFact]
    public void The_guest_gets_its_own_debug_exception_and_DR6_says_why()
    {
        using var kvm = new KvmAccelerator();
        _ram.Write(1 * 4, 4, 0xF0000020);                          // the vector of #DB
        // pushf; pop ax; or ah,1; push ax; popf; nop; nop
        IVCpu cpu = Begin(kvm, "9C 58 80 CC 01 50 9D 90 90");
        Convert.FromHexString("0F21F088E0E60F").CopyTo(_ram.Span(Code + 0x20, 7)); // mov eax,dr6; mov al,ah; out 0Fh,al
        kvm.StopAt([ElsewhereInRegister], cpu);
        ExpectEnd(cpu);
        Assert.Equal(["w1@0=4f"], _end.Writes);                    // BS, bit 14
    }

    /// <summary>Whether INT3 and debug registers stop a guest; where INT3 does not, its handler ends the
    /// program.</summary>
    internal bool CanStop()
    {
        _ram.Write(3 * 4, 4, 0xF0000020);
        Convert.FromHexString("E60F").CopyTo(_ram.Span(Code + 0x20, 2));
        return new[] { DebugPointKind.Software, DebugPointKind.Hardware }.All(kind =>
        {
            using var kvm = new KvmAccelerator();
            IVCpu cpu = BeginLow(kvm, Counts);
            kvm.StopAt([new DebugPoint(kind, Low + 4)], cpu);
            bool stops = cpu.Run().Reason == ExitReason.Debug;
            kvm.StopAt([], cpu);
            return stops;
        });
    }

    [KvmPointFact]
    public void A_hardware_point_stops_before_the_instruction()
    {
        using var kvm = new KvmAccelerator();
        IVCpu cpu = BeginLow(kvm, Counts);
        var point = new DebugPoint(DebugPointKind.Hardware, Low + 4);
        kvm.StopAt([point], cpu);
        ExpectStop(cpu, point);
        Assert.Equal((Low + 4, 0x1235ul), (cpu.InstructionPointer, Bx(cpu) & 0xFFFF));
        kvm.StopAt([], cpu);
        ExpectEnd(cpu);
    }

    [KvmPointFact]
    public void Watched_data_stops_behind_the_instruction()
    {
        using var kvm = new KvmAccelerator();
        IVCpu cpu = BeginLow(kvm, Counts);
        var point = new DebugPoint(DebugPointKind.Write, 0x1234, 2);
        kvm.StopAt([point, Elsewhere], cpu);
        VCpuExit exit = cpu.Run();
        Assert.Equal(new DebugStop(point, 0x1234), exit.Stop);
        Assert.Equal((Low + 9, 0x1236u), (cpu.InstructionPointer, (uint)_ram.Read(0x1234, 2)));
        kvm.StopAt([], cpu);
        ExpectEnd(cpu);
    }
}

/// <summary>A test that needs a processor's single steps.</summary>
public sealed class KvmStepFactAttribute() : ConditionalFactAttribute(new KvmFactAttribute().Skip
    ?? Virtualization.Missing);

/// <summary>Needs a KVM whose processor tells KVM of INT3 and debug registers. QEMU 7.2's software CPU, which can be
/// KVM's processor, does not, unless scripts/nested-qemu.sh made it.</summary>
public sealed class KvmPointFactAttribute : ConditionalFactAttribute
{
    static readonly Lazy<string?> s_whyNot = new(static () =>
    {
        using var machine = new KvmTests();
        return machine.CanStop() ? null : "needs a processor that tells KVM of breakpoints (scripts/nested-qemu.sh)";
    });

    public KvmPointFactAttribute() : base(new KvmFactAttribute().Skip ?? s_whyNot.Value) { }
}
