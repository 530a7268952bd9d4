using Iced.Intel;
using Qkvm.Accel.Tcg;
using static Iced.Intel.AssemblerRegisters;

namespace Qkvm.Accel.Tests;

/// <summary>Nested paging, and whose translations are whose. AMD64 APM vol. 2, sections 15.16 and 15.25.</summary>
public sealed unsafe class SvmPagingTests
{
    const ulong Final = SvmExit.FinalAddress, Table = SvmExit.TableAddress;

    [Theory, InlineData(false), InlineData(true)]
    public void The_guests_addresses_are_translated_again(bool translated)
    {
        using SvmMachine m = new(translated);
        m.Nest();
        m.NestedPage(0x70000, 0x71000 | 7);
        m.Machine.Memory.Write(0x70010, 8, 1);
        m.Machine.Memory.Write(0x71010, 8, 2);
        Assert.Equal(SvmExit.Hlt, m.Run(c =>
        {
            c.mov(rbx, __qword_ptr[0x70010]);
            c.mov(__qword_ptr[0x70018], rbx);
            c.hlt();
        }));
        Assert.Equal((2ul, 0ul, 2ul),
            (m.Cpu.Rbx, m.Machine.Memory.Read(0x70018, 8), m.Machine.Memory.Read(0x71018, 8)));
        // The host sees memory as ever, and accessed and dirty bits.
        Assert.Equal(0x71067ul, m.Machine.Memory.Read(SvmMachine.NestedPages + 0x70 * 8, 8));
    }

    /// <summary>What the entry of page 70000h is, what is done there, and what the exit says.</summary>
    [Theory]
    [InlineData(0ul, "read", Final | 4)] [InlineData(0ul, "write", Final | 6)] [InlineData(0ul, "fetch", Final | 0x14)]
    [InlineData(0x70005ul, "write", Final | 7)] [InlineData(0x70003ul, "read", Final | 5)]
    [InlineData(0x8000000000070007ul, "fetch", Final | 0x15)]
    [InlineData(0x000F_F000_0007_0007ul, "read", Final | 0xD)]
    public void Faults_are_the_hosts(ulong entry, string access, ulong info)
    {
        foreach (bool translated in (bool[])[false, true])
        {
            using SvmMachine m = new(translated);
            m.Nest();
            m.NestedPage(0x70000, entry);
            m.Machine.Memory.Write(0x70010, 1, 0xF4);
            m.Cpu.Rbx = 0;
            Assert.Equal(SvmExit.NestedPageFault, m.Run(c =>
            {
                c.mov(edx, 1);
                if (access == "read") c.mov(rbx, __qword_ptr[0x70010]);
                else if (access == "write") c.mov(__qword_ptr[0x70010], rbx);
                else c.jmp(0x70010);
                c.hlt();
            }));
            Assert.Equal((info, 0x70010ul & ~0xFFFul), (m.Info1, m.Info2 & ~0xFFFul));
            ulong at = access == "fetch" ? 0x70010ul : SvmMachine.GuestCode + 5;
            Assert.Equal((at, access == "fetch" ? 0ul : 15ul),
                (m[Vmcb.Rip], m.Machine.Memory.Read(SvmMachine.VmcbAt + Vmcb.FetchedCount, 1)));
            m.NestedPage(0x70000, 0x70007);
            Assert.Equal(SvmExit.Hlt, m.Run());
        }
    }

    [Fact]
    public void The_exit_tells_the_whole_address()
    {
        using SvmMachine m = new();
        m.Nest();
        m.NestedPage(0x70000, 0);
        m.Run(c => c.mov(bl, __byte_ptr[0x70123]));
        Assert.Equal(0x70123ul, m.Info2);
    }

    [Theory, InlineData(0ul, Table | 6), InlineData(0x5ul, Table | 7)]
    public void The_guests_tables_are_reached_through_the_hosts(ulong rights, ulong info)
    {
        using SvmMachine m = new();
        m.Nest();
        m.NestedPage(GuestMachine.Tables + 0x2000, rights == 0 ? 0 : GuestMachine.Tables + 0x2000 | rights);
        Assert.Equal(SvmExit.NestedPageFault, m.Run(c => c.hlt()));
        Assert.Equal((info, GuestMachine.Tables + 0x2000), (m.Info1, m.Info2));
    }

    /// <summary>A page fault of the guest's own is the guest's.</summary>
    [Fact]
    public void The_guests_own_faults_are_not()
    {
        using SvmMachine m = new();
        m.Nest();
        m.Intercept(SvmExit.Exception + Vector.PageFault);
        Assert.Equal(SvmExit.Exception + 14, m.Run(c => c.mov(rbx, __qword_ptr[0x7000_0000])));
    }

