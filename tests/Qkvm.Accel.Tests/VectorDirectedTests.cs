using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using Iced.Intel;
using Qkvm.Accel.Tcg;
using static Iced.Intel.AssemblerRegisters;

namespace Qkvm.Accel.Tests;

/// <summary>What instructions on vector registers do besides computing: exceptions, alignment, faults, saved
/// state.</summary>
public sealed unsafe class VectorDirectedTests : VectorProgram
{
    double* Xmm(int number) => (double*)(Area + XsaveArea.Xmm0 + number * 16);

    [Fact]
    public void Fxrstor_and_memory_operands_find_their_alignment()
    {
        CpuState probe;
        Assert.Equal(0, (byte*)&probe.Xsave - (byte*)&probe & 63);
        Assert.Equal(0, probe.VectorScratch - (byte*)&probe & 63);
    }

    [Fact]
    public void An_unmasked_division_by_zero_raises_XM_and_leaves_the_destination()
    {
        Mxcsr = 0x1F80 & ~0x200u;
        (Xmm(0)[0], Xmm(1)[0]) = (1.5, 0);
        Assert.Equal(Vector.Simd, Run(a => a.divsd(xmm0, xmm1)));
        Assert.Equal(1.5, Xmm(0)[0]);
        Assert.Equal(0x1F80u & ~0x200u | 4, Mxcsr);
        Assert.Equal(_start, S->Rip);
    }

    [Fact]
    public void Without_OSXMMEXCPT_it_is_an_undefined_opcode()
    {
        S->Cr4 &= ~Cr4.Osxmmexcpt;
        Mxcsr = 0x1F80 & ~0x200u;
        (Xmm(0)[0], Xmm(1)[0]) = (1.5, 0);
        Assert.Equal(Vector.InvalidOpcode, Run(a => a.divsd(xmm0, xmm1)));
    }

    [Fact]
    public void An_unmasked_invalid_operation_hides_what_the_result_would_have_raised()
    {
        Mxcsr = 0x1F80 & ~0x80u;
        float* a0 = (float*)Xmm(0), a1 = (float*)Xmm(1);
        for (int i = 0; i < 4; i++) (a0[i], a1[i]) = (1, 3);        // inexact
        (a0[2], a1[2]) = (0, 0);                                    // invalid
        Assert.Equal(Vector.Simd, Run(a => a.divps(xmm0, xmm1)));
        Assert.Equal(1u, Mxcsr & 0x3F);
    }

    [Fact]
    public void Rounding_control_is_the_guests_and_does_not_leak()
    {
        Mxcsr = 0x1F80 | 2u << 13;                                  // up
        Xmm(1)[0] = 1.25;
        Assert.Equal(-1, Run(a => a.cvtsd2si(eax, xmm1)));
        Assert.Equal(2UL, _machine.Cpu.Rax);
        Assert.Equal(0x1FA0u | 2u << 13, Mxcsr);
        Vector128<double> quarter = Vector128.CreateScalar(Xmm(1)[0]);
        Assert.Equal(1, Sse2.ConvertToInt32(quarter));
    }

    [Fact]
    public void An_unmasked_x87_exception_waits_for_the_next_instruction()
    {
        Assert.Equal(Vector.X87, Run(a =>
        {
            a.fninit();
            a.mov(__word_ptr[Data], 0x37B);                         // division by zero unmasked
            a.fldcw(__word_ptr[Data]);
            a.fld1();
            a.fldz();
            a.fdivp(st1, st0);
            a.mov(ebx, 1);
            a.fnstsw(ax);                                           // does not wait
            a.fld1();                                               // does
            a.mov(ebx, 2);
        }));
        Assert.Equal(1UL, _machine.Cpu.Rbx);
        Assert.Equal(0x8084u, (uint)_machine.Cpu.Rax & 0x80BF);
        Assert.Equal(Vector.X87, Run(a => a.wait()));
        Assert.Equal(Vector.X87, Run(a => a.paddb(mm0, mm1)));
        Assert.Equal(-1, Run(a => { a.fnclex(); a.wait(); }));
    }

