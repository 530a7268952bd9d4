using System.Runtime.Intrinsics.X86;
using Iced.Intel;
using Qkvm.Accel.Tcg;
using Qkvm.Testing;
using static Iced.Intel.AssemblerRegisters;

namespace Qkvm.Accel.Tests;

/// <summary>A test that asks this processor what SSE4A does.</summary>
public sealed class Sse4aFactAttribute() : ConditionalFactAttribute(
    (uint)X86Base.CpuId(unchecked((int)0x80000000), 0).Eax > 0x80000000
    && (X86Base.CpuId(unchecked((int)0x80000001), 0).Ecx & 1 << 6) != 0 ? null : "needs a processor with SSE4A");

/// <summary>AMD's extensions to MMX and SSE. AMD APM vol. 1, sections 4.2.2 and 5.3; vol. 2, section 3.1.7; vol. 4,
/// EXTRQ, INSERTQ, MOVNTSD, MOVNTSS.</summary>
public sealed unsafe class AmdExtensionTests : VectorProgram
{
    const uint Misaligned = 1 << 17;

    public AmdExtensionTests()
        : base("max", ("sse4a", true), ("misalignsse", true), ("fxsr-opt", true), ("mmxext", true)) { }

    ulong* Xmm(int number) => (ulong*)(Area + XsaveArea.Xmm0 + number * 16);

    static void Assemble(Assembler a, int form, byte length, byte index)
    {
        switch (form)
        {
            case 0: a.extrq(xmm0, length, index); break;
            case 1: a.extrq(xmm0, xmm1); break;
            case 2: a.insertq(xmm0, xmm1, length, index); break;
            default: a.insertq(xmm0, xmm1); break;
        }
    }

    [Sse4aFact]
    public void Fields_of_bits_are_as_this_processor_has_them()
    {
        using var oracle = new HostOracle(64, vectors: true);
        var random = new Random(44);
        byte* image = stackalloc byte[sizeof(XsaveArea)];
        for (int n = 0; n < 900; n++)
        {
            byte length = (byte)random.Next(64), index = (byte)random.Next(length == 0 ? 1 : 65 - length);
            for (int k = 0; k < 4; k++) Xmm(k / 2)[k % 2] = (ulong)random.NextInt64() << 1 ^ (ulong)random.Next();
            int form = n % 4;
            ulong control = length | (ulong)index << 8 | (ulong)random.Next() << 32;
            if (form == 1) Xmm(1)[0] = control;
            if (form == 3) Xmm(1)[1] = control;
            Mxcsr = 0x1F80;
            oracle.LoadVectors(Area);
            oracle.State->Gpr[4] = (ulong)oracle.Scratch + HostOracle.ScratchSize / 2;
            oracle.State->Flags = 0x202;
            Assert.Equal(Ok, Run(a => Assemble(a, form, length, index)));
            oracle.Run(_machine.Place(_start, 64, a => Assemble(a, form, length, index)));
            oracle.UnloadVectors(image);
            var expected = (ulong*)(image + XsaveArea.Xmm0);
            Assert.Equal((form, length, index, expected[0], expected[1]), (form, length, index, Xmm(0)[0], Xmm(0)[1]));
        }
    }

    [Fact]
    public void A_field_is_taken_out_and_put_in()
    {
        (Xmm(0)[0], Xmm(1)[0]) = (0x1122334455667788, 0xABCD);
        Run(a => a.extrq(xmm0, 16, 8));
        Assert.Equal(0x6677UL, Xmm(0)[0]);
        Xmm(0)[0] = 0x1122334455667788;
        Run(a => a.insertq(xmm0, xmm1, 16, 8));
        Assert.Equal(0x1122334455ABCD88UL, Xmm(0)[0]);
        Run(a => a.insertq(xmm0, xmm1, 0, 0));                      // 64 bits
        Assert.Equal(0xABCDUL, Xmm(0)[0]);
    }

    [Fact]
    public void The_lowest_element_is_stored_past_the_caches()
    {
        (Xmm(0)[0], *(ulong*)Memory(Data), *(ulong*)Memory(Data + 8)) = (0x1122334455667788, 0, 0);
        _machine.Cpu.Rax = Data;
        Assert.Equal(Ok, Run(a => { a.movntss(__[rax], xmm0); a.movntsd(__[rax + 8], xmm0); }));
        Assert.Equal((0x55667788UL, 0x1122334455667788UL), (*(ulong*)Memory(Data), *(ulong*)Memory(Data + 8)));
    }

