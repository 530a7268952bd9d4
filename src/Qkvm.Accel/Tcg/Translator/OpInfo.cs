using Iced.Intel;

namespace Qkvm.Accel.Tcg.Translator;

/// <summary>How an instruction is translated.</summary>
enum Treatment : byte
{
    /// <summary>By the interpreter; the block ends.</summary>
    Interpret,
    /// <summary>Itself, with registers renamed and its memory operand redirected.</summary>
    Native,
    /// <summary>Likewise, on vector registers.</summary>
    Vector,
    /// <summary>Likewise, on x87 or MMX registers.</summary>
    X87,
    Nop, Lea, Push, PushImmediate, PushMemory, Pop, Leave, Call, CallIndirect, Jump, JumpIndirect, JumpIf, JumpIfCxZero,
        Loop, Return,
    Divide, BitString,
    /// <summary>MOV between the accumulator and an absolute address.</summary>
    MoveOffset,
    /// <summary>LDMXCSR and FLDCW: native if all exceptions are masked.</summary>
    LoadControl,
    /// <summary>POP to memory, PUSHA, POPA, PUSH of a segment register.</summary>
    PopMemory, PushAll, PopAll, PushSegment,
    /// <summary>MOV and POP to a segment register, LDS and its like, where that is but a base.</summary>
    LoadSegment, PopSegment, LoadPointer,
    /// <summary>MOVS STOS LODS CMPS SCAS, and those with REP that the host repeats.</summary>
    String, RepeatedString,
    ClearInterrupt, SetInterrupt, PushFlags, SwapGs, ReadSegment, Pause, ReadTsc, Base,

    /// <summary>SYSCALL, SYSRET, STAC and CLAC, STD and CLD: the block ends, the mode is another.</summary>
    SystemCall, SystemReturn, SetAc, SetDirection,
}

/// <summary>Which field of the encoding names an operand.</summary>
enum OpField : byte
{
    None, Reg, Rm, Opcode, Vvvv,
}

/// <summary>What the translator knows of one form of instruction, found out when it is first met.</summary>
sealed class OpInfo
{
    /// <summary>Arithmetic flags as LAHF and SETO leave them do not matter here: one bit each, as Iced numbers
    /// them.</summary>
    public const int AllFlags =
        (int)(RflagsBits.OF | RflagsBits.SF | RflagsBits.ZF | RflagsBits.AF | RflagsBits.CF | RflagsBits.PF);

    public Treatment Treatment;

    /// <summary>Flags read, flags changed, flags that surely get a new value.</summary>
    public byte Reads, Changes, Kills;
    public readonly OpField[] Fields = new OpField[5];
    public readonly bool[] Writes = new bool[5], ReadsOperand = new bool[5];

    /// <summary>General registers changed without being named: a bit each.</summary>
    public ushort ImplicitWrites;
    public bool HasModRm;

    /// <summary>The memory operand is read, written.</summary>
    public bool LoadsMemory, StoresMemory;

    /// <summary>Memory operands must be aligned to their size.</summary>
    public bool MustAlign;

    /// <summary>A register in the r/m field may be replaced by memory that holds it.</summary>
    public bool TakesMemory;
    public bool IsVex, IsShift;

    /// <summary>Encoded with EVEX, or works on a mask register.</summary>
    public bool IsAvx512;

    /// <summary>The operand size that the form wants, 16, 32 or 64; 0 where a prefix for it says nothing or something
    /// else.</summary>
    public int OperandSize;

    /// <summary>Outside 64-bit code VEX.W is ignored.</summary>
    public bool IgnoresWide;

    static readonly OpInfo?[] s_infos = new OpInfo?[IcedConstants.CodeEnumCount];

    /// <summary>Any thread: those who race find out the same.</summary>
    public static OpInfo Of(in Instruction x) => s_infos[(int)x.Code] ??= Find(x);

    static class IcedConstants
    {
        public static readonly int CodeEnumCount = Enum.GetValues<Code>().Length;
    }