    /// <summary>Host and guest have other pages at one address, and go back and forth between them.</summary>
    [Theory, InlineData(false), InlineData(true)]
    public void Each_world_has_its_translations(bool translated)
    {
        using SvmMachine m = new(translated);
        m.Nest();
        m.NestedPage(0x70000, 0x71000 | 7);
        m.Machine.Place(SvmMachine.HostCode, 64, c =>
        {
            Label again = c.CreateLabel();
            c.mov(r8d, 100);
            c.Label(ref again);
            c.inc(__qword_ptr[0x70000]);
            c.vmrun();
            c.mov(__dword_ptr[SvmMachine.VmcbAt + Vmcb.Rip], (int)SvmMachine.GuestCode);
            c.inc(__qword_ptr[0x70000]);
            c.dec(r8d);
            c.jne(again);
            c.hlt();
        });
        m.Run(c =>
        {
            c.inc(__qword_ptr[0x70000]);
            c.hlt();
        });
        Assert.Equal((200ul, 100ul), (m.Machine.Memory.Read(0x70000, 8), m.Machine.Memory.Read(0x71000, 8)));
    }

    /// <summary>Ways in which a host may say that translations of a guest are void.</summary>
    [Theory, InlineData("control"), InlineData("asid"), InlineData("table"), InlineData("invlpga")]
    public void A_guests_translations_are_forgotten(string way)
    {
        using SvmMachine m = new();
        m.Nest();
        m.NestedPage(0x70000, 0x71000 | 7);
        m.Machine.Memory.Write(0x71000, 8, 1);
        m.Machine.Memory.Write(0x72000, 8, 2);
        m.Guest(c =>
        {
            c.mov(rbx, __qword_ptr[0x70000]);
            c.hlt();
        });
        m.Run();
        Assert.Equal(1ul, m.Cpu.Rbx);
        m.NestedPage(0x70000, 0x72000 | 7);
        switch (way)
        {
            case "control": m.Machine.Memory.Write(SvmMachine.VmcbAt + Vmcb.TlbControl, 1, 3); break;
            case "asid": m[Vmcb.Asid] = 2; break;
            case "table":
                m.Machine.Ram.Span(SvmMachine.NestedTables, 0x1000).CopyTo(m.Machine.Ram.Span(0x5E000, 0x1000));
                m[Vmcb.NestedCr3] = 0x5E000;
                break;
            default:                                               // INVLPGA
                m.Machine.Place(SvmMachine.HostCode + 0x100, 64, c =>
                {
                    c.invlpga();
                    c.hlt();
                });
                (m.Cpu.Rax, m.Cpu.Rcx) = (0x70000, 1);
                m.Machine.RunToHalt(SvmMachine.HostCode + 0x100);
                break;
        }
        m[Vmcb.Rip] = SvmMachine.GuestCode;
        m.Run();
        Assert.Equal(2ul, m.Cpu.Rbx);
    }

    /// <summary>A host of 32 bits, whose tables have two or three levels.</summary>
    [Theory, InlineData(PagingMode.Legacy), InlineData(PagingMode.Pae)]
    public void Nested_tables_have_the_hosts_form(PagingMode mode)
    {
        using SvmMachine m = new();
        GuestMachine g = m.Machine;
        g.S->Cr0 &= ~Cr0.Pg;
        (g.S->Cr4, g.S->Efer) = (0, 0);
        g.Flat(32);
        g.Ram.Span(GuestMachine.Tables, 0x1000).Clear();
        g.Ram.Span(SvmMachine.NestedTables, 0x4000).Clear();
        foreach (ulong tables in (ulong[])[GuestMachine.Tables, SvmMachine.NestedTables])
            if (mode == PagingMode.Legacy)
                for (uint i = 0; i < 2; i++) g.Memory.Write(tables + i * 4, 4, i << 22 | 0x87);
            else
            {
                g.Memory.Write(tables, 8, tables + 0x1000 | 1);
                for (uint i = 0; i < 4; i++) g.Memory.Write(tables + 0x1000 + i * 8, 8, i << 21 | 0x87);
            }
        g.Paging(mode);
        g.S->Efer |= Efer.Svme;
        g.Cpu.ModeChanged();
        for (int i = 0; i < Seg.Count; i++) m.Segment(i, 32);
        (m[Vmcb.Cr0], m[Vmcb.Cr4], m[Vmcb.Efer]) = (0x11, 0, Efer.Svme);
        (m[Vmcb.NestedControl], m[Vmcb.NestedCr3]) = (1, SvmMachine.NestedTables);
        Assert.Equal(SvmExit.Hlt, m.Run(c =>
        {
            c.mov(ebx, 7);
            c.mov(__dword_ptr[0x70000], ebx);
            c.hlt();
        }, 32));
        Assert.Equal(7ul, g.Memory.Read(0x70000, 4));
        m[Vmcb.Rip] = SvmMachine.GuestCode;
        Assert.Equal(SvmExit.NestedPageFault, m.Run(c => c.mov(__dword_ptr[0x1000_0000], ebx), 32));
        Assert.Equal(Final | 6, m.Info1);
    }
}
