using Qkvm.Accel.Tcg;
using Qkvm.Core.Accel;
using Qkvm.Core.State;
using M = Qkvm.Accel.Tests.SystemMachine;

namespace Qkvm.Accel.Tests;

/// <summary>System management mode: AMD64 APM vol. 2, chapter 10; Intel SDM vol. 3, chapter 31. Handlers and the code
/// outside end by a write to a port.</summary>
public sealed unsafe class SmmTests
{
    public enum Mode { Real, Virtual8086, Protected, Ring3, Long, LongRing3 }

    const ulong Entry = 0x8000;

    // Offsets from SMBASE on, table 10-1
    const ulong EsSelector = 0xFE00, CsSelector = 0xFE10, CsAttributes = 0xFE12, CsLimit = 0xFE14, CsBase = 0xFE18,
        GdtLimit = 0xFE64, GdtBase = 0xFE68, TrSelector = 0xFE90, TrBase = 0xFE98, HaltRestart = 0xFEC9, Efer = 0xFED0,
        Revision = 0xFEFC, SmBase = 0xFF00, Cr4 = 0xFF48, Cr3 = 0xFF50, Cr0 = 0xFF58, Dr7 = 0xFF60, Dr6 = 0xFF68,
        Rflags = 0xFF70, Rip = 0xFF78, R15 = 0xFF80, R8 = 0xFFB8, Rdi = 0xFFC0, Rsp = 0xFFD8, Rcx = 0xFFF0,
        Rax = 0xFFF8;

    public static TheoryData<Mode, bool> Modes
    {
        get
        {
            var all = new TheoryData<Mode, bool>();
            foreach (Mode mode in Enum.GetValues<Mode>())
                foreach (bool translated in new[] { false, true }) all.Add(mode, translated);
            return all;
        }
    }

    static readonly byte[] s_stop = [0xE6, 0x80], s_rsm = [0x0F, 0xAA];

    static M In(Mode mode, bool translated)
    {
        var m = new M();
        m = mode switch
        {
            Mode.Real => m.Real(),
            Mode.Virtual8086 => m.Virtual8086(),
            Mode.Protected => m.Protected32(),
            Mode.Ring3 => m.Protected32().Ring3(),
            Mode.Long => m.Long64(),
            _ => m.Long64().Ring3(),
        };
        if (mode is Mode.Ring3 or Mode.LongRing3) m.S->RflagsSystem |= Qkvm.Accel.Tcg.Rflags.Iopl;
        for (int i = 0; i < 16; i++)
            if (i != 4)
                m.S->Gpr[i] = 0x1111111111111111ul * (ulong)i & (m.Cpu.Is64Bit ? ulong.MaxValue : uint.MaxValue);
        m.Cpu.SetCarry(true);
        m.S->Dr[0] = 0x1234;
        m.Write(M.Tss + 0x68 + 0x80 / 8, 0, 1);                    // ports 80h to 87h are for all
        m.Ports.OnWrite = m.Cpu.Kick;
        m.Place([.. s_stop, .. s_stop]);
        m.Cpu.Translates = translated;
        m.Cpu.ModeChanged();
        return m;
    }

    static M With(M m, params byte[] handler)
    {
        m.Smm.Write(M.Smram + Entry, handler);
        return m;
    }

    static void Run(M m) => Assert.Equal(ExitReason.Kicked, m.Cpu.Run().Reason);

    static void Interrupt(M m)
    {
        m.Cpu.Signal(CpuSignal.Smi, 0);
        Run(m);
    }

    static ulong Saved(M m, ulong at, int size = 8) => m.Smm.Read(M.Smram + at, size);

    static string Registers(M m, int back)
    {
        CpuRegisters r = m.Cpu.ReadRegisters();
        r.Rip -= (ulong)back;
        return $"{r.Dump(withFpu: false)}DR0={r.Debug[0]:x} NMI={r.NmiBlocked} {r.SmBase:x}";
    }

    [Theory, MemberData(nameof(Modes))]
    public void Entry_is_as_in_real_mode_with_large_segments(Mode mode, bool translated)
    {
        using M m = With(In(mode, translated), s_stop);
        ulong cr0 = m.S->Cr0;
        Interrupt(m);
        Assert.Equal((0x3000, 0x30000ul, uint.MaxValue), (m.S->Cs.Selector, m.S->Cs.Base, m.S->Cs.Limit));
        foreach (int i in new[] { Seg.Es, Seg.Ss, Seg.Ds, Seg.Fs, Seg.Gs })
            Assert.Equal((0, 0ul, uint.MaxValue),
                (m.S->Segment(i).Selector, m.S->Segment(i).Base, m.S->Segment(i).Limit));
        Assert.Equal((Entry + 2, 2ul, 0), (m.S->Rip, m.Cpu.AllFlags, m.S->Cpl));
        Assert.Equal((cr0 & ~0x8000000Dul, 0ul, 0ul, 0x400ul), (m.S->Cr0, m.S->Cr4, m.S->Efer, m.S->Dr[7]));
        Assert.Contains("SMM=1", m.Cpu.ReadRegisters().Dump());
    }