    [Fact]
    public void An_unmasked_overflow_stores_nothing_and_pops_nothing()
    {
        *(uint*)Memory(Data + 16) = 0x12345678;
        Assert.Equal(-1, Run(a =>
        {
            a.fninit();
            a.mov(__word_ptr[Data], 0x377);                         // overflow unmasked
            a.fldcw(__word_ptr[Data]);
            a.mov(rax, 0x7FE0000000000000);
            a.mov(__qword_ptr[Data + 8], rax);
            a.fld(__qword_ptr[Data + 8]);
            a.fstp(__dword_ptr[Data + 16]);
        }));
        Assert.Equal(0x12345678u, *(uint*)Memory(Data + 16));
        Assert.Equal(7, *(ushort*)(Area + XsaveArea.Fsw) >> 11 & 7);
        Assert.Equal(Vector.X87, Run(a => a.fld1()));
    }

    [HostFact("avx")]
    public void What_CR0_and_CR4_forbid_is_refused_as_the_manual_says()
    {
        Action<Assembler> sse = a => a.addps(xmm0, xmm1), move = a => a.movups(xmm0, xmm1), avx = a =>
            a.vaddps(ymm0, ymm1, ymm2),
            mmx = a => a.paddb(mm0, mm1), x87 = a => a.fld1(), wait = a => a.wait(), save = a =>
                a.fxsave(__[Data]), xsave = a => a.xsave(__[Data]);
        const int ok = -1, nm = Vector.DeviceNotAvailable, ud = Vector.InvalidOpcode;
        Action<Assembler>[] all = [sse, move, avx, mmx, x87, wait, save, xsave];
        Assert.Equal([ok, ok, ok, ok, ok, ok, ok, ok], all.Select(Run));
        S->Cr0 |= Cr0.Ts;
        Assert.Equal([nm, nm, nm, nm, nm, nm, nm, nm], all.Select(Run));
        S->Cr0 &= ~Cr0.Mp;
        Assert.Equal(ok, Run(wait));
        S->Cr0 = S->Cr0 & ~Cr0.Ts | Cr0.Em;
        Assert.Equal([ud, ud, ok, ud, nm, ok, nm, ok], all.Select(Run));
        S->Cr0 &= ~Cr0.Em;
        S->Cr4 &= ~Cr4.Osfxsr;
        Assert.Equal([ud, ud, ok, ok, ok, ok, ok, ok], all.Select(Run));
        S->Cr4 &= ~Cr4.Osxsave;
        Assert.Equal([ud, ud, ud, ok, ok, ok, ok, ud], all.Select(Run));
        S->Cr4 |= Cr4.Osxsave | Cr4.Osfxsr;
        S->Xcr0 = 3;
        Assert.Equal([ok, ok, ud, ok, ok, ok, ok, ok], all.Select(Run));
    }

    [Fact]
    public void A_model_without_a_feature_has_not_its_instructions()
    {
        using var machine = new GuestMachine(1, "max", ("sse4.1", false), ("avx", false));
        machine.Flat(64);
        machine.S->Cr4 |= Cr4.Osfxsr | Cr4.Osxsave;
        machine.S->Xcr0 = 3;
        ulong at = At;
        foreach (Action<Assembler> program in (Action<Assembler>[])[a => a.pminsb(xmm0, xmm1),
            a => a.vaddps(xmm0, xmm1, xmm2)])
        {
            at += 16;
            machine.Place(at, 64, program);
            machine.S->Rip = at;
            Assert.Equal(Vector.InvalidOpcode, Assert.Throws<GuestFault>(machine.Cpu.RunOne).Number);
        }
    }

    [HostFact("avx2 sse4.2")]
    public void Legacy_operands_of_16_bytes_must_be_aligned_and_others_need_not()
    {
        const int gp = Vector.GeneralProtection;
        Assert.Equal(gp, Run(a => a.movaps(xmm0, __[Data + 1])));
        Assert.Equal(gp, Run(a => a.movaps(__[Data + 8], xmm0)));
        Assert.Equal(gp, Run(a => a.addps(xmm0, __[Data + 4])));
        Assert.Equal(gp, Run(a => a.pxor(xmm0, __[Data + 4])));
        Assert.Equal(gp, Run(a => a.vmovaps(ymm0, __[Data + 16])));
        Assert.Equal(gp, Run(a => a.movntdq(__[Data + 8], xmm0)));
        Assert.Equal(gp, Run(a => a.fxsave(__[Data + 8])));
        Assert.Equal(gp, Run(a => a.xsave(__[Data + 32])));
        Assert.Equal(-1, Run(a =>
        {
            a.movups(xmm0, __[Data + 1]);
            a.addsd(xmm0, __[Data + 1]);
            a.vpaddd(ymm0, ymm1, __[Data + 1]);
            a.vmovaps(xmm0, __[Data + 16]);
            a.pcmpistri(xmm0, __[Data + 3], 0);
            a.paddb(mm0, __[Data + 3]);
        }));
    }

