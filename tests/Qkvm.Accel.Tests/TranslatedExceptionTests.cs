using Qkvm.Accel.Tcg;
using M = Qkvm.Accel.Tests.SystemMachine;

namespace Qkvm.Accel.Tests;

/// <summary>Every exception that instructions raise, with its error code and address, on both tiers, in 32- and 64-bit
/// mode and both rings. Intel SDM vol. 3, table 6-1.</summary>
public sealed unsafe class TranslatedExceptionTests
{
    const int Only32 = 32, Only64 = 64, Both = 0;
    const uint NoCode = uint.MaxValue;

    /// <summary>Vector, error code, mode, the instruction that faults (what comes before it runs well), its ring or -1
    /// for both.</summary>
    public static TheoryData<int, uint, int, byte[], byte[], int> Faults() => new()
    {
        { 0, NoCode, Both, [0x31, 0xC9, 0x31, 0xD2], [0xF7, 0xF1], -1 },                          // div ecx
        { 0, NoCode, Both, [0xBA, 9, 0, 0, 0, 0xB9, 1, 0, 0, 0], [0xF7, 0xF1], -1 },              // quotient too large
        { 0, NoCode, Both, [0xB8, 0, 0, 0, 0x80, 0x99, 0x83, 0xC9, 0xFF], [0xF7, 0xF9], -1 },     // idiv: -2^31 / -1
        { 5, NoCode, Only32, [0xB8, 9, 0, 0, 0], [0x62, 0x03], -1 },                              // bound eax, [ebx]
        { 6, NoCode, Both, [0x90], [0x0F, 0x0B], -1 },
        // lock with a register
        { 6, NoCode, Both, [0x90], [0xF0, 0x01, 0xC8], -1 },
        { 6, NoCode, Only64, [0x90], [0x06], -1 },                                                // push es
        // a short task state
        { 10, M.OtherTssSelector, Only32, [0x90], [0xEA, 0, 0, 0, 0, (byte)M.OtherTssSelector, 0], 0 },
        { 11, M.AbsentData, Both, [0xB8, (byte)M.AbsentData, 0, 0, 0], [0x8E, 0xD8], 0 },
        // not canonical, by RBP
        { 12, 0, Only64, [0x48, 0xBD, 0, 0, 0, 0, 0, 0, 1, 0], [0x8B, 0x45, 0x00], -1 },
        { 13, 0, Only64, [0x48, 0xB8, 0, 0, 0, 0, 0, 0, 1, 0], [0x8B, 0x00], -1 },
        { 13, 0, Only64, [0x48, 0xB8, 0, 0, 0, 0, 0, 0, 1, 0], [0xFF, 0xE0], -1 },                // jmp rax
        { 13, 0, Only64, [0x48, 0xB8, 0, 0, 0, 0, 0, 0, 1, 0], [0xFF, 0xD0], -1 },                // call rax
        { 13, 0, Only64, [0x48, 0xB8, 0, 0, 0, 0, 0, 0, 1, 0, 0x50], [0xC3], -1 },                // ret
        { 13, 0, Only64, [0x48, 0xB8, 0, 0, 0, 0, 0, 0, 1, 0, 0x50], [0xC2, 0x20, 0], -1 },       // ret 20h
        { 13, 0, Both, [0x90], [0xF4], 3 },
        { 13, 0, Both, [0x90], [0x0F, 0x20, 0xC0], 3 },
        { 13, M.Data0, Both, [0xB8, (byte)M.Data0, 0, 0, 0], [0x8E, 0xD8], 3 },
        { 13, 0x18 << 3 | 2, Both, [0x90], [0xCD, 0x18], 3 },                                     // a gate of ring 0
        { 14, 4, Only64, [0xB8, 0, 0, 0, 0x40], [0x8B, 0x00], 3 },
        { 14, 0, Only64, [0xB8, 0, 0, 0, 0x40], [0x8B, 0x00], 0 },
        { 14, 6, Only64, [0xB8, 0, 0, 0, 0x40], [0x89, 0x00], 3 },
        { 14, 2, Only64, [0xB8, 0, 0, 0, 0x40], [0x89, 0x00], 0 },
        { 16, NoCode, Both, [0xD9, 0xE8, 0xD9, 0xEE, 0xDE, 0xF9], [0xD9, 0xE8], -1 },             // 1 / 0, then fld1
        { 16, NoCode, Both, [0xD9, 0xE8, 0xD9, 0xEE, 0xDE, 0xF9], [0x9B], -1 },
        { 19, NoCode, Both, [0x0F, 0x57, 0xC9], [0x0F, 0x5E, 0xC1], -1 },                         // divps by zero
        { 19, NoCode, Both, [0x66, 0x0F, 0xEF, 0xC9], [0xF2, 0x0F, 0x51, 0xC2], -1 },             // sqrtsd of -1
    };

