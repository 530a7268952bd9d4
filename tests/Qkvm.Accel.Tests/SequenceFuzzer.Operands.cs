using Iced.Intel;
using Qkvm.Accel.Tcg;

namespace Qkvm.Accel.Tests;

/// <summary>Aiming memory operands at the scratch memory, and what certain instructions want of their
/// registers.</summary>
sealed partial class SequenceFuzzer
{
    /// <summary>The registers a translator may treat specially come up more often.</summary>
    static readonly int[] s_favoured = [4, 9, 10, 11, 5, 9, 10, 11];

    bool TryAppendAimed(Instruction x)
    {
        if (WritesFrozen(x) || x.Mnemonic == Mnemonic.Clzero) return false;
        if (HasUndefinedResult(x)) return false;
        // A register that is still of use is rarely overwritten.
        int written = WrittenBy(x);
        if (!x.IsStackInstruction && !x.IsStringInstruction && Chance(80))
            for (int i = 0; i < _count; i++)
                if ((written >> i & 1) != 0 && _known[i].Kind == Kind.Pointer) return false;
        if (x.IsStringInstruction && !PrepareString(x)) return false;
        if (x.IsStackInstruction && !PreparePointer(Rsp)) return false;
        if (x.Mnemonic is Mnemonic.Leave or Mnemonic.Enter && !PreparePointer(5)) return false;
        bool hasMemory = false;
        for (int i = 0; i < x.OpCount; i++)
            switch (x.GetOpKind(i))
            {
                case OpKind.Memory: hasMemory = true; break;
                case OpKind.MemorySegDI: return false;
                case OpKind.MemorySegEDI or OpKind.MemorySegRDI:
                    if (_frozen[7]) return false;
                    // Far from the guard pages: whether bytes that are masked out can fault is the processor's choice.
                    Append(Instruction.Create(Code.Mov_r32_imm32, Register.EDI,
                        (uint)SequenceArena.Scratch + (uint)_random.Next(0x400, 0x7000)));
                    break;
            }
        if (x.IsVsib && !PrepareGather(x)) return false;
        if (hasMemory && !Aimed(ref x)) return false;
        if (x.Mnemonic is Mnemonic.Div or Mnemonic.Idiv && !Chance(8) && !PrepareDivision(x)) return false;
        if (x.Mnemonic is Mnemonic.Bsf or Mnemonic.Bsr && !PrepareScan(x)) return false;
        if (!Encoder.Create(_bits, s_nowhere).TryEncode(x, SequenceArena.Code, out _, out _)) return false;
        Append(x);
        return true;
    }

    /// <summary>Points a register into the scratch memory, unless it does.</summary>
    bool PreparePointer(int register)
    {
        if (_known[register].Kind == Kind.Pointer) return true;
        if (_frozen[register]) return false;
        int delta = Chance(50) ? 0 : _random.Next(-128, 128);
        if (register == Rsp) delta &= -8;
        ulong at = SequenceArena.Scratch + (ulong)(_random.Next(0x1400, SequenceArena.ScratchSize - 0x1400) & -64);
        if (Chance(30)) at = SequenceArena.Scratch + (ulong)(_random.Next(2, 7) * SequenceArena.PageSize);
        at += (ulong)delta;
        // In a function, RSP points at the return address.
        int other = Array.FindIndex(_known, value => value.Kind == Kind.Pointer && value.Delta != Unknown);
        if (_isLong && Chance(25))
            Append(Instruction.Create(Code.Lea_r64_m, Wide(register),
                new MemoryOperand(Register.RIP, Register.None, 1, (long)at, 8)));
        else if (other >= 0 && Chance(50))
        {
            delta = _known[other].Delta;
            if (Chance(50))
                Append(Instruction.Create(_isLong ? Code.Mov_r64_rm64
                    : Code.Mov_r32_rm32, Wide(register), Wide(other)));
            else
            {
                int more = _random.Next(-64, 64);
                if (Math.Abs(delta + more) > Farthest) return false;
                Append(Instruction.Create(_isLong ? Code.Lea_r64_m
                    : Code.Lea_r32_m, Wide(register), new MemoryOperand(Wide(other), more, 1)));
                delta += more;
            }
        }
        else if (_isLong && Chance(20)) Append(Instruction.Create(Code.Mov_r64_imm64, Wide(register), at));
        else Append(Instruction.Create(Code.Mov_r32_imm32, Dword(register), (uint)at));
        _known[register] = new Value(Kind.Pointer, delta);
        return true;
    }