    [Fact]
    public void Operands_may_be_misaligned_where_MXCSR_says_so()
    {
        _machine.Cpu.Rax = Data + 1;
        for (int i = 0; i < 4; i++) ((float*)Memory(Data + 1))[i] = i + 1;
        void Add(Assembler a) => a.addps(xmm0, __[rax]);
        void Exclusive(Assembler a) => a.pxor(xmm1, __[rax]);
        void Load(Assembler a) => a.movaps(xmm2, __[rax]);
        Mxcsr = 0x1F80;
        Assert.Equal(Vector.GeneralProtection, Run(Add));
        Assert.Equal(Vector.GeneralProtection, Run(Exclusive));
        Mxcsr |= Misaligned;
        (Xmm(0)[0], Xmm(0)[1], Xmm(1)[0], Xmm(1)[1]) = (0, 0, 0, 0);
        Assert.Equal((Ok, Ok), (Run(Add), Run(Exclusive)));
        Assert.Equal(4f, ((float*)Xmm(0))[3]);
        Assert.Equal(*(ulong*)Memory(Data + 1), Xmm(1)[0]);
        Assert.Equal(Vector.GeneralProtection, Run(Load));          // aligned by name
        Assert.Equal(0x1F80u | Misaligned, Mxcsr);
    }

    [Fact]
    public void The_bit_for_that_exists_where_CPUID_shows_it()
    {
        _machine.Cpu.Rax = Data;
        *(uint*)Memory(Data) = 0x1F80 | Misaligned;
        Assert.Equal(Ok, Run(a => a.ldmxcsr(__[rax])));
        Run(a => a.fxsave(__[rax]));
        Assert.Equal(0x2FFFFu, *(uint*)Memory(Data + XsaveArea.MxcsrMask));
        *(uint*)Memory(Data) = 0x1F80 | Misaligned << 1;
        Assert.Equal(Vector.GeneralProtection, Run(a => a.ldmxcsr(__[rax])));
    }

    [Fact]
    public void A_system_saves_without_vector_registers_where_it_asked_for_that()
    {
        _machine.Cpu.Rax = Data;
        new Span<byte>(Memory(Data), 512).Fill(0x55);
        Xmm(0)[0] = 0x1234;
        S->Efer |= Efer.Ffxsr;
        Run(a => a.fxsave64(__[rax]));
        Assert.Equal(0x5555555555555555UL, *(ulong*)Memory(Data + XsaveArea.Xmm0));
        Assert.Equal(0x1F80u, *(uint*)Memory(Data + XsaveArea.Mxcsr));
        *(ushort*)Memory(Data) = 0x27F;
        Run(a => a.fxrstor64(__[rax]));
        Assert.Equal((0x1234UL, 0x27F), (Xmm(0)[0], *(ushort*)Area));
        S->Efer &= ~Efer.Ffxsr;
        Run(a => a.fxsave64(__[rax]));
        Assert.Equal(0x1234UL, *(ulong*)Memory(Data + XsaveArea.Xmm0));
    }

    [Theory]
    [InlineData("athlon", true)]
    [InlineData("pentium2", false)]
    public void MMX_has_AMDs_extensions_without_SSE(string model, bool exists)
    {
        using var m = new SystemMachine(model, ("sse", false));
        m.Protected32();
        m.Place(0x0F, 0x70, 0xC1, 0, 0xCC);                         // PSHUFW mm0, mm1, 0
        m.Go(translated: false);
        Assert.Equal(exists ? 3 : 6, m.HandlerVector);
    }
}

/// <summary>3DNow!, as AMD's manuals 21928 and 22466 have it.</summary>
public sealed unsafe class ThreeDNowTests : VectorProgram
{
    public ThreeDNowTests() : base("max", ("3dnow", true), ("3dnowext", true)) { }

    ulong* Mm(int number) => (ulong*)(Area + XsaveArea.St0 + number * 16);

