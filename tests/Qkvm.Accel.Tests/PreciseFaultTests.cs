using Iced.Intel;
using Qkvm.Accel.Tcg;
using Qkvm.Host;
using static Iced.Intel.AssemblerRegisters;

namespace Qkvm.Accel.Tests;

/// <summary>Page faults, on either tier: all before the instruction is done, nothing of it is.</summary>
public sealed unsafe class PreciseFaultTests
{
    const int Pages = 24;
    const ulong Mark = 0x1122334455667788;

    public static TheoryData<bool> Tiers => [true, false];

    [Theory, MemberData(nameof(Tiers))]
    public void A_fault_within_accesses_that_share_a_check_leaves_the_earlier_ones_done(bool translated)
    {
        using TierMachine tier = Mapped(translated);
        tier.Place(TierMachine.Code, c =>
        {
            Label loop = c.CreateLabel();
            c.Label(ref loop);
            c.mov(__[rbx], rax);
            c.inc(rax);
            c.mov(rcx, __[rbx + 8]);
            c.add(__[rbx + 16], rdx);
            c.mov(rsi, rax);
            c.add(rbx, 32);
            c.jmp(loop);
        });
        // The last round's third access is the first in the page that is absent.
        (tier.Cpu.Rax, tier.Cpu.Rbx, tier.Cpu.Rdx) = (100, TierMachine.Window + 16, 5);
        ulong end = TierMachine.Linear(Pages), rounds = (end - 16 - (TierMachine.Window + 16)) / 32 + 1;
        tier.Run();
        Assert.Equal((Vector.PageFault, Code.Add_rm64_r64, end), (tier.Vector, tier.FaultCode, tier.Cpu.State->Cr2));
        Assert.Equal((100 + rounds, end - 16, 100 + rounds - 1), (tier.Cpu.Rax, tier.Cpu.Rbx, tier.Cpu.Rsi));
        Assert.Equal((100 + rounds - 1, Mark), (tier.Read(TierMachine.Frame(Pages) - 16), tier.Cpu.Rcx));
        Assert.Equal(Mark + 5, tier.Read(TierMachine.Frame(Pages) - 32));
    }

    /// <summary>They share no check, however the distance between them comes out in 64 bits.</summary>
    [Theory]
    [InlineData(0x98FFD82981EED040, Vector.GeneralProtection)]
    [InlineData(0xC000000040000000, Vector.GeneralProtection)]
    [InlineData(0xBFFFFFFFC0000000, Vector.GeneralProtection)]
    [InlineData(0x7FFFFFFFFFFFFFFF, Vector.GeneralProtection)]
    [InlineData(0x8000000000000000, Vector.GeneralProtection)]
    [InlineData(0xFFFFFFFFFFFFFFFF, Vector.PageFault)]
    public void Absolute_addresses_far_apart_fault_each_for_itself(ulong far, int vector)
    {
        foreach (bool translated in (bool[])[true, false])
            foreach (ulong near in (ulong[])[TierMachine.Linear(1), far])
            {
                ulong other = near == far ? TierMachine.Linear(1) : far;
                using TierMachine tier = Mapped(translated);
                tier.Place(TierMachine.Code, c =>
                {
                    c.db([0xA2, .. BitConverter.GetBytes(near)]);                   // mov [near], al
                    c.db([0xA2, .. BitConverter.GetBytes(other)]);
                    c.hlt();
                });
                tier.Cpu.Rax = 0x5A;
                tier.Run();
                bool isFirst = near == far;
                Assert.Equal((vector, TierMachine.Code + (isFirst ? 0u : 9u)), (tier.Vector, tier.FaultRip));
                Assert.Equal(isFirst ? Mark : Mark & ~0xFFUL | 0x5A, tier.Read(TierMachine.Frame(1)));
            }
    }

    /// <summary>Seen from where flags are free for its check, an operand may be further away than 2 GiB.</summary>
    [Theory, MemberData(nameof(Tiers))]
    public void Displacements_of_the_stack_pointer_add_up(bool translated)
    {
        const ulong tables = GuestMachine.Tables, lower = tables + 0x1000, window = (TierMachine.Window >> 30) * 8,
            last = 511 * 8;
        const int displacement = 0x7FFFFFF8;
        using TierMachine tier = Mapped(translated);
        tier.UseFaultStack(0x9000);
        // 4 GiB below the operand is a page.
        tier.Write(tables + last, tier.Read(tables));
        tier.Write(lower + last, tier.Read(lower + window));
        tier.Place(TierMachine.Code, c =>
        {
            c.cmp(rax, rdx);
            for (int i = 0; i < 3; i++) c.pop(rcx);
            c.mov(__[rsp + displacement], bl);
            c.setc(al);
        });
        ulong start = tier.Cpu.Rsp = TierMachine.Linear(1) + 0x100;
        tier.Run();
        Assert.Equal((Vector.PageFault, start + 24, start + 24 + displacement),
            (tier.Vector, tier.FaultRsp, tier.Cpu.State->Cr2));
    }

