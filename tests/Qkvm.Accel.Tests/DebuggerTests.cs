using Qkvm.Accel.Tcg;
using Qkvm.Core.Accel;
using static Iced.Intel.AssemblerRegisters;

namespace Qkvm.Accel.Tests;

/// <summary>A debugger's breakpoints and steps on the software CPU: both tiers stop alike, and the guest sees
/// nothing.</summary>
public unsafe class DebuggerTests
{
    const ulong Code = TierMachine.Code;

    public static TheoryData<bool> Tiers => [true, false];

    /// <summary>inc rax at Code, dec rcx behind it, round and round; HLT at the end.</summary>
    static (ulong Inc, ulong Dec, ulong Halt) PlaceLoop(TierMachine tier)
    {
        int length = tier.Place(Code, c =>
        {
            var loop = c.CreateLabel();
            c.Label(ref loop);
            c.inc(rax);
            c.dec(rcx);
            c.jnz(loop);
            c.hlt();
        });
        return (Code, Code + 3, Code + (ulong)length - 1);
    }

    static void Expect(VCpuExit exit, DebugPoint? point)
    {
        Assert.Equal(ExitReason.Debug, exit.Reason);
        Assert.Equal(point, exit.Stop.Point);
    }

    static DebugPoint At(ulong address) => new(DebugPointKind.Software, address);

    [Theory]
    [MemberData(nameof(Tiers))]
    public void It_stops_before_the_instruction_each_time_round(bool translated)
    {
        using var tier = new TierMachine(translated);
        (_, ulong dec, _) = PlaceLoop(tier);
        tier.Cpu.State->Rip = Code;
        (tier.Cpu.Rax, tier.Cpu.Rcx) = (0, 100);
        for (ulong round = 1; round <= 3; round++)
        {
            tier.Machine.StopAt(At(dec));
            Expect(tier.Machine.VCpu.Run(), At(dec));
            Assert.Equal((dec, round, 101 - round), (tier.Cpu.State->Rip, tier.Cpu.Rax, tier.Cpu.Rcx));
            tier.Machine.VCpu.Steps = VCpuSteps.One;
            Expect(tier.Machine.VCpu.Run(), null);
            tier.Machine.VCpu.Steps = VCpuSteps.None;
            Assert.Equal(100 - round, tier.Cpu.Rcx);
        }
    }

    /// <summary>The blocks exist and are linked already; afterwards they run as if nothing had been.</summary>
    [Theory]
    [MemberData(nameof(Tiers))]
    public void It_stops_in_code_that_has_run_before_and_no_longer_when_taken_away(bool translated)
    {
        using var tier = new TierMachine(translated);
        (ulong inc, ulong dec, ulong halt) = PlaceLoop(tier);
        tier.Cpu.Rcx = 10_000;
        tier.Run();
        foreach (ulong at in new[] { dec, inc, halt })
        {
            (tier.Cpu.Rax, tier.Cpu.Rcx) = (0, 10_000);
            tier.Cpu.State->Rip = at == inc ? dec : inc;
            tier.Machine.StopAt(At(at));
            Expect(tier.Machine.VCpu.Run(), At(at));
            Assert.Equal(at, tier.Cpu.State->Rip);
            tier.Machine.StopAt();
            tier.Run(at);
            Assert.Equal(0u, tier.Cpu.Rcx);
        }
    }