    bool PrepareSmall(int register)
    {
        if (_known[register].Kind == Kind.Small) return true;
        if (_frozen[register]) return false;
        if (Chance(50)) Append(Instruction.Create(Code.Mov_r32_imm32, Dword(register), (uint)_random.Next(100)));
        else Append(Instruction.Create(_isLong ? Code.Movsx_r64_rm8
            : Code.Movsx_r32_rm8, Wide(register), Register.AL + _random.Next(4)));
        _known[register] = new Value(Kind.Small);
        return true;
    }

    bool PrepareString(in Instruction x)
    {
        for (int i = 0; i < x.OpCount; i++)
            switch (x.GetOpKind(i))
            {
                case OpKind.MemorySegSI or OpKind.MemoryESDI: return false;
                case OpKind.MemorySegESI or OpKind.MemorySegRSI: if (_frozen[6] || !PreparePointer(6)) return false;
                break;
                case OpKind.MemoryESEDI or OpKind.MemoryESRDI: if (_frozen[7] || !PreparePointer(7)) return false;
                break;
            }
        if (x.HasRepPrefix || x.HasRepnePrefix)
        {
            if (_frozen[1]) return false;
            Append(Instruction.Create(Code.Mov_r32_imm32, Register.ECX, (uint)_random.Next(Chance(30) ? 100 : 9)));
        }
        if (Chance(40)) Append(Instruction.Create(Chance(50) ? Code.Std : Code.Cld));
        return true;
    }

    bool PrepareDivision(in Instruction x)
    {
        bool isMemory = x.Op0Kind == OpKind.Memory;
        if (_frozen[0] || _frozen[2]) return false;
        if (isMemory && (Uses(x, 0) || Uses(x, 2))) return false;
        int size = isMemory ? x.MemorySize.GetSize() : x.Op0Register.GetSize();
        if (!isMemory && x.Op0Register.GetFullRegister().GetNumber() is 0 or 2) return false;
        if (!isMemory && _frozen[x.Op0Register.GetFullRegister().GetNumber()]) return false;
        Code or = size switch { 1 => Code.Or_rm8_imm8, 2 => Code.Or_rm16_imm8, 4 => Code.Or_rm32_imm8,
            _ => Code.Or_rm64_imm8 };
        int bit = 1 << _random.Next(7);
        Append(isMemory ? Instruction.Create(or, Operand(x), bit) : Instruction.Create(or, x.Op0Register, bit));
        if (size == 1)
        {
            Append(Instruction.Create(Code.Movzx_r32_rm8, Register.EAX, Register.AL));
            if (x.Mnemonic == Mnemonic.Idiv) Append(Instruction.Create(Code.Shr_rm32_1, Register.EAX, 1));
        }
        else if (x.Mnemonic == Mnemonic.Div) Append(Instruction.Create(Code.Xor_r32_rm32, Register.EDX, Register.EDX));
        else Append(Instruction.Create(size switch { 2 => Code.Cwd, 4 => Code.Cdq, _ => Code.Cqo }));
        return true;
    }

    /// <summary>Scans are not to find nothing.</summary>
    bool PrepareScan(in Instruction x)
    {
        bool isMemory = x.Op1Kind == OpKind.Memory;
        int size = isMemory ? x.MemorySize.GetSize() : x.Op1Register.GetSize(), bit = 1 << _random.Next(7);
        if (!isMemory && x.Op1Register.GetFullRegister().GetNumber() is var number
            && (_frozen[number] || _known[number].Kind == Kind.Pointer)) return false;
        Code or = size switch { 2 => Code.Or_rm16_imm8, 4 => Code.Or_rm32_imm8, _ => Code.Or_rm64_imm8 };
        Append(isMemory ? Instruction.Create(or, Operand(x), bit) : Instruction.Create(or, x.Op1Register, bit));
        return true;
    }

    /// <summary>Or may have: the count is not known. Only of operands of 16 bits.</summary>
    static bool HasUndefinedResult(in Instruction x)
    {
        const int mask = 31, bits = 16;
        if (x.Mnemonic is not (Mnemonic.Shld or Mnemonic.Shrd)
            || (x.Op0Kind == OpKind.Register ? x.Op0Register.GetSize() : x.MemorySize.GetSize())
            * 8 != bits) return false;
        return x.Op2Kind != OpKind.Immediate8 || UndefinedResults.IsResult(x, x.Immediate8 & mask, bits, isZero: false);
    }

    static MemoryOperand Operand(in Instruction x) =>
        new(x.MemoryBase, x.MemoryIndex, x.MemoryIndexScale, (long)x.MemoryDisplacement64, x.MemoryDisplSize, false,
            x.SegmentPrefix);

    static bool Uses(in Instruction x, int register) =>
        x.MemoryBase.IsGPR() && x.MemoryBase.GetNumber() == register || x.MemoryIndex.IsGPR()
            && x.MemoryIndex.GetNumber() == register;

