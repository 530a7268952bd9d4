using Iced.Intel;
using Qkvm.Accel.Tcg;
using Qkvm.Core.Accel;
using Qkvm.Core.State;
using static Iced.Intel.AssemblerRegisters;

namespace Qkvm.Accel.Tests;

/// <summary>Blocks, self-modifying code, interrupts and halts, run through the accelerator's interface.</summary>
public sealed unsafe class RunLoopTests
{
    const ulong Code = 0x10000;

    [Fact]
    public void ALoopIn64BitModeComputesItsSum()
    {
        using GuestMachine machine = new GuestMachine().Flat(64);
        machine.Place(Code, 64, c =>
        {
            Label loop = c.CreateLabel();
            c.xor(eax, eax);
            c.mov(ecx, 100_000);
            c.Label(ref loop);
            c.add(rax, rcx);
            c.dec(ecx);
            c.jnz(loop);
            c.hlt();
        });
        machine.RunToHalt(Code);
        Assert.Equal(5000050000UL, machine.Cpu.Rax);
    }

    [Fact]
    public void ABootSectorRunsInRealModeAndWritesToItsPort()
    {
        using GuestMachine machine = new();
        machine.S->Cs = machine.S->Cs with { Selector = 0, Base = 0 };
        machine.Cpu.ModeChanged();
        machine.Place(0x7C00, 16, c =>
        {
            Label next = c.CreateLabel(), done = c.CreateLabel();
            c.xor(ax, ax);
            c.mov(ds, ax);
            c.mov(ss, ax);
            c.mov(sp, 0x7C00);
            c.cld();
            c.mov(si, 0x7D00);
            c.Label(ref next);
            c.lodsb();
            c.test(al, al);
            c.jz(done);
            c.@out(0xE9, al);
            c.jmp(next);
            c.Label(ref done);
            c.hlt();
        });
        machine.Memory.Write(0x7D00, "hi\0"u8);
        machine.RunToHalt(0x7C00);
        Assert.Equal([(0xE9UL, 1, (ulong)'h'), (0xE9UL, 1, (ulong)'i')], machine.Ports.Writes);
    }

    [Fact]
    public void AStoreIntoTheNextInstructionIsSeenByIt()
    {
        using GuestMachine machine = new GuestMachine().Flat(32);
        machine.Place(Code, 32, c =>
        {
            c.mov(__byte_ptr[Code + 7 + 1], 42);
            c.mov(eax, 7);
            c.hlt();
        });
        machine.RunToHalt(Code);
        Assert.Equal(42UL, machine.Cpu.Rax);
    }

    [Fact]
    public void ALockedStoreIntoTheNextInstructionIsSeenByIt()
    {
        using GuestMachine machine = new GuestMachine().Flat(32);
        machine.Place(Code, 32, c =>
        {
            c.@lock.add(__dword_ptr[Code + 8 + 1], 35);
            c.mov(eax, 7);
            c.hlt();
        });
        machine.RunToHalt(Code);
        Assert.Equal(42UL, machine.Cpu.Rax);
    }

    [Fact]
    public void CodeThatCountsInItsOwnImmediateStaysCorrect()
    {
        using GuestMachine machine = new GuestMachine().Flat(64);
        machine.Place(Code, 64, c =>
        {
            Label loop = c.CreateLabel();
            c.xor(eax, eax);
            c.mov(ecx, 1000);
            c.Label(ref loop);
            c.mov(edx, 1);
            c.add(eax, edx);
            c.inc(__dword_ptr[Code + 7 + 1]);
            c.dec(ecx);
            c.jnz(loop);
            c.hlt();
        });
        machine.RunToHalt(Code);
        Assert.Equal(500500UL, machine.Cpu.Rax);
    }

    [Fact]
    public void DataBesideCodeOnOnePageCostsNoDecoding()
    {
        using GuestMachine machine = new GuestMachine().Flat(64);
        machine.Place(Code, 64, c =>
        {
            Label loop = c.CreateLabel();
            c.mov(ecx, 1000);
            c.Label(ref loop);
            c.mov(__dword_ptr[Code + 0x800], ecx);
            c.dec(ecx);
            c.jnz(loop);
            c.hlt();
        });
        machine.RunToHalt(Code);
        Assert.Equal(1UL, machine.Memory.Read(Code + 0x800, 4));
        Assert.InRange(machine.Cpu.BlocksDecoded, 1, 5);
    }

    [Fact]
    public void CodeWrittenByADeviceIsDecodedAnew()
    {
        using GuestMachine machine = new GuestMachine().Flat(64);
        machine.Place(Code, 64, c => { c.mov(eax, 1); c.hlt(); });
        machine.RunToHalt(Code);
        Assert.Equal(1UL, machine.Cpu.Rax);
        machine.Place(Code, 64, c => { c.mov(eax, 2); c.hlt(); });
        machine.RunToHalt(Code);
        Assert.Equal(2UL, machine.Cpu.Rax);
    }