    [HostFact("avx2 sse4.1")]
    public void Loads_and_stores_may_cross_pages()
    {
        for (int i = 0; i < 64; i++) Memory(Data + 0xFE0)[i] = (byte)i;
        Assert.Equal(-1, Run(a =>
        {
            a.vmovdqu(ymm1, __[Data + 0xFF0]);
            a.vmovdqu(__[Data + 0x2FF9], ymm1);
            a.movups(xmm2, __[Data + 0xFF8]);
            a.movups(__[Data + 0x4FFF], xmm2);
            a.vpaddb(ymm3, ymm3, __[Data + 0xFF0]);
            a.pextrq(__[Data + 0x6FFD], xmm1, 1);
        }));
        for (int i = 0; i < 32; i++) Assert.Equal(i + 16, Memory(Data + 0x2FF9)[i]);
        for (int i = 0; i < 16; i++) Assert.Equal(i + 24, Memory(Data + 0x4FFF)[i]);
        for (int i = 0; i < 8; i++) Assert.Equal(i + 24, Memory(Data + 0x6FFD)[i]);
    }

    [HostFact("avx f16c")]
    public void A_store_that_faults_in_its_second_half_changes_nothing()
    {
        for (int i = 0; i < 32; i++) Memory(Absent - 32)[i] = 0xA5;
        new Span<byte>(Area + XsaveArea.Xmm0, 256).Fill(0x11);
        new Span<byte>(Area + XsaveArea.YmmHigh0, 256).Fill(0x11);
        Action<Assembler>[] stores =
        [
            a => a.vmovdqu(__[Absent - 16], ymm1), a => a.movups(__[Absent - 8], xmm1), a =>
                a.vextractf128(__[Absent - 8], ymm1, 1),
            a => a.fnsave(__[Absent - 20]), a => a.fnstenv(__[Absent - 20]), a => a.vcvtps2ph(__[Absent - 4], xmm1, 0),
        ];
        foreach (Action<Assembler> store in stores)
        {
            uint mxcsr = Mxcsr;
            Assert.Equal(Vector.PageFault, Run(store));
            Assert.Equal(Absent, S->Cr2);
            for (int i = 0; i < 32; i++) Assert.Equal(0xA5, Memory(Absent - 32)[i]);
            Assert.Equal(mxcsr, Mxcsr);
        }
        Assert.Equal(Vector.PageFault, Run(a => { a.fninit(); a.fld1(); a.fstp(__tword_ptr[Absent - 4]); }));
        Assert.Equal(7, *(ushort*)(Area + XsaveArea.Fsw) >> 11 & 7);
    }

    [HostFact("avx2")]
    public void Masked_elements_do_not_fault()
    {
        int* mask = (int*)(Area + XsaveArea.Xmm0 + 16), data = (int*)(Area + XsaveArea.Xmm0 + 32);
        (mask[0], mask[1], mask[2], mask[3]) = (-1, 0, 0, 0);
        data[0] = 42;
        Assert.Equal(-1, Run(a => a.vpmaskmovd(__[Absent - 4], xmm1, xmm2)));
        Assert.Equal(42, *(int*)Memory(Absent - 4));
        Assert.Equal(-1, Run(a => a.vpmaskmovd(xmm3, xmm1, __[Absent - 4])));
        Assert.Equal(42, *(int*)(Area + XsaveArea.Xmm0 + 48));
        mask[1] = -1;
        *(int*)Memory(Absent - 4) = 1;
        Assert.Equal(Vector.PageFault, Run(a => a.vpmaskmovd(__[Absent - 4], xmm1, xmm2)));
        Assert.Equal(1, *(int*)Memory(Absent - 4));
        int* index = (int*)(Area + XsaveArea.Xmm0 + 64);
        (index[0], index[1]) = (-4, 0);
        Assert.Equal(Vector.PageFault,
            Run(a => { a.mov(eax, (uint)Absent); a.vpgatherdd(xmm5, __[rax + xmm4], xmm1); }));
        Assert.Equal(1, *(int*)(Area + XsaveArea.Xmm0 + 80));       // the first element is done
        Assert.Equal((0, -1), (mask[0], mask[1]));
    }

