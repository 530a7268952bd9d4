using Qkvm.Accel.Tcg;
using M = Qkvm.Accel.Tests.SystemMachine;

namespace Qkvm.Accel.Tests;

/// <summary>Too long, cut off, over the ends of pages and segments: what an instruction fetch faults with. Intel SDM
/// vol. 3, section 6.15.</summary>
public sealed unsafe class InstructionLengthTests
{
    const int Gp = 13, Ud = 6, Pf = 14, Bp = 3;
    const ulong PageEnd = M.Code + 0x1000;

    static byte[] Times(int count, byte prefix, params byte[] rest) => [.. Enumerable.Repeat(prefix, count), .. rest];

    public static TheoryData<byte[], int> Lengths() => new()
    {
        { Times(14, 0x66, 0x90, 0xCC), Bp }, { Times(15, 0x66, 0x90), Gp }, { Times(15, 0x2E, 0x90), Gp },
            { Times(20, 0xF3, 0x90), Gp },
        { Times(13, 0x66, 0x0F, 0xFF), Ud }, { Times(13, 0x2E, 0x0F, 0x0B), Ud }, { Times(14, 0x2E, 0x0F, 0x0B), Gp },
            { Times(14, 0x66, 0x0F, 0x04), Gp },
        // LOCK is wrong there, but length goes first
        { Times(14, 0xF0, 0x90), Ud }, { Times(15, 0xF0, 0x90), Gp },
        { Times(8, 0x3E, 0xF0, 0x81, 0x05, 0, 0, 0, 0, 0, 0, 0, 0), Gp },              // LOCK ADD m32, imm32: 19 bytes
    };

    [Theory, MemberData(nameof(Lengths))]
    public void Fifteen_bytes_are_the_most(byte[] code, int vector)
    {
        foreach (bool translated in (bool[])[false, true])
            foreach (int bits in (int[])[32, 64])
            {
                using var m = new M();
                _ = bits == 32 ? m.Protected32() : m.Long64();
                m.Place(code);
                m.Go(translated);
                Assert.Equal((vector, bits), (m.HandlerVector, bits));
                if (vector is Gp or Ud) Assert.Equal(M.Code, m.Top(vector == Gp ? 1 : 0, bits / 8));
                if (vector == Gp) Assert.Equal(0ul, m.Top(0, bits / 8));
            }
    }

    [Theory]
    [InlineData(15, Gp)]
    [InlineData(14, Bp)]
    public void Rex_prefixes_count_too(int count, int vector)
    {
        using SystemMachine m = new M().Long64();
        m.Place(Times(count, 0x48, 0x90, 0xCC));
        m.Go(translated: true);
        Assert.Equal(vector, m.HandlerVector);
    }

    /// <summary>The page behind is not there: what needs a byte of it faults there, what is too long before does
    /// not.</summary>
    [Theory]
    [InlineData(15, new byte[0], Gp)]
    [InlineData(14, new byte[0], Pf)]
    [InlineData(3, new byte[] { 0x0F }, Pf)]
    [InlineData(3, new byte[] { 0x0F, 0x0B }, Ud)]
    [InlineData(0, new byte[] { 0xC7, 0x05, 1, 2 }, Pf)]
    [InlineData(4, new byte[] { 0xCC }, Bp)]
    public void The_end_of_a_page(int prefixes, byte[] rest, int vector)
    {
        foreach (bool translated in (bool[])[false, true])
        {
            using SystemMachine m = new M().Long64();
            byte[] code = Times(prefixes, 0x66, rest);
            m.S->Rip = PageEnd - (ulong)code.Length;
            m.Place(code);
            m.SetPage(PageEnd, 0);
            m.Go(translated);
            Assert.Equal(vector, m.HandlerVector);
            if (vector != Pf) continue;
            Assert.Equal(PageEnd, m.S->Cr2);
            Assert.Equal(PageEnd - (ulong)code.Length, m.Top(1, 8));
        }
    }

    /// <summary>Behind CS.limit nothing is fetched: the instruction that reaches over it faults, those before it
    /// run.</summary>
    [Theory]
    [InlineData(0x100, new byte[] { 0x40, 0x40, 0xB8, 1, 0, 0, 0 }, 0x103, 0x102)]
    [InlineData(0x100, new byte[] { 0x40, 0x40, 0xB8, 1, 0, 0, 0 }, 0x105, 0x102)]
    [InlineData(0x100, new byte[] { 0x40, 0x40, 0x40 }, 0x101, 0x102)]
    // and over a page, which is not asked for
    [InlineData(0xFFE, new byte[] { 0x40, 0xB8, 1, 0, 0, 0 }, 0xFFF, 0xFFF)]
    [InlineData(0xFF0,
        new byte[] { 0x40, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66 }, 0xFF8,
        0xFF1)]
    public void The_end_of_a_segment(uint start, byte[] code, uint limit, uint faultsAt)
    {
        foreach (bool translated in (bool[])[false, true])
        {
            using SystemMachine m = new M().Protected32();
            m.S->Cs.Base = M.Code;
            m.S->Cs.Limit = limit;
            m.S->Rip = start;
            m.Cpu.Rax = 0;
            m.Place(code);
            m.Go(translated);
            Assert.Equal(Gp, m.HandlerVector);
            Assert.Equal(faultsAt, m.Top(1, 4));
            Assert.Equal(Math.Min(faultsAt - start, limit + 1 - start), m.Cpu.Rax & 0xFF);
        }
    }
}