    static OpInfo Find(in Instruction example)
    {
        var info = new OpInfo();
        Instruction x = WithoutIdiom(example);
        OpCodeInfo op = x.Code.ToOpCode();
        InstructionInfo access = new InstructionInfoFactory().GetInfo(x);
        const RflagsBits arithmetic = (RflagsBits)AllFlags;
        info.Reads = (byte)(x.RflagsRead & arithmetic);
        info.Changes = (byte)(x.RflagsModified & arithmetic);
        info.IsShift = Shifts(x.Mnemonic);
        info.Kills = KillsFlags(x, info.IsShift) ? info.Changes : (byte)0;
        info.IgnoresWide = op.IsWIG32;
        info.IsVex = x.Encoding == EncodingKind.VEX;
        info.IsAvx512 = VectorOps.IsEvex(x);
        info.OperandSize = op.MandatoryPrefix == MandatoryPrefix.P66 ? 0 : op.OperandSize;
        for (int i = 0; i < x.OpCount; i++)
        {
            string kind = op.GetOpKind(i).ToString();
            info.Fields[i] = FieldOf(kind);
            info.HasModRm |= info.Fields[i] is OpField.Reg or OpField.Rm;
            OpAccess how = access.GetOpAccess(i);
            info.Writes[i] = how is OpAccess.Write or OpAccess.CondWrite or OpAccess.ReadWrite
                or OpAccess.ReadCondWrite;
            info.ReadsOperand[i] = how is not (OpAccess.None or OpAccess.Write or OpAccess.NoMemAccess);
            if (kind.StartsWith("mem", StringComparison.Ordinal) || kind.EndsWith("_or_mem", StringComparison.Ordinal))
            {
                info.StoresMemory = info.Writes[i];
                info.LoadsMemory = info.ReadsOperand[i] || how is OpAccess.CondWrite;
            }
        }
        info.ImplicitWrites = Implicit(x.Mnemonic, x.OpCount);
        info.MustAlign = MustBeAligned(x);
        if (StringForm.KindOf(x.Code) is { } strings)
            (info.StoresMemory, info.LoadsMemory) =
                (strings is StringKind.Move or StringKind.Store, strings != StringKind.Store);
        info.TakesMemory =
            x.Mnemonic
            is not (Mnemonic.Bt or Mnemonic.Bts or Mnemonic.Btr or Mnemonic.Btc or Mnemonic.Xchg or Mnemonic.Xadd
            or Mnemonic.Cmpxchg);
        info.Treatment = Classify(x, op);
        if (IsCopied(info.Treatment) && !Thunks.EmittedCode.Runs(x.Code)) info.Treatment = Treatment.Interpret;
        return info;
    }

    /// <summary>The instruction itself becomes part of the code.</summary>
    public static bool IsCopied(Treatment treatment) =>
        treatment is Treatment.Native or Treatment.Vector or Treatment.X87 or Treatment.BitString
            or Treatment.LoadControl;

    /// <summary>The form as such: equal registers that make XOR read nothing, and a count of 0 that makes SHL change
    /// nothing, are taken away.</summary>
    static Instruction WithoutIdiom(in Instruction example)
    {
        Instruction x = example;
        (x.OpMask, x.ZeroingMasking) = (Register.None, false);
        for (int i = 1; i < x.OpCount; i++)
            if (x.GetOpKind(i) == OpKind.Register && x.GetOpKind(i - 1) == OpKind.Register
                && x.GetOpRegister(i) == x.GetOpRegister(i - 1)
                && (x.GetOpRegister(i).IsGPR() || x.GetOpRegister(i).IsVectorRegister()))
                x.SetOpRegister(i, x.GetOpRegister(i).GetNumber() == 0 ? x.GetOpRegister(i) + 1
                    : x.GetOpRegister(i) - 1);
        for (int i = 0; i < x.OpCount; i++)
            if (x.GetOpKind(i) == OpKind.Immediate8) x.Immediate8 = 1;
        return x;
    }

    /// <summary>Shifts by a count that may be 0 leave flags alone then.</summary>
    static bool KillsFlags(in Instruction x, bool isShift) => isShift
        ? x.Code.ToString().EndsWith("_1", StringComparison.Ordinal)
        : x.Mnemonic
        is not (Mnemonic.Cmpsb or Mnemonic.Cmpsw or Mnemonic.Cmpsd or Mnemonic.Cmpsq or Mnemonic.Scasb or Mnemonic.Scasw
            or Mnemonic.Scasd or Mnemonic.Scasq);

