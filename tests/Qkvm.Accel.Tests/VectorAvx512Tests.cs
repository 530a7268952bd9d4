using Iced.Intel;
using Qkvm.Accel.Tcg;
using Qkvm.Accel.Tcg.Model;
using Qkvm.Core.Accel;
using static Iced.Intel.AssemblerRegisters;

namespace Qkvm.Accel.Tests;

/// <summary>AVX-512 besides computing: what may fault, what enables it, how its state is saved.</summary>
public sealed unsafe class VectorAvx512Tests : VectorProgram
{
    const int Nm = Vector.DeviceNotAvailable, Ud = Vector.InvalidOpcode, Gp = Vector.GeneralProtection,
        Pf = Vector.PageFault;

    ulong* K => (ulong*)(Area + XsaveArea.Opmask0);
    int* Xmm(int number) => (int*)(Area + XsaveArea.Xmm0 + number * 16);
    int* Zmm16(int number) => (int*)(Area + XsaveArea.Zmm16 + (number - 16) * 64);

    [Avx512Fact]
    public void What_control_registers_forbid_is_refused_as_the_manual_says()
    {
        Action<Assembler> whole = a => a.vpaddd(zmm0, zmm1, zmm2), narrow = a => a.evex.vpaddd(xmm16, xmm1, xmm2),
            masks = a => a.kandw(k1, k2, k3),
            scalar = a => a.evex.vaddsd(xmm20, xmm1, xmm2), load = a => a.kmovq(k1, __qword_ptr[Data]);
        Action<Assembler>[] all = [whole, narrow, masks, scalar, load];
        Assert.Equal([Ok, Ok, Ok, Ok, Ok], all.Select(Run));
        S->Cr0 |= Cr0.Ts;
        Assert.Equal([Nm, Nm, Nm, Nm, Nm], all.Select(Run));
        S->Xcr0 = 7;                                                // #UD goes before #NM
        Assert.Equal([Ud, Ud, Ud, Ud, Ud], all.Select(Run));
        S->Cr0 &= ~Cr0.Ts;
        Assert.Equal([Ud, Ud, Ud, Ud, Ud], all.Select(Run));
        Assert.Equal(Ok, Run(a => a.vaddps(ymm0, ymm1, ymm2)));
        S->Xcr0 = _machine.Cpu.Xcr0Supported;
        S->Cr4 &= ~Cr4.Osxsave;
        Assert.Equal([Ud, Ud, Ud, Ud, Ud], all.Select(Run));
        S->Cr4 |= Cr4.Osxsave;
        S->Cr4 &= ~Cr4.Osfxsr;                                      // of no concern to EVEX
        Assert.Equal([Ok, Ok, Ok, Ok, Ok], all.Select(Run));
    }

    // Intel SDM vol. 1, section 13.3.
    [Avx512Fact]
    public void XSETBV_takes_AVX512_whole_and_with_AVX_only()
    {
        foreach ((uint value, int outcome) in ((uint, int)[])[(0xE7, Ok), (7, Ok), (3, Ok), (0xE3, Gp), (0x27, Gp),
            (0x67, Gp), (0xC7, Gp), (0xE5, Gp),
            (0xE6, Gp), (0x2E7, Ok), (0x1E7, Gp), (1, Ok)])
            Assert.Equal((value, outcome), (value, Run(a =>
            {
                a.mov(eax, value);
                a.xor(edx, edx);
                a.xor(ecx, ecx);
                a.xsetbv();
            })));
    }

    [Avx512Fact]
    public void Features_are_switched_off_with_what_they_depend_on()
    {
        Cpuid all = Resolve(), without = Resolve(("avx512f", false)), narrow = Resolve(("avx512vl", false)),
            old = Resolve(("avx2", false));
        Assert.True(all.Has("avx512f") && all.Has("avx512vl") && all.Has("avx512bw"));
        Assert.False(without.Has("avx512vl") || without.Has("avx512bw") || without.Has("avx512vbmi")
            || without.Has("avx512-bf16"));
        Assert.True(without.Has("avx2") && narrow.Has("avx512f"));
        Assert.False(old.Has("avx512f") || old.Has("avx512dq"));
        Assert.Equal(0UL, without.Xcr0Mask & 0xE0);
        Assert.Equal(0xE0UL, all.Xcr0Mask & 0xE0);
        Assert.Equal((Ud, Ud),
            (RunOn("avx512f", a => a.vpaddd(zmm0, zmm1, zmm2)), RunOn("avx512f", a => a.kandw(k1, k2, k3))));
        Assert.Equal((Ud, Ok),
            (RunOn("avx512vl", a => a.evex.vpaddd(xmm16, xmm1, xmm2)),
            RunOn("avx512vl", a => a.vpaddd(zmm16, zmm1, zmm2))));
        Assert.Equal((Ud, Ok),
            (RunOn("avx512bw", a => a.vpaddb(zmm0, zmm1, zmm2)), RunOn("avx512bw", a => a.kandw(k1, k2, k3))));
        Assert.Equal((Ud, Ok),
            (RunOn("avx512dq", a => a.vpmullq(zmm0, zmm1, zmm2)), RunOn("avx512dq", a => a.vpmulld(zmm0, zmm1, zmm2))));

        static Cpuid Resolve(params (string, bool)[] features) =>
            CpuModels.Resolve(new CpuSetup("max", [.. features.Select(f => KeyValuePair.Create(f.Item1, f.Item2))], 0,
                1, 1, 1));
    }

