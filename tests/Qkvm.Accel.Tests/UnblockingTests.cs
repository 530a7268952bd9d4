using Qkvm.Accel.Tcg;
using Qkvm.Core.Accel;
using M = Qkvm.Accel.Tests.SystemMachine;

namespace Qkvm.Accel.Tests;

/// <summary>What waited while it was blocked comes at once when it no longer is. Intel SDM vol. 3, sections 6.7.1,
/// 6.8.3 and 6.9.</summary>
public sealed unsafe class UnblockingTests
{
    const int Nmi = 2, Gp = 13;

    /// <summary>An NMI that came while another was handled: after IRET, whatever the flags that it returns to, and
    /// though it faults.</summary>
    [Theory]
    [InlineData(M.Code64, 0x202u, M.Code + 0x100)]
    [InlineData(M.Code64, 0x002u, M.Code + 0x100)]
    [InlineData(M.Code64User, 0x002u, M.Code + 0x100)]
    // #GP: the NMI stands before its handler's first instruction
    [InlineData(M.Beyond, 0x202u, M.Handlers + Gp * 16)]
    public void Nmi_after_iret(ushort selector, uint flags, ulong interrupted)
    {
        foreach (bool translated in (bool[])[false, true])
        {
            using SystemMachine m = new M().Long64();
            m.PushAll(8, selector == M.Code64User ? M.Data3
                : M.Data0, M.Stack0 - 0x200, flags, selector, M.Code + 0x100);
            m.Place(0x90, 0x90, 0x48, 0xCF);
            m.S->Rip += 0x100;
            m.Place(0x90, 0x90, 0x90, 0xCC);
            m.S->Rip -= 0x100;
            m.S->NmiBlocked = 1;
            m.Cpu.Signal(CpuSignal.Nmi, 0);
            m.Go(translated);
            Assert.Equal((Nmi, interrupted), (m.HandlerVector, m.Top(0, 8)));
            Assert.Equal(1, m.S->NmiBlocked);
        }
    }

    /// <summary>Two that came before the first could be taken are two; while one is handled, one waits.</summary>
    [Theory]
    [InlineData(0, 1)] [InlineData(0, 2)] [InlineData(0, 5)] [InlineData(1, 1)] [InlineData(1, 5)]
    public void Nmis_that_wait(byte blocked, int sent)
    {
        using SystemMachine m = new M().Protected32();
        m.S->NmiBlocked = blocked;
        for (int i = 0; i < sent; i++) m.Cpu.Signal(CpuSignal.Nmi, 0);
        int expected = Math.Min(sent, 2 - blocked), taken = 0;
        m.Write(M.Handlers + Nmi * 16 + 2, 0xCF, 1);                   // IRET, behind what Go writes
        m.PushAll(4, 2, M.Code0, M.Code + 1);
        m.Place(0xCF, 0x90, 0x90, 0xCC);
        m.Go(translated: false);
        for (; m.HandlerVector == Nmi; taken++)
        {
            m.S->Rip += 2;
            m.Go(translated: false);
        }
        Assert.Equal(expected, taken);
    }

    /// <summary>Section 17.3.1.1; AMD's processors do not suppress it.</summary>
    [Theory]
    [InlineData("Skylake-Client", false)] [InlineData("EPYC", true)]
    public void A_code_breakpoint_behind_mov_ss(string model, bool breaks)
    {
        using SystemMachine m = new M(model).Protected32();
        m.Cpu.Rax = M.Data0;
        m.S->Dr[0] = M.Code + 2;
        m.S->Dr[7] = 0x400 | 2;
        m.Place(0x8E, 0xD0, 0x90, 0xCC);
        m.Go(translated: false);
        Assert.Equal(breaks ? 1 : 3, m.HandlerVector);
    }

    /// <summary>One that came in the shadow of a load of SS: after the next instruction.</summary>
    [Fact]
    public void Nmi_after_a_load_of_ss()
    {
        foreach (bool translated in (bool[])[false, true])
        {
            using SystemMachine m = new M().Protected32();
            m.Cpu.Rax = M.Data0;
            m.Place(0x8E, 0xD0, 0x90, 0x90, 0x90, 0xCC);
            m.Step();
            Assert.Equal(CpuState.StackShadow, m.S->InterruptShadow);
            m.Cpu.Signal(CpuSignal.Nmi, 0);
            m.Go(translated);
            Assert.Equal((Nmi, M.Code + 3), (m.HandlerVector, m.Top(0, 4)));
        }
    }

    /// <summary>A data breakpoint of MOV SS waits over the instruction behind it. INT1's own #DB takes it along: one
    /// entry, and DR6 says so.
    /// That of another interrupt does not, and it comes before the handler's first instruction.</summary>
    [Theory]
    [InlineData(false, 0xF1, 1)]
    [InlineData(true, 0xF1, 1)]
    [InlineData(false, 0xCC, 3)]
    [InlineData(true, 0xCC, 3)]
    public void A_breakpoint_of_mov_ss_outlasts_the_shadow(bool translated, byte code, int vector)
    {
        using SystemMachine m = new M().Protected32();
        m.Write(M.Data + 0x800, M.Data0, 2);
        m.Cpu.Rbx = M.Data + 0x800;
        m.S->Dr[0] = M.Data + 0x800;
        m.S->Dr[7] = 0x400 | 2 | 7 << 16;
        for (ulong i = 0; i < 256; i++) m.Write(M.Handlers + i * 16, 0x80E6, 2);
        m.Write(M.Handlers + 16, 0x90CF40E6u, 4);                      // OUT 40h, IRET
        var found = new List<(ulong Rip, ulong Dr6)>();
        m.Ports.OnWrite = () =>
        {
            if (m.Ports.Writes[^1].Port != 0x40) m.Cpu.Kick();
            else found.Add((m.Top(0, 4), m.S->Dr[6] & 0xE00F));
            m.S->Dr[6] = 0xFFFF0FF0;
            if (found.Count > 10) m.Cpu.Kick();
        };
        m.Place(0x8E, 0x13, code, 0x90, 0xE6, 0x81);
        m.Cpu.Translates = translated;
        m.Cpu.ModeChanged();
        m.Cpu.Run();
        if (vector == 1) Assert.Equal([(M.Code + 3, 1ul)], found);
        else Assert.Equal([(M.Handlers + (uint)vector * 16, 1ul)], found);
    }
}