    static bool Shifts(Mnemonic mnemonic) =>
        mnemonic is Mnemonic.Shl or Mnemonic.Sal or Mnemonic.Shr or Mnemonic.Sar or Mnemonic.Rol or Mnemonic.Ror
        or Mnemonic.Rcl or Mnemonic.Rcr or Mnemonic.Shld or Mnemonic.Shrd;

    /// <summary>Flags that this instruction surely gives a new value.</summary>
    public int KilledBy(in Instruction x)
    {
        if (!IsShift) return Treatment == Treatment.String && !x.HasRepPrefix && !x.HasRepnePrefix ? Changes : Kills;
        int count = x.OpCount - 1;
        if (x.GetOpKind(count) != OpKind.Immediate8) return Kills;
        int mask = x.Op0Kind == OpKind.Register && x.Op0Register.GetSize() == 8 || x.Op0Kind == OpKind.Memory
            && x.MemorySize.GetSize() == 8 ? 63 : 31;
        return (x.Immediate8 & mask) != 0 ? Changes : 0;
    }

    static OpField FieldOf(string kind)
    {
        if (kind.StartsWith("mem", StringComparison.Ordinal)) return kind == "mem_offs" ? OpField.None : OpField.Rm;
        if (kind.EndsWith("_or_mem", StringComparison.Ordinal) || kind.EndsWith("_rm", StringComparison.Ordinal))
            return OpField.Rm;
        if (kind.EndsWith("_reg", StringComparison.Ordinal)) return OpField.Reg;
        if (kind.EndsWith("_opcode", StringComparison.Ordinal)) return OpField.Opcode;
        return kind.EndsWith("_vvvv", StringComparison.Ordinal) ? OpField.Vvvv : OpField.None;
    }

    static ushort Implicit(Mnemonic mnemonic, int operands)
    {
        const ushort rax = 1, rcx = 2, rdx = 4;
        return mnemonic switch
        {
            Mnemonic.Mul or Mnemonic.Div or Mnemonic.Idiv or Mnemonic.Cmpxchg8b or Mnemonic.Cmpxchg16b => rax | rdx,
            Mnemonic.Imul when operands == 1 => rax | rdx,
            Mnemonic.Rdtsc => rax | rdx,
            Mnemonic.Rdtscp => rax | rcx | rdx,
            Mnemonic.Cwd or Mnemonic.Cdq or Mnemonic.Cqo => rdx,
            Mnemonic.Cbw or Mnemonic.Cwde or Mnemonic.Cdqe or Mnemonic.Cmpxchg or Mnemonic.Lahf => rax,
            Mnemonic.Pcmpestri or Mnemonic.Pcmpistri or Mnemonic.Pcmpestri64 or Mnemonic.Vpcmpestri
                or Mnemonic.Vpcmpistri
                or Mnemonic.Vpcmpestri64 => rcx,
            _ => 0,
        };
    }

    /// <summary>Intel SDM vol. 2, tables 2-18 to 2-22.</summary>
    static bool MustBeAligned(in Instruction x)
    {
        if (x.Mnemonic == Mnemonic.Cmpxchg16b) return true;
        if (x.Encoding == EncodingKind.EVEX) return Thunks.EvexThunkWriter.MustAlign(x.Mnemonic);
        if (x.Encoding == EncodingKind.VEX)
            return x.Mnemonic is Mnemonic.Vmovaps or Mnemonic.Vmovapd or Mnemonic.Vmovdqa or Mnemonic.Vmovntps
                or Mnemonic.Vmovntpd
                or Mnemonic.Vmovntdq or Mnemonic.Vmovntdqa;
        string name = x.Code.ToString();
        return (name.Contains("m128", StringComparison.Ordinal) || name.Contains("xmmm", StringComparison.Ordinal)
            && x.MemorySize.GetSize() == 16)
            && x.Mnemonic
            is not (Mnemonic.Movups or Mnemonic.Movupd or Mnemonic.Movdqu or Mnemonic.Lddqu or Mnemonic.Pcmpestri
            or Mnemonic.Pcmpestrm
                or Mnemonic.Pcmpistri or Mnemonic.Pcmpistrm or Mnemonic.Pcmpestri64 or Mnemonic.Pcmpestrm64);
    }

