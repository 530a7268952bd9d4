using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace Qkvm.Accel.Tests;

/// <summary>Where code lies and how much of it there is must not matter, on either tier.</summary>
public sealed unsafe class CodePlacementTests
{
    const ulong Code = TierMachine.Code;
    const long LeastCodeCache = 16 << 20;

    public static TheoryData<bool> Tiers => [true, false];

    /// <summary>4 MiB of functions, each called twice per round, in an order that leaves none where it was needed
    /// last.</summary>
    [Theory, MemberData(nameof(Tiers))]
    public void More_code_than_the_cache_holds_runs_right(bool translated)
    {
        const ulong functions = 0x300000;
        const int count = 60_000, size = 64;
        using var tier = new TierMachine(translated, codeCache: LeastCodeCache);
        ulong sum = 0;
        for (int i = 0; i < count; i++)
        {
            // test ecx, ecx; jz +7; add rax, imm32; nop...; add [rsp - 8], eax; xor rax, imm8; ret
            byte[] code = [0x85, 0xC9, 0x74, 0x06, 0x48, 0x05, (byte)i, (byte)(i >> 8), (byte)(i >> 16), 0, 0x89, 0x44,
                0x24, 0xF8,
                0x03, 0x54, 0x24, 0xF8, 0x48, 0x83, 0xF0, (byte)(i & 0x7F), 0xC3];
            tier.Machine.Memory.Write(functions + (ulong)i * size, code);
        }
        tier.Place(Code, c =>
        {
            Label round = c.CreateLabel(), next = c.CreateLabel();
            c.mov(ecx, 2);
            c.xor(eax, eax);
            c.Label(ref round);
            c.mov(ebx, (uint)functions);
            c.mov(esi, count);
            c.Label(ref next);
            c.call(rbx);
            c.add(rbx, size);
            c.dec(esi);
            c.jnz(next);
            c.dec(ecx);
            c.jns(round);
            c.hlt();
        });
        tier.Cpu.Rdx = 0;
        tier.Run();
        ulong rax = 0;
        for (int round = 2; round >= 0; round--)
            for (int i = 0; i < count; i++)
            {
                if (round > 0) rax += (ulong)i;
                sum = (uint)(sum + rax);
                rax ^= (ulong)(i & 0x7F);
            }
        ulong foundRax = tier.Cpu.Rax, foundRdx = tier.Cpu.Rdx;
        Assert.Equal((rax, sum), (foundRax, foundRdx));
        if (translated) Assert.True(tier.Cpu.Evictions > 0, $"{tier.Cpu.Translations} blocks were no more than fit");
    }

    [Theory, MemberData(nameof(Tiers))]
    public void A_long_run_without_a_jump_is_whole(bool translated)
    {
        using var tier = new TierMachine(translated);
        const int length = 3000;                                    // over three pages
        byte[] code =
            [.. Enumerable.Range(0, length).SelectMany(i => new byte[] { 0x48, 0x83, 0xC0, (byte)(i & 0x7F) }), 0xF4];
        tier.Machine.Memory.Write(Code + 0x123, code);
        tier.Cpu.Rax = 0;
        for (int i = 0; i < 2; i++) tier.Run(Code + 0x123);
        ulong expected = 2 * (ulong)Enumerable.Range(0, length).Sum(i => i & 0x7F);
        Assert.Equal(expected, tier.Cpu.Rax);
    }

    /// <summary>Ten bytes of MOV RAX, imm64, in a loop, at every place across a page end; then the second page is
    /// another one.</summary>
    [Theory, MemberData(nameof(Tiers))]
    public void An_instruction_over_a_page_end_follows_both_pages(bool translated)
    {
        for (int before = 1; before < 10; before++)
        {
            using var tier = new TierMachine(translated);
            tier.Map(0, TierMachine.Frame(0));
            byte[] code = [0x48, 0xB8, 1, 2, 3, 4, 5, 6, 7, 8, 0x48, 0x01, 0xC2, 0xFF, 0xC9, 0x75, unchecked((byte)-17),
                0xF4];
            ulong at = TierMachine.Linear(1) - (ulong)before;
            tier.Machine.Memory.Write(TierMachine.Frame(1) - (ulong)before, code.AsSpan(0, before));
            for (int i = 0; i < 2; i++)
            {
                if (i > 0) code[9] = 0x55;
                tier.Machine.Memory.Write(TierMachine.Frame(3 + i), code.AsSpan(before));
                tier.Map(1, TierMachine.Frame(3 + i));
                tier.Cpu.FlushTlbPage(TierMachine.Linear(1));
                (tier.Cpu.Rcx, tier.Cpu.Rdx) = (2000, 0);
                tier.Run(at);
                Assert.Equal(BitConverter.ToUInt64(code, 2) * 2000, tier.Cpu.Rdx);
            }
            // And a fault for the second half is the instruction's.
            tier.Map(1, 0);
            tier.Cpu.FlushTlbPage(TierMachine.Linear(1));
            tier.Run(at);
            Assert.Equal((Tcg.Vector.PageFault, at, TierMachine.Linear(1)),
                (tier.Vector, tier.FaultRip, tier.Cpu.State->Cr2));
        }
    }

    /// <summary>Code and data in a large page, which becomes 512 small ones, one of them elsewhere. Any address of the
    /// large page in INVLPG is enough: Intel SDM vol. 3, section 4.10.4.1.</summary>
    [Theory, MemberData(nameof(Tiers))]
    public void A_large_page_that_is_split_is_seen_split(bool translated)
    {
        using var tier = new TierMachine(translated);
        const ulong large = 0x600000, table = GuestMachine.Tables + 0x5000, moved = large + 0x7000, other = 0x240000,
            seen = 0x30000;
        for (uint i = 0; i < 512; i++) tier.Write(table + i * 8, large + i * 0x1000 | 3);
        tier.Write(table + (moved - large) / 0x1000 * 8, other | 3);
        tier.Place(moved, c => { c.mov(eax, 1); c.ret(); });
        tier.Place(other, c => { c.mov(eax, 2); c.ret(); });
        tier.Place(Code, c =>
        {
            Label loop = c.CreateLabel(), same = c.CreateLabel();
            c.mov(ecx, 4000);
            c.xor(esi, esi);
            c.xor(edi, edi);
            c.mov(rbx, moved);
            c.Label(ref loop);
            c.call(rbx);
            c.add(esi, eax);
            c.add(edi, __[rbx + 1]);
            c.cmp(ecx, 2001);
            c.jne(same);
            c.mov(rax, table | 3);
            c.mov(__qword_ptr[GuestMachine.Tables + 0x2000 + (large >> 21) * 8], rax);
            c.invlpg(__[rbx + 0x10000]);
            c.Label(ref same);
            c.mov(__dword_ptr[rbx + 0x800], ecx);
            c.dec(ecx);
            c.jnz(loop);
            c.mov(__dword_ptr[seen], edi);
            c.hlt();
        });
        tier.Run();
        Assert.Equal((2000UL + 2 * 2000, 2000UL + 2 * 2000), (tier.Cpu.Rsi, tier.Cpu.Rdi));
        Assert.Equal((2002UL, 1UL),
            (tier.Machine.Memory.Read(moved + 0x800, 4), tier.Machine.Memory.Read(other + 0x800, 4)));
    }
}