    [Theory]
    [InlineData(0x7FFFFFFF)]
    [InlineData(-0x80000000L)]
    public void Displacements_of_RIP_reach_2_GiB(long displacement)
    {
        foreach (bool translated in (bool[])[true, false])
        {
            using TierMachine tier = Mapped(translated);
            tier.Place(TierMachine.Code + 0x800, c =>
            {
                c.db([0x48, 0x8D, 0x05, .. BitConverter.GetBytes((int)displacement)]);  // lea rax, [rip + displacement]
                c.db([0x8A, 0x1D, .. BitConverter.GetBytes((int)displacement)]);        // mov bl, [rip + displacement]
            });
            tier.Run(TierMachine.Code + 0x800);
            ulong after = TierMachine.Code + 0x807 + (ulong)displacement;
            Assert.Equal((Vector.PageFault, after, after + 6), (tier.Vector, tier.Cpu.Rax, tier.Cpu.State->Cr2));
        }
    }

    [Theory, MemberData(nameof(Tiers))]
    public void Pushes_fault_with_the_stack_pointer_they_found(bool translated)
    {
        using TierMachine tier = Mapped(translated);
        const ulong handlers = 0x9000;
        tier.Place(TierMachine.Code, c =>
        {
            Label loop = c.CreateLabel();
            c.xor(eax, eax);
            c.Label(ref loop);
            c.push(rax);
            c.inc(rax);
            c.push(rax);
            c.inc(rax);
            c.jmp(loop);
        });
        tier.UseFaultStack(handlers);
        tier.Map(1, 0);
        tier.Cpu.Rsp = TierMachine.Linear(Pages) - 8;
        tier.Run();
        // An odd number of words was free: the second push faults.
        ulong count = (Pages - 2) * 512 - 1;
        Assert.Equal((Vector.PageFault, Code.Push_r64, count), (tier.Vector, tier.FaultCode, tier.Cpu.Rax));
        Assert.Equal((TierMachine.Linear(2), TierMachine.Linear(2) - 8), (tier.FaultRsp, tier.Cpu.State->Cr2));
        Assert.Equal(count - 1, tier.Read(TierMachine.Frame(2)));
    }

    [Theory, MemberData(nameof(Tiers))]
    public void A_string_instruction_stops_at_the_page_and_goes_on_there(bool translated)
    {
        using TierMachine tier = Mapped(translated);
        const ulong count = 0x3000;
        new Random(5).NextBytes(new Span<byte>(tier.Ram + TierMachine.Frame(0), (int)count + 0x1000));
        tier.Map(10, 0);
        tier.Map(2, 0);
        tier.Place(TierMachine.Code, c => { c.mov(rdx, rdi); c.rep.movsb(); c.hlt(); });
        ulong source = TierMachine.Window + 0x123, target = TierMachine.Linear(8) + 0x800;
        (tier.Cpu.Rsi, tier.Cpu.Rdi, tier.Cpu.Rcx) = (source, target, count);
        tier.Run();
        // The target's page is met first.
        Expect(TierMachine.Linear(10), TierMachine.Linear(10) - target);
        tier.Map(10, TierMachine.Frame(10));
        Resume();
        Expect(TierMachine.Linear(2), TierMachine.Linear(2) - source);
        tier.Map(2, TierMachine.Frame(2));
        Resume();
        Assert.Equal((-1, 0UL, source + count, target + count),
            (tier.Vector, tier.Cpu.Rcx, tier.Cpu.Rsi, tier.Cpu.Rdi));
        Assert.True(new Span<byte>(tier.Ram + TierMachine.Frame(0) + 0x123, (int)count)
            .SequenceEqual(new Span<byte>(tier.Ram + TierMachine.Frame(8) + 0x800, (int)count)));

        void Expect(ulong address, ulong done)
        {
            Assert.Equal((Vector.PageFault, TierMachine.Code + 3, address),
                (tier.Vector, tier.FaultRip, tier.Cpu.State->Cr2));
            Assert.Equal((source + done, target + done, count - done), (tier.Cpu.Rsi, tier.Cpu.Rdi, tier.Cpu.Rcx));
        }

        void Resume()
        {
            ulong rip = tier.FaultRip;
            tier.Cpu.Rsp = tier.FaultRsp;
            tier.Run(rip);
        }
    }