    /// <summary>It is the linear address that counts: the same code mapped elsewhere does not stop, and goes on in
    /// whichever order they were met.</summary>
    [Theory]
    [InlineData(true, 0)]
    [InlineData(true, 1)]
    [InlineData(false, 0)]
    public void Code_mapped_at_two_addresses_stops_at_one(bool translated, int first)
    {
        using var tier = new TierMachine(translated);
        for (int page = 0; page < 4; page++) tier.Map(page, TierMachine.Frame(page & 1));
        // A page each that jumps to the next page, where the breakpoint is to be.
        foreach (ulong at in new[] { TierMachine.Linear(0), TierMachine.Linear(2) })
            tier.Place(at, static c => c.nop());
        tier.Machine.Place(TierMachine.Frame(0), 64, c =>
        {
            c.inc(rax);
            c.jmp(TierMachine.Frame(1) + 16);
        });
        tier.Machine.Place(TierMachine.Frame(1) + 16, 64, static c =>
        {
            c.inc(rbx);
            c.dec(rdx);
            c.hlt();
        });
        ulong stop = TierMachine.Linear(1) + 16 + 3;
        if (first == 1) tier.Run(TierMachine.Linear(2));           // without a debugger
        tier.Machine.StopAt(At(stop));
        tier.Run(TierMachine.Linear(2));
        tier.Cpu.State->Rip = TierMachine.Linear(0);
        Expect(tier.Machine.VCpu.Run(), At(stop));
        Assert.Equal(stop, tier.Cpu.State->Rip);
        tier.Run(TierMachine.Linear(2));
        tier.Cpu.State->Rip = TierMachine.Linear(0);
        Expect(tier.Machine.VCpu.Run(), At(stop));
    }

    [Theory]
    [MemberData(nameof(Tiers))]
    public void It_stops_at_an_instruction_that_goes_on_in_the_next_page(bool translated)
    {
        using var tier = new TierMachine(translated);
        ulong at = Code + 0x1000 - 4;
        tier.Place(at, static c =>
        {
            c.mov(rbx, 0x1122334455667788);
            c.hlt();
        });
        tier.Place(Code, c => c.jmp(at));
        tier.Run();
        tier.Cpu.Rbx = 0;
        tier.Machine.StopAt(At(at));
        tier.Cpu.State->Rip = Code;
        Expect(tier.Machine.VCpu.Run(), At(at));
        Assert.Equal((at, 0ul), (tier.Cpu.State->Rip, tier.Cpu.Rbx));
    }

    /// <summary>Jumps to it are part of a block where nobody stops.</summary>
    [Theory]
    [MemberData(nameof(Tiers))]
    public void It_stops_behind_a_jump_forward(bool translated)
    {
        using var tier = new TierMachine(translated);
        tier.Place(Code, static c => c.jmp(Code + 0x40));
        tier.Place(Code + 0x40, static c =>
        {
            c.inc(rbx);
            c.hlt();
        });
        tier.Machine.StopAt(At(Code + 0x40));
        tier.Cpu.State->Rip = Code;
        Expect(tier.Machine.VCpu.Run(), At(Code + 0x40));
        Assert.Equal(0u, tier.Cpu.Rbx);
    }

    [Theory]
    [MemberData(nameof(Tiers))]
    public void The_guest_s_own_bytes_are_as_it_wrote_them(bool translated)
    {
        using var tier = new TierMachine(translated);
        tier.Place(Code, static c =>
        {
            c.mov(al, __byte_ptr[Code + 0x40]);
            c.jmp(Code + 0x40);
        });
        tier.Place(Code + 0x40, static c =>
        {
            c.nop();
            c.hlt();
        });
        tier.Machine.StopAt(At(Code + 0x40));
        tier.Cpu.State->Rip = Code;
        Expect(tier.Machine.VCpu.Run(), At(Code + 0x40));
        Assert.Equal(0x90, (byte)tier.Cpu.Rax);
        Assert.Equal(0x90u, tier.Machine.Memory.Read(Code + 0x40, 1));
    }

    /// <summary>In real-address mode too it is the linear address: CS's base and IP.</summary>
    [Fact]
    public void Addresses_are_linear_where_segments_have_bases()
    {
        using GuestMachine machine = new(1);
        machine.Place(0x12340, 16, static c =>
        {
            c.inc(ax);
            c.inc(bx);
            c.hlt();
        });
        CpuState* s = machine.S;
        (s->Cs.Selector, s->Cs.Base, s->WaitForSipi) = (0x1234, 0x12340, 0);
        machine.Cpu.ModeChanged();
        s->Rip = 0;
        machine.StopAt(At(0x12341));
        Expect(machine.VCpu.Run(), At(0x12341));
        Assert.Equal(1u, s->Rip);
    }

