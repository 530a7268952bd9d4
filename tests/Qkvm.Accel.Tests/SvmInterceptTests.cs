using Iced.Intel;
using Qkvm.Accel.Tcg;
using static Iced.Intel.AssemblerRegisters;

namespace Qkvm.Accel.Tests;

/// <summary>Each instruction that a host may want to see. AMD64 APM vol. 2, sections 15.7 to 15.14.</summary>
public sealed unsafe class SvmInterceptTests
{
    const ulong Register = SvmExit.HasRegister;

    /// <summary>Exit, program that is intercepted at once, EXITINFO1 and EXITINFO2; without the intercept it goes on to
    /// HLT, or faults.</summary>
    static readonly (string Name, uint Exit, Action<Assembler> Program, ulong Info1, ulong Info2, int Fault)[] s_all =
    [
        ("mov from cr0", SvmExit.ReadCr0, c => c.mov(rdx, cr0), Register | 2, 0, -1),
        ("mov from cr3", SvmExit.ReadCr0 + 3, c => c.mov(r9, cr3), Register | 9, 0, -1),
        ("mov from cr8", SvmExit.ReadCr0 + 8, c => c.mov(rdx, cr8), Register | 2, 0, -1),
        ("smsw", SvmExit.ReadCr0, c => c.smsw(eax), 0, 0, -1),
        ("mov to cr0", SvmExit.WriteCr0, c => c.mov(cr0, rbp), Register | 5, 0, Vector.GeneralProtection),
        ("mov to cr3", SvmExit.WriteCr0 + 3, c => c.mov(cr3, rsi), Register | 6, 0, -1),
        ("mov to cr4", SvmExit.WriteCr0 + 4, c => c.mov(cr4, rdi), Register | 7, 0, Vector.GeneralProtection),
        ("mov to cr8", SvmExit.WriteCr0 + 8, c => c.mov(cr8, rsp), Register | 4, 0, Vector.GeneralProtection),
        ("clts", SvmExit.WriteCr0, c => c.clts(), 0, 0, -1),
        ("lmsw", SvmExit.WriteCr0, c => c.lmsw(cx), 0, 0, -1),
        ("lmsw, selective", SvmExit.WriteCr0Selective, c => c.lmsw(bx), 0, 0, -1),
        ("mov to cr0, selective", SvmExit.WriteCr0Selective, c => c.mov(cr0, rbp), Register | 5, 0,
            Vector.GeneralProtection),
        ("mov from dr2", SvmExit.ReadDr0 + 2, c => c.mov(rdx, dr2), 2, 0, -1),
        ("mov to dr7", SvmExit.WriteDr0 + 7, c => c.mov(dr7, rcx), 1, 0, -1),
        ("sidt", SvmExit.ReadIdtr, c => c.sidt(__[0x70000]), 0, 0, -1),
        ("sgdt", SvmExit.ReadGdtr, c => c.sgdt(__[0x70000]), 0, 0, -1),
        ("sldt", SvmExit.ReadLdtr, c => c.sldt(eax), 0, 0, -1),
        ("str", SvmExit.ReadTr, c => c.str(eax), 0, 0, -1),
        ("lidt", SvmExit.WriteIdtr, c => c.lidt(__[0x70100]), 0, 0, -1),
        ("lgdt", SvmExit.WriteGdtr, c => c.lgdt(__[0x70100]), 0, 0, -1),
        ("lldt", SvmExit.WriteLdtr, c => c.lldt(cx), 0, 0, -1),
        ("ltr", SvmExit.WriteTr, c => c.ltr(cx), 0, 0, Vector.GeneralProtection),
        ("rdtsc", SvmExit.Rdtsc, c => c.rdtsc(), 0, 0, -1),
        ("rdtscp", SvmExit.Rdtscp, c => c.rdtscp(), 0, 0, -1),
        ("rdpmc", SvmExit.Rdpmc, c => c.rdpmc(), 0, 0, -1),
        ("pushf", SvmExit.Pushf, c => c.pushfq(), 0, 0, -1),
        ("popf", SvmExit.Popf, c => c.popfq(), 0, 0, -1),
        ("cpuid", SvmExit.Cpuid, c => c.cpuid(), 0, 0, -1),
        ("rsm", SvmExit.Rsm, c => c.rsm(), 0, 0, Vector.InvalidOpcode),
        ("int n", SvmExit.SoftwareInterrupt, c => c.@int(0x41), 0x41, 0, 0x41),
        ("int3", SvmExit.Exception + 3, c => c.int3(), 0, 0, 3),
        ("icebp", SvmExit.Icebp, c => c.int1(), 0, 0, 1),
        ("invd", SvmExit.Invd, c => c.invd(), 0, 0, -1),
        ("wbinvd", SvmExit.Wbinvd, c => c.wbinvd(), 0, 0, -1),
        ("pause", SvmExit.Pause, c => c.pause(), 0, 0, -1),
        ("invlpg", SvmExit.Invlpg, c => c.invlpg(__[0x12345]), 0x12345, 0, -1),
        ("invlpga", SvmExit.Invlpga, c => c.invlpga(), SvmMachine.VmcbAt, 0, -1),
        ("vmload", SvmExit.Vmload, c => c.vmload(), 0, 0, -1),
        ("vmsave", SvmExit.Vmsave, c => c.vmsave(), 0, 0, -1),
        ("vmrun", SvmExit.Vmrun, c => c.vmrun(), 0, 0, -2),
        ("vmmcall", SvmExit.Vmmcall, c => c.vmmcall(), 0, 0, Vector.InvalidOpcode),
        ("stgi", SvmExit.Stgi, c => c.stgi(), 0, 0, -1),
        ("clgi", SvmExit.Clgi, c => c.clgi(), 0, 0, -1),
        ("skinit", SvmExit.Skinit, c => c.skinit(), 0, 0, Vector.InvalidOpcode),
        ("monitor", SvmExit.Monitor, c => c.monitor(), 0, 0, -1),
        ("mwait", SvmExit.Mwait, c => c.mwait(), 0, 0, -1),
        ("xsetbv", SvmExit.Xsetbv, c => c.xsetbv(), 0, 0, Vector.GeneralProtection),
        ("ud2", SvmExit.Exception + 6, c => c.ud2(), 0, 0, 6),
        ("page fault", SvmExit.Exception + 14, c => c.mov(rdx, __qword_ptr[0x7000_0010]), 0, 0x7000_0010, 14),
        ("general protection", SvmExit.Exception + 13, c => c.mov(ds, ebp), 0xFFF8, 0, 13),
        ("in", SvmExit.Ports, c => c.@in(al, 0x71), 0x71 << 16 | 0x211, SvmMachine.GuestCode + 2, -1),
        ("out", SvmExit.Ports, c => c.@out(0x70, eax), 0x70 << 16 | 0x240, SvmMachine.GuestCode + 2, -1),
        ("rep outsw", SvmExit.Ports, c => c.rep.outsw(), 3ul << 10 | 0x22C, SvmMachine.GuestCode + 3, -1),
        ("insb", SvmExit.Ports, c => c.insb(), 0x215, SvmMachine.GuestCode + 1, -1),
        ("rdmsr", SvmExit.Msr, c => c.rdmsr(), 0, 0, Vector.GeneralProtection),
        ("wrmsr", SvmExit.Msr, c => c.wrmsr(), 1, 0, Vector.GeneralProtection),
    ];

