using System.Runtime.CompilerServices;
using Iced.Intel;

namespace Qkvm.Accel.Tcg;
using unsafe Handler = delegate*<Cpu, Insn*, void>;

// SAFETY: an Insn lies in its arena until its block has ended; what its operands point at is the vCPU's own state, or
// RAM that was looked up for the access.
/// <summary>Instructions on general registers, flags, stack and strings: which handler runs one.</summary>
static unsafe partial class IntegerOps
{
    /// <summary>False: not of this group.</summary>
    public static bool TrySelect(in Instruction x, Insn* i)
    {
        Handler run = Select(in x, i);
        if (run == null) return false;
        i->Run = run;
        return true;
    }

    static Handler Select(in Instruction x, Insn* i)
    {
        switch (x.Mnemonic)
        {
            case Mnemonic.Add: return SelectAlu<Add>(in x, i);
            case Mnemonic.Adc: return SelectAlu<Adc>(in x, i);
            case Mnemonic.Sub: return SelectAlu<Sub>(in x, i);
            case Mnemonic.Sbb: return SelectAlu<Sbb>(in x, i);
            case Mnemonic.And: return SelectAlu<And>(in x, i);
            case Mnemonic.Or: return SelectAlu<Or>(in x, i);
            case Mnemonic.Xor: return SelectAlu<Xor>(in x, i);
            case Mnemonic.Cmp: return SelectAlu<Cmp>(in x, i);
            case Mnemonic.Test: return SelectAlu<Test>(in x, i);
            case Mnemonic.Inc: return SelectUnary<Inc>(in x);
            case Mnemonic.Dec: return SelectUnary<Dec>(in x);
            case Mnemonic.Neg: return SelectUnary<Neg>(in x);
            case Mnemonic.Not: return SelectUnary<Not>(in x);
            case Mnemonic.Shl or Mnemonic.Sal: return SelectShift<Shl>(in x, i);
            case Mnemonic.Shr: return SelectShift<Shr>(in x, i);
            case Mnemonic.Sar: return SelectShift<Sar>(in x, i);
            case Mnemonic.Rol: return SelectShift<Rol>(in x, i);
            case Mnemonic.Ror: return SelectShift<Ror>(in x, i);
            case Mnemonic.Rcl: return SelectShift<Rcl>(in x, i);
            case Mnemonic.Rcr: return SelectShift<Rcr>(in x, i);
            case Mnemonic.Shld: return SelectDouble<Shld>(in x);
            case Mnemonic.Shrd: return SelectDouble<Shrd>(in x);
            case Mnemonic.Mul: return SelectMul(in x);
            case Mnemonic.Imul: return SelectImul(in x, i);
            case Mnemonic.Div: return SelectDiv(in x);
            case Mnemonic.Idiv: return SelectIdiv(in x);
            case Mnemonic.Bt: return SelectBit<BitTest>(in x, i);
            case Mnemonic.Bts: return SelectBit<BitSet>(in x, i);
            case Mnemonic.Btr: return SelectBit<BitReset>(in x, i);
            case Mnemonic.Btc: return SelectBit<BitComplement>(in x, i);
            case Mnemonic.Bsf: return SelectBsf(in x);
            case Mnemonic.Bsr: return SelectBsr(in x);
            case Mnemonic.Tzcnt: return SelectTzcnt(in x);
            case Mnemonic.Lzcnt: return SelectLzcnt(in x);
            case Mnemonic.Popcnt: return SelectPopcnt(in x);
            case Mnemonic.Crc32: return SelectCrc32(in x);
            case Mnemonic.Adcx: return SelectAdcx(in x);
            case Mnemonic.Adox: return SelectAdox(in x);
            case Mnemonic.Mulx: return SelectMulx(in x);
            case Mnemonic.Movbe: return SelectMovbe(in x);
            case Mnemonic.Bswap: return SelectBswap(in x);
            case Mnemonic.Movzx: return SelectMovzx(in x);
            case Mnemonic.Andn: return SelectBmi3<Andn>(in x);
            case Mnemonic.Bextr: return SelectBmi3<Bextr>(in x);
            case Mnemonic.Bzhi: return SelectBmi3<Bzhi>(in x);
            case Mnemonic.Pdep: return SelectBmi3<Pdep>(in x);
            case Mnemonic.Pext: return SelectBmi3<Pext>(in x);
            case Mnemonic.Sarx: return SelectBmi3<Sarx>(in x);
            case Mnemonic.Shlx: return SelectBmi3<Shlx>(in x);
            case Mnemonic.Shrx: return SelectBmi3<Shrx>(in x);
            case Mnemonic.Rorx: return SelectBmi3<Rorx>(in x);
            case Mnemonic.Blsi: return SelectBmi1<Blsi>(in x);
            case Mnemonic.Blsmsk: return SelectBmi1<Blsmsk>(in x);
            case Mnemonic.Blsr: return SelectBmi1<Blsr>(in x);
            case Mnemonic.Mov or Mnemonic.Movnti or Mnemonic.Movdiri: return SelectMov(in x, i);
            case Mnemonic.Movsx or Mnemonic.Movsxd: return SelectMovsx(in x);
            case Mnemonic.Lea: return SelectLea(in x, i);
            case Mnemonic.Cmovo: return SelectCmov<IfO>(in x);
            case Mnemonic.Cmovno: return SelectCmov<IfNo>(in x);
            case Mnemonic.Cmovb: return SelectCmov<IfB>(in x);
            case Mnemonic.Cmovae: return SelectCmov<IfAe>(in x);
            case Mnemonic.Cmove: return SelectCmov<IfE>(in x);
            case Mnemonic.Cmovne: return SelectCmov<IfNe>(in x);
            case Mnemonic.Cmovbe: return SelectCmov<IfBe>(in x);
            case Mnemonic.Cmova: return SelectCmov<IfA>(in x);
            case Mnemonic.Cmovs: return SelectCmov<IfS>(in x);
            case Mnemonic.Cmovns: return SelectCmov<IfNs>(in x);
            case Mnemonic.Cmovp: return SelectCmov<IfP>(in x);
            case Mnemonic.Cmovnp: return SelectCmov<IfNp>(in x);
            case Mnemonic.Cmovl: return SelectCmov<IfL>(in x);
            case Mnemonic.Cmovge: return SelectCmov<IfGe>(in x);
            case Mnemonic.Cmovle: return SelectCmov<IfLe>(in x);
            case Mnemonic.Cmovg: return SelectCmov<IfG>(in x);
            case Mnemonic.Seto: return SelectSet<IfO>(in x);
            case Mnemonic.Setno: return SelectSet<IfNo>(in x);
            case Mnemonic.Setb: return SelectSet<IfB>(in x);
            case Mnemonic.Setae: return SelectSet<IfAe>(in x);
            case Mnemonic.Sete: return SelectSet<IfE>(in x);
            case Mnemonic.Setne: return SelectSet<IfNe>(in x);
            case Mnemonic.Setbe: return SelectSet<IfBe>(in x);
            case Mnemonic.Seta: return SelectSet<IfA>(in x);
            case Mnemonic.Sets: return SelectSet<IfS>(in x);
            case Mnemonic.Setns: return SelectSet<IfNs>(in x);
            case Mnemonic.Setp: return SelectSet<IfP>(in x);
            case Mnemonic.Setnp: return SelectSet<IfNp>(in x);
            case Mnemonic.Setl: return SelectSet<IfL>(in x);
            case Mnemonic.Setge: return SelectSet<IfGe>(in x);
            case Mnemonic.Setle: return SelectSet<IfLe>(in x);
            case Mnemonic.Setg: return SelectSet<IfG>(in x);
            case Mnemonic.Jo: return SelectJcc<IfO>(in x, i);
            case Mnemonic.Jno: return SelectJcc<IfNo>(in x, i);
            case Mnemonic.Jb: return SelectJcc<IfB>(in x, i);
            case Mnemonic.Jae: return SelectJcc<IfAe>(in x, i);
            case Mnemonic.Je: return SelectJcc<IfE>(in x, i);
            case Mnemonic.Jne: return SelectJcc<IfNe>(in x, i);
            case Mnemonic.Jbe: return SelectJcc<IfBe>(in x, i);
            case Mnemonic.Ja: return SelectJcc<IfA>(in x, i);
            case Mnemonic.Js: return SelectJcc<IfS>(in x, i);
            case Mnemonic.Jns: return SelectJcc<IfNs>(in x, i);
            case Mnemonic.Jp: return SelectJcc<IfP>(in x, i);
            case Mnemonic.Jnp: return SelectJcc<IfNp>(in x, i);
            case Mnemonic.Jl: return SelectJcc<IfL>(in x, i);
            case Mnemonic.Jge: return SelectJcc<IfGe>(in x, i);
            case Mnemonic.Jle: return SelectJcc<IfLe>(in x, i);
            case Mnemonic.Jg: return SelectJcc<IfG>(in x, i);
            case Mnemonic.Jmp: return SelectJump(in x, i);
            case Mnemonic.Call: return SelectCall(in x, i);
            case Mnemonic.Ret: return SelectReturn(in x, i);
            case Mnemonic.Loop or Mnemonic.Loope or Mnemonic.Loopne or Mnemonic.Jcxz or Mnemonic.Jecxz
                or Mnemonic.Jrcxz: return SelectLoop(in x, i);
            case Mnemonic.Push: return SelectPush(in x, i);
            case Mnemonic.Pop: return SelectPop(in x);
            case Mnemonic.Pusha: return &Pusha<ushort>;
            case Mnemonic.Pushad: return &Pusha<uint>;
            case Mnemonic.Popa: return &Popa<ushort>;
            case Mnemonic.Popad: return &Popa<uint>;
            case Mnemonic.Enter: return SelectEnter(in x, i);
            case Mnemonic.Leave: return SelectLeave(in x);
            case Mnemonic.Movsb: return SelectMovs<byte>(in x);
            case Mnemonic.Movsw: return SelectMovs<ushort>(in x);
            case Mnemonic.Movsd: return IsString(in x) ? SelectMovs<uint>(in x) : null;
            case Mnemonic.Movsq: return SelectMovs<ulong>(in x);
            case Mnemonic.Stosb: return SelectStos<byte>(in x);
            case Mnemonic.Stosw: return SelectStos<ushort>(in x);
            case Mnemonic.Stosd: return SelectStos<uint>(in x);
            case Mnemonic.Stosq: return SelectStos<ulong>(in x);
            case Mnemonic.Lodsb: return SelectLods<byte>(in x);
            case Mnemonic.Lodsw: return SelectLods<ushort>(in x);
            case Mnemonic.Lodsd: return SelectLods<uint>(in x);
            case Mnemonic.Lodsq: return SelectLods<ulong>(in x);
            case Mnemonic.Cmpsb: return SelectCmps<byte>(in x);
            case Mnemonic.Cmpsw: return SelectCmps<ushort>(in x);
            case Mnemonic.Cmpsd: return IsString(in x) ? SelectCmps<uint>(in x) : null;
            case Mnemonic.Cmpsq: return SelectCmps<ulong>(in x);
            case Mnemonic.Scasb: return SelectScas<byte>(in x);
            case Mnemonic.Scasw: return SelectScas<ushort>(in x);
            case Mnemonic.Scasd: return SelectScas<uint>(in x);
            case Mnemonic.Scasq: return SelectScas<ulong>(in x);
            case Mnemonic.Xchg: return SelectXchg(in x);
            case Mnemonic.Xadd: return SelectXadd(in x);
            case Mnemonic.Cmpxchg: return SelectCmpxchg(in x);
            case Mnemonic.Cmpxchg8b: return &Cmpxchg8b;
            case Mnemonic.Cmpxchg16b: return &Cmpxchg16b;
            case Mnemonic.Cbw: return &Cbw;
            case Mnemonic.Cwde: return &Cwde;
            case Mnemonic.Cdqe: return &Cdqe;
            case Mnemonic.Cwd: return &Cwd;
            case Mnemonic.Cdq: return &Cdq;
            case Mnemonic.Cqo: return &Cqo;
            case Mnemonic.Clc: return &Clc;
            case Mnemonic.Stc: return &Stc;
            case Mnemonic.Cmc: return &Cmc;
            case Mnemonic.Cld: return &Cld;
            case Mnemonic.Std: return &Std;
            case Mnemonic.Lahf: return &Lahf;
            case Mnemonic.Sahf: return &Sahf;
            case Mnemonic.Salc: return &Salc;
            case Mnemonic.Daa: return &Daa;
            case Mnemonic.Das: return &Das;
            case Mnemonic.Aaa: return &Aaa;
            case Mnemonic.Aas: return &Aas;
            case Mnemonic.Xlatb: return &Xlat;
            case Mnemonic.Aam: return SelectAdjust(in x, i, &Aam);
            case Mnemonic.Aad: return SelectAdjust(in x, i, &Aad);
            case Mnemonic.Rdrand or Mnemonic.Rdseed: return Size(in x)
                switch { 2 => &Random<ushort>, 4 => &Random<uint>, _ => &Random<ulong> };
            case Mnemonic.Clzero: return SelectClzero(in x, i);
            case Mnemonic.Nop or Mnemonic.Endbr32 or Mnemonic.Endbr64 or Mnemonic.Reservednop or Mnemonic.Rdsspd
                or Mnemonic.Rdsspq: return &Nop;
            default: return null;
        }
    }

