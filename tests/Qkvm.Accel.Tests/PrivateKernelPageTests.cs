using Iced.Intel;
using Qkvm.Accel.Tcg;
using static Iced.Intel.AssemblerRegisters;

namespace Qkvm.Accel.Tests;

/// <summary>Pages of the upper half of the address space that are not global, as Linux makes some by splitting large
/// ones: what is known of them outlives a change of CR3 where the new tables have the same, and only there.</summary>
public sealed unsafe class PrivateKernelPageTests
{
    const ulong Kernel = 0xFFFF_8880_0000_0000, Data = Kernel + 0x1000, P = 3;
    const ulong A = GuestMachine.Tables, B = A + 0x8000, C = A + 0x9000, TablesOfA = A + 0xA000, TablesOfB = A + 0xD000;

    public static TheoryData<bool, bool> Kinds => new() { { true, true }, { true, false }, { false, true } };

    /// <summary>A and C have the same tables for the upper half, B has its own.</summary>
    static TierMachine Machine(bool translated, bool identifiers)
    {
        var tier = new TierMachine(translated);
        foreach (ulong root in (ulong[])[B, C]) tier.Write(root, tier.Read(A));
        foreach ((ulong root, ulong tables, int frame) in new[]
            { (A, TablesOfA, 0), (B, TablesOfB, 2), (C, TablesOfA, 0) })
        {
            tier.Write(root + (Kernel >> 39 & 511) * 8, tables | P);
            tier.Write(tables, tables + 0x1000 | P);
            tier.Write(tables + 0x1000, tables + 0x2000 | P);
            for (uint i = 0; i < 2; i++) tier.Write(tables + 0x2000 + i * 8, TierMachine.Frame(frame + (int)i) | P);
        }
        for (int i = 0; i < 6; i += 2)
        {
            tier.Place(TierMachine.Frame(i), c => { c.mov(eax, 1u << i); c.ret(); });
            tier.Write(TierMachine.Frame(i + 1), 0x10UL << i);
        }
        if (identifiers) tier.Cpu.State->Cr4 |= Cr4.Pcide;
        tier.Cpu.State->Cr4 |= Cr4.Pge;
        tier.Cpu.ModeChanged();
        return tier;
    }

    static ulong Root(ulong table, bool identifiers) => identifiers ? table | (table >> 12 & 15) : table;

    [Theory, MemberData(nameof(Kinds))]
    public void Each_process_sees_its_own(bool translated, bool identifiers)
    {
        const int rounds = 400;
        using TierMachine tier = Machine(translated, identifiers);
        tier.Place(TierMachine.Code, c =>
        {
            Label loop = c.CreateLabel(), same = c.CreateLabel();
            c.mov(rbx, Kernel);
            c.mov(rbp, Data);
            c.mov(ecx, rounds);
            c.xor(esi, esi);
            c.xor(edi, edi);
            c.Label(ref loop);
            foreach (ulong root in (ulong[])[A, C, B])
            {
                // B's translations are kept from one time to the next
                c.mov(rax, Root(root, identifiers) | (identifiers && root == B ? 1UL << 63 : 0));
                c.mov(cr3, rax);
                c.call(rbx);
                c.add(esi, eax);
                c.add(edi, __[rbp]);
                c.mov(__dword_ptr[rbp + 8], ecx);
            }
            c.cmp(ecx, rounds / 2 + 1);
            c.jne(same);
            // Other pages for A and C, in tables that are not loaded: their next loads of CR3 see them.
            c.mov(__qword_ptr[TablesOfA + 0x2000], (int)(TierMachine.Frame(4) | P));
            c.mov(__qword_ptr[TablesOfA + 0x2008], (int)(TierMachine.Frame(5) | P));
            c.Label(ref same);
            c.dec(ecx);
            c.jnz(loop);
            c.hlt();
        });
        tier.Run();
        const ulong half = rounds / 2;
        Assert.Equal((half * (1 + 1 + 4) + half * (16 + 16 + 4), half * 0x60 + half * (2 * 0x100 + 0x40)),
            (tier.Cpu.Rsi, tier.Cpu.Rdi));
        ulong[] written = [.. new[] { 1, 3, 5 }.Select(i => tier.Machine.Memory.Read(TierMachine.Frame(i) + 8, 4))];
        Assert.Equal([half + 1, 1, 1], written);
    }

    [Theory, InlineData(true), InlineData(false)]
    public void What_one_may_write_is_another_s_to_read(bool translated)
    {
        using TierMachine tier = Machine(translated, identifiers: false);
        // The same page, but read-only.
        tier.Write(TablesOfB + 0x2008, TierMachine.Frame(1) | 1);
        tier.Cpu.State->Cr0 |= Cr0.Wp;
        tier.Cpu.ModeChanged();
        tier.Place(TierMachine.Code, c =>
        {
            Label loop = c.CreateLabel();
            c.mov(rbp, Data);
            c.mov(ecx, 3);
            c.mov(rdx, A);
            c.Label(ref loop);
            c.mov(cr3, rdx);
            c.mov(__dword_ptr[rbp], ecx);
            c.mov(rdx, C);
            c.cmp(ecx, 2);
            c.mov(rax, B);
            c.cmove(rdx, rax);
            c.dec(ecx);
            c.jnz(loop);
            c.hlt();
        });
        tier.Run();
        Assert.Equal((Vector.PageFault, Data, 1UL), (tier.Vector, tier.Cpu.State->Cr2, tier.Cpu.Rcx));
        Assert.Equal(2UL, tier.Machine.Memory.Read(TierMachine.Frame(1), 4));
    }

    [Theory, InlineData(true), InlineData(false)]
    public void A_page_that_all_processes_have_is_looked_up_once(bool identifiers)
    {
        const int rounds = 1000;
        using TierMachine tier = Machine(translated: true, identifiers);
        tier.Place(TierMachine.Code, c =>
        {
            Label loop = c.CreateLabel();
            c.mov(rbp, Data);
            c.mov(ecx, rounds);
            c.mov(rax, Root(A, identifiers));
            c.mov(rdx, Root(C, identifiers));
            c.Label(ref loop);
            c.mov(cr3, rax);
            c.xchg(rax, rdx);
            c.mov(esi, __[rbp]);
            c.dec(ecx);
            c.jnz(loop);
            c.hlt();
        });
        tier.Run();
        Assert.InRange(tier.Cpu.TlbMisses, 1, rounds / 10);
    }

    /// <summary>As many identifiers in turn as Linux has.</summary>
    [Fact]
    public void Six_processes_keep_what_they_know()
    {
        const int rounds = 1000, processes = 6;
        using TierMachine tier = Machine(translated: true, identifiers: true);
        tier.Place(TierMachine.Code, c =>
        {
            Label loop = c.CreateLabel();
            c.mov(ecx, rounds);
            c.mov(rbx, 0x30000);
            c.Label(ref loop);
            for (uint i = 1; i <= processes; i++)
            {
                c.mov(rax, A | i | 1UL << 63);
                c.mov(cr3, rax);
                c.add(esi, __[rbx]);
            }
            c.dec(ecx);
            c.jnz(loop);
            c.hlt();
        });
        tier.Run();
        Assert.InRange(tier.Cpu.TlbMisses, 1, rounds / 10);
    }
}