    static Treatment Classify(in Instruction x, OpCodeInfo op)
    {
        switch (x.Code)
        {
            case Code.Cli: return Treatment.ClearInterrupt;
            case Code.Sti: return Treatment.SetInterrupt;
            case Code.Pushfw or Code.Pushfd or Code.Pushfq: return Treatment.PushFlags;
            case Code.Swapgs: return Treatment.SwapGs;
            case Code.Pause: return Treatment.Pause;
            case Code.Rdtsc or Code.Rdtscp: return Treatment.ReadTsc;
            case Code.Rdfsbase_r32 or Code.Rdfsbase_r64 or Code.Rdgsbase_r32 or Code.Rdgsbase_r64 or Code.Wrfsbase_r32
                or Code.Wrfsbase_r64
                or Code.Wrgsbase_r32 or Code.Wrgsbase_r64: return Treatment.Base;
            case Code.Serialize: return Treatment.Nop;
            case Code.Mov_rm16_Sreg or Code.Mov_r32m16_Sreg or Code.Mov_r64m16_Sreg: return Treatment.ReadSegment;
            case Code.Syscall: return Treatment.SystemCall;
            case Code.Sysretq: return Treatment.SystemReturn;
            case Code.Stac or Code.Clac: return Treatment.SetAc;
            case Code.Std or Code.Cld: return Treatment.SetDirection;
        }
        switch (x.FlowControl)
        {
            case FlowControl.UnconditionalBranch:
                return x.IsJmpShortOrNear ? Treatment.Jump : Treatment.Interpret;
            case FlowControl.IndirectBranch:
                return x.IsJmpNearIndirect ? Treatment.JumpIndirect : Treatment.Interpret;
            case FlowControl.ConditionalBranch:
                return x.IsJccShortOrNear ? Treatment.JumpIf : x.IsJcxShort ? Treatment.JumpIfCxZero : x.IsLoop
                    || x.IsLoopcc ? Treatment.Loop : Treatment.Interpret;
            case FlowControl.Call:
                return x.IsCallNear ? Treatment.Call : Treatment.Interpret;
            case FlowControl.IndirectCall:
                return x.IsCallNearIndirect ? Treatment.CallIndirect : Treatment.Interpret;
            case FlowControl.Return:
                return x.Mnemonic == Mnemonic.Ret ? Treatment.Return : Treatment.Interpret;
            case FlowControl.Next:
                break;
            default:
                return Treatment.Interpret;
        }
        if (x.Encoding is not (EncodingKind.Legacy or EncodingKind.VEX or EncodingKind.EVEX) || op.IsPrivileged
            || op.IsInputOutput || x.IsVsib) return Treatment.Interpret;
        switch (x.Code)
        {
            case Code.Pushw_imm8 or Code.Pushd_imm8 or Code.Pushq_imm8 or Code.Push_imm16 or Code.Pushd_imm32
                or Code.Pushq_imm32:
                return Treatment.PushImmediate;
            case Code.Push_r16 or Code.Push_r32 or Code.Push_r64: return Treatment.Push;
            case Code.Push_rm16 or Code.Push_rm32 or Code.Push_rm64: return Treatment.Push;
            case Code.Pop_r16 or Code.Pop_r32 or Code.Pop_r64: return Treatment.Pop;
            case Code.Pop_rm16 or Code.Pop_rm32 or Code.Pop_rm64: return Treatment.Pop;
            case Code.Leavew or Code.Leaved or Code.Leaveq: return Treatment.Leave;
            case Code.Pushaw or Code.Pushad: return Treatment.PushAll;
            case Code.Popaw or Code.Popad: return Treatment.PopAll;
            case Code.Pushw_ES or Code.Pushw_CS or Code.Pushw_SS or Code.Pushw_DS or Code.Pushw_FS or Code.Pushw_GS
                or Code.Pushd_ES or Code.Pushd_CS or Code.Pushd_SS or Code.Pushd_DS or Code.Pushd_FS or Code.Pushd_GS
                or Code.Pushq_FS or Code.Pushq_GS: return Treatment.PushSegment;
            case Code.Popw_ES or Code.Popw_DS or Code.Popw_FS or Code.Popw_GS or Code.Popd_ES or Code.Popd_DS
                or Code.Popd_FS or Code.Popd_GS:
                return Treatment.PopSegment;
            case Code.Mov_Sreg_rm16 or Code.Mov_Sreg_r32m16: return Treatment.LoadSegment;
            case Code.Les_r16_m1616 or Code.Les_r32_m1632 or Code.Lds_r16_m1616 or Code.Lds_r32_m1632
                or Code.Lfs_r16_m1616 or Code.Lfs_r32_m1632
                or Code.Lgs_r16_m1616 or Code.Lgs_r32_m1632: return Treatment.LoadPointer;
            case Code.Lea_r16_m or Code.Lea_r32_m or Code.Lea_r64_m: return Treatment.Lea;
            case Code.Div_rm8 or Code.Div_rm16 or Code.Div_rm32 or Code.Div_rm64 or Code.Idiv_rm8 or Code.Idiv_rm16
                or Code.Idiv_rm32 or Code.Idiv_rm64:
                return Treatment.Divide;
            case Code.Mov_AL_moffs8 or Code.Mov_AX_moffs16 or Code.Mov_EAX_moffs32 or Code.Mov_RAX_moffs64
                or Code.Mov_moffs8_AL
                or Code.Mov_moffs16_AX or Code.Mov_moffs32_EAX or Code.Mov_moffs64_RAX: return Treatment.MoveOffset;
            case Code.Ldmxcsr_m32 or Code.VEX_Vldmxcsr_m32 or Code.Fldcw_m2byte: return Treatment.LoadControl;
        }
        if (VectorOps.IsEvex(x)) return Treatment.Vector;
        if (StringForm.KindOf(x.Code) != null) return Treatment.String;
        Mnemonic mnemonic = x.Mnemonic;
        if (mnemonic is Mnemonic.Nop or Mnemonic.Endbr64 or Mnemonic.Endbr32 or Mnemonic.Reservednop or Mnemonic.Rdsspd
            or Mnemonic.Rdsspq
            or Mnemonic.Cldemote or Mnemonic.Prefetchnta or Mnemonic.Prefetcht0
            or Mnemonic.Prefetcht1 or Mnemonic.Prefetcht2 or Mnemonic.Prefetchw or Mnemonic.Prefetchwt1
            or Mnemonic.Prefetch) return Treatment.Nop;
        if (x.IsStackInstruction || NeedsInterpreter(mnemonic)) return Treatment.Interpret;
        for (int i = 0; i < x.OpCount; i++)
        {
            string kind = op.GetOpKind(i).ToString();
            if (kind.StartsWith("seg", StringComparison.Ordinal) || kind is "es" or "cs" or "ss" or "ds" or "fs" or "gs"
                || kind.StartsWith("cr_", StringComparison.Ordinal)
                || kind.StartsWith("dr_", StringComparison.Ordinal) || kind.StartsWith("tr_", StringComparison.Ordinal)
                || kind.StartsWith("bnd", StringComparison.Ordinal)
                || kind.StartsWith("k_", StringComparison.Ordinal) || kind.Contains("zmm", StringComparison.Ordinal)
                || kind.Contains("reg_mem", StringComparison.Ordinal)
                || kind is "mem_mpx" or "mem_mib") return Treatment.Interpret;
        }
        foreach (CpuidFeature feature in x.Code.CpuidFeatures())
            switch (feature)
            {
                case CpuidFeature.FPU or CpuidFeature.FPU287 or CpuidFeature.FPU387
                    or CpuidFeature.MMX: return Treatment.X87;
            }
        bool mmx = UsesMmx(op), vectors = UsesVectors(x, op);
        if (mmx && vectors || ConvertsMmx(mnemonic)) return Treatment.Interpret;
        if (mmx) return Treatment.X87;
        if (vectors) return Treatment.Vector;
        if (mnemonic is Mnemonic.Bt or Mnemonic.Bts or Mnemonic.Btr or Mnemonic.Btc && x.Op1Kind == OpKind.Register)
            return Treatment.BitString;
        return IsInteger(x) ? Treatment.Native : Treatment.Interpret;
    }

