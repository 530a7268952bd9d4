using Iced.Intel;
using Qkvm.Accel.Tcg;
using static Iced.Intel.AssemblerRegisters;

namespace Qkvm.Accel.Tests;

/// <summary>Code that changes, by its own hand or another's, on either tier: what runs is what is in memory.</summary>
public sealed unsafe class SelfModifyingTests
{
    const ulong Code = TierMachine.Code;
    const int Rounds = 3000;

    public static TheoryData<bool> Tiers => [true, false];

    [Theory, MemberData(nameof(Tiers))]
    public void The_next_instruction_is_rewritten_in_every_round(bool translated)
    {
        using var tier = new TierMachine(translated);
        // mov [rip + 1], ecx writes the immediate of mov eax, imm32 right behind it.
        tier.Machine.Memory.Write(Code,
            [0x89, 0x0D, 1, 0, 0, 0, 0xB8, 0, 0, 0, 0, 0x48, 0x01, 0xC3, 0xFF, 0xC9, 0x75, 0xEE, 0xF4]);
        (tier.Cpu.Rcx, tier.Cpu.Rbx) = (Rounds, 0);
        tier.Run();
        Assert.Equal((ulong)Rounds * (Rounds + 1) / 2, tier.Cpu.Rbx);
    }

    [Theory, MemberData(nameof(Tiers))]
    public void An_instruction_behind_others_of_the_same_block_is_rewritten(bool translated)
    {
        using var tier = new TierMachine(translated);
        // As above, with NOPs and stores to other places between: 20 instructions later.
        byte[] code = [0x89, 0x0D, 21, 0, 0, 0, .. Enumerable.Repeat((byte)0x90, 13), 0x48, 0x89, 0x0C, 0x24, 0x48,
            0x83, 0xC6, 0x01,
            0xB8, 0, 0, 0, 0, 0x48, 0x01, 0xC3, 0xFF, 0xC9, 0x75, unchecked((byte)-38), 0xF4];
        code[2] = (byte)(Array.IndexOf(code, (byte)0xB8) + 1 - 6);
        code[^2] = unchecked((byte)-(code.Length - 1));
        tier.Machine.Memory.Write(Code, code);
        (tier.Cpu.Rcx, tier.Cpu.Rbx) = (Rounds, 0);
        tier.Run();
        Assert.Equal((ulong)Rounds * (Rounds + 1) / 2, tier.Cpu.Rbx);
    }

    /// <summary>By the program itself, and by a device.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Only_what_was_decoded_from_the_bytes_written_is_translated_again(bool byItself)
    {
        const int runs = 40;
        const ulong function = Code + 0x800;
        using var tier = new TierMachine(translated: true);
        tier.Place(function, c => { c.mov(eax, 0); c.ret(); });
        tier.Place(Code, c =>
        {
            if (byItself) c.mov(__dword_ptr[function + 1], ecx);
            for (int i = 0; i < 10; i++)
            {
                Label next = c.CreateLabel();
                c.test(ecx, 1 << i);
                c.jz(next);
                c.inc(rbx);
                c.Label(ref next);
                c.nop();
            }
            // Whoever calls directly looks at the function for the flags that it reads.
            c.mov(rdx, function);
            c.call(rdx);
            c.hlt();
        });
        long most = 0;
        for (int run = 0; run < 3 * runs; run++)
        {
            int i = run % runs + 1;
            tier.Cpu.Rcx = (ulong)i;
            if (!byItself) tier.Machine.Memory.Write(function + 1, 4, (ulong)i);
            long before = tier.Cpu.Translations;
            tier.Run();
            Assert.Equal((uint)i, (uint)tier.Cpu.Rax);
            // Paths that no run before has taken are new.
            if (run >= 2 * runs) most = Math.Max(most, tier.Cpu.Translations - before);
        }
        Assert.InRange(most, 1, 3);
    }

    [Theory, MemberData(nameof(Tiers))]
    public void A_function_elsewhere_on_the_page_is_rewritten_while_it_is_linked(bool translated)
    {
        using var tier = new TierMachine(translated);
        const ulong function = Code + 0x800;
        tier.Place(function, c => { c.mov(eax, 0); c.ret(); });
        tier.Place(Code, c =>
        {
            Label loop = c.CreateLabel(), same = c.CreateLabel();
            c.Label(ref loop);
            c.test(ecx, 7);
            c.jnz(same);
            c.mov(__dword_ptr[function + 1], ecx);
            c.Label(ref same);
            c.call(function);
            c.add(rbx, rax);
            c.dec(ecx);
            c.jnz(loop);
            c.hlt();
        });
        (tier.Cpu.Rcx, tier.Cpu.Rbx) = (Rounds, 0);
        tier.Run();
        ulong sum = 0, now = 0;
        for (ulong i = Rounds; i > 0; i--) sum += now = i % 8 == 0 ? i : now;
        Assert.Equal(sum, tier.Cpu.Rbx);
    }

