using Qkvm.Accel.Tcg;
using Qkvm.Core.Accel;

namespace Qkvm.Accel.Tests;

/// <summary>Whatever memory holds, a host that runs it is at worst shut down.</summary>
public sealed unsafe class SvmHostileTests
{
    const int Rounds = 150, Steps = 40;

    /// <summary>A VMCB, a host's save area, nested tables and code of which some bytes are random, or all.</summary>
    [Theory, InlineData(1), InlineData(2), InlineData(3), InlineData(4)]
    public void Random_blocks(int seed)
    {
        var random = new Random(seed);
        using SvmMachine m = new(translated: seed % 2 == 0);
        m.Nest();
        byte[] good = m.Machine.Ram.Span(0, 0x100000).ToArray();
        for (int round = 0; round < Rounds; round++)
        {
            m.Machine.VCpu.Reset();
            m.Machine.Flat(64);
            m.Machine.S->Efer |= Efer.Svme;
            m.Cpu.WriteMsr(SvmMachine.HostSaveMsr, SvmMachine.HostSave);
            good.CopyTo(m.Machine.Ram.Span(0, 0x100000));
            foreach (ulong at in (ulong[])[SvmMachine.VmcbAt, SvmMachine.VmcbAt + Vmcb.StateStart,
                SvmMachine.GuestCode, SvmMachine.NestedTables, SvmMachine.NestedPages, SvmMachine.HostSave])
            {
                Span<byte> area = m.Machine.Ram.Span(at, 0x400);
                if (random.Next(4) == 0) random.NextBytes(area);
                else for (int i = random.Next(8); i > 0; i--) area[random.Next(area.Length)] = (byte)random.Next(256);
            }
            random.NextBytes(m.Machine.Ram.Span(SvmMachine.GuestCode, 0x1000));
            m.Intercept(SvmExit.Vmrun);
            m.Intercept(SvmExit.Hlt);
            m.Intercept(SvmExit.Mwait);
            m.Intercept(SvmExit.MwaitArmed);
            Run(m);
        }
    }

    static void Run(SvmMachine m)
    {
        m.Cpu.ModeChanged();
        (m.Cpu.Rax, m.Machine.S->Rip) = (SvmMachine.VmcbAt, SvmMachine.HostCode);
        m.Machine.VCpu.Steps = VCpuSteps.One;
        for (int step = 0; step < Steps; step++)
        {
            VCpuExit exit = m.Machine.VCpu.Run();
            Assert.True(exit.Reason != ExitReason.Failed, exit.Message);
            if (exit.Reason == ExitReason.Shutdown || m.Machine.VCpu.IsHalted) break;
        }
        m.Machine.VCpu.Steps = VCpuSteps.None;
    }
}
