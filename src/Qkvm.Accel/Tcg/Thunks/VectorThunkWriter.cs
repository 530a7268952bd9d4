using Iced.Intel;

namespace Qkvm.Accel.Tcg.Thunks;

/// <summary>A vector instruction whose register operands are parameters: pointers in rdi, rsi, rdx, rcx, one for each
/// operand, to a general register, an MMX register or the XMM half of a vector register in the XSAVE area; r8 is the
/// memory operand, r9 MXCSR. Operand n is loaded into vector (MMX) register n + 1 or r10, the result stored
/// back.</summary>
/// <remarks>Implicit operands: pointer 3 is XMM0 for those that read it; for PCMPxSTRx pointer 2 is RAX (RDX follows)
/// and pointer 3 the result, RCX or XMM0.</remarks>
sealed class VectorThunkWriter
{
    /// <summary>From the XMM half of a register to the other half of its YMM register in the XSAVE area.</summary>
    public const int UpperHalf = XsaveArea.YmmHigh0 - XsaveArea.Xmm0;

    static readonly Register[] s_pointers = [Register.RDI, Register.RSI, Register.RDX, Register.RCX];

    readonly ThunkBytes _bytes = new();
    bool _isVex, _usesYmm;

    public ThunkTraits Traits { get; private set; }
    public byte MemorySize { get; private set; }

    public byte[] Write(in Instruction guest)
    {
        Instruction x = ThunkBytes.Rewrite(guest, Register.R8);
        InstructionInfo info = new InstructionInfoFactory().GetInfo(guest);
        _isVex = x.Encoding == EncodingKind.VEX;
        if (_isVex) Traits |= ThunkTraits.Vex;
        if (UsesMxcsr(x.Mnemonic)) Traits |= ThunkTraits.Mxcsr;
        if (x.RflagsModified != 0) Traits |= ThunkTraits.WritesFlags;
        bool isStringCompare = IsStringCompare(x.Mnemonic);

        if ((Traits & ThunkTraits.Mxcsr) != 0) _bytes.Emit(0x41, 0x0F, 0xAE, 0x11);     // ldmxcsr [r9]
        for (int i = 0; i < x.OpCount; i++)
        {
            OpKind kind = x.GetOpKind(i);
            if (kind == OpKind.Register) x.SetOpRegister(i, LoadOperand(x.GetOpRegister(i), i));
            else if (kind == OpKind.Memory)
            {
                MemorySize = (byte)x.MemorySize.GetSize();
                if (info.GetOpAccess(i) is OpAccess.Write or OpAccess.CondWrite) Traits |= ThunkTraits.Stores;
            }
        }
        if (ReadsXmm0(x.Mnemonic) && !_isVex) Load(Register.XMM0, Register.RCX);
        if (isStringCompare) LoadStringLengths();
        _bytes.Emit(x);
        if ((Traits & ThunkTraits.WritesFlags) != 0) _bytes.Emit(ThunkBytes.TakeFlags);
        if (isStringCompare) StoreStringResult(x.Mnemonic);
        for (int i = 0; i < x.OpCount; i++)
            if (x.GetOpKind(i) == OpKind.Register && IsWritten(info.GetOpAccess(i)))
                StoreOperand(x.GetOpRegister(i), s_pointers[i]);
        if ((Traits & ThunkTraits.Mxcsr) != 0) _bytes.Emit(0x41, 0x0F, 0xAE, 0x19);     // stmxcsr [r9]
        if (_usesYmm) _bytes.Emit(0xC5, 0xF8, 0x77);                                     // vzeroupper
        if ((Traits & ThunkTraits.Mmx) != 0) _bytes.Emit(0x0F, 0x77);                    // emms
        _bytes.Emit(0xC3);
        return _bytes.ToArray();
    }

    static bool IsWritten(OpAccess access) =>
        access is OpAccess.Write or OpAccess.CondWrite or OpAccess.ReadWrite or OpAccess.ReadCondWrite;

    /// <summary>Puts the operand into its scratch register, whose name it returns.</summary>
    Register LoadOperand(Register register, int number)
    {
        Register pointer = s_pointers[number];
        if (register.IsGPR())
        {
            Emit(Instruction.Create(Code.Mov_r64_rm64, Register.R10, new MemoryOperand(pointer)));
            return register.GetSize() switch { 8 => Register.R10, 4 => Register.R10D, 2 => Register.R10W,
                _ => Register.R10L };
        }
        if (register.IsMM())
        {
            Traits |= ThunkTraits.Mmx;
            Register mm = Register.MM1 + number;
            Emit(Instruction.Create(Code.Movq_mm_mmm64, mm, new MemoryOperand(pointer)));
            return mm;
        }
        Register scratch = (register.IsYMM() ? Register.YMM1 : Register.XMM1) + number;
        Load(scratch, pointer);
        return scratch;
    }

