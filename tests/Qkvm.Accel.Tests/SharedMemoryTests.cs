using Iced.Intel;
using Qkvm.Accel.Tcg;
using static Iced.Intel.AssemblerRegisters;

namespace Qkvm.Accel.Tests;

/// <summary>Two vCPUs in threads of their own on the same memory, on either tier.</summary>
public sealed unsafe class SharedMemoryTests
{
    const ulong First = TierMachine.Code, Second = 0x20000, Cell = 0x30000;
    const int Rounds = 20_000;

    public static IEnumerable<object[]> Places =>
        from tier in new[] { true, false } from at in s_places.Keys select new object[] { tier, at };

    /// <summary>Within a line, over two lines, over two pages that are not neighbours in RAM.</summary>
    static readonly Dictionary<string, ulong> s_places = new()
    {
        ["line"] = TierMachine.Window + 0x40, ["lines"] = TierMachine.Window + 0x7C, ["pages"]
        = TierMachine.Linear(1) - 3,
    };

    static TierMachine TwoCpus(bool translated)
    {
        var tier = new TierMachine(translated, cpus: 2);
        tier.Map(0, TierMachine.Frame(0));
        tier.Map(1, TierMachine.Frame(9));
        return tier;
    }

    static ulong ReadAt(TierMachine tier, ulong linear)
    {
        ulong value = 0;
        for (int i = 7; i >= 0; i--)
        {
            ulong at = linear + (ulong)i, page = (at - TierMachine.Window) / TierMachine.Page;
            value = value << 8
                | tier.Machine.Memory.Read(TierMachine.Frame(page == 0 ? 0 : 9) + at % TierMachine.Page, 1);
        }
        return value;
    }

    [Theory, MemberData(nameof(Places))]
    public void Locked_additions_of_two_vcpus_are_all_counted(bool translated, string place)
    {
        using TierMachine tier = TwoCpus(translated);
        ulong at = s_places[place];
        foreach ((ulong start, int step) in new[] { (First, 3), (Second, 5) })
            tier.Place(start, c =>
            {
                Label loop = c.CreateLabel(), again = c.CreateLabel();
                c.mov(rbx, at);
                c.mov(ecx, Rounds);
                c.Label(ref loop);
                c.@lock.add(__dword_ptr[rbx], step);
                c.mov(edx, step);
                c.@lock.xadd(__dword_ptr[rbx], edx);
                c.@lock.inc(__dword_ptr[rbx]);
                c.mov(eax, __dword_ptr[rbx]);
                c.Label(ref again);
                c.lea(edx, __[rax + step]);
                c.@lock.cmpxchg(__dword_ptr[rbx], edx);
                c.jnz(again);
                c.dec(ecx);
                c.jnz(loop);
                c.hlt();
            });
        tier.RunAll(First, Second);
        Assert.Equal((3UL * 3 + 1 + 3 * 5 + 1) * Rounds, (uint)ReadAt(tier, at));
    }

    /// <summary>XCHG takes the lock, a plain store gives it back.</summary>
    [Theory, MemberData(nameof(Places))]
    public void A_spinlock_guards_what_is_not_atomic(bool translated, string place)
    {
        using TierMachine tier = TwoCpus(translated);
        ulong at = s_places[place];
        foreach (ulong start in new[] { First, Second })
            tier.Place(start, c =>
            {
                Label loop = c.CreateLabel(), take = c.CreateLabel();
                c.mov(rbx, at);
                c.mov(ecx, Rounds);
                c.Label(ref loop);
                c.mov(eax, -1);
                c.Label(ref take);
                c.pause();
                c.xchg(__dword_ptr[rbx], eax);
                c.test(eax, eax);
                c.jnz(take);
                c.inc(__qword_ptr[Cell]);
                c.mov(__dword_ptr[rbx], 0);
                c.dec(ecx);
                c.jnz(loop);
                c.hlt();
            });
        tier.RunAll(First, Second);
        Assert.Equal(2UL * Rounds, tier.Read(Cell));
    }

    /// <summary>Each waits until it is its turn: more vCPUs than this host has processors, if it has fewer than
    /// seven.</summary>
    [Theory, InlineData(true), InlineData(false)]
    public void Many_that_wait_let_the_one_run_that_they_wait_for(bool translated)
    {
        const int cpus = 7, rounds = 50;
        using var tier = new TierMachine(translated, cpus);
        ulong[] starts = [.. Enumerable.Range(0, cpus).Select(i => First + (ulong)i * 0x100)];
        for (int i = 0; i < cpus; i++)
        {
            int turn = i;
            tier.Place(starts[i], c =>
            {
                Label wait = c.CreateLabel();
                c.mov(rbx, Cell);
                c.mov(eax, turn);
                c.mov(ecx, rounds);
                c.Label(ref wait);
                c.pause();
                c.cmp(__dword_ptr[rbx], eax);
                c.jne(wait);
                c.inc(__dword_ptr[rbx]);
                c.add(eax, cpus);
                c.dec(ecx);
                c.jnz(wait);
                c.hlt();
            });
        }
        tier.RunAll(starts);
        Assert.Equal((uint)(cpus * rounds), (uint)tier.Read(Cell));
    }

    [HostTheory("cx16"), InlineData(true), InlineData(false)]
    public void Sixteen_bytes_are_exchanged_as_one(bool translated)
    {
        using TierMachine tier = TwoCpus(translated);
        foreach (ulong start in new[] { First, Second })
            tier.Place(start, c =>
            {
                Label loop = c.CreateLabel(), again = c.CreateLabel(), whole = c.CreateLabel();
                c.mov(rsi, Cell);
                c.mov(edi, Rounds);
                c.xor(r8d, r8d);
                c.Label(ref loop);
                c.mov(rax, __[rsi]);
                c.mov(rdx, __[rsi + 8]);
                c.Label(ref again);
                c.lea(rbx, __[rax + 1]);
                c.lea(rcx, __[rdx - 1]);
                c.@lock.cmpxchg16b(__xmmword_ptr[rsi]);
                c.jz(whole);
                c.lea(r9, __[rax + rdx]);                            // what is read by a failing one is never torn
                c.test(r9, r9);
                c.jz(again);
                c.inc(r8);
                c.jmp(again);
                c.Label(ref whole);
                c.dec(edi);
                c.jnz(loop);
                c.hlt();
            });
        tier.RunAll(First, Second);
        Assert.Equal((2UL * Rounds, unchecked((ulong)(-2L * Rounds))), (tier.Read(Cell), tier.Read(Cell + 8)));
        ulong torn = tier.CpuAt(0).State->Gpr[8] + tier.CpuAt(1).State->Gpr[8];
        Assert.Equal(0UL, torn);
    }
}
