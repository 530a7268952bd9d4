using Iced.Intel;
using Qkvm.Accel.Tcg;
using static Iced.Intel.AssemblerRegisters;

namespace Qkvm.Accel.Tests;

/// <summary>An interrupt that waits comes after the instruction behind STI, or behind a load of SS, on either tier:
/// Intel SDM vol. 3, section 6.8.3.</summary>
public sealed unsafe class ShadowTests
{
    const uint Vector = 0x40;
    const ulong Handler = 0x28000;

    public static IEnumerable<object[]> Shadows =>
        from tier in new[] { true, false } from name in s_shadows.Keys select new object[] { tier, name };

    /// <summary>Each is followed by INC EBX, in its shadow, and INC ECX, which is not; how many of EBX the handler
    /// finds done.</summary>
    static readonly Dictionary<string, (Action<Assembler> Code, bool HasShadow)> s_shadows = new()
    {
        ["sti"] = (c => c.sti(), true),
        ["sti; mov ss"] = (c => { c.mov(eax, 16); c.mov(ss, eax); c.sti(); }, true),
        ["sti when on"] = (c => { c.sti(); c.nop(); c.sti(); }, false),
        ["popf"] = (c => { c.pushfq(); c.or(__dword_ptr[rsp], (uint)Rflags.If); c.popfq(); }, false),
    };

    [Theory, MemberData(nameof(Shadows))]
    public void The_instruction_behind_runs_first(bool translated, string name)
    {
        using var tier = new TierMachine(translated);
        var line = new InterruptLine();
        tier.Machine.VCpu.Apic = line;
        tier.Machine.Ports.OnWrite = _ =>
        {
            line.Raise();
            tier.Machine.VCpu.InterruptPending();
        };
        tier.Handle(Vector, Handler);
        tier.Place(Handler, c => { c.add(rsi, rbx); c.add(rdi, rcx); c.inc(rdx); c.iretq(); });
        const int rounds = 2000;
        tier.Place(TierMachine.Code, c =>
        {
            Label loop = c.CreateLabel();
            c.xor(esi, esi);
            c.xor(edi, edi);
            c.xor(edx, edx);
            c.mov(ebp, rounds);
            c.Label(ref loop);
            c.cli();
            c.xor(ebx, ebx);
            c.xor(ecx, ecx);
            c.@out(0x80, al);
            s_shadows[name].Code(c);
            c.inc(ebx);
            c.inc(ecx);
            c.nop();
            c.dec(ebp);
            c.jnz(loop);
            c.cli();
            c.hlt();
        });
        tier.Run();
        Assert.Equal(((ulong)rounds, 0UL), (tier.Cpu.Rdx, tier.Cpu.Rdi));
        Assert.Equal(s_shadows[name].HasShadow ? (ulong)rounds : 0, tier.Cpu.Rsi);
    }

    /// <summary>STI; HLT never sleeps over an interrupt that came before; MOV SS; STI; HLT neither.</summary>
    [Theory, InlineData(true), InlineData(false)]
    public void Sti_and_hlt_together_wake(bool translated)
    {
        using var tier = new TierMachine(translated);
        var line = new InterruptLine();
        tier.Machine.VCpu.Apic = line;
        tier.Machine.Ports.OnWrite = _ =>
        {
            line.Raise();
            tier.Machine.VCpu.InterruptPending();
        };
        tier.Handle(Vector, Handler);
        tier.Place(Handler, c => { c.inc(rdx); c.iretq(); });
        tier.Place(TierMachine.Code, c =>
        {
            Label loop = c.CreateLabel();
            c.xor(edx, edx);
            c.mov(ebp, 2000);
            c.Label(ref loop);
            c.cli();
            c.@out(0x80, al);
            c.sti();
            c.hlt();
            c.dec(ebp);
            c.jnz(loop);
            c.cli();
            c.hlt();
        });
        tier.Run(masked: true);
        Assert.Equal((2000UL, 0UL), (tier.Cpu.Rdx, tier.Cpu.Rbp));
    }

    /// <summary>A single step does not come between a load of SS and what is behind it.</summary>
    [Theory, InlineData(true), InlineData(false)]
    public void A_trap_waits_behind_a_load_of_the_stack_segment(bool translated)
    {
        using var tier = new TierMachine(translated);
        tier.Handle(1, Handler);
        tier.Place(Handler, c => { c.inc(rdx); c.mov(rsi, __[rsp]); c.iretq(); });
        tier.Place(TierMachine.Code, c =>
        {
            c.xor(edx, edx);
            c.mov(eax, 16);
            c.pushfq();
            c.or(__dword_ptr[rsp], (uint)Rflags.Tf);
            c.popfq();
            c.nop();                                                 // first trap behind this
            c.mov(ss, eax);
            c.inc(ebx);                                              // second
            c.pushfq();
            c.and(__dword_ptr[rsp], ~(int)Rflags.Tf);
            c.popfq();
            c.hlt();
        });
        tier.Run();
        Assert.Equal(5UL, tier.Cpu.Rdx);
    }
}
