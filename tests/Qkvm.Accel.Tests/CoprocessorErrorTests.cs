using Qkvm.Accel.Tcg;
using Qkvm.Core.Accel;
using M = Qkvm.Accel.Tests.SystemMachine;

namespace Qkvm.Accel.Tests;

/// <summary>x87 errors with CR0.NE clear: FERR#, IGNNE#, and the wait for IRQ 13. Intel SDM vol. 1, section 8.7 and
/// appendix D.</summary>
public sealed unsafe class CoprocessorErrorTests
{
    const int Irq13 = 0x75;
    const byte F0 = 0xF0, End = 0x81;

    /// <summary>Port F0h and the 8259 in short.</summary>
    sealed class Pins(Cpu cpu) : FakeApic, ICoprocessorErrors
    {
        bool _waits;
        public bool Error { get; private set; }
        public bool IsIgnored { get; set; }
        public int Told { get; private set; }
        public override bool HasInterrupt => _waits;

        public void SetError(bool level)
        {
            if (level == Error) return;
            Error = level;
            if (!level) IsIgnored = false;
            else
            {
                Told++;
                _waits = true;
                cpu.InterruptPending();
            }
        }

        public override int Acknowledge()
        {
            _waits = false;
            return Irq13;
        }
    }

    static (SystemMachine, Pins) Make(bool translated, params byte[] behind)
    {
        SystemMachine m = new M().Protected32();
        var pins = new Pins(m.Cpu);
        (m.Cpu.Apic, m.Cpu.CoprocessorErrors) = (pins, pins);
        m.S->Cr0 |= Cr0.Mp;
        m.S->RflagsSystem |= Rflags.If;
        *(ushort*)m.S->Xsave.Bytes = 0x37B;                             // division by zero is not masked
        m.S->Xsave.Bytes[XsaveArea.Ftw] = 0;
        m.Ports.OnWrite = () =>
        {
            if (m.Ports.Writes[^1].Port == F0) pins.IsIgnored = pins.Error;
            else m.Cpu.Kick();
        };
        // FLD1; FLDZ; FDIVP: the error; NOP; then what waits; OUT 81h.
        m.Place([0xD9, 0xE8, 0xD9, 0xEE, 0xDE, 0xF9, 0x90, .. behind, 0xE6, End]);
        m.Cpu.Translates = translated;
        m.Cpu.ModeChanged();
        return (m, pins);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void The_instruction_behind_waits_for_irq_13(bool translated)
    {
        (SystemMachine m, Pins pins) = Make(translated, 0x9B);
        using (m)
        {
            // The handler: OUT F0h; FNSTSW AX; FNCLEX; IRET. It was entered at WAIT, and returns there.
            for (int i = 0; i < 8; i++)
                m.Write(M.Handlers + Irq13 * 16 + (ulong)i,
                    new byte[] { 0xE6, F0, 0xDF, 0xE0, 0xDB, 0xE2, 0xCF, 0x90 }[i], 1);
            m.Cpu.Run();
            Assert.Equal((1, false, false), (pins.Told, pins.Error, pins.IsIgnored));
            Assert.Equal(0x8084ul, m.Cpu.Rax & 0x80FF & 0xFF84);         // B, ES and ZE
            Assert.Equal(M.Code + 7, m.Read(M.Stack0 - 0x100 - 12, 4));
            Assert.Equal([F0, (ulong)End], m.Ports.Writes.Select(w => w.Port));
        }
    }

    /// <summary>FNSTSW and kin do not wait; the error shows with the first that does.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void What_does_not_wait_tells_nobody(bool translated)
    {
        (SystemMachine m, Pins pins) = Make(translated, 0xDF, 0xE0, 0xDB, 0xE2, 0x9B);   // FNSTSW AX; FNCLEX; WAIT
        using (m)
        {
            m.Cpu.Run();
            Assert.Equal((0, 0x84ul), (pins.Told, m.Cpu.Rax & 0x84));
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void With_ignne_it_goes_on_and_with_ne_it_faults(bool translated)
    {
        (SystemMachine m, Pins pins) = Make(translated, 0xD9, 0xE8);
        using (m)
        {
            pins.IsIgnored = true;
            m.S->RflagsSystem &= ~Rflags.If;
            m.Cpu.Run();
            Assert.Equal([(ulong)End], m.Ports.Writes.Select(w => w.Port));
        }
        (m, _) = Make(translated, 0x9B);
        using (m)
        {
            m.S->Cr0 |= Cr0.Ne;
            for (ulong i = 0; i < 256; i++) m.Write(M.Handlers + i * 16, (ulong)End << 8 | 0xE6, 2);
            m.Cpu.ModeChanged();
            m.Cpu.Run();
            Assert.Equal(16ul, (m.S->Rip - M.Handlers) / 16);
        }
    }
}