    [Theory, MemberData(nameof(Tiers))]
    public void A_page_mapped_twice_runs_at_both_addresses_and_changes_at_both(bool translated)
    {
        using var tier = new TierMachine(translated);
        // The window's pages 1 and 3 are one page: what it returns tells where it runs, and what was written there
        // last.
        tier.Map(1, TierMachine.Frame(0));
        tier.Map(3, TierMachine.Frame(0));
        // lea rax, [rip]; add rax, imm32; ret
        tier.Machine.Memory.Write(TierMachine.Frame(0), [0x48, 0x8D, 0x05, 0, 0, 0, 0, 0x48, 0x05, 0, 0, 0, 0, 0xC3]);
        tier.Place(Code, c =>
        {
            Label loop = c.CreateLabel();
            c.mov(r12, TierMachine.Linear(1));
            c.mov(r13, TierMachine.Linear(3));
            c.Label(ref loop);
            c.mov(__dword_ptr[r12 + 9], ecx);                        // the immediate of ADD
            c.call(r13);
            c.add(rbx, rax);
            c.call(r12);
            c.add(rdx, rax);
            c.xchg(r12, r13);
            c.dec(ecx);
            c.jnz(loop);
            c.hlt();
        });
        (tier.Cpu.Rcx, tier.Cpu.Rbx, tier.Cpu.Rdx) = (Rounds, 0, 0);
        tier.Run();
        ulong sum = (ulong)Rounds * (Rounds + 1) / 2 + Rounds * 7UL,
            both = Rounds / 2 * (TierMachine.Linear(1) + TierMachine.Linear(3));
        ulong first = tier.Cpu.Rbx, second = tier.Cpu.Rdx;
        Assert.Equal((sum + both, sum + both), (first, second));
    }

    [Theory, MemberData(nameof(Tiers))]
    public void Another_vcpus_loop_ends_when_it_is_rewritten(bool translated)
    {
        using var tier = new TierMachine(translated, cpus: 2);
        const ulong loop = 0x20000, ready = 0x30000;
        // inc [ready]; nop...: until the second one becomes HLT by the first vCPU's store.
        tier.Place(loop, c =>
        {
            Label again = c.CreateLabel();
            c.Label(ref again);
            c.inc(__qword_ptr[ready]);
            c.nop();
            c.jmp(again);
        });
        tier.Place(Code, c =>
        {
            Label wait = c.CreateLabel();
            c.Label(ref wait);
            c.cmp(__qword_ptr[ready], 5000);
            c.jb(wait);
            c.mov(__byte_ptr[loop + 8], 0xF4);
            c.hlt();
        });
        Assert.Equal(0x90UL, tier.Machine.Memory.Read(loop + 8, 1) & 0xFF);
        tier.RunAll(Code, loop);
        Assert.Equal(loop + 9, tier.CpuAt(1).State->Rip);
    }

    /// <summary>Intel SDM vol. 3, section 9.1.3: the one writes code, then a flag; the other sees the flag, serializes,
    /// runs the code.</summary>
    [Theory, MemberData(nameof(Tiers))]
    public void Code_handed_over_with_a_flag_is_never_older_than_the_flag(bool translated)
    {
        using var tier = new TierMachine(translated, cpus: 2);
        const ulong function = 0x20000, flag = 0x30000, answer = 0x30100, runner = 0x40000;
        const int rounds = 2000;
        tier.Place(function, c => { c.mov(eax, 0); c.ret(); });
        tier.Place(Code, c =>
        {
            Label next = c.CreateLabel(), wait = c.CreateLabel();
            c.xor(esi, esi);
            c.Label(ref next);
            c.inc(esi);
            c.mov(__dword_ptr[function + 1], esi);
            c.mov(__dword_ptr[flag], esi);
            c.Label(ref wait);
            c.pause();
            c.cmp(__dword_ptr[answer], esi);
            c.jne(wait);
            c.cmp(esi, rounds);
            c.jb(next);
            c.hlt();
        });
        tier.Place(runner, c =>
        {
            Label next = c.CreateLabel(), wait = c.CreateLabel(), good = c.CreateLabel();
            c.xor(esi, esi);
            c.xor(edi, edi);
            c.Label(ref next);
            c.inc(esi);
            c.Label(ref wait);
            c.pause();
            c.cmp(__dword_ptr[flag], esi);
            c.jne(wait);
            c.xor(eax, eax);
            c.cpuid();
            c.call(function);
            c.cmp(eax, esi);
            c.je(good);
            c.inc(edi);
            c.Label(ref good);
            c.mov(__dword_ptr[answer], esi);
            c.cmp(esi, rounds);
            c.jb(next);
            c.hlt();
        });
        tier.RunAll(Code, runner);
        ulong done = tier.CpuAt(1).Rsi, stale = tier.CpuAt(1).Rdi;
        Assert.Equal(((ulong)rounds, 0UL), (done, stale));
    }
}