    /// <summary>One instruction on a processor without a feature.</summary>
    static int RunOn(string missing, Action<Assembler> program)
    {
        using var machine = new GuestMachine(1, "max", (missing, false));
        machine.Flat(64);
        machine.S->Cr4 |= Cr4.Osfxsr | Cr4.Osxsave;
        machine.S->Xcr0 = 0xE7;
        machine.Place(At, 64, program);
        machine.S->Rip = At;
        try
        {
            machine.Cpu.RunOne();
            return Ok;
        }
        catch (GuestFault fault)
        {
            return fault.Number;
        }
    }

    [Avx512Fact]
    public void Elements_that_are_masked_out_do_not_fault()
    {
        for (int i = 0; i < 16; i++) Zmm16(17)[i] = 100 + i;
        K[1] = 0xFF;                                                // eight dwords before the edge
        Assert.Equal(Ok, Run(a => a.vmovdqu32(__[Absent - 32].k1, zmm17)));
        Assert.Equal((100, 107), (*(int*)Memory(Absent - 32), *(int*)Memory(Absent - 4)));
        Assert.Equal(Ok, Run(a => a.vmovdqu32(zmm18.k1.z, __[Absent - 32])));
        Assert.Equal((100, 107, 0), (Zmm16(18)[0], Zmm16(18)[7], Zmm16(18)[8]));
        Assert.Equal(Ok, Run(a => a.vpaddd(zmm19.k1, zmm17, __zmmword_ptr[Absent - 32])));
        Assert.Equal(207 + 7, Zmm16(19)[7]);
        K[1] = 0x1FF;
        *(int*)Memory(Absent - 32) = 1;
        Assert.Equal((Pf, Absent), (Run(a => a.vmovdqu32(__[Absent - 32].k1, zmm17)), S->Cr2));
        Assert.Equal(1, *(int*)Memory(Absent - 32));                // nothing was stored
        K[1] = 0x8000;
        Assert.Equal((Pf, Absent + 28), (Run(a => a.vmovdqu32(zmm18.k1, __[Absent - 32])), S->Cr2));
        K[1] = 0;
        Assert.Equal(Ok, Run(a => a.vpaddd(zmm19.k1, zmm17, __dword_bcst[Absent])));
        Assert.Equal(Ok, Run(a => a.vbroadcastf32x4(zmm19.k1, __[Absent])));
        Assert.Equal(Ok, Run(a => a.vmovdqa32(zmm18.k1, __[Absent + 4])));             // not even for its alignment
        K[1] = 0x100;
        Assert.Equal(Pf, Run(a => a.vpaddd(zmm19.k1, zmm17, __dword_bcst[Absent])));
        Assert.Equal(Gp, Run(a => a.vmovdqa32(zmm18.k1, __[Data + 4])));
    }

    // Exception types with "NF" in Intel SDM vol. 2, section 2.8.
    [Avx512Fact]
    public void Instructions_that_move_elements_about_read_all_of_memory()
    {
        K[1] = 0;
        Assert.Equal(Pf, Run(a => a.vpermd(zmm1.k1, zmm2, __zmmword_ptr[Absent - 32])));
        Assert.Equal(Pf, Run(a => a.vpshufb(zmm1.k1, zmm2, __zmmword_ptr[Absent - 32])));
        Assert.Equal(Pf, Run(a => a.vpsrld(zmm1.k1, zmm2, __xmmword_ptr[Absent - 8])));
        Assert.Equal(Ok, Run(a => a.vpsrld(zmm1.k1, __zmmword_ptr[Absent - 8], 3)));
        Assert.Equal(Pf, Run(a => a.vextractf32x4(__[Absent - 8].k1, zmm2, 1)));
    }

