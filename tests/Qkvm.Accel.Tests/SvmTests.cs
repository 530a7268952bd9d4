using Iced.Intel;
using Qkvm.Accel.Tcg;
using static Iced.Intel.AssemblerRegisters;

namespace Qkvm.Accel.Tests;

/// <summary>VMRUN and #VMEXIT. AMD64 APM vol. 2, chapter 15.</summary>
public sealed unsafe class SvmTests
{
    [Theory, InlineData(false), InlineData(true)]
    public void A_guest_runs_until_an_intercept(bool translated)
    {
        using SvmMachine m = new(translated);
        m.Cpu.Rbx = 5;
        Assert.Equal(SvmExit.Hlt, m.Run(c =>
        {
            c.mov(rax, 0x123456789A);
            c.add(rbx, 2);
            c.mov(__qword_ptr[0x70000], rbx);
            c.hlt();
        }));
        Assert.Equal((7ul, 7ul, 0x123456789Aul, SvmMachine.VmcbAt),
            (m.Cpu.Rbx, m.Machine.Memory.Read(0x70000, 8), m[Vmcb.Rax], m.Cpu.Rax));
        ulong rip = m[Vmcb.Rip];
        Assert.Equal((rip + 1, 0xF4ul), (m[Vmcb.NextRip], m.Machine.Memory.Read(rip, 1)));
    }
}
