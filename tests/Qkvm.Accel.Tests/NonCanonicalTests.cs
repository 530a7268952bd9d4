using Iced.Intel;
using Qkvm.Accel.Tcg;
using static Iced.Intel.AssemblerRegisters;

namespace Qkvm.Accel.Tests;

/// <summary>Addresses that are none, on either tier: whatever the CPU keeps for "nothing here" must not be found by
/// them.</summary>
public sealed unsafe class NonCanonicalTests
{
    static readonly ulong[] s_addresses = [1UL << 63, 1UL << 63 | 1, 1UL << 62, 0x8000000000000800, 0x7FFFFFFFFFFFF000,
        1UL << 47, ulong.MaxValue << 48];

    static readonly Dictionary<string, Action<Assembler>> s_uses = new()
    {
        ["load"] = c => c.mov(rax, __[rbx]), ["load byte"] = c => c.mov(ah, __[rbx]), ["store"]
        = c => c.mov(__[rbx], rax), ["xchg"] = c => c.xchg(__[rbx], ah),
        ["lock add"] = c => c.@lock.add(__[rbx], rax), ["movups"] = c => c.movups(xmm0, __[rbx]), ["jmp"]
        = c => c.jmp(rbx), ["call"] = c => c.call(rbx),
        ["stosb"] = c => { c.mov(rdi, rbx); c.stosb(); }, ["push"] = c => c.push(__qword_ptr[rbx]), ["ret"]
        = c => { c.push(rbx); c.ret(); },
    };

    public static IEnumerable<object[]> Uses =>
        from tier in new[] { true, false } from name in s_uses.Keys select new object[] { tier, name };

    [Theory, MemberData(nameof(Uses))]
    public void Their_use_is_a_protection_fault(bool translated, string name)
    {
        foreach (ulong address in s_addresses)
        {
            using var tier = new TierMachine(translated);
            tier.Place(TierMachine.Code, c => { s_uses[name](c); c.hlt(); });
            tier.Cpu.Rbx = address;
            tier.Run();
            Assert.Equal((Vector.GeneralProtection, address), (tier.Vector, tier.Cpu.Rbx));
            Assert.InRange(tier.FaultRip, TierMachine.Code, TierMachine.Code + 3);
        }
    }
}