    public static IEnumerable<object[]> Stores => from tier in new[] { true, false } from name in s_stores.Keys
        where name != "vmovups" || HostFeatures.Current.Has("avx") select new object[] { tier, name };

    static readonly Dictionary<string, Action<Assembler>> s_stores = new()
    {
        ["mov word"] = c => c.mov(__[rbx - 1], ax), ["mov dword"] = c => c.mov(__[rbx - 3], eax), ["mov qword"]
        = c => c.mov(__[rbx - 1], rax),
        ["mov immediate"] = c => c.mov(__qword_ptr[rbx - 4], -1), ["add"] = c => c.add(__[rbx - 2], eax), ["lock add"]
        = c => c.@lock.add(__[rbx - 2], eax),
        ["xchg"] = c => c.xchg(__[rbx - 5], rax), ["movups"] = c => c.movups(__[rbx - 8], xmm0), ["vmovups"]
        = c => c.vmovups(__[rbx - 31], ymm1),
        ["fstp"] = c => c.fstp(__tbyte_ptr[rbx - 2]), ["fxsave"] = c => c.fxsave(__[rbx - 0x100]), ["fnsave"]
        = c => c.fnsave(__[rbx - 0x10]),
        ["xsave"] = c => c.xsave(__[rbx - 0x200]), ["xsaveopt"] = c => c.xsaveopt(__[rbx - 0x200]), ["stosq"]
        = c => c.stosq(),
    };

    /// <summary>Of the large ones only that is asked: they may write what they could before they fault.</summary>
    [Theory, MemberData(nameof(Stores))]
    public void A_store_over_two_pages_writes_to_neither_if_one_is_absent(bool translated, string name)
    {
        using TierMachine tier = Mapped(translated);
        Action<Assembler> store = s_stores[name];
        tier.Place(TierMachine.Code, c =>
        {
            Label loop = c.CreateLabel();
            c.xor(esi, esi);
            c.Label(ref loop);
            c.inc(esi);
            c.fninit();
            c.fld1();
            if (HostFeatures.Current.Has("avx")) c.vcmpps(ymm1, ymm1, ymm1, 15);
            else c.pcmpeqd(xmm1, xmm1);
            c.mov(rax, -1);
            c.mov(rdx, -1);
            c.lea(rdi, __[rbx - 7]);
            store(c);
            c.mov(rbx, rbp);
            c.cmp(esi, 2000);
            c.jb(loop);
            c.hlt();
        });
        tier.Map(5, 0);
        for (ulong at = TierMachine.Frame(3); at < TierMachine.Frame(7); at += 8) tier.Write(at, Mark);
        (tier.Cpu.Rbx, tier.Cpu.Rbp) = (TierMachine.Linear(12), TierMachine.Linear(5));
        tier.Run();
        Check(second: true);
        (tier.Cpu.Rbx, tier.Cpu.Rbp, tier.Cpu.Rsp) = (TierMachine.Linear(12), TierMachine.Linear(6), tier.FaultRsp);
        tier.Run();
        Check(second: false);
        // And then all of it.
        tier.Map(5, TierMachine.Frame(5));
        tier.Cpu.Rsp = tier.FaultRsp;
        tier.Run();
        Assert.Equal((-1, 2000UL), (tier.Vector, tier.Cpu.Rsi));
        Assert.Contains(Enumerable.Range(-1, 0x240 / 8 + 2),
            i => tier.Read(TierMachine.Frame(6) - (ulong)(i * 8)) != Mark);

        void Check(bool second)
        {
            Assert.Equal((Vector.PageFault, 2UL), (tier.Vector, tier.Cpu.Rsi));
            Assert.Equal(TierMachine.Linear(5), tier.Cpu.State->Cr2 & ~(TierMachine.Page - 1));
            if (!second) Assert.InRange(tier.Cpu.State->Cr2, TierMachine.Linear(6) - 0x240, TierMachine.Linear(6) - 1);
            for (ulong at = TierMachine.Frame(3); at < TierMachine.Frame(7); at += 8) Assert.Equal(Mark, tier.Read(at));
        }
    }

    static TierMachine Mapped(bool translated)
    {
        var tier = new TierMachine(translated);
        for (int i = 0; i < Pages; i++) tier.Map(i, TierMachine.Frame(i));
        for (ulong at = TierMachine.Frame(0); at < TierMachine.Frame(Pages); at += 8) tier.Write(at, Mark);
        return tier;
    }
}