    [Avx512Fact]
    public void Compressed_and_expanded_elements_are_as_many_as_mask_bits()
    {
        for (int i = 0; i < 16; i++) Zmm16(17)[i] = i;
        K[1] = 0b1010_0101_0000_0010;
        Assert.Equal(Ok, Run(a => a.vpcompressd(__[Absent - 20].k1, zmm17)));
        Assert.Equal([1, 8, 10, 13, 15], new ReadOnlySpan<int>(Memory(Absent - 20), 5).ToArray());
        Assert.Equal(Pf, Run(a => a.vpcompressd(__[Absent - 16].k1, zmm17)));
        Assert.Equal(8, *(int*)Memory(Absent - 16));
        Assert.Equal(Ok, Run(a => a.vpexpandd(zmm18.k1.z, __[Absent - 20])));
        Assert.Equal((0, 1, 8, 15), (Zmm16(18)[0], Zmm16(18)[1], Zmm16(18)[8], Zmm16(18)[15]));
    }

    [Avx512Fact]
    public void A_gather_that_faults_keeps_what_it_has_and_goes_on_later()
    {
        int* index = Zmm16(20);
        for (int i = 0; i < 16; i++) (index[i], Zmm16(21)[i]) = (i < 10 ? i - 16 : i - 10, -1);
        for (int i = 0; i < 16; i++) *(int*)(Memory(Absent) - 64 + i * 4) = 1000 + i;
        K[2] = 0xFFFD;
        Action<Assembler> gather = a => a.vpgatherdd(zmm21.k2, __[rax + zmm20 * 4]);
        _machine.Cpu.Rax = Absent;
        Assert.Equal((Pf, Absent), (Run(gather), S->Cr2));
        Assert.Equal((1000, -1, 1009, -1), (Zmm16(21)[0], Zmm16(21)[1], Zmm16(21)[9], Zmm16(21)[10]));
        Assert.Equal(0xFC00UL, K[2]);
        for (int i = 10; i < 16; i++) index[i] = -1;
        Assert.Equal(Ok, Run(gather));
        Assert.Equal((1009, 1015, 1015), (Zmm16(21)[9], Zmm16(21)[10], Zmm16(21)[15]));
        Assert.Equal(0UL, K[2]);
        Assert.Equal(Ud, Run(a => a.vpgatherdd(zmm21.k2, __[rax + zmm21 * 4])));
    }

    [Avx512Fact]
    public void A_scatter_that_faults_has_stored_what_its_mask_says()
    {
        int* index = Zmm16(20);
        for (int i = 0; i < 16; i++) (index[i], Zmm16(21)[i]) = (i < 3 ? -1 - i : 0, i);
        K[2] = 0xFFFF;
        _machine.Cpu.Rax = Absent;
        Assert.Equal((Pf, Absent), (Run(a => a.vpscatterdd(__[rax + zmm20 * 4].k2, zmm21)), S->Cr2));
        Assert.Equal((0, 1, 2), (*(int*)Memory(Absent - 4), *(int*)Memory(Absent - 8), *(int*)Memory(Absent - 12)));
        Assert.Equal(0xFFF8UL, K[2]);
    }

    [Avx512Fact]
    public void Unmasked_exceptions_raise_XM_unless_the_instruction_suppresses_them()
    {
        float* one = (float*)Zmm16(16), zero = (float*)Zmm16(17), result = (float*)Zmm16(18);
        for (int i = 0; i < 16; i++) (one[i], zero[i], result[i]) = (1, i == 5 ? 0 : 1, 7);
        Mxcsr = 0x1F80 & ~0x200u;
        Assert.Equal(Vector.Simd, Run(a => a.vdivps(zmm18, zmm16, zmm17)));
        Assert.Equal((7, 7), (result[0], result[5]));
        Assert.Equal(0x1F80u & ~0x200u | 4, Mxcsr);
        Mxcsr = 0x1F80 & ~0x200u;
        K[1] = 0xFFDF;                                              // not the element that divides by 0
        Assert.Equal(Ok, Run(a => a.vdivps(zmm18.k1, zmm16, zmm17)));
        Assert.Equal((1, 7), (result[0], result[5]));
        Assert.Equal(Ok, Run(a => a.vdivps(zmm18, zmm16, zmm17.rz_sae)));
        Assert.Equal(float.PositiveInfinity, result[5]);
        Assert.Equal(0x1F80u & ~0x200u, Mxcsr);
        S->Cr4 &= ~Cr4.Osxmmexcpt;
        Assert.Equal(Ud, Run(a => a.vdivps(zmm18, zmm16, zmm17)));
    }