    [Theory]
    [MemberData(nameof(Tiers))]
    public void Steps_make_one_instruction_each(bool translated)
    {
        using var tier = new TierMachine(translated);
        (ulong inc, ulong dec, ulong halt) = PlaceLoop(tier);
        (tier.Cpu.Rax, tier.Cpu.Rcx) = (0, 2);
        tier.Cpu.State->Rip = Code;
        tier.Machine.VCpu.Steps = VCpuSteps.OneUndisturbed;
        var seen = new List<ulong>();
        for (int i = 0; i < 7; i++)
        {
            Expect(tier.Machine.VCpu.Run(), null);
            seen.Add(tier.Cpu.State->Rip);
        }
        ulong jump = dec + 3;
        Assert.Equal([dec, jump, inc, dec, jump, halt, halt + 1], seen);
        Assert.True(tier.Machine.VCpu.IsHalted);
        Assert.False(tier.Machine.VCpu.StepsAtOnce);
    }

    [Theory]
    [MemberData(nameof(Tiers))]
    public void A_step_over_a_fault_ends_before_its_handler(bool translated)
    {
        using var tier = new TierMachine(translated);
        tier.Place(Code, static c => c.ud2());
        tier.Cpu.State->Rip = Code;
        tier.Machine.VCpu.Steps = VCpuSteps.One;
        Expect(tier.Machine.VCpu.Run(), null);
        Assert.Equal(Vector.InvalidOpcode, tier.Vector);
        Assert.Equal(Code, tier.FaultRip);
        Assert.False(tier.Machine.VCpu.IsHalted);
    }

    /// <summary>A waiting interrupt comes in a free step's place, and waits for the end of undisturbed ones.</summary>
    [Theory]
    [InlineData(VCpuSteps.One, 0x20)]
    [InlineData(VCpuSteps.OneUndisturbed, -1)]
    public void Interrupts_come_between_free_steps_alone(VCpuSteps steps, int vector)
    {
        using var tier = new TierMachine(translated: true);
        tier.Place(Code, static c =>
        {
            c.nop();
            c.hlt();
        });
        tier.Cpu.State->RflagsSystem |= Rflags.If;
        tier.Cpu.State->Rip = Code;
        tier.Cpu.Apic = new OneInterrupt();
        tier.Cpu.InterruptPending();
        tier.Machine.VCpu.Steps = steps;
        Expect(tier.Machine.VCpu.Run(), null);
        Assert.Equal(vector, tier.Vector);
        if (vector < 0) Assert.Equal(Code + 1, tier.Cpu.State->Rip);
    }

    sealed class OneInterrupt : FakeApic
    {
        public override bool HasInterrupt => true;
        public override int Acknowledge() => 0x20;
    }

    /// <summary>What a debugger stops for is not the guest's #DB.</summary>
    [Theory]
    [MemberData(nameof(Tiers))]
    public void Breakpoints_of_the_guest_s_own_work_beside(bool translated)
    {
        using var tier = new TierMachine(translated);
        (_, ulong dec, _) = PlaceLoop(tier);
        tier.Cpu.Rcx = 5;
        tier.Cpu.State->Dr[0] = dec + 3;
        tier.Cpu.State->Dr[7] = 1;
        tier.Cpu.ModeChanged();
        tier.Machine.StopAt(At(dec));
        tier.Cpu.State->Rip = Code;
        Expect(tier.Machine.VCpu.Run(), At(dec));
        Assert.Equal(0u, tier.Cpu.State->Dr[6] & 15);
        tier.Run(dec + 3, masked: true);
        Assert.Equal(Vector.Debug, tier.Vector);
        Assert.Equal(dec + 3, tier.FaultRip);
    }

    [Fact]
    public void Each_of_two_processors_stops()
    {
        using var tier = new TierMachine(translated: true, cpus: 2);
        (_, ulong dec, _) = PlaceLoop(tier);
        tier.Machine.StopAt(At(dec));
        for (int i = 0; i < 2; i++)
        {
            tier.CpuAt(i).State->Rip = Code;
            tier.CpuAt(i).Rcx = 5;
            Expect(tier.Machine.VCpus[i].Run(), At(dec));
        }
    }
}