    public static TheoryData<string, bool> All
    {
        get
        {
            var data = new TheoryData<string, bool>();
            foreach (var row in s_all)
            {
                data.Add(row.Name, false);
                data.Add(row.Name, true);
            }
            return data;
        }
    }

    /// <summary>General registers whose values no control register takes; CR4.PCE and CR4.OSXSAVE for the privileged;
    /// all exceptions but the row's end by one that the host sees.</summary>
    static SvmMachine Make(bool translated)
    {
        SvmMachine m = new(translated);
        for (int i = 1; i < 16; i++) m.Cpu.State->Gpr[i] = 0;
        (m.Cpu.Rbp, m.Cpu.Rdi, m.Cpu.Rsi) = (0x1_0000_FFF8, 1ul << 40, GuestMachine.Tables);
        m.Cpu.Rbx = 4;                                             // EM, for LMSW
        m.Cpu.State->Gpr[1] = 2;
        m[Vmcb.Cr4] |= Cr4.Osxsave | Cr4.Pce;
        m[Vmcb.Rax] = SvmMachine.VmcbAt;
        m[Vmcb.Rsp] = 0x30000;
        m.Machine.Ram.Span(SvmMachine.IoMap, 0x3000).Fill(0xFF);
        m.Machine.Ram.Span(SvmMachine.MsrMap, 0x2000).Fill(0xFF);
        m.Machine.Memory.Write(0x30000, 8, 2);
        m.Machine.Memory.Write(0x70100, 8, 0);
        m.Machine.Memory.Write(0x70108, 8, 0);
        return m;
    }

    [Theory, MemberData(nameof(All))]
    public void Is_seen(string name, bool translated)
    {
        var row = s_all.Single(row => row.Name == name);
        using SvmMachine m = Make(translated);
        bool takesNull = name is "lldt" or "rdpmc" or "monitor" or "mwait" or "mov to dr7" or "insb" or "rep outsw";
        if (takesNull) m.Cpu.Rcx = name == "rep outsw" ? 3u : 0;
        if (name == "mwait") m.Cpu.Rcx = 0;
        m.Intercept(row.Exit);
        bool isFault = name is "ud2" or "page fault" or "general protection";
        Assert.Equal(row.Exit, m.Run(c =>
        {
            row.Program(c);
            c.hlt();
        }));
        Assert.Equal((row.Info1, row.Info2, SvmMachine.GuestCode), (m.Info1, m.Info2, m[Vmcb.Rip]));
        Assert.Equal(isFault ? 0 : NextOf(m), m[Vmcb.NextRip]);
        Assert.Equal(0ul, m[Vmcb.ExitIntInfo]);
    }