    /// <summary>Bytes of the first operand.</summary>
    static int Size(in Instruction x) => x.Op0Kind == OpKind.Register ? x.Op0Register.GetSize()
        : x.MemorySize.GetSize();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    static bool IsImmediate(OpKind kind) => kind is >= OpKind.Immediate8 and <= OpKind.Immediate32to64;

    /// <summary>MOVSD and CMPSD are also names of SSE2.</summary>
    static bool IsString(in Instruction x) => x.Code is Code.Movsd_m32_m32 or Code.Cmpsd_m32_m32;

    static Handler SelectAdjust(in Instruction x, Insn* i, Handler run)
    {
        i->Immediate = x.Immediate8;
        return run;
    }

    static Handler SelectClzero(in Instruction x, Insn* i)
    {
        i->AddressSize = x.Code switch { Code.Clzerow => 2, Code.Clzerod => 4, _ => 8 };
        i->Segment = Seg.Ds;
        return &Clzero;
    }

    /// <summary>The register or memory operand with this number.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    static T Operand<T>(Cpu cpu, Insn* i, int number) where T : unmanaged =>
        i->MemoryOperand == number ? cpu.Load<T>(i)
            : cpu.GetReg<T>(number == 0 ? i->Reg0 : number == 1 ? i->Reg1 : i->Reg2);
}
