using Qkvm.Accel.Tcg;
using M = Qkvm.Accel.Tests.SystemMachine;

namespace Qkvm.Accel.Tests;

/// <summary>The page of the local APIC, and what is there without it. Intel SDM vol. 3, sections 11.4.1, 11.4.3 and
/// 11.12.2.</summary>
public sealed unsafe class ApicPageTests
{
    const ulong Svr = 0xFEE000F0;

    sealed class Apic(ulong start) : FakeApic
    {
        public override ulong BaseMsr => start;
        public override bool HasInterrupt => false;
        public override int Acknowledge() => -1;
    }

    /// <summary>MOV [EBX], EAX; MOV ECX, [EBX].</summary>
    [Theory]
    [InlineData(0xFEE00900ul, Svr, 0ul, 0)]                              // enabled: the APIC's register
    [InlineData(0xFEE00100ul, Svr, 0xFFFFFFFFul, 0)]                     // disabled: nobody, and no message
    [InlineData(0xFEE00D00ul, Svr, 0xFFFFFFFFul, 0)]                     // x2APIC
    [InlineData(0x00080900ul, Svr, 0xFFFFFFFFul, 0)]                     // moved
    [InlineData(0x00080900ul, 0x800F0ul, 0ul, 0)]
    [InlineData(0x00080100ul, 0x800F0ul, 0xFFul, 0)]                     // moved and disabled: RAM
    [InlineData(0xFEE00900ul, 0xFEE01000ul, 1ul, 1)]                     // the rest of the window
    public void Accesses(ulong start, ulong at, ulong read, int messages)
    {
        foreach (bool translated in (bool[])[false, true])
        {
            using SystemMachine m = new M().Protected32();
            m.Cpu.Apic = new Apic(start);
            (m.Cpu.Rax, m.Cpu.Rbx) = (0xFF, at);
            m.Place(0x89, 0x03, 0x8B, 0x0B, 0xCC);
            m.Go(translated);
            Assert.Equal((read, messages), (m.Cpu.Rcx, m.Messages.Writes.Count));
        }
    }
}