    [Fact]
    public void AnInstructionOverTwoPagesFollowsBothPages()
    {
        using GuestMachine machine = new GuestMachine().Flat(64);
        const ulong at = Code + 0x1000 - 3;
        machine.Place(at, 64, c => { c.mov(eax, 0x11223344); c.hlt(); });
        machine.RunToHalt(at);
        Assert.Equal(0x11223344UL, machine.Cpu.Rax);
        machine.Place(at, 64, c => { c.mov(eax, 0x55667788); c.hlt(); });
        machine.RunToHalt(at);
        Assert.Equal(0x55667788UL, machine.Cpu.Rax);
    }

    [Fact]
    public void AnotherCpusStoreIntoCodeReachesThisOne()
    {
        using GuestMachine machine = new GuestMachine(cpus: 2).Flat(64).Flat(64, index: 1);
        const ulong other = 0x20000;
        byte[] code = machine.Place(Code, 64, c => { c.mov(eax, 1); c.hlt(); });
        Assert.Equal(6, code.Length);
        machine.Place(other, 64, c => { c.mov(__byte_ptr[Code + 1], 2); c.hlt(); });
        machine.RunToHalt(other, 1);                                // the second CPU has a write tag for the page now
        machine.RunToHalt(Code);
        Assert.Equal(2UL, machine.Cpu.Rax);
        machine.Place(other, 64, c => { c.mov(__byte_ptr[Code + 1], 3); c.hlt(); });
        machine.RunToHalt(other, 1);
        machine.RunToHalt(Code);
        Assert.Equal(3UL, machine.Cpu.Rax);
    }

    [Fact]
    public void TheSameCodeBytesDecodeByMode()
    {
        // 48 FF C0: in 64-bit mode INC RAX, in 32-bit mode DEC EAX, INC EAX.
        using GuestMachine machine = new GuestMachine().Flat(64);
        machine.Memory.Write(Code, (ReadOnlySpan<byte>)[0x48, 0xFF, 0xC0, 0xF4]);
        machine.Cpu.Rax = 5;
        machine.RunToHalt(Code);
        Assert.Equal(6UL, machine.Cpu.Rax);
        machine.S->Cs.Access = 0xC09B;
        machine.RunToHalt(Code);
        Assert.Equal(6UL, machine.Cpu.Rax);
        Assert.Equal(Code + 4, machine.S->Rip);
    }

    [Fact]
    public void FeaturesThatCpuidHidesRaiseInvalidOpcode()
    {
        using GuestMachine machine = new GuestMachine(1, "qemu64").Flat(64);
        // TZCNT EAX, ECX: without BMI1 a BSF
        machine.Memory.Write(Code, (ReadOnlySpan<byte>)[0xF3, 0x0F, 0xBC, 0xC1, 0xF4]);
        (machine.Cpu.Rax, machine.Cpu.Rcx) = (7, 0);
        machine.RunToHalt(Code);
        Assert.Equal(7UL, machine.Cpu.Rax);
        machine.Place(Code, 64, c => { c.adcx(eax, ecx); c.hlt(); });
        machine.S->Rip = Code;
        Assert.Equal(ExitReason.Shutdown, machine.VCpu.Run().Reason);                        // #UD without an IDT
    }

    [Fact]
    public void ATripleFaultEndsRunWithShutdown()
    {
        using GuestMachine machine = new GuestMachine().Flat(64);
        machine.S->IdtrLimit = 0;
        machine.Place(Code, 64, c => c.ud2());
        machine.S->Rip = Code;
        Assert.Equal(ExitReason.Shutdown, machine.VCpu.Run().Reason);
    }

    [Fact]
    public void AKickLeavesAnEndlessLoop()
    {
        using GuestMachine machine = new GuestMachine().Flat(64);
        machine.Memory.Write(Code, (ReadOnlySpan<byte>)[0xEB, 0xFE]);
        machine.S->Rip = Code;
        VCpuExit exit = default;
        var thread = new Thread(() => exit = machine.VCpu.Run());
        thread.Start();
        machine.VCpu.Kick();
        thread.Join();
        Assert.Equal(ExitReason.Kicked, exit.Reason);
        Assert.Equal(Code, machine.S->Rip);
    }

    [Fact]
    public void AnInterruptWakesHltAndHonoursTheShadowOfSti()
    {
        using GuestMachine machine = RealMode();
        var apic = new CountingApic { Vector = 0x30 };
        machine.VCpu.Apic = apic;
        machine.Memory.Write(0x30 * 4, 4, 0x2000);
        machine.Place(0x2000, 16, c => { c.mov(bx, ax); c.iret(); });
        machine.Place(0x1000, 16, c =>
        {
            c.mov(ax, 1);
            c.cli();
            c.nop();
            c.sti();
            c.mov(ax, 2);                                            // in the shadow
            c.mov(ax, 3);
            c.cli();
            c.hlt();
        });
        machine.RunToHalt(0x1000);
        Assert.Equal(2UL, machine.Cpu.Rbx);
        Assert.Equal(3UL, machine.Cpu.Rax);
        Assert.Equal(1, apic.Acknowledged);
    }

