using Iced.Intel;

namespace Qkvm.Accel.Tcg;

// SAFETY: instructions lie in the arena until it is emptied, which happens between blocks alone.
/// <summary>From bytes to <see cref="Insn"/>: Iced decodes, the groups of operations choose the handler.</summary>
public sealed unsafe partial class Cpu
{
    readonly ByteReader _reader = new();
    readonly Decoder[] _decoders = new Decoder[3];

    /// <summary>Decodes up to the end of the block or of the bytes; returns how many bytes were used, 0 if not even one
    /// instruction is complete.</summary>
    int DecodeInto(Block* block, byte* bytes, int available, ulong linear, int limit = MaxBlockLength)
    {
        Decoder decoder = _decoders[_codeSize >> 2] ??= Decoder.Create(_codeSize * 8, _reader, DecoderOptions);
        _reader.Start(bytes, available);
        decoder.IP = linear;
        int count = 0, used = 0;
        Insn* insn = block->First;
        while (count < limit)
        {
            decoder.Decode(out Instruction instruction);
            if (decoder.LastError == DecoderError.NoMoreBytes) break;
            *insn = default;
            Translate(instruction, bytes + used, insn);
            count++;
            used += instruction.Length;
            if ((insn++->Flags & InsnFlags.EndsBlock) != 0) break;
        }
        (block->Count, block->Size) = (count, (ushort)used);
        block->End = insn;
        block->CodeSize = (byte)_codeSize;
        if (used > 0) CodeTrace?.Decoded(linear - _codeBase, _codeSize * 8, new ReadOnlySpan<byte>(bytes, used));
        return used;
    }

    /// <summary>The interpreter's form of an instruction; what is at <paramref name="insn"/> is all zero.</summary>
    /// <param name="bytes">The instruction.</param>
    internal void Translate(in Instruction instruction, byte* bytes, Insn* insn)
    {
        Code code = instruction.Code;
        insn->Code = code;
        insn->Length = (byte)instruction.Length;
        insn->Base = insn->Index = Insn.None;
        insn->Reg0 = insn->Reg1 = insn->Reg2 = insn->MemoryOperand = Insn.NoRegister;
        insn->Segment = Seg.Ds;
        insn->AddressSize = (byte)_codeSize;
        if (instruction.HasLockPrefix) insn->Flags |= InsnFlags.Lock;
        if (instruction.HasRepPrefix) insn->Flags |= InsnFlags.Rep;
        if (instruction.HasRepnePrefix) insn->Flags |= InsnFlags.Repne;
        if (instruction.FlowControl != FlowControl.Next) insn->Flags |= InsnFlags.EndsBlock;
        bool hasImmediate = false;
        for (int i = 0; i < instruction.OpCount; i++) TranslateOperand(instruction, i, insn, ref hasImmediate);
        insn->OperandSize = OperandSize(instruction);
        if (code == Code.Call_m1632 && _codeSize == 8 && HasRexW(bytes)) insn->Flags |= InsnFlags.RexW;
        if (code == Code.INVALID && instruction.Length == MaxInstruction && IsTooLong(bytes)) RefuseTooLong(insn);
        else if (code == Code.INVALID || !IsSupported(code)) Refuse(insn);
        else if (IntegerOps.TrySelect(instruction, insn)) { }
        else if (SystemOps.TrySelect(instruction, insn))
            { if (!IsHarmless(code)) insn->Flags |= InsnFlags.EndsBlock | InsnFlags.System; }
        else if (VectorOps.TrySelect(instruction, insn)) insn->Flags |= InsnFlags.Vectors;
        else Refuse(insn);
        if (ChangesRights(code)) insn->Flags |= InsnFlags.EndsBlock | InsnFlags.System;
    }

    /// <summary>Of an instruction with opcode FFh, which no prefix is.</summary>
    static bool HasRexW(byte* bytes)
    {
        byte last = 0;
        for (; *bytes != 0xFF; bytes++) last = *bytes;
        return (last & 0xF8) == 0x48;
    }

    static void Refuse(Insn* insn)
    {
        insn->Run = &Undefined;
        insn->Flags |= InsnFlags.EndsBlock;
    }

    static void Undefined(Cpu cpu, Insn* insn) => throw cpu.Ud();

    static void RefuseTooLong(Insn* insn)
    {
        Refuse(insn);
        insn->Run = &TooLong;
    }

    /// <summary>Intel SDM vol. 3, section 6.15, interrupt 13; whatever the instruction would be.</summary>
    static void TooLong(Cpu cpu, Insn* insn) => throw cpu.Gp();

