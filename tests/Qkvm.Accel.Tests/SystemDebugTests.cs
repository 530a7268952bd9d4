using Iced.Intel;
using Qkvm.Accel.Tcg;
using Qkvm.Core.Accel;
using static Iced.Intel.AssemblerRegisters;
using M = Qkvm.Accel.Tests.SystemMachine;

namespace Qkvm.Accel.Tests;

/// <summary>Single steps, breakpoints, interrupt shadows. Intel SDM vol. 3, chapter 17.</summary>
public sealed unsafe class SystemDebugTests
{
    const ulong Tf = Rflags.Tf, Rf = Rflags.Rf, Bs = 0x4000;
    const uint DebugControl = 0x1D9;
    const byte TrapPort = 0x40, EndPort = 0x81;

    /// <summary>The handler of #DB tells of the trap by a port and returns; what it found is kept here.</summary>
    sealed class Tracer
    {
        readonly SystemMachine _m;
        public List<ulong> Rips { get; } = [];
        public List<ulong> Causes { get; } = [];

        public Tracer(SystemMachine m)
        {
            _m = m;
            bool is64 = m.Cpu.Is64Bit;
            for (ulong vector = 0; vector < 256; vector++)
                m.Write(M.Handlers + vector * 16, (ulong)EndPort << 8 | 0xE6, 2);
            m.Write(M.Handlers + 16, is64 ? 0xCF48_40E6u : 0x90CF40E6u, 4);
            m.Ports.OnWrite = OnWrite;
        }

        void OnWrite()
        {
            if (_m.Ports.Writes[^1].Port != TrapPort)
            {
                _m.Cpu.Kick();
                return;
            }
            Rips.Add(_m.Top(0, _m.Cpu.Is64Bit ? 8 : 4));
            Causes.Add(_m.S->Dr[6] & 0xE00F);
            _m.S->Dr[6] = 0xFFFF0FF0;
            if (Rips.Count > 2000) _m.Cpu.Kick();                   // a test that goes astray ends
        }

        public Tracer Go(bool translated)
        {
            _m.Cpu.Translates = translated;
            _m.Cpu.ModeChanged();
            Assert.Equal(ExitReason.Kicked, _m.Cpu.Run().Reason);
            Assert.InRange(Rips.Count, 0, 2000);
            return this;
        }
    }

    /// <summary>Each form that the translator rewrites (OpInfo.Treatment), and some that it leaves alone.</summary>
    static void Forms(Assembler a)
    {
        Label function = a.CreateLabel(), over = a.CreateLabel(), loop = a.CreateLabel(), more = a.CreateLabel(),
            counted = a.CreateLabel(), indirect = a.CreateLabel(),
            done = a.CreateLabel(), landed = a.CreateLabel();
        a.push(rbx);
        a.push(0x1234);
        a.push(__qword_ptr[rbx]);
        a.pushfq();
        a.pop(rax);
        a.pop(rcx);
        a.pop(r10);
        a.pop(__qword_ptr[rbx + 8]);
        a.push(rbp);
        a.mov(rbp, rsp);
        a.leave();
        a.call(function);
        a.lea(rax, __[indirect]);
        a.call(rax);
        a.lea(r11, __[landed]);
        a.jmp(r11);
        a.ud2();
        a.Label(ref landed);
        a.xor(eax, eax);
        a.jz(over);
        a.ud2();
        a.Label(ref over);
        a.jnz(over);
        a.mov(ecx, 3);
        a.Label(ref loop);
        a.add(rax, 1);
        a.loop(loop);
        a.jrcxz(more);
        a.ud2();
        a.Label(ref more);
        a.mov(ecx, 2);
        a.Label(ref counted);
        a.dec(ecx);
        a.jnz(counted);
        a.mov(ecx, 3);
        a.lea(rsi, __[rbx + 64]);
        a.lea(rdi, __[rbx + 128]);
        a.rep.movsb();
        a.mov(ecx, 2);
        a.rep.stosd();
        a.mov(ecx, 4);
        a.repne.scasb();
        a.cmpsb();
        a.lodsw();
        a.xor(edx, edx);
        a.mov(eax, 100);
        a.mov(ecx, 7);
        a.div(ecx);
        a.cdq();
        a.idiv(rcx);
        a.lea(r9, __[rax + rcx * 4 + 5]);
        a.lea(cx, __[rax + 1]);
        a.mov(al, __byte_ptr[0x18010L]);
        a.db(0x48, 0xA3, 0x18, 0x80, 0x01, 0, 0, 0, 0, 0);          // mov [18018h], rax: moffs
        a.mov(ecx, 70);
        a.bts(__dword_ptr[rbx], ecx);
        a.mulx(r10, rax, rcx);
        a.mov(ah, __byte_ptr[rbx]);
        a.cli();
        a.sti();
        a.nop();
        a.swapgs();
        a.swapgs();
        a.mov(eax, ds);
        a.stac();
        a.clac();
        a.pause();
        a.prefetcht0(__byte_ptr[rbx]);
        a.movups(xmm0, __xmmword_ptr[rbx]);
        a.addps(xmm0, xmm1);
        a.stmxcsr(__dword_ptr[rbx + 256]);
        a.ldmxcsr(__dword_ptr[rbx + 256]);
        a.fld1();
        a.fnstcw(__word_ptr[rbx + 260]);
        a.fldcw(__word_ptr[rbx + 260]);
        a.cpuid();
        a.rdtsc();
        a.xchg(__qword_ptr[r8], rax);
        a.@lock.add(__dword_ptr[r8], eax);
        a.jmp(done);
        a.Label(ref function);
        a.nop();
        a.ret();
        a.Label(ref indirect);
        a.ret();
        a.Label(ref done);
        a.@out(EndPort, al);
    }

