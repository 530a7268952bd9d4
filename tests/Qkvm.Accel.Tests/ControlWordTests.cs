using Iced.Intel;
using Qkvm.Accel.Tcg;
using static Iced.Intel.AssemblerRegisters;

namespace Qkvm.Accel.Tests;

/// <summary>What the host must not load: control words that another processor changes meanwhile; and what ring 0 alone
/// may do.</summary>
public sealed unsafe class ControlWordTests
{
    [Fact]
    public void MXCSR_is_loaded_as_it_was_judged()
    {
        using var tier = new TierMachine(translated: true);
        const ulong at = 0x300000, handler = 0x18000, resume = TierMachine.Code + 3;
        tier.Place(TierMachine.Code, c =>
        {
            Label loop = c.CreateLabel();
            c.Label(ref loop);
            c.ldmxcsr(__dword_ptr[rbx]);
            c.dec(rcx);
            c.jnz(loop);
            c.hlt();
        });
        tier.Place(handler, c =>
        {
            c.add(rsp, 48);
            c.jmp(resume);
        });
        tier.Handle(Vector.GeneralProtection, handler);
        (tier.Cpu.Rbx, tier.Cpu.Rcx) = (at, 3_000_000);
        uint* word = (uint*)(tier.Ram + at);
        *word = 0x1F80;
        bool ends = false;
        var other = new Thread(() =>
        {
            // Seldom what faults, which takes long.
            while (!Volatile.Read(ref ends))
            {
                Volatile.Write(ref *word, 0x80001F80);
                Volatile.Write(ref *word, 0x1F80);
                for (int i = 0; i < 20; i++) Volatile.Read(ref *word);
            }
        });
        other.Start();
        try
        {
            tier.Run();
        }
        finally
        {
            Volatile.Write(ref ends, true);
            other.Join();
        }
        Assert.Equal((-1, 0UL), (tier.Vector, tier.Cpu.Rcx));
    }

    static readonly Dictionary<string, Action<Assembler>> s_privileged = new()
    {
        ["cli"] = c => c.cli(), ["sti"] = c => c.sti(), ["swapgs"] = c => c.swapgs(), ["sysretq"] = c => c.sysretq(),
    };

    public static IEnumerable<object[]> Privileged =>
        from tier in new[] { true, false } from name in s_privileged.Keys from ring in new[] { 1, 2 }
        select new object[] { tier, name, ring };

    [Theory, MemberData(nameof(Privileged))]
    public void Rings_1_and_2_may_not_do_what_ring_0_may(bool translated, string name, int ring)
    {
        using var tier = new TierMachine(translated);
        tier.UseFaultStack(0x9000);
        tier.Write(0x3004, 0x9000);
        tier.Place(TierMachine.Code, c =>
        {
            s_privileged[name](c);
            c.nop();
            c.ud2();
        });
        CpuState* s = tier.Cpu.State;
        s->Efer |= Efer.Sce;
        s->Cpl = ring;
        (s->Cs.Selector, s->Cs.Access) = ((ushort)(8 | ring), (ushort)(s->Cs.Access | ring << 5));
        (s->Ss.Selector, s->Ss.Access) = ((ushort)(16 | ring), (ushort)(s->Ss.Access | ring << 5));
        tier.Cpu.ModeChanged();
        tier.Run();
        Assert.Equal((Vector.GeneralProtection, TierMachine.Code), (tier.Vector, tier.FaultRip));
    }
}