    [Fact]
    public void SingleStepTrapsAfterEachInstruction()
    {
        using GuestMachine machine = RealMode();
        machine.Memory.Write(Vector.Debug * 4, 4, 0x2000);
        machine.Place(0x2000, 16, c => { c.inc(cx); c.iret(); });
        machine.Place(0x1000, 16, c =>
        {
            c.xor(cx, cx);
            c.pushf();
            c.or(__word_ptr[bp], 0x100);
            c.popf();                                                // TF: the trap comes after the next instruction
            c.nop();
            c.nop();
            c.nop();
            c.pushf();
            c.and(__word_ptr[bp], 0xFEFF);
            c.popf();
            c.hlt();
        });
        machine.Cpu.Rbp = 0x7FFE;
        machine.RunToHalt(0x1000);
        Assert.Equal(6UL, machine.Cpu.Rcx);
        Assert.Equal(0x4000UL, machine.S->Dr[6] & 0x4000);
    }

    [Fact]
    public void ADataBreakpointTrapsAfterTheWriteAlone()
    {
        using GuestMachine machine = RealMode();
        machine.Memory.Write(Vector.Debug * 4, 4, 0x2000);
        machine.Place(0x2000, 16, c =>
        {
            c.inc(cx);
            c.mov(esi, dr6);
            c.or(edi, esi);
            c.xor(esi, esi);
            c.mov(dr6, esi);
            c.iret();
        });
        machine.Place(0x1000, 16, c =>
        {
            c.mov(__byte_ptr[0x3001], 1);                            // not within DR0's two bytes
            c.mov(__word_ptr[0x3003], ax);                           // overlaps them
            c.mov(al, __byte_ptr[0x3004]);                           // a read does not trigger
            c.hlt();
        });
        machine.S->Dr[0] = 0x3004;
        machine.S->Dr[7] = 0x400 | 3 | 1 << 16 | 1 << 18;            // write, two bytes
        machine.RunToHalt(0x1000);
        Assert.Equal(1UL, machine.Cpu.Rcx);
        Assert.Equal(1UL, machine.Cpu.Rdi & 0xF);
    }

    [Fact]
    public void ASecondCpuWaitsForItsStartupMessage()
    {
        using GuestMachine machine = new(cpus: 2);
        Assert.True(machine.VCpus[1].IsHalted);
        machine.Place(0x8000, 16, c => { c.mov(ax, cs); c.hlt(); });
        var thread = new Thread(() => machine.VCpus[1].Run());
        thread.Start();
        machine.VCpus[1].Signal(CpuSignal.Init);
        machine.VCpus[1].Signal(CpuSignal.StartUp, 8);
        Cpu second = ((SoftwareVCpu)machine.VCpus[1]).Cpu;
        for (int i = 0; i < 10_000 && Volatile.Read(ref second.State->Halted) == 0; i++) Thread.Sleep(1);
        machine.VCpus[1].Kick();
        thread.Join();
        Assert.Equal(0x800UL, second.Rax);
    }

    [Fact]
    public void ASavedStateLoadsIntoAnotherCpuAndSavesTheSame()
    {
        using GuestMachine machine = new GuestMachine().Flat(64);
        machine.Place(Code, 64, c => { c.mov(r12, 0x1122334455667788); c.stc(); c.hlt(); });
        machine.RunToHalt(Code);
        StateNode saved = StateNode.Save(machine.VCpu.Exchange);
        using GuestMachine other = new();
        saved.Load(other.VCpu.Exchange);
        Assert.Equal(0x1122334455667788UL, other.S->Gpr[12]);
        Assert.True(other.Cpu.Carry);
        Assert.True(other.Cpu.Is64Bit);
        string[] first = saved.ToString().Split('\n'),
            second = StateNode.Save(other.VCpu.Exchange).ToString().Split('\n');
        Assert.Equal(first.Where(line => !line.StartsWith("registers.tsc =")),
            second.Where(line => !line.StartsWith("registers.tsc =")));
    }

    [Fact]
    public void ResetEqualsANewCpu()
    {
        using GuestMachine machine = new GuestMachine().Flat(64);
        machine.Place(Code, 64, c => { c.mov(r12, 5); c.std(); c.hlt(); });
        machine.RunToHalt(Code);
        machine.VCpu.Reset();
        using GuestMachine fresh = new();
        static string Text(GuestMachine m) =>
            string.Join('\n', StateNode.Save(m.VCpu.Exchange).ToString().Split('\n')
            .Where(line => !line.StartsWith("registers.tsc =")));
        Assert.Equal(Text(fresh), Text(machine));
    }

    /// <summary>CS 0, stack at 8000h.</summary>
    static GuestMachine RealMode()
    {
        var machine = new GuestMachine();
        machine.S->Cs = machine.S->Cs with { Selector = 0, Base = 0 };
        machine.Cpu.Rsp = 0x8000;
        machine.Cpu.ModeChanged();
        return machine;
    }

    /// <summary>One interrupt, once.</summary>
    sealed class CountingApic : FakeApic
    {
        public int Vector { get; init; }
        public int Acknowledged { get; private set; }
        public override bool HasInterrupt => Acknowledged == 0;

        public override int Acknowledge()
        {
            Acknowledged++;
            return Vector;
        }
    }
}