    static ulong Pair(float low, float high) =>
        BitConverter.SingleToUInt32Bits(low) | (ulong)BitConverter.SingleToUInt32Bits(high) << 32;

    ulong Compute(byte operation, ulong d, ulong s)
    {
        _machine.Cpu.Rax = Data;
        (*Mm(0), *(ulong*)Memory(Data)) = (d, s);
        Assert.Equal(Ok, Run(a => a.db(0x0F, 0x0F, 0x00, operation)));                  // op mm0, [rax]
        ulong fromMemory = *Mm(0);
        (*Mm(0), *Mm(1)) = (d, s);
        Assert.Equal(Ok, Run(a => a.db(0x0F, 0x0F, 0xC1, operation)));                  // op mm0, mm1
        Assert.Equal(fromMemory, *Mm(0));
        return fromMemory;
    }

    [Theory]
    [InlineData(0x9E, 4f, 1f)]                                      // PFADD
    [InlineData(0x9A, 2f, -5f)]                                     // PFSUB
    [InlineData(0xAA, -2f, 5f)]                                     // PFSUBR
    [InlineData(0xB4, 3f, -6f)]                                     // PFMUL
    [InlineData(0xA4, 3f, 3f)]                                      // PFMAX
    [InlineData(0x94, 1f, -2f)]                                     // PFMIN
    [InlineData(0xAE, 1f, 4f)]                                      // PFACC
    [InlineData(0x8A, 5f, -2f)]                                     // PFNACC
    [InlineData(0x8E, 5f, 4f)]                                      // PFPNACC
    [InlineData(0x96, 1f, 1f)]                                      // PFRCP
    [InlineData(0xBB, 3f, 1f)]                                      // PSWAPD
    public void Two_numbers_at_once(byte operation, float low, float high) =>
        Assert.Equal(Pair(low, high), Compute(operation, Pair(3, -2), Pair(1, 3)));

    [Fact]
    public void Numbers_and_integers()
    {
        Assert.Equal(Pair(-7, 9), Compute(0x0D, 0, 0xFFFFFFF9 | 9UL << 32));              // PI2FD
        Assert.Equal(Pair(-7, 9), Compute(0x0C, 0, 0x1234FFF9 | 0x00010009UL << 32));   // PI2FW
        Assert.Equal(0xFFFFFFFE | 0x7FFFFFFFUL << 32, Compute(0x1D, 0, Pair(-2.9f, 1e20f)));              // PF2ID
        Assert.Equal(0xFFFFFFFE | 0x7FFFUL << 32, Compute(0x1C, 0, Pair(-2.9f, 1e20f)));  // PF2IW
        Assert.Equal(0xFFFFFFFFUL, Compute(0xB0, Pair(1, 2), Pair(1, 3)));              // PFCMPEQ
        Assert.Equal(0xFFFFFFFFUL << 32, Compute(0xA0, Pair(1, 4), Pair(1, 3)));        // PFCMPGT
        Assert.Equal(ulong.MaxValue, Compute(0x90, Pair(1, 4), Pair(1, 3)));            // PFCMPGE
        Assert.Equal(0x0000000000000203UL, Compute(0xBF, 0x0103, 0x0303));              // PAVGUSB
        Assert.Equal(0x0002UL, Compute(0xB7, 0x0180, 0x0100));                          // PMULHRW rounds
    }

    [Fact]
    public void Nothing_is_denormal_or_infinite()
    {
        Assert.Equal(Pair(float.MaxValue, -float.MaxValue),
            Compute(0xB4, Pair(1e30f, -1e30f), Pair(1e30f, 1e30f)));
        Assert.Equal(Pair(0, 0), Compute(0xB4, Pair(1e-30f, 1e-30f), Pair(1e-30f, 1e-30f)));
        Assert.Equal(Pair(float.MaxValue, float.MaxValue), Compute(0x96, 0, Pair(0, 1)));
    }

    [Fact]
    public void The_x87s_registers_are_free_after_FEMMS()
    {
        Compute(0x9E, 0, 0);
        Assert.Equal(0xFF, Area[XsaveArea.Ftw]);
        Assert.Equal(Ok, Run(a => a.femms()));
        Assert.Equal(0, Area[XsaveArea.Ftw]);
    }
}