    static SystemMachine WithForms()
    {
        SystemMachine m = new M().Long64();
        m.S->Cr4 |= Cr4.Osfxsr | Cr4.Osxmmexcpt | Cr4.Osxsave;
        m.S->Xcr0 = 7;
        *(ushort*)m.S->Xsave.Bytes = 0x37F;
        (m.Cpu.Rbx, m.S->Gpr[8]) = (M.Data, M.Data + 0x200);
        m.Cpu.ModeChanged();
        m.Place(Forms);
        return m;
    }

    /// <summary>The places between instructions, without any trap. Repeated strings count once.</summary>
    static List<ulong> Sequence()
    {
        using SystemMachine m = WithForms();
        bool ends = false;
        m.Ports.OnWrite = () => ends = true;
        var rips = new List<ulong>();
        while (!ends && rips.Count < 1000)
        {
            m.Cpu.RunOne();
            if (rips.Count == 0 || rips[^1] != m.S->Rip) rips.Add(m.S->Rip);
        }
        rips.RemoveAt(rips.Count - 1);                              // OUT, which ends it
        return rips;
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_single_step_traps_behind_every_form_of_instruction(bool translated)
    {
        using SystemMachine m = WithForms();
        m.S->RflagsSystem |= Tf;
        Tracer tracer = new Tracer(m).Go(translated);
        var collapsed = new List<ulong>();
        foreach (ulong rip in tracer.Rips)
            if (collapsed.Count == 0 || collapsed[^1] != rip) collapsed.Add(rip);
        Assert.Equal(Sequence(), collapsed);
        Assert.All(tracer.Causes, cause => Assert.Equal(Bs, cause));
        Assert.Equal([3, 2, 4], tracer.Rips.GroupBy(rip => rip).Where(g => g.Key > M.Code + 0x55 && g.Count() > 1)
            .Select(g => g.Count()));
    }

    /// <summary>POPFQ in translated code sets the flag: its next instruction is the first that traps; another POPFQ
    /// ends it.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Popf_begins_and_ends_single_steps_in_the_middle_of_code(bool translated)
    {
        using SystemMachine m = new M().Long64();
        m.Place(a =>
        {
            a.mov(ecx, 50);
            Label warm = a.CreateLabel();
            a.Label(ref warm);
            a.dec(ecx);
            a.jnz(warm);
            a.push(0x102);
            a.popfq();
            a.nop();
            a.inc(eax);
            a.push(2);
            a.popfq();
            a.inc(eax);
            a.@out(EndPort, al);
        });
        ulong popf = M.Code + 5 + 4 + 5;                            // mov, dec and jnz, push imm32
        Tracer tracer = new Tracer(m).Go(translated);
        Assert.Equal([popf + 2, popf + 4, popf + 6, popf + 7], tracer.Rips);
        Assert.Equal(2ul, m.Cpu.Rax & 0xFF);
    }

    /// <summary>SYSCALL masks the flag, SYSRET brings it back and traps at once, as if SYSCALL had just
    /// completed.</summary>
    [Theory]
    [InlineData(false, false)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(true, true)]
    public void A_single_step_over_syscall_traps_behind_it(bool translated, bool masked)
    {
        const ulong kernel = M.Code + 0x1000;
        using SystemMachine m = new M().Long64();
        m.S->Star = (ulong)(M.Code3 & ~3) << 48 | (ulong)M.Code64 << 32;
        m.SetDescriptor(M.Code64 + 8, M.Descriptor(0, 0xFFFFF, 0x92, 12));
        m.S->LStar = kernel;
        m.S->FMask = masked ? Tf : 0;
        m.SetGate64(1, M.Code64, 0x8E, ist: 1);
        m.S->Rip = kernel;
        m.Place(a => { a.nop(); a.swapgs(); a.swapgs(); a.sysretq(); });
        m.S->Rip = M.Code;
        m.Ring3();
        m.Place(a => { a.nop(); a.syscall(); a.nop(); a.@int(0x80); });
        m.Write(M.Handlers + 0x800, (ulong)EndPort << 8 | 0xE6, 2);
        m.S->RflagsSystem |= Tf;
        Tracer tracer = new Tracer(m).Go(translated);
        ulong[] inside = masked ? [] : [kernel, kernel + 1, kernel + 4, kernel + 7];
        Assert.Equal([M.Code + 1, .. inside, M.Code + 3, M.Code + 4], tracer.Rips);
    }

    [Fact]
    public void With_btf_taken_branches_alone_trap_and_the_trap_ends_it()
    {
        using SystemMachine m = new M().Long64();
        Assert.True(m.Cpu.WriteMsr(DebugControl, 2));
        m.S->RflagsSystem |= Tf;
        m.Place(a =>
        {
            Label taken = a.CreateLabel();
            a.xor(eax, eax);
            a.jnz(taken);
            a.jz(taken);
            a.ud2();
            a.Label(ref taken);
            a.nop();
            a.nop();
            a.@out(EndPort, al);
        });
        Tracer tracer = new Tracer(m).Go(translated: true);
        Assert.Equal([M.Code + 8, M.Code + 9, M.Code + 10], tracer.Rips);
        Assert.True(m.Cpu.ReadMsr(DebugControl, out ulong control));
        Assert.Equal(0ul, control);
    }

    [Fact]
    public void A_step_over_hlt_wakes()
    {
        using SystemMachine m = new M().Long64();
        m.S->RflagsSystem |= Tf;
        m.Place(a => { a.hlt(); a.@out(EndPort, al); });
        Assert.Equal([M.Code + 1], new Tracer(m).Go(translated: true).Rips);
    }

    static void Break(SystemMachine m, int number, ulong at, int kind, int length)
    {
        m.S->Dr[number] = at;
        m.S->Dr[7] |= 0x400 | 2ul << number * 2 | (ulong)kind << 16 + number * 4 | (ulong)length << 18 + number * 4;
        m.Cpu.ModeChanged();
    }

    /// <summary>Code, place of the trap. RBX = RSP - 8 = the watched quadword.</summary>
    public static TheoryData<byte[]> Writes() =>
    [
        [0x53], [0x6A, 0x01], [0xFF, 0x33], [0x9C], [0xE8, 0, 0, 0, 0], [0xC6, 0x03, 1], [0x89, 0x43, 0x04],
            [0xFE, 0x03], [0xF0, 0x0F, 0xC1, 0x03], [0xAA], [0x0F, 0x11, 0x43, 0xF8],
        [0xDD, 0x13], [0x0F, 0xAB, 0x03], [0x87, 0x03], [0x8C, 0x1B], [0x0F, 0xAE, 0x1B],
    ];

    [Theory, MemberData(nameof(Writes))]
    public void A_watched_store_traps_behind_its_instruction(byte[] code)
    {
        foreach (bool translated in (bool[])[false, true])
        {
            using SystemMachine m = WithForms();
            m.Rsp = M.Data + 0x808;
            (m.Cpu.Rbx, m.Cpu.Rdi) = (M.Data + 0x800, M.Data + 0x800);
            m.SetGate64(1, M.Code64, 0x8E, ist: 1);
            Break(m, 1, M.Data + 0x800, 1, 2);
            m.Place([.. code, 0x90, 0xE6, EndPort]);
            Tracer tracer = new Tracer(m).Go(translated);
            Assert.Equal([M.Code + (ulong)code.Length], tracer.Rips);
            Assert.Equal([2ul], tracer.Causes);
        }
    }

    [Theory]
    [InlineData(true, 3, new byte[] { 0x8B, 0x03 }, 1)]
    [InlineData(true, 1, new byte[] { 0x8B, 0x03 }, 0)]
    [InlineData(true, 3, new byte[] { 0x58 }, 0)]
    [InlineData(true, 3, new byte[] { 0xF3, 0xA4 }, 1)]                              // the second round reads it
    [InlineData(false, 3, new byte[] { 0xF3, 0xA4 }, 1)]
    public void A_watched_load_traps_where_it_is_watched(bool translated, int kind, byte[] code, int traps)
    {
        using SystemMachine m = WithForms();
        (m.Cpu.Rbx, m.Cpu.Rsi, m.Cpu.Rdi, m.Cpu.Rcx) = (M.Data + 0x800, M.Data + 0x7FF, M.Data + 0x300, 3);
        Break(m, 0, M.Data + 0x800, kind, 0);
        m.Place([.. code, 0xE6, EndPort]);
        Tracer tracer = new Tracer(m).Go(translated);
        Assert.Equal(traps, tracer.Rips.Count);
        if (code[0] == 0xF3) Assert.Equal([M.Code], tracer.Rips);                    // between rounds: at itself
        Assert.Equal(code[0] == 0xF3 ? 0ul : 3ul, m.Cpu.Rcx);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void An_instruction_breakpoint_faults_before_it_and_rf_lets_it_pass(bool translated)
    {
        using SystemMachine m = new M().Long64();
        m.Place(a => { a.nop(); a.inc(eax); a.inc(eax); a.@out(EndPort, al); });
        Break(m, 2, M.Code + 1, 0, 0);
        // The handler sets RF in its frame before it returns.
        var tracer = new Tracer(m);
        m.S->Rip = M.Handlers + 16;
        m.Place(a => { a.@out(TrapPort, al); a.or(__dword_ptr[rsp + 16], 0x10000); a.iretq(); });
        m.S->Rip = M.Code;
        tracer.Go(translated);
        Assert.Equal([M.Code + 1], tracer.Rips);
        Assert.Equal([4ul], tracer.Causes);
        Assert.Equal(2ul, m.Cpu.Rax & 0xFF);
        Assert.Equal(0ul, m.S->RflagsSystem & Rf);
    }

    [Theory]
    [InlineData(0xEC, 0x70, 0, true)]
    [InlineData(0xEE, 0x71, 1, true)]
    [InlineData(0xED, 0x6E, 0, true)]                                                // four bytes from 6Eh
    [InlineData(0xEC, 0x72, 1, false)]
    public void A_port_breakpoint_traps_with_de_alone(byte code, int port, int length, bool hits)
    {
        foreach (bool de in (bool[])[true, false])
        {
            using SystemMachine m = new M().Long64();
            if (de) m.Cpu.SetCr4(m.S->Cr4 | Cr4.De);
            m.Cpu.Rdx = (uint)port;
            Break(m, 3, 0x70, 2, length);
            var tracer = new Tracer(m);
            m.Place(code, 0xE6, EndPort);
            Action traced = m.Ports.OnWrite!;
            m.Ports.OnWrite = () => { if (m.Ports.Writes[^1].Port is TrapPort or EndPort) traced(); };
            tracer.Go(translated: true);
            Assert.Equal(hits && de ? [M.Code + 1] : [], tracer.Rips);
            if (hits && de) Assert.Equal([8ul], tracer.Causes);
        }
    }

    [Fact]
    public void A_port_breakpoint_stops_a_string_after_each_round()
    {
        using SystemMachine m = new M().Long64();
        m.Cpu.SetCr4(m.S->Cr4 | Cr4.De);
        (m.Cpu.Rdx, m.Cpu.Rcx, m.Cpu.Rdi) = (0x70, 3, M.Data);
        Break(m, 0, 0x70, 2, 0);
        m.Place(0xF3, 0x6C, 0xE6, EndPort);
        Assert.Equal([M.Code, M.Code, M.Code + 2], new Tracer(m).Go(translated: true).Rips);
    }

    [Fact]
    public void A_trap_of_the_load_of_ss_waits_for_the_next_instruction()
    {
        using SystemMachine m = new M().Protected32();
        m.Write(M.Data + 0x800, M.Data0, 2);
        m.Cpu.Rbx = M.Data + 0x800;
        Break(m, 0, M.Data + 0x800, 3, 1);
        m.Place(0x8E, 0x13, 0x90, 0x90, 0xE6, EndPort);
        Tracer tracer = new Tracer(m).Go(translated: true);
        Assert.Equal([M.Code + 3], tracer.Rips);
        Assert.Equal([1ul], tracer.Causes);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void An_interrupt_waits_for_the_instruction_behind_sti(bool translated)
    {
        using SystemMachine m = new M().Long64();
        m.Cpu.Apic = new OneInterrupt();
        m.Place(a => { a.inc(ecx); a.sti(); a.inc(eax); a.inc(eax); a.@out(EndPort, al); });
        m.Go(translated);
        Assert.Equal((0x30, M.Code + 5, 1ul), (m.HandlerVector, m.Top(0, 8), m.Cpu.Rax & 0xFF));
    }

    [Theory]
    [InlineData(0xF1, 1, 1)]
    [InlineData(0xCC, 3, 1)]
    public void Int1_and_int3_trap_behind_themselves(byte code, int vector, int length)
    {
        foreach (bool translated in (bool[])[false, true])
        {
            using SystemMachine m = new M().Long64();
            m.Place(code);
            m.Go(translated);
            Assert.Equal((vector, M.Code + (ulong)length), (m.HandlerVector, m.Top(0, 8)));
        }
    }

    sealed class OneInterrupt : FakeApic
    {
        bool _waits = true;
        public override bool HasInterrupt => _waits;

        public override int Acknowledge()
        {
            _waits = false;
            return 0x30;
        }
    }
}