    [Avx512Fact]
    public void Instructions_of_AVX_clear_what_is_above_them()
    {
        Action<Assembler>[] programs =
        [
            a => a.vaddps(ymm1, ymm2, ymm3), a => a.vpxor(xmm1, xmm2, xmm3), a => a.vpxor(ymm1, ymm2, ymm3), a =>
                a.vmovdqu(ymm1, __ymmword_ptr[Data]),
            a => a.vmovd(xmm1, eax), a => a.vpmaskmovd(ymm1, ymm2, __[Data]), a =>
                a.vpshufb(ymm1, ymm2, __ymmword_ptr[Data]), a => a.vzeroupper(),
        ];
        foreach (bool translated in (bool[])[false, true])
            foreach (Action<Assembler> program in programs)
            {
                new Span<byte>(Area + XsaveArea.ZmmHigh0, 512).Fill(0x55);
                if (translated) RunTranslated(program);
                else Assert.Equal(Ok, Run(program));
                Assert.Equal(0UL, *(ulong*)(Area + XsaveArea.ZmmHigh0 + 32));
            }
        new Span<byte>(Area + XsaveArea.ZmmHigh0, 512).Fill(0x55);
        Assert.Equal(Ok, Run(a => a.addps(xmm1, xmm2)));
        Assert.Equal(0x5555555555555555UL, *(ulong*)(Area + XsaveArea.ZmmHigh0 + 32));
    }

    void RunTranslated(Action<Assembler> program)
    {
        _machine.Cpu.Translates = true;
        _machine.Cpu.FindVectorsInUse();
        _machine.Cpu.ModeChanged();
        _start += 0x200;
        _machine.Place(_start, 64, a => { program(a); a.hlt(); });
        long before = _machine.Cpu.Translations;
        _machine.RunToHalt(_start);
        Assert.True(_machine.Cpu.Translations > before);
        _machine.Cpu.Translates = false;
        _machine.Cpu.ModeChanged();
    }

    [Avx512Fact]
    public void Translated_code_loads_and_leaves_all_registers()
    {
        new Random(3).NextBytes(new Span<byte>(Area + XsaveArea.Xmm0, 256));
        new Random(4).NextBytes(new Span<byte>(Area + XsaveArea.YmmHigh0, sizeof(XsaveArea) - XsaveArea.YmmHigh0));
        byte[] before = new Span<byte>(Area, sizeof(XsaveArea)).ToArray();
        RunTranslated(a =>
        {
            a.vmovdqu64(__[Data], zmm31);
            a.addps(xmm0, xmm0);
            a.vpaddd(zmm0, zmm1, zmm17);
            a.kmovq(rbx, k3);
            a.vpcmpeqd(k4, zmm5, zmm5);
        });
        byte[] after = new Span<byte>(Area, sizeof(XsaveArea)).ToArray();
        Assert.Equal(before[(XsaveArea.Zmm16 + 15 * 64)..], new ReadOnlySpan<byte>(Memory(Data), 64).ToArray());
        Assert.Equal(BitConverter.ToUInt64(before, XsaveArea.Opmask0 + 3 * 8), _machine.Cpu.Rbx);
        Assert.Equal(0xFFFFUL, K[4]);
        Assert.Equal(*(int*)(Area + XsaveArea.ZmmHigh0),
            BitConverter.ToInt32(before, XsaveArea.ZmmHigh0 + 32)
                + BitConverter.ToInt32(before, XsaveArea.Zmm16 + 64 + 32));
        foreach ((int from, int to) in ((int, int)[])[(XsaveArea.Xmm0 + 16, XsaveArea.Xmm0 + 256),
            (XsaveArea.YmmHigh0 + 16, XsaveArea.Opmask0 + 32),
            (XsaveArea.Opmask0 + 40, XsaveArea.ZmmHigh0), (XsaveArea.ZmmHigh0 + 32, sizeof(XsaveArea))])
            if (from != XsaveArea.YmmHigh0 + 16) Assert.Equal(before[from..to], after[from..to]);
            else Assert.Equal(before[from..(from + 240)], after[from..(from + 240)]);
    }