    /// <summary>From memory to MMX registers, with MXCSR.</summary>
    static bool ConvertsMmx(Mnemonic mnemonic) =>
        mnemonic is Mnemonic.Cvtpi2ps or Mnemonic.Cvtpi2pd or Mnemonic.Cvtps2pi or Mnemonic.Cvtpd2pi
        or Mnemonic.Cvttps2pi or Mnemonic.Cvttpd2pi;

    static bool UsesMmx(OpCodeInfo op)
    {
        for (int i = 0; i < op.OpCount; i++)
            if (op.GetOpKind(i) is OpCodeOperandKind.mm_reg or OpCodeOperandKind.mm_rm or OpCodeOperandKind.mm_or_mem)
                return true;
        return false;
    }

    static bool UsesVectors(in Instruction x, OpCodeInfo op)
    {
        for (int i = 0; i < op.OpCount; i++)
        {
            string kind = op.GetOpKind(i).ToString();
            if (kind.StartsWith("xmm", StringComparison.Ordinal) || kind.StartsWith("ymm", StringComparison.Ordinal))
                return true;
        }
        return x.Mnemonic is Mnemonic.Stmxcsr or Mnemonic.Vstmxcsr or Mnemonic.Vzeroupper or Mnemonic.Vzeroall;
    }