    [Fact]
    public void Reserved_bits_of_MXCSR_raise_GP()
    {
        *(uint*)Memory(Data) = 0x10000;
        Assert.Equal(Vector.GeneralProtection, Run(a => a.ldmxcsr(__dword_ptr[Data])));
        Assert.Equal(-1, Run(a => { a.fxsave(__[Data]); a.stmxcsr(__dword_ptr[Data + 0x400]); }));
        Assert.Equal(0xFFFFu, *(uint*)Memory(Data + XsaveArea.MxcsrMask));
        Assert.Equal(0x1F80u, *(uint*)Memory(Data + 0x400));
        *(uint*)Memory(Data + XsaveArea.Mxcsr) = 0x11F80;
        Assert.Equal(Vector.GeneralProtection, Run(a => a.fxrstor(__[Data])));
    }

    [Fact]
    public void The_environment_names_the_tags_and_comes_back()
    {
        Assert.Equal(-1, Run(a =>
        {
            a.fninit();
            a.fld1();
            a.fldz();
            a.fnstenv(__[Data]);
            a.fnsave(__[Data + 0x100]);
            a.frstor(__[Data + 0x100]);
            a.fnstenv(__[Data + 0x200]);
            a.fldenv(__[Data]);
        }));
        Assert.Equal(0xFFF037Fu, *(uint*)Memory(Data) & 0xFFFFFFF);
        Assert.Equal(0x1FFF, *(ushort*)Memory(Data + 8));           // register 7 valid, 6 zero
        Assert.Equal(0x3FFF, *(ushort*)Memory(Data + 0x100 + 28 + 10 + 8));
        for (int i = 0; i < 12; i++) Assert.Equal(Memory(Data)[i], Memory(Data + 0x200)[i]);
        Assert.Equal(6, *(ushort*)(Area + XsaveArea.Fsw) >> 11 & 7);
    }

    [Theory]
    [InlineData("xsave")]
    [InlineData("xsaveopt")]
    [InlineData("xsavec")]
    public void Saved_state_comes_back(string form)
    {
        new Random(5).NextBytes(new Span<byte>(Area + XsaveArea.Xmm0, 256));
        new Random(6).NextBytes(new Span<byte>(Area + XsaveArea.YmmHigh0, 256));
        Mxcsr = 0x1FA1;
        Assert.Equal(-1, Run(a => { a.fninit(); a.fld1(); a.fldpi(); }));
        byte[] before = new Span<byte>(Area, sizeof(XsaveArea)).ToArray();
        Assert.Equal(-1, Run(a =>
        {
            a.mov(eax, 7);
            a.cdq();
            if (form == "xsave") a.xsave(__[Data]);
            else if (form == "xsaveopt") a.xsaveopt(__[Data]);
            else a.xsavec(__[Data]);
        }));
        ulong all = _machine.Cpu.Xcr0Supported & 7;
        Assert.Equal(all, *(ulong*)Memory(Data + 512));
        Assert.Equal(form == "xsavec" ? 1UL << 63 | all : 0, *(ulong*)Memory(Data + 520));
        new Span<byte>(Area, sizeof(XsaveArea)).Clear();
        Assert.Equal(-1, Run(a => { a.mov(eax, 7); a.cdq(); a.xrstor(__[Data]); }));
        Assert.Equal(before[..28], new Span<byte>(Area, 28).ToArray());
        Assert.Equal(before[32..416], new Span<byte>(Area + 32, 384).ToArray());
        Assert.Equal((all & 4) != 0 ? before[576..832] : new byte[256], new Span<byte>(Area + 576, 256).ToArray());
    }