    [Theory, InlineData(false), InlineData(true)]
    public void The_state_is_saved_where_the_map_says(bool translated)
    {
        using M m = With(In(Mode.Long, translated), s_stop);
        CpuRegisters r = m.Cpu.ReadRegisters();
        Interrupt(m);
        for (ulong i = 0; i < 8; i++) Assert.Equal(r.General[i], Saved(m, Rax - 8 * i));
        for (ulong i = 8; i < 16; i++) Assert.Equal(r.General[i], Saved(m, R8 - 8 * (i - 8)));
        Assert.Equal((r.General[15], r.General[7], r.General[4], r.General[1]),
            (Saved(m, R15), Saved(m, Rdi), Saved(m, Rsp), Saved(m, Rcx)));
        Assert.Equal((r.Rip, r.Rflags, r.Cr0, r.Cr3, r.Cr4, r.Efer),
            (Saved(m, Rip), Saved(m, Rflags), Saved(m, Cr0), Saved(m, Cr3), Saved(m, Cr4), Saved(m, Efer)));
        Assert.Equal((r.Debug[6], r.Debug[7]), (Saved(m, Dr6), Saved(m, Dr7)));
        Assert.Equal((M.Code64, 0xA09Aul, 0xFFFFFFFFul, 0ul), ((ushort)Saved(m, CsSelector, 2),
            Saved(m, CsAttributes, 2) & ~1ul, Saved(m, CsLimit, 4), Saved(m, CsBase)));
        Assert.Equal((M.Data3, M.TssSelector, M.Tss), ((ushort)Saved(m, EsSelector, 2), (ushort)Saved(m, TrSelector, 2),
            Saved(m, TrBase)));
        Assert.Equal((0x1FFul, M.Gdt), (Saved(m, GdtLimit, 2), Saved(m, GdtBase)));
        Assert.Equal((0x00020064ul, 0x30000ul, 0ul), (Saved(m, Revision, 4), Saved(m, SmBase, 4),
            Saved(m, HaltRestart, 1)));
    }

    [Theory, MemberData(nameof(Modes))]
    public void Rsm_brings_every_mode_back(Mode mode, bool translated)
    {
        using M m = With(In(mode, translated), [.. s_stop, .. s_rsm]);
        string before = Registers(m, 0);
        Interrupt(m);
        new Span<ulong>(m.S->Gpr, 16).Fill(0x5555);
        (m.S->GdtrBase, m.S->IdtrLimit, m.S->Dr[6]) = (1, 2, 3);
        Run(m);
        Assert.Equal(before, Registers(m, 2));
        Assert.Equal(0, m.S->Smm);
    }

    /// <summary>mov dword [cs:FF00], 1C0000h</summary>
    [Theory, InlineData(false), InlineData(true)]
    public void SmBase_can_be_moved(bool translated)
    {
        using M m = With(In(Mode.Protected, translated), [0x66, 0x2E, 0xC7, 0x06, 0x00, 0xFF, 0x00, 0x00, 0x1C, 0x00,
            .. s_rsm]);
        Interrupt(m);
        m.Smm.Write(M.OtherSmBase + Entry, s_stop);
        Interrupt(m);
        Assert.Equal((M.OtherSmBase, 0xC000, Entry + 2), (m.S->Cs.Base, m.S->Cs.Selector, m.S->Rip));
        Assert.Equal(M.OtherSmBase, m.Smm.Read(M.OtherSmBase + SmBase, 4));
        m.Cpu.Signal(CpuSignal.Init, 0);
        Assert.Equal(M.OtherSmBase, m.S->SmBase);
    }