    static bool NeedsInterpreter(Mnemonic mnemonic) =>
        mnemonic is Mnemonic.Fxsave or Mnemonic.Fxsave64 or Mnemonic.Fxrstor or Mnemonic.Fxrstor64
        or Mnemonic.Fnsave or Mnemonic.Frstor or Mnemonic.Fnstenv or Mnemonic.Fldenv or Mnemonic.Fninit
        or Mnemonic.Fnclex
        or Mnemonic.Maskmovq or Mnemonic.Maskmovdqu or Mnemonic.Vmaskmovdqu
        or Mnemonic.Vmaskmovps or Mnemonic.Vmaskmovpd or Mnemonic.Vpmaskmovd or Mnemonic.Vpmaskmovq or Mnemonic.Emms;

    /// <summary>Integer instructions that any program may run and that touch nothing but registers, flags and their
    /// memory operand.</summary>
    static bool IsInteger(in Instruction x) =>
        x.Mnemonic is Mnemonic.Mov or Mnemonic.Movzx or Mnemonic.Movsx or Mnemonic.Movsxd or Mnemonic.Add
        or Mnemonic.Adc or Mnemonic.Sub or Mnemonic.Sbb or Mnemonic.And or Mnemonic.Or or Mnemonic.Xor or Mnemonic.Cmp
        or Mnemonic.Test
        or Mnemonic.Inc or Mnemonic.Dec or Mnemonic.Neg or Mnemonic.Not or Mnemonic.Mul or Mnemonic.Imul or Mnemonic.Shl
        or Mnemonic.Sal
        or Mnemonic.Shr or Mnemonic.Sar or Mnemonic.Rol or Mnemonic.Ror or Mnemonic.Rcl or Mnemonic.Rcr or Mnemonic.Shld
        or Mnemonic.Shrd
        or Mnemonic.Bt or Mnemonic.Bts or Mnemonic.Btr or Mnemonic.Btc or Mnemonic.Bsf or Mnemonic.Bsr or Mnemonic.Tzcnt
        or Mnemonic.Lzcnt
        or Mnemonic.Popcnt or Mnemonic.Bswap or Mnemonic.Xchg or Mnemonic.Xadd or Mnemonic.Cmpxchg or Mnemonic.Cmpxchg8b
        or Mnemonic.Cmpxchg16b
        or Mnemonic.Cbw or Mnemonic.Cwde or Mnemonic.Cdqe or Mnemonic.Cwd or Mnemonic.Cdq or Mnemonic.Cqo
        or Mnemonic.Lahf or Mnemonic.Sahf
        or Mnemonic.Clc or Mnemonic.Stc or Mnemonic.Cmc or Mnemonic.Movbe or Mnemonic.Crc32 or Mnemonic.Adcx
        or Mnemonic.Adox or Mnemonic.Andn
        or Mnemonic.Bextr or Mnemonic.Blsi or Mnemonic.Blsmsk or Mnemonic.Blsr or Mnemonic.Bzhi or Mnemonic.Mulx
        or Mnemonic.Pdep or Mnemonic.Pext
        or Mnemonic.Rorx or Mnemonic.Sarx or Mnemonic.Shlx or Mnemonic.Shrx or Mnemonic.Movnti or Mnemonic.Lfence
        or Mnemonic.Mfence or Mnemonic.Sfence
        || x.Code.ConditionCode() != ConditionCode.None;
}