    /// <summary>All of its indices become 0.</summary>
    bool PrepareGather(in Instruction x)
    {
        if (x.Encoding == EncodingKind.EVEX)
        {
            Register all = Register.ZMM0 + x.MemoryIndex.GetNumber();
            Append(Instruction.Create(Code.EVEX_Vpxord_zmm_k1z_zmm_zmmm512b32, all, all, all));
            return true;
        }
        Register index = Register.XMM0 + x.MemoryIndex.GetNumber();
        Append(Instruction.Create(Code.VEX_Vpxor_xmm_xmm_xmmm128, index, index, index));
        return true;
    }

    /// <summary>Another address for its memory operand: any form, in or near the scratch memory.</summary>
    bool Aimed(ref Instruction x)
    {
        if (x.Mnemonic == Mnemonic.Lea && Chance(70)) return true;
        if (x.Mnemonic == Mnemonic.Xlatb) return x.MemoryBase.GetSize() >= 4 && PreparePointer(3);
        bool isBit = x.Mnemonic is Mnemonic.Bt or Mnemonic.Bts or Mnemonic.Btr or Mnemonic.Btc
            && x.Op1Kind == OpKind.Register;
        int bit = isBit ? x.Op1Register.GetNumber() : -1;
        if (isBit && !PrepareSmall(bit)) return false;
        int alignment = x.Mnemonic == Mnemonic.Cmpxchg16b ? 16 : VectorFuzzer.Alignment(x);
        // Unaligned operands fault (Intel SDM vol. 1, section 4.1.1), except that some processors let those of SHA
        // pass.
        if (alignment > 1 && Chance(2) && !x.Mnemonic.ToString().StartsWith("Sha", StringComparison.Ordinal))
            alignment = 1;
        bool isOffset = x.Op0Kind == OpKind.Memory && x.MemoryBase == Register.None
            && x.Code.ToString().Contains("moffs", StringComparison.Ordinal);
        Register vsib = x.IsVsib ? x.MemoryIndex : Register.None;
        int vsibScale = x.MemoryIndexScale;
        if (isOffset || x.Code.ToString().Contains("moffs", StringComparison.Ordinal) || !x.IsVsib && Chance(12))
        {
            ulong at = SequenceArena.Scratch
                + (ulong)(_random.Next(0x400, SequenceArena.ScratchSize - 0x400) & -alignment);
            bool isMoffs = x.Code.ToString().Contains("moffs", StringComparison.Ordinal);
            Set(ref x, _isLong && !isMoffs && Chance(60) ? Register.RIP
                : Register.None, Register.None, 1, (long)at, _isLong ? 8 : 4);
            return true;
        }
        int number = _isLong && Chance(40) ? s_favoured[_random.Next(s_favoured.Length)] : _random.Next(_count);
        for (int tries = 0; tries < 3 && _known[number].Kind != Kind.Pointer; tries++) number = _random.Next(_count);
        if (number == bit || !PreparePointer(number)) return false;
        int delta = _known[number].Delta, displacement =
            _random.Next(4) switch { 0 => 0, 1 => _random.Next(-512, 512), _ => _random.Next(-128, 128) };
        displacement = (delta + displacement & -alignment) - delta;
        if (delta == Unknown)
        {
            if (alignment > 1) return false;
            displacement = Chance(50) ? _random.Next(16, 200) : _random.Next(-300, -64);
        }
        bool isShort = _isLong && Chance(6);
        Register start = isShort || !_isLong ? Dword(number) : Wide(number), index = vsib;
        int scale = vsibScale;
        if (!x.IsVsib && alignment == 1 && delta != Unknown && Chance(30))
        {
            int small = _random.Next(_count);
            for (int tries = 0; tries < 4 && _known[small].Kind != Kind.Small; tries++) small = _random.Next(_count);
            if (small == Rsp || small == number || small == bit || _known[small].Kind == Kind.Pointer
                || !PrepareSmall(small)) return false;
            index = isShort || !_isLong ? Dword(small) : Wide(small);
            scale = 1 << _random.Next(4);
        }
        Set(ref x, start, index, scale, displacement, displacement == 0 && Chance(50) ? 0
            : displacement is >= -128 and < 128 && Chance(80) ? 1 : start.GetSize());
        return true;
    }

    static void Set(ref Instruction x, Register start, Register index, int scale, long displacement, int size)
    {
        (x.MemoryBase, x.MemoryIndex, x.MemoryIndexScale) = (start, index, scale);
        x.MemoryDisplacement64 = (ulong)displacement;
        x.MemoryDisplSize = size == 0 && displacement != 0 ? 1 : size;
        x.SegmentPrefix = Register.None;
    }

    static readonly CodeWriter s_nowhere = new Discard();

    sealed class Discard : CodeWriter
    {
        public override void WriteByte(byte value) { }
    }
}
