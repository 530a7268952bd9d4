using System.Runtime.Intrinsics;
using Iced.Intel;

namespace Qkvm.Accel.Tcg;
using unsafe Handler = delegate*<Cpu, Insn*, void>;

// SSE4A: fields of bits, and stores of one element. AMD APM vol. 4, EXTRQ, INSERTQ, MOVNTSD, MOVNTSS. What the manual
// leaves undefined is as on family 19h.
// SAFETY: an Insn lies in its arena until its block has ended; what its operands point at is the vCPU's own state, or
// RAM that was looked up for the access.
static unsafe partial class VectorOps
{
    static Handler SelectSse4a(in Instruction x) => x.Code switch
    {
        Code.Extrq_xmm_imm8_imm8 => &ExtractImmediate,
        Code.Extrq_xmm_xmm => &ExtractByRegister,
        Code.Insertq_xmm_xmm_imm8_imm8 => &InsertImmediate,
        Code.Insertq_xmm_xmm => &InsertByRegister,
        Code.Movntss_m32_xmm => &StoreLowest<SseFamily, uint>,
        Code.Movntsd_m64_xmm => &StoreLowest<SseFamily, ulong>,
        _ => null,
    };

    /// <summary>The length counts from 1 to 64, which is written as 0.</summary>
    static ulong FieldMask(ulong length) => ulong.MaxValue >> (int)(64 - (length & 63) & 63);

    static void Extract(Cpu cpu, Insn* i, ulong length, ulong index)
    {
        Vector128<byte>* to = Low(cpu.State, i->Reg0);
        *to = Vector128.CreateScalar(to->AsUInt64().ToScalar() >> (int)(index & 63) & FieldMask(length)).AsByte();
    }

    static void ExtractImmediate(Cpu cpu, Insn* i)
    {
        cpu.CheckSse();
        Extract(cpu, i, i->Immediate, i->Extra);
    }

    static void ExtractByRegister(Cpu cpu, Insn* i)
    {
        cpu.CheckSse();
        ulong control = Low(cpu.State, i->Reg1)->AsUInt64().ToScalar();
        Extract(cpu, i, control, control >> 8);
    }

    static void Insert(Cpu cpu, Insn* i, ulong length, ulong index)
    {
        Vector128<byte>* to = Low(cpu.State, i->Reg0);
        ulong mask = FieldMask(length), field = Low(cpu.State, i->Reg1)->AsUInt64().ToScalar() & mask;
        int shift = (int)(index & 63);
        *to = Vector128.CreateScalar(to->AsUInt64().ToScalar() & ~(mask << shift) | field << shift).AsByte();
    }

    static void InsertImmediate(Cpu cpu, Insn* i)
    {
        cpu.CheckSse();
        Insert(cpu, i, i->Immediate, i->Extra);
    }

    static void InsertByRegister(Cpu cpu, Insn* i)
    {
        cpu.CheckSse();
        ulong control = Low(cpu.State, i->Reg1)->AsUInt64().GetElement(1);
        Insert(cpu, i, control, control >> 8);
    }
}