    /// <summary>HLT comes behind the instruction.</summary>
    static ulong NextOf(SvmMachine m)
    {
        for (ulong at = SvmMachine.GuestCode + 15; ; at--)
            if (m.Machine.Memory.Read(at, 1) == 0xF4) return at;
    }

    [Theory, MemberData(nameof(All))]
    public void Is_not_seen_where_nobody_wants_to(string name, bool translated)
    {
        var row = s_all.Single(row => row.Name == name);
        using SvmMachine m = Make(translated);
        if (name is "lldt" or "rdpmc" or "monitor" or "mwait" or "mov to dr7" or "insb" or "rep outsw")
            m.Cpu.Rcx = name == "rep outsw" ? 3u : 0;
        if (name == "insb") m.Cpu.Rdi = 0x70000;
        for (int vector = 0; vector < 256; vector++) m.Gate(vector, 0x22000 + (ulong)vector * 16);
        for (int vector = 0; vector < 256; vector++)
            m.Machine.Place(0x22000 + (ulong)vector * 16, 64, c =>
            {
                c.mov(r15d, 0x100 + vector);
                c.hlt();
            });
        m.Guest(c =>
        {
            row.Program(c);
            c.hlt();
        });
        ulong exit = m.Run();
        if (row.Fault == -2) Assert.Equal(SvmExit.Vmrun, exit);
        else Assert.Equal((SvmExit.Hlt, row.Fault < 0 ? 0ul : 0x100ul + (ulong)row.Fault),
            (exit, m.Cpu.State->Gpr[15]));
    }

    [Fact]
    public void Ports_and_registers_that_the_maps_let_pass()
    {
        using SvmMachine m = Make(true);
        m.Intercept(SvmExit.Ports);
        m.Intercept(SvmExit.Msr);
        m.Machine.Memory.Write(SvmMachine.IoMap + 0x70 / 8, 1, 0xFF & ~0x0E);   // ports 71h to 73h
        m.Machine.Memory.Write(SvmMachine.MsrMap + 0x800 + 0x82 / 4, 1, 0xCF);  // LSTAR
        m.Run(c =>
        {
            c.@in(al, 0x71);
            c.@in(ax, 0x72);
            c.mov(ecx, 0xC0000082);
            c.wrmsr();
            c.rdmsr();
            c.@in(eax, 0x71);                                      // port 74h is its last
        });
        Assert.Equal((SvmExit.Ports, 0x71ul << 16 | 0x241), (m.ExitCode, m.Info1));
        m[Vmcb.Rip] = SvmMachine.GuestCode;
        Assert.Equal(SvmExit.Msr, m.Run(c =>
        {
            c.mov(ecx, 0x40000000);                                // of no range: always
            c.rdmsr();
        }));
    }

    /// <summary>Section 15.12: the first exception is asked for by itself, and told where the second is.</summary>
    [Fact]
    public void An_exception_on_the_way_to_another()
    {
        using SvmMachine m = Make(true);
        m.Intercept(SvmExit.Exception + Vector.GeneralProtection);
        Assert.Equal(SvmExit.Exception + 13, m.Run(c => c.ud2()));  // the gate is empty
        Assert.Equal((6ul << 3 | 3, 0x80000306ul), (m.Info1, m[Vmcb.ExitIntInfo]));
    }

    [Fact]
    public void A_triple_fault_is_a_shutdown()
    {
        using SvmMachine m = Make(true);
        m.Intercept(SvmExit.Shutdown);
        m[Vmcb.Idtr] = 0;
        Assert.Equal(SvmExit.Shutdown, m.Run(c => c.ud2()));
    }

    [Fact]
    public void An_intercepted_page_fault_leaves_cr2()
    {
        using SvmMachine m = Make(true);
        m.Intercept(SvmExit.Exception + Vector.PageFault);
        m[Vmcb.Cr2] = 0x1234;
        Assert.Equal(SvmExit.Exception + 14, m.Run(c => c.mov(__qword_ptr[0x7000_0010], rax)));
        Assert.Equal((2ul, 0x7000_0010ul, 0x1234ul), (m.Info1, m.Info2, m[Vmcb.Cr2]));
        Assert.Equal(8, m.Machine.Memory.Read(SvmMachine.VmcbAt + Vmcb.FetchedCount, 1) switch { 15 => 8, _ => 0 });
        Assert.Equal(m.Machine.Memory.Read(SvmMachine.GuestCode, 8),
            m.Machine.Memory.Read(SvmMachine.VmcbAt + Vmcb.Fetched, 8));
    }

    [Fact]
    public void Pauses_pass_as_many_as_the_filter_says()
    {
        using SvmMachine m = Make(true);
        m.Intercept(SvmExit.Pause);
        m.Machine.Memory.Write(SvmMachine.VmcbAt + Vmcb.PauseCount, 2, 10);
        Assert.Equal(SvmExit.Pause, m.Run(c =>
        {
            Label again = c.CreateLabel();
            c.Label(ref again);
            c.inc(rdx);
            c.pause();
            c.jmp(again);
        }));
        Assert.Equal(11ul, m.Cpu.Rdx);
    }
}