    /// <summary>Fifteen bytes that are no instruction: whether one would go on behind them. Prefixes that repeat or do
    /// not change its length are taken away, so that the decoder sees what follows.</summary>
    bool IsTooLong(byte* bytes)
    {
        byte* packed = stackalloc byte[MaxInstruction];
        ReadOnlySpan<byte> known = [0x66, 0x67, 0xF0, 0xF2, 0xF3, 0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65];
        int prefixes = 0, count = 0;
        for (; prefixes < MaxInstruction; prefixes++)
        {
            byte prefix = bytes[prefixes];
            // REX counts where it stands last.
            if (_codeSize == 8 && (prefix & 0xF0) == 0x40
                && (prefixes == MaxInstruction - 1 || known.Contains(bytes[prefixes + 1])
                || (bytes[prefixes + 1] & 0xF0) == 0x40)) continue;
            if (!known.Contains(prefix)) break;
            if (prefix is 0x66 or 0x67 && !new ReadOnlySpan<byte>(packed, count).Contains(prefix))
                packed[count++] = prefix;
        }
        Buffer.MemoryCopy(bytes + prefixes, packed + count, MaxInstruction - count, MaxInstruction - prefixes);
        var reader = new ByteReader();
        reader.Start(packed, count + MaxInstruction - prefixes);
        Decoder decoder = Decoder.Create(_codeSize * 8, reader, DecoderOptions);
        decoder.Decode(out _);
        return decoder.LastError == DecoderError.NoMoreBytes;
    }

    void TranslateOperand(in Instruction instruction, int number, Insn* insn, ref bool hasImmediate)
    {
        OpKind kind = instruction.GetOpKind(number);
        switch (kind)
        {
            case OpKind.Register:
                byte register = Number(instruction.GetOpRegister(number));
                if (number == 0) insn->Reg0 = register;
                else if (number == 1) insn->Reg1 = register;
                else if (number == 2) insn->Reg2 = register;
                break;
            case OpKind.NearBranch16:
                insn->Immediate = (ulong)(short)(instruction.NearBranch16 - (ushort)instruction.NextIP);
                break;
            case OpKind.NearBranch32:
                insn->Immediate = (ulong)(int)(instruction.NearBranch32 - (uint)instruction.NextIP);
                break;
            case OpKind.NearBranch64:
                insn->Immediate = instruction.NearBranch64 - instruction.NextIP;
                break;
            case OpKind.FarBranch16:
                (insn->Immediate, insn->Extra) = (instruction.FarBranch16, instruction.FarBranchSelector);
                break;
            case OpKind.FarBranch32:
                (insn->Immediate, insn->Extra) = (instruction.FarBranch32, instruction.FarBranchSelector);
                break;
            case OpKind.Memory:
                TranslateMemory(instruction, number, insn);
                break;
            case OpKind.MemorySegSI or OpKind.MemorySegDI or OpKind.MemoryESDI:
                StringOperand(instruction, kind == OpKind.MemoryESDI, 2, insn);
                break;
            case OpKind.MemorySegESI or OpKind.MemorySegEDI or OpKind.MemoryESEDI:
                StringOperand(instruction, kind == OpKind.MemoryESEDI, 4, insn);
                break;
            case OpKind.MemorySegRSI or OpKind.MemorySegRDI or OpKind.MemoryESRDI:
                StringOperand(instruction, kind == OpKind.MemoryESRDI, 8, insn);
                break;
            default:
                if (hasImmediate) insn->Extra = instruction.GetImmediate(number);
                else insn->Immediate = instruction.GetImmediate(number);
                hasImmediate = true;
                break;
        }
    }

    /// <summary>Strings address memory by SI and DI of this size; only the source's segment can be
    /// overridden.</summary>
    static void StringOperand(in Instruction instruction, bool isDestination, byte size, Insn* insn)
    {
        insn->AddressSize = size;
        if (!isDestination) insn->Segment = Number(instruction.MemorySegment);
    }

    static void TranslateMemory(in Instruction instruction, int number, Insn* insn)
    {
        Register start = instruction.MemoryBase, index = instruction.MemoryIndex;
        insn->MemoryOperand = (byte)number;
        insn->Segment = Number(instruction.MemorySegment);
        insn->Displacement = (long)instruction.MemoryDisplacement64;
        if (instruction.IsIPRelativeMemoryOperand)
        {
            insn->AddressSize = (byte)(start == Register.EIP ? 4 : 8);
            insn->Base = Insn.Rip;
            insn->Displacement = (long)(instruction.IPRelativeMemoryAddress - instruction.IP);
            return;
        }
        if (start != Register.None) insn->Base = Number(start);
        if (index != Register.None && instruction.Code != Code.Xlat_m8) insn->Index = Number(index);
        insn->Shift = (byte)System.Numerics.BitOperations.Log2((uint)instruction.MemoryIndexScale);
        Register sized = start != Register.None ? start : index.IsGPR() ? index : Register.None;
        insn->AddressSize = (byte)(sized != Register.None ? sized.GetSize() : instruction.MemoryDisplSize);
    }