    /// <summary>The same address, read and executed outside, inside and outside again.</summary>
    [Theory, InlineData(false), InlineData(true)]
    public void Memory_is_the_modes_own(bool translated)
    {
        using M m = In(Mode.Protected, translated);
        byte[] return1 = [0xB0, 0x01, 0xC3], return2 = [0xB0, 0x02, 0xC3];
        for (uint i = 0; i < 3; i++)
        {
            m.Write(M.Smram + 0x1000 + i, return1[i], 1);
            m.Smm.Write(M.Smram + 0x1000 + i, 1, return2[i]);
        }
        m.Write(M.Smram + 0x100, 0x11, 1);
        // mov bh, [cs:100h]; mov byte [cs:100h], 22h; call 1000h; mov bl, al; stop; rsm
        With(m, [0x2E, 0x8A, 0x3E, 0x00, 0x01, 0x2E, 0xC6, 0x06, 0x00, 0x01, 0x22,
            0xBC, 0x00, 0x70, 0xE8, 0xEF, 0x8F, 0x88, 0xC3, .. s_stop, .. s_rsm]);
        // mov cl, [30100h]; call 31000h; stop
        m.Place([0x8A, 0x0D, 0x00, 0x01, 0x03, 0x00, 0xE8, 0xF5, 0x0F, 0x02, 0x00, .. s_stop]);
        ulong start = m.S->Rip;
        for (int i = 0; i < 3; i++)
        {
            m.S->Rip = start;
            (m.Cpu.Rax, m.Cpu.Rcx) = (0, 0);
            Run(m);
            Assert.Equal((1ul, 0x11ul), (m.Cpu.Rax, m.Cpu.Rcx));
            Interrupt(m);
            Assert.Equal((i == 0 ? 2ul : 0x2202, 2ul), (m.Cpu.Rbx & 0xFFFF, m.Cpu.Rax & 0xFF));
            foreach ((ulong at, ulong value) in new[] { (Rip, start), (Rax, 0ul), (Rcx, 0ul) })
                m.Smm.Write(M.Smram + at, 8, value);
            Run(m);
            Assert.Equal((1ul, 0x11ul), (m.Cpu.Rax, m.Cpu.Rcx));
        }
    }

    [Theory, InlineData(false, false), InlineData(false, true), InlineData(true, false), InlineData(true, true)]
    public void Nmis_and_further_Smis_wait_for_Rsm(bool translated, bool wereBlocked)
    {
        using M m = With(In(Mode.Protected, translated), [.. s_stop, .. s_stop, .. s_rsm]);
        m.S->NmiBlocked = (byte)(wereBlocked ? 1 : 0);
        Interrupt(m);
        m.Cpu.Signal(CpuSignal.Nmi, 0);
        m.Cpu.Signal(CpuSignal.Smi, 0);
        Run(m);
        Assert.Equal((Entry + 4, 1), (m.S->Rip, m.S->Smm));
        Run(m);                                                    // RSM, and the next
        Assert.Equal((Entry + 2, 1, M.Code), (m.S->Rip, m.S->Smm, Saved(m, Rip)));
        Run(m);
        m.Write(M.Handlers + 32, 0x80E6, 2);
        Run(m);
        Assert.Equal(wereBlocked ? M.Code + 2 : M.Handlers + 34, m.S->Rip);
        Assert.Equal(1, m.S->NmiBlocked);
    }

    [Theory, InlineData(false), InlineData(true)]
    public void Init_waits_for_Rsm_and_an_Smi_for_Sipi(bool translated)
    {
        using M m = With(In(Mode.Protected, translated), [.. s_stop, .. s_stop, .. s_rsm]);
        Interrupt(m);
        m.Cpu.Signal(CpuSignal.Init, 0);
        Run(m);
        Assert.Equal((Entry + 4, 0), (m.S->Rip, m.S->WaitForSipi));
        m.Write(0x9000, 0x80E6, 2);
        var thread = new Thread(() => Run(m));
        thread.Start();
        while (Volatile.Read(ref m.S->WaitForSipi) == 0) Thread.Sleep(1);
        m.Cpu.Signal(CpuSignal.Smi, 0);
        m.Cpu.Kick();
        thread.Join();
        Assert.Equal((0, 1, 1), (m.S->Smm, m.S->SmiPending, m.S->WaitForSipi));
        m.Cpu.Signal(CpuSignal.StartUp, 9);
        Run(m);
        Assert.Equal((1, Entry + 2, 0x9000ul), (m.S->Smm, m.S->Rip, Saved(m, CsBase)));
    }