    [Theory, MemberData(nameof(Faults))]
    public void An_exception_arrives_with_its_code_at_its_instruction(int vector, uint error, int mode, byte[] before,
        byte[] code, int ring)
    {
        foreach (bool translated in (bool[])[false, true])
            foreach (bool is64 in (bool[])[false, true])
                foreach (int cpl in (int[])[0, 3])
                {
                    if (mode == (is64 ? Only32 : Only64) || ring >= 0 && ring != cpl) continue;
                    using SystemMachine m = Machine(is64, cpl);
                    ulong stack = m.Rsp - (before[^1] == 0x50 ? 8u : 0u);
                    m.Place([.. before, .. code, 0x90, 0x90]);
                    m.Go(translated);
                    int size = is64 ? 8 : 4, at = 0;
                    Assert.Equal(vector, m.HandlerVector);
                    if (error != NoCode) Assert.Equal(error, m.Top(at++, size));
                    Assert.Equal(M.Code + (ulong)before.Length, m.Top(at, size));
                    Assert.NotEqual(0ul, m.Top(at + 2, size) & Rflags.Rf);
                    if (is64) Assert.Equal(stack, m.Top(at + 3, size));
                    if (vector == 14) Assert.Equal(0x40000000ul, m.S->Cr2);
                }
    }

    /// <summary>#NM by CR0.TS, and #UD by what CR4 forbids, though the code before has been translated.</summary>
    [Theory]
    [InlineData(7, true, false, new byte[] { 0x0F, 0x58, 0xC1 })]
    [InlineData(7, true, false, new byte[] { 0xD9, 0xE8 })]
    [InlineData(7, true, false, new byte[] { 0x0F, 0xFC, 0xC1 })]
    [InlineData(6, false, true, new byte[] { 0x0F, 0x58, 0xC1 })]
    public void Units_that_are_switched_off_fault(int vector, bool ts, bool noSse, byte[] code)
    {
        foreach (bool translated in (bool[])[false, true])
        {
            using SystemMachine m = Machine(is64: true, cpl: 0);
            if (ts) m.S->Cr0 |= Cr0.Ts;
            if (noSse) m.S->Cr4 &= ~Cr4.Osfxsr;
            m.Place([0x90, .. code]);
            m.Go(translated);
            Assert.Equal((vector, M.Code + 1), (m.HandlerVector, m.Top(0, 8)));
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Into_traps_behind_itself(bool translated)
    {
        using SystemMachine m = Machine(is64: false, cpl: 3);
        // mov eax, 7FFFFFFFh; inc eax; into
        m.Place(0xB8, 0xFF, 0xFF, 0xFF, 0x7F, 0x40, 0xCE);
        m.Go(translated);
        Assert.Equal((4, M.Code + 7), (m.HandlerVector, m.Top(0, 4)));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_page_fault_without_a_stack_is_a_double_fault_and_without_its_handler_a_shutdown(bool translated)
    {
        using SystemMachine m = Machine(is64: true, cpl: 0);
        m.SetGate64(8, M.Code64, 0x8E, ist: 1);
        m.Rsp = 0x40000100;
        m.Place(0x50);                                                                            // push rax
        m.Go(translated);
        Assert.Equal((8, 0ul, M.Code), (m.HandlerVector, m.Top(0, 8), m.Top(1, 8)));
        m.S->Rip = M.Code;
        m.Rsp = 0x40000100;
        m.SetGate64(8, M.Code64, 0x8E);
        Assert.Equal(Core.Accel.ExitReason.Shutdown, m.Cpu.Run().Reason);
    }

    /// <summary>Unmasked x87 and SSE exceptions; EBX leads to bounds of 0 and 5; XMM2 is -1.</summary>
    static SystemMachine Machine(bool is64, int cpl)
    {
        SystemMachine m = is64 ? new M().Long64() : new M().Protected32();
        if (cpl == 3) m.Ring3();
        if (is64) m.SetGate64(0x18, M.Code64, 0x8E);
        else m.SetGate32(0x18, M.Code0, 0x8E);
        m.S->Cr0 |= Cr0.Ne | Cr0.Mp;
        m.S->Cr4 |= Cr4.Osfxsr | Cr4.Osxmmexcpt;
        *(ushort*)m.S->Xsave.Bytes = 0x340;
        m.S->Xsave.Bytes[XsaveArea.Ftw] = 0;
        *(uint*)(m.S->Xsave.Bytes + XsaveArea.Mxcsr) = 0;
        *(double*)(m.S->Xsave.Bytes + XsaveArea.Xmm0 + 32) = -1;
        for (int i = 0; i < 4; i++) *(float*)(m.S->Xsave.Bytes + XsaveArea.Xmm0 + i * 4) = 1;
        m.Write(M.Data, 5ul << 32, 8);
        m.Cpu.Rbx = M.Data;
        m.Write(M.Gdt + M.OtherTssSelector, M.Descriptor((uint)M.OtherTss, 0x20, 0x89, 0), 8);
        m.Cpu.ModeChanged();
        return m;
    }
}