    /// <summary>As <see cref="Insn.Reg0"/> numbers registers.</summary>
    static byte Number(Register register)
    {
        if (register.IsGPR8())
        {
            int number = register - Register.AL;                   // AL CL DL BL, AH CH DH BH, SPL BPL SIL DIL, R8L …
            return (byte)(number < 4 ? number : number < 8 ? number + 12 : number - 4);
        }
        return register switch
        {
            Register.ES => Seg.Es, Register.CS => Seg.Cs, Register.SS => Seg.Ss, Register.DS => Seg.Ds, Register.FS =>
                Seg.Fs, Register.GS => Seg.Gs,
            _ => (byte)register.GetNumber(),
        };
    }

    static byte OperandSize(in Instruction instruction)
    {
        for (int i = 0; i < instruction.OpCount; i++)
        {
            OpKind kind = instruction.GetOpKind(i);
            if (kind == OpKind.Register && instruction.GetOpRegister(i) is var register && register.IsGPR())
                return (byte)register.GetSize();
            if (kind is OpKind.NearBranch16 or OpKind.FarBranch16) return 2;
            if (kind is OpKind.NearBranch32 or OpKind.FarBranch32) return 4;
            if (kind == OpKind.NearBranch64) return 8;
            if (i > 0 || kind is OpKind.Register || instruction.MemorySize == MemorySize.Unknown) continue;
            switch (instruction.MemorySize)
            {
                case MemorySize.SegPtr16: return 2;
                case MemorySize.SegPtr32: return 4;
                case MemorySize.SegPtr64: return 8;
            }
            if (instruction.MemorySize.GetSize() is var size and (1 or 2 or 4 or 8)) return (byte)size;
        }
        int stack = Math.Abs(instruction.StackPointerIncrement);
        if (stack is 2 or 4 or 8) return (byte)stack;
        return instruction.Code.ToOpCode().OperandSize switch { 16 => 2, 32 => 4, 64 => 8, _ => 4 };
    }

    /// <summary>Instructions of the system group after which nothing the loop caches has changed.</summary>
    static bool IsHarmless(Code code) =>
        code.Mnemonic() is Mnemonic.Cpuid or Mnemonic.Rdtsc or Mnemonic.Rdtscp or Mnemonic.Rdpid
        or Mnemonic.Rdpmc or Mnemonic.Rdfsbase or Mnemonic.Rdgsbase or Mnemonic.Wrfsbase or Mnemonic.Wrgsbase
        or Mnemonic.Swapgs
        or Mnemonic.Lfence or Mnemonic.Sfence or Mnemonic.Mfence or Mnemonic.Pause or Mnemonic.Clflush
        or Mnemonic.Clflushopt
        or Mnemonic.Clwb or Mnemonic.Prefetchnta or Mnemonic.Prefetcht0 or Mnemonic.Prefetcht1 or Mnemonic.Prefetcht2
        or Mnemonic.Prefetchw or Mnemonic.Prefetchwt1 or Mnemonic.Prefetch or Mnemonic.Sgdt or Mnemonic.Sidt
        or Mnemonic.Sldt or Mnemonic.Str
        or Mnemonic.Lar or Mnemonic.Lsl or Mnemonic.Verr or Mnemonic.Verw or Mnemonic.Rdpkru or Mnemonic.Xgetbv
        or Mnemonic.Smsw
        or Mnemonic.Pushf or Mnemonic.Pushfd or Mnemonic.Pushfq or Mnemonic.Lds or Mnemonic.Les or Mnemonic.Lfs
        or Mnemonic.Lgs
        or Mnemonic.Push or Mnemonic.Arpl or Mnemonic.Ud0 or Mnemonic.Ud1 or Mnemonic.Ud2 or Mnemonic.Bound
        || code is Code.Mov_rm16_Sreg or Code.Mov_r32m16_Sreg or Code.Mov_r64m16_Sreg or Code.Mov_r32_cr
        or Code.Mov_r64_cr
            or Code.Mov_r32_dr or Code.Mov_r64_dr or Code.Popw_ES or Code.Popd_ES or Code.Popw_DS or Code.Popd_DS
            or Code.Popw_FS or Code.Popd_FS or Code.Popq_FS or Code.Popw_GS or Code.Popd_GS or Code.Popq_GS;

    /// <summary>Instructions of other groups that change what the loop and the TLB cache.</summary>
    static bool ChangesRights(Code code) => code.Mnemonic() is Mnemonic.Wrpkru or Mnemonic.Xrstor or Mnemonic.Xrstor64
        or Mnemonic.Xrstors or Mnemonic.Xrstors64 or Mnemonic.Popf or Mnemonic.Popfd or Mnemonic.Popfq;

    /// <summary>Iced reads from here; never beyond the end.</summary>
    sealed class ByteReader : CodeReader
    {
        byte* _at, _end;

        public void Start(byte* bytes, int count)
        {
            _at = bytes;
            _end = bytes + count;
        }

        public override int ReadByte() => _at < _end ? *_at++ : -1;
    }
}