    // Intel SDM vol. 1, sections 13.4.3 and 13.5.7: component 9, in each format at its own place.
    [Theory]
    [InlineData(false, 7u, 2688)]
    [InlineData(true, 7u, 832)]
    [InlineData(true, 3u, 576)]
    public void PKRU_is_saved_and_comes_back(bool compacted, uint others, int at)
    {
        const uint keys = 0x5555_5554, component = 1 << 9;
        S->Pkru = keys;
        // nothing is left free for AVX that is not there
        if (compacted && (others & ~_machine.Cpu.Xcr0Supported & 4) != 0) at -= 256;
        Assert.Equal(-1, Run(a =>
        {
            a.mov(eax, others | component);
            a.xor(edx, edx);
            if (compacted) a.xsaves(__[Data]);
            else a.xsave(__[Data]);
        }));
        Assert.Equal((ulong)keys, *(ulong*)Memory(Data + (ulong)at));
        Assert.Equal(component, *(uint*)Memory(Data + 512) & component);
        S->Pkru = 0;
        Assert.Equal(-1, Run(a => { a.mov(eax, component); a.xor(edx, edx); a.xrstor(__[Data]); }));
        Assert.Equal(keys, S->Pkru);
        *(uint*)Memory(Data + 512) &= ~component;
        Assert.Equal(-1, Run(a => { a.mov(eax, component); a.xor(edx, edx); a.xrstor(__[Data]); }));
        Assert.Equal(0u, S->Pkru);
    }

    [HostFact("avx")]
    public void Initial_components_are_not_written_and_are_restored_as_initial()
    {
        new Span<byte>(Memory(Data), 832).Fill(0xEE);
        Assert.Equal(-1, Run(a =>
        {
            a.fninit();
            a.vzeroall();
            a.mov(eax, 1);
            a.movd(xmm3, eax);
            a.mov(eax, 7);
            a.cdq();
            a.xsavec(__[Data]);
        }));
        Assert.Equal(2UL, *(ulong*)Memory(Data + 512));
        Assert.Equal(0xEEEEEEEEu, *(uint*)Memory(Data + 576));
        Assert.Equal(0xEEEEEEEEu, *(uint*)Memory(Data));
        new Span<byte>(Memory(Data + 528), 48).Clear();
        new Span<byte>(Area + XsaveArea.YmmHigh0, 256).Fill(1);
        Assert.Equal(-1, Run(a => { a.fld1(); a.xrstor(__[Data]); }));
        Assert.Equal(0x37F, *(ushort*)Area);
        Assert.Equal(0, Area[XsaveArea.Ftw]);
        Assert.Equal(0UL, *(ulong*)(Area + XsaveArea.YmmHigh0));
        Assert.Equal(1UL, *(ulong*)(Area + XsaveArea.Xmm0 + 48));
    }

    [Theory]
    [InlineData(512, 8UL)]                                          // a component that XCR0 lacks
    [InlineData(520, 1UL)]                                          // XCOMP_BV without bit 63
    [InlineData(528, 1UL)]                                          // reserved
    [InlineData(520, 1UL << 63 | 8)]                                // compacted, a component that XCR0 lacks
    [InlineData(520, 1UL << 63 | 1)]                                // XSTATE_BV beyond XCOMP_BV
    public void Wrong_headers_raise_GP(int at, ulong value)
    {
        Assert.Equal(-1, Run(a => { a.mov(eax, 7); a.cdq(); a.xsave(__[Data]); }));
        *(ulong*)Memory(Data + 512) = _machine.Cpu.Xcr0Supported & 7;
        new Span<byte>(Memory(Data + 520), 56).Clear();
        Assert.Equal(-1, Run(a => a.xrstor(__[Data])));
        *(ulong*)Memory(Data + (ulong)at) = value;
        Assert.Equal(Vector.GeneralProtection, Run(a => a.xrstor(__[Data])));
    }

    [Fact]
    public void MMX_switches_the_x87_registers_and_EMMS_back()
    {
        Assert.Equal(-1, Run(a =>
        {
            a.fninit();
            a.fld1();
            a.mov(eax, 0x01020304);
            a.movd(mm2, eax);
            a.movq(mm3, mm2);
            a.paddb(mm3, mm2);
            a.movd(ebx, mm3);
        }));
        Assert.Equal(0x02040608UL, _machine.Cpu.Rbx);
        Assert.Equal((0, 0xFF), (*(ushort*)(Area + XsaveArea.Fsw) >> 11 & 7, Area[XsaveArea.Ftw]));
        Assert.Equal(0xFFFF, *(ushort*)(Area + XsaveArea.St0 + 3 * 16 + 8));
        Assert.Equal(0x8000000000000000UL, *(ulong*)(Area + XsaveArea.St0 + 7 * 16));
        Assert.Equal(-1, Run(a => a.emms()));
        Assert.Equal(0, Area[XsaveArea.Ftw]);
    }
}