    [Theory]
    [InlineData(Cr4, 1ul << 40, Mode.Protected)]
    [InlineData(Cr0, 0x80000010, Mode.Protected)]
    [InlineData(Cr0, 0x20000011, Mode.Protected)]
    [InlineData(Cr0, 0x100000011, Mode.Protected)]
    [InlineData(Efer, 1ul << 40, Mode.Protected)]
    [InlineData(Cr3, 1ul << 60, Mode.Long)]
    public void A_state_that_cannot_be_is_a_shutdown(ulong register, ulong value, Mode mode)
    {
        foreach (bool translated in new[] { false, true })
        {
            using M m = With(In(mode, translated), [.. s_stop, .. s_rsm]);
            Interrupt(m);
            m.Smm.Write(M.Smram + register, 8, value);
            Assert.Equal(ExitReason.Shutdown, m.Cpu.Run().Reason);
        }
    }

    [Theory, InlineData(false), InlineData(true)]
    public void Rsm_outside_is_undefined(bool translated)
    {
        using M m = In(Mode.Protected, translated);
        m.Place(s_rsm);
        m.Go(translated);
        Assert.Equal(Vector.InvalidOpcode, m.HandlerVector);
    }

    /// <summary>mov byte [cs:FEC9], 0 where the handler wants to go on behind HLT.</summary>
    [Theory, InlineData(false, false), InlineData(false, true), InlineData(true, false), InlineData(true, true)]
    public void Hlt_goes_on_unless_the_handler_ends_it(bool translated, bool ends)
    {
        byte[] end = [0x2E, 0xC6, 0x06, 0xC9, 0xFE, 0x00];
        using M m = With(In(Mode.Protected, translated), [.. s_stop, .. ends ? end : [], .. s_rsm]);
        m.Place([0xF4, .. s_stop]);
        m.Cpu.Signal(CpuSignal.Smi, 0);
        m.S->InterruptShadow = 1;                                  // holds it off for one instruction: HLT
        Run(m);
        Assert.Equal((1ul, 1, M.Code + 1, 0), (Saved(m, HaltRestart, 1), m.S->Smm, Saved(m, Rip), m.S->Halted));
        var thread = new Thread(() => Run(m));
        thread.Start();
        while (Volatile.Read(ref m.S->Halted) == 0 && thread.IsAlive) Thread.Sleep(1);
        if (!ends) m.Cpu.Kick();
        thread.Join();
        Assert.Equal(ends ? (0, M.Code + 3) : (1, M.Code + 1), (m.S->Halted, m.S->Rip));
    }

    /// <summary>mov byte ds:[100100h], 33h</summary>
    [Theory, InlineData(false), InlineData(true)]
    public void The_closed_A20_gate_masks_nothing_inside(bool translated)
    {
        byte[] write = [0xC6, 0x05, 0x00, 0x01, 0x10, 0x00, 0x33];
        using M m = With(In(Mode.Protected, translated), [0x67, .. write, .. s_rsm]);
        m.Cpu.SetA20(open: false);
        m.Place([.. write, .. s_stop]);
        m.Cpu.Signal(CpuSignal.Smi, 0);
        Run(m);
        Assert.Equal((0x33ul, 0x33ul), (m.Read(0x100, 1), m.Read(0x100100, 1)));
    }

    [Theory, InlineData(false), InlineData(true)]
    public void It_can_be_saved_and_loaded_inside(bool translated)
    {
        using M m = With(In(Mode.LongRing3, translated), [.. s_stop, .. s_rsm]), copy = In(Mode.Real, translated);
        m.S->NmiBlocked = 1;
        string before = Registers(m, 0);
        Interrupt(m);
        StateNode state = StateNode.Save(m.Cpu.Exchange);
        byte[] contents = new byte[0x10000];
        m.Smm.Read(M.Smram, contents);
        copy.Smm.Write(M.Smram, contents);
        for (ulong at = 0; at < M.Smram; at += 8) copy.Write(at, m.Read(at, 8), 8);
        for (ulong at = M.Tables; at < M.Tables + 0x4000; at += 8) copy.Write(at, m.Smm.Read(at, 8), 8);
        state.Load(copy.Cpu.Exchange);
        Run(copy);
        Assert.Equal(before, Registers(copy, 2));
    }

    [Fact]
    public void Where_there_is_no_such_mode_Smis_find_nobody()
    {
        using var machine = new GuestMachine();
        machine.Cpu.Signal(CpuSignal.Smi, 0);
        Assert.Equal(0, machine.S->SmiPending);
        using M m = With(In(Mode.Real, false), s_stop);
        Interrupt(m);
        CpuRegisters registers = m.Cpu.ReadRegisters();
        var refused = Assert.Throws<InvalidStateException>(() => machine.Cpu.WriteRegisters(registers));
        Assert.Contains("smm", refused.Message, StringComparison.Ordinal);
    }
}
