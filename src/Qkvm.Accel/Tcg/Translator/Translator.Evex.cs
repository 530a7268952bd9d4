using static Qkvm.Accel.Tcg.Translator.Emitter;

namespace Qkvm.Accel.Tcg.Translator;

// AVX-512: its registers go into the host's when a block wants them, or when the upper halves of ZMM0 to 15, which AVX
// would clear, are not 0. Who uses no AVX-512 between two exits pays one comparison.
// SAFETY: what is emitted goes into room that was asked for (LargestBlock) and accesses the vCPU's own region, or RAM
// after a check.
sealed unsafe partial class Translator
{
    const int AvxLoaded = 1, AllLoaded = 2;

    bool UsesAvx512()
    {
        for (int i = 0; i < _unit.Count; i++)
            if (_unit.Steps[i].Info.IsAvx512) return true;
        return false;
    }

    /// <summary>Called: all vector and mask registers, whatever is loaded already.</summary>
    uint EmitLoadAll(uint loadVectors)
    {
        uint start = _e.Here;
        _e.CompareByte(&_jit->VectorsLoaded, 0);
        uint loaded = _e.JumpIf(NotEqual);
        _e.Call(loadVectors);
        _e.PatchHere(loaded);
        _e.CompareByte(&_jit->VectorsLoaded, AllLoaded);
        uint done = _e.JumpIf(Equal);
        if (_cpu.HasAvx512) EmitLoadUpperRegisters();
        _e.PatchHere(done);
        _e.Byte(0xC3);
        return start;
    }

    /// <summary>ZMM0 to 15 with their upper halves, and the rest.</summary>
    void EmitLoadWhole()
    {
        for (int i = 0; i < 16; i++)
        {
            Vex(i, 0, 1, 0, 0, 0x10, Xsave(XsaveArea.Xmm0 + i * 16), 0);                   // vmovups xmm
            // vinsertf128 ymm, ymm, m128, 1
            Vex(i, i, 3, 1, 1, 0x18, Xsave(XsaveArea.YmmHigh0 + i * 16), 1);
            _e.Byte(1);
            // vinserti64x4 zmm, zmm, m256, 1
            Evex(i, i, 3, 1, true, 0x3A, Xsave(XsaveArea.ZmmHigh0 + i * 32), 1);
            _e.Byte(1);
        }
        EmitLoadUpperRegisters();
    }

    /// <summary>ZMM16 to 31 and the mask registers.</summary>
    void EmitLoadUpperRegisters()
    {
        for (int i = 16; i < 32; i++) Evex(i, 0, 1, 0, false, 0x10, Xsave(XsaveArea.Zmm16 + (i - 16) * 64), 0);
        for (int i = 0; i < 8; i++) Opmask(0x90, i);
        _e.StoreByte(&_jit->VectorsLoaded, AllLoaded);
        _e.StoreByte(&_jit->MasksInUse, 1);
    }

    /// <summary>All of it, and finds out whether upper halves are in use; changes RAX and flags.</summary>
    void EmitStoreAll()
    {
        for (int i = 16; i < 32; i++) Evex(i, 0, 1, 0, false, 0x11, Xsave(XsaveArea.Zmm16 + (i - 16) * 64), 0);
        for (int i = 0; i < 8; i++) Opmask(0x91, i);
        for (int i = 0; i < 16; i++)
        {
            Vex(i, 0, 1, 0, 0, 0x11, Xsave(XsaveArea.Xmm0 + i * 16), 0);                   // vmovups m128, xmm
            Vex(i, 0, 3, 1, 1, 0x19, Xsave(XsaveArea.YmmHigh0 + i * 16), 1);               // vextractf128 m128, ymm, 1
            _e.Byte(1);
        }
        Evex(16, 0, 1, 1, true, 0xEB, 1);                           // vporq zmm16, zmm0, zmm1
        for (int i = 2; i < 16; i++) Evex(16, 16, 1, 1, true, 0xEB, i);
        Evex(1, 16, 2, 1, true, 0x27, 16);                          // vptestmq k1, zmm16, zmm16
        _e.Bytes([0xC5, 0xF9, 0x93, 0xC1]);                         // kmovb eax, k1
        _e.Shift(false, Shr, Rax, 4);
        uint zero = _e.JumpIf(Equal);
        _e.StoreByte(&_jit->UppersInUse, 1);
        _e.StoreByte(&_jit->Wide, 2);
        uint store = _e.Here;
        for (int i = 0; i < 16; i++)
        {
            Evex(i, 0, 3, 1, true, 0x3B, Xsave(XsaveArea.ZmmHigh0 + i * 32), 1);           // vextracti64x4 m256, zmm, 1
            _e.Byte(1);
        }
        uint done = _e.Jump();
        _e.PatchHere(zero);
        _e.CompareByte(&_jit->UppersInUse, 0);
        uint clean = _e.JumpIf(Equal);
        _e.StoreByte(&_jit->UppersInUse, 0);
        _e.StoreByte(&_jit->Wide, 1);
        _e.Jump(store);
        _e.PatchHere(clean);
        _e.PatchHere(done);
        _e.Bytes([0xC5, 0xF8, 0x77]);                               // vzeroupper
    }

    /// <summary>kmovq with memory.</summary>
    void Opmask(byte opcode, int number)
    {
        _e.Bytes([0xC4, 0xE1, 0xF8, opcode]);
        _e.ModRmAbsolute(number, Xsave(XsaveArea.Opmask0 + number * 8), 0);
    }

    void EvexPrefix(int register, int second, int rm, int map, int implied, bool wide, byte opcode)
    {
        _e.Byte(0x62);
        _e.Byte((~register >> 3 & 1) << 7 | (~rm >> 4 & 1) << 6 | (~rm >> 3 & 1) << 5 | (~register >> 4 & 1) << 4
            | map);
        _e.Byte((wide ? 0x80 : 0) | (~second & 15) << 3 | 4 | implied);
        _e.Byte(2 << 5 | (~second >> 4 & 1) << 3);
        _e.Byte(opcode);
    }

    /// <summary>On 512 bits.</summary>
    void Evex(int register, int second, int map, int implied, bool wide, byte opcode, int rm)
    {
        EvexPrefix(register, second, rm, map, implied, wide, opcode);
        _e.Byte(0xC0 | (register & 7) << 3 | rm & 7);
    }

    void Evex(int register, int second, int map, int implied, bool wide, byte opcode, void* address, int immediate)
    {
        EvexPrefix(register, second, 0, map, implied, wide, opcode);
        _e.ModRmAbsolute(register, address, immediate);
    }
}