    // Intel SDM vol. 1, sections 13.4.2, 13.4.3 and 13.5.
    [Avx512Fact]
    public void CPUID_says_where_components_are()
    {
        Cpuid cpuid = _machine.Cpu.Model;
        Assert.Equal(new CpuidResult(64, 1088, 0, 0), cpuid.Query(0xD, 5, 0, 7, 0));
        Assert.Equal(new CpuidResult(512, 1152, 0, 0), cpuid.Query(0xD, 6, 0, 7, 0));
        Assert.Equal(new CpuidResult(1024, 1664, 0, 0), cpuid.Query(0xD, 7, 0, 7, 0));
        Assert.Equal((2688u, 832u + 1600), (cpuid.Query(0xD, 0, 0, 0xE7, 0).Ebx, cpuid.Query(0xD, 1, 0, 0xE7, 0).Ebx));
        Assert.Equal((2696u, 832u + 1608),
            (cpuid.Query(0xD, 0, 0, 0x2E7, 0).Ebx, cpuid.Query(0xD, 1, 0, 0x2E7, 0).Ebx));
        Assert.Equal((uint)cpuid.Xcr0Mask, cpuid.Query(0xD, 0, 0, 7, 0).Eax);
    }

    [Avx512Fact]
    public void Saved_state_comes_back_in_every_format()
    {
        foreach (string form in (string[])["xsave", "xsaveopt", "xsavec", "xsaves"])
        {
            new Random(5).NextBytes(new Span<byte>(Area + XsaveArea.YmmHigh0, 256));
            new Random(6).NextBytes(new Span<byte>(Area + XsaveArea.Opmask0, sizeof(XsaveArea) - XsaveArea.Opmask0));
            byte[] before = new Span<byte>(Area, sizeof(XsaveArea)).ToArray();
            new Span<byte>(Memory(Data), 4096).Clear();
            Assert.Equal(Ok, Run(a =>
            {
                a.mov(eax, 0xE7);
                a.xor(edx, edx);
                if (form == "xsave") a.xsave(__[Data]);
                else if (form == "xsaveopt") a.xsaveopt(__[Data]);
                else if (form == "xsavec") a.xsavec(__[Data]);
                else a.xsaves(__[Data]);
            }));
            bool isCompacted = form is "xsavec" or "xsaves";
            Assert.Equal(0xE4u, *(uint*)Memory(Data + 512) & 0xE4);
            Assert.Equal(before[XsaveArea.Opmask0..XsaveArea.ZmmHigh0],
                new Span<byte>(Memory(Data + (isCompacted ? 832u : 1088u)), 64).ToArray());
            Assert.Equal(before[XsaveArea.ZmmHigh0..],
                new Span<byte>(Memory(Data + (isCompacted ? 896u : 1152u)), 1536).ToArray());
            new Span<byte>(Area + XsaveArea.YmmHigh0, sizeof(XsaveArea) - XsaveArea.YmmHigh0).Clear();
            Assert.Equal(Ok, Run(a =>
            {
                a.mov(eax, 0xE7);
                a.xor(edx, edx);
                if (form == "xsaves") a.xrstors(__[Data]);
                else a.xrstor(__[Data]);
            }));
            Assert.Equal(before[XsaveArea.Opmask0..], new Span<byte>(Area + XsaveArea.Opmask0, 1600).ToArray());
            Assert.Equal(before[576..832], new Span<byte>(Area + 576, 256).ToArray());
            // What the header says is initial becomes so.
            *(uint*)Memory(Data + 512) &= ~0xE0u;
            Assert.Equal(Ok, Run(a => { a.mov(eax, 0xE7); a.xor(edx, edx); a.xrstor(__[Data]); }));
            Assert.False(new Span<byte>(Area + XsaveArea.Opmask0, 1600).ContainsAnyExcept((byte)0));
            Assert.Equal(before[576..832], new Span<byte>(Area + 576, 256).ToArray());
        }
    }

    [Avx512Fact]
    public void XGETBV_tells_which_components_are_in_use()
    {
        Assert.Equal(0u, InUse());
        K[3] = 1;
        Assert.Equal(0x20u, InUse());
        Assert.Equal(Ok, Run(a => a.vpternlogd(zmm2, zmm2, zmm2, 0xFF)));
        Assert.Equal(0x66u, InUse());
        Assert.Equal(Ok, Run(a => { a.vzeroupper(); a.vpternlogd(xmm30, xmm30, xmm30, 0xFF); }));
        Assert.Equal(0xA2u, InUse());

        uint InUse()
        {
            Assert.Equal(Ok, Run(a => { a.mov(ecx, 1); a.xgetbv(); }));
            return (uint)_machine.Cpu.Rax & 0xE6;
        }
    }

    [Avx512Fact]
    public void Registers_are_shown()
    {
        K[5] = 0x1234;
        Zmm16(31)[15] = 0x5678;
        string text = _machine.VCpu.DumpRegisters();
        Assert.Contains("Opmask05=0000000000001234", text);
        Assert.Contains("ZMM31=0000567800000000", text);
    }
}