    void Load(Register scratch, Register pointer)
    {
        Register low = Register.XMM0 + scratch.GetNumber();
        Emit(Instruction.Create(_isVex ? Code.VEX_Vmovdqu_xmm_xmmm128
            : Code.Movups_xmm_xmmm128, low, new MemoryOperand(pointer)));
        if (!scratch.IsYMM()) return;
        _usesYmm = true;
        Emit(Instruction.Create(Code.VEX_Vinsertf128_ymm_ymm_xmmm128_imm8, scratch, scratch,
            new MemoryOperand(pointer, UpperHalf), 1));
    }

    void StoreOperand(Register register, Register pointer)
    {
        if (register.IsGPR()) Emit(Instruction.Create(Code.Mov_rm64_r64, new MemoryOperand(pointer), Register.R10));
        else if (register.IsMM())
        {
            Emit(Instruction.Create(Code.Movq_mmm64_mm, new MemoryOperand(pointer), register));
            Emit(Instruction.Create(Code.Mov_rm16_imm16, new MemoryOperand(pointer, 8), 0xFFFF));   // exponent and sign
        }
        else Store(register, pointer);
    }

    /// <summary>VEX forms clear the upper half of the YMM register, the others keep it.</summary>
    void Store(Register register, Register pointer)
    {
        Register low = Register.XMM0 + register.GetNumber();
        Emit(Instruction.Create(_isVex ? Code.VEX_Vmovdqu_xmmm128_xmm
            : Code.Movups_xmmm128_xmm, new MemoryOperand(pointer), low));
        if (!_isVex) return;
        _usesYmm = true;
        Register wide = Register.YMM0 + register.GetNumber();
        Emit(Instruction.Create(Code.VEX_Vextractf128_xmmm128_ymm_imm8, new MemoryOperand(pointer, UpperHalf),
            wide, 1));
    }

    void LoadStringLengths() => _bytes.Emit(
        0x49, 0x89, 0xCB,                                           // mov r11, rcx
        0x48, 0x8B, 0x02,                                           // mov rax, [rdx]
        0x48, 0x8B, 0x52, 0x10);                                    // mov rdx, [rdx + 16]

    void StoreStringResult(Mnemonic mnemonic)
    {
        if (mnemonic is Mnemonic.Pcmpestri or Mnemonic.Pcmpistri or Mnemonic.Pcmpestri64 or Mnemonic.Vpcmpestri
            or Mnemonic.Vpcmpistri
            or Mnemonic.Vpcmpestri64) _bytes.Emit(0x49, 0x89, 0x0B);                     // mov [r11], rcx
        else Store(Register.XMM0, Register.R11);
    }

    void Emit(in Instruction x) => _bytes.Emit(x);

    public static bool IsStringCompare(Mnemonic mnemonic) =>
        mnemonic is Mnemonic.Pcmpestri or Mnemonic.Pcmpestrm or Mnemonic.Pcmpistri
        or Mnemonic.Pcmpistrm or Mnemonic.Pcmpestri64 or Mnemonic.Pcmpestrm64 or Mnemonic.Vpcmpestri
        or Mnemonic.Vpcmpestrm
        or Mnemonic.Vpcmpistri or Mnemonic.Vpcmpistrm or Mnemonic.Vpcmpestri64 or Mnemonic.Vpcmpestrm64;

    /// <summary>The result goes to XMM0, not to RCX.</summary>
    public static bool IsStringMask(Mnemonic mnemonic) =>
        mnemonic is Mnemonic.Pcmpestrm or Mnemonic.Pcmpistrm or Mnemonic.Pcmpestrm64
        or Mnemonic.Vpcmpestrm or Mnemonic.Vpcmpistrm or Mnemonic.Vpcmpestrm64;

    public static bool ReadsXmm0(Mnemonic mnemonic) =>
        mnemonic is Mnemonic.Blendvps or Mnemonic.Blendvpd or Mnemonic.Pblendvb or Mnemonic.Sha256rnds2;

    static readonly string[] s_integer =
        ["P", "VP", "AES", "VAES", "SHA", "GF2P8", "VGF2P8", "MOV", "VMOV", "UNPCK", "VUNPCK", "AND", "VAND", "OR",
            "VOR", "XOR", "VXOR", "SHUF",
            "VSHUF", "BLEND", "VBLEND", "INSERT", "VINSERT", "EXTRACT", "VEXTRACT", "VBROADCAST", "VTEST", "LDDQU",
                "VLDDQU",
        "K", "VALIGN", "VCOMPRESS", "VEXPAND", "VDBPSADBW"];

    /// <summary>What is not listed computes: loading MXCSR for too many costs time only.</summary>
    public static bool UsesMxcsr(Mnemonic mnemonic)
    {
        string name = mnemonic.ToString();
        foreach (string prefix in s_integer)
            if (name.StartsWith(prefix, StringComparison.OrdinalIgnoreCase)) return false;
        return true;
    }
}
