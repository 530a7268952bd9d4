using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using Iced.Intel;

namespace Qkvm.Accel.Tcg;
using unsafe Handler = delegate*<Cpu, Insn*, void>;

// SAFETY: an Insn lies in its arena until its block has ended; what its operands point at is the vCPU's own state, or
// RAM that was looked up for the access.
/// <summary>MOV MOVZX MOVSX MOVSXD MOVBE MOVNTI MOVDIRI LEA CMOVcc SETcc BSWAP, CBW to CQO.</summary>
static unsafe partial class IntegerOps
{
    static void MovRegReg<T>(Cpu cpu, Insn* i) where T : unmanaged => cpu.SetReg(i->Reg0, cpu.GetReg<T>(i->Reg1));
    static void MovRegImm<T>(Cpu cpu, Insn* i) where T
        : unmanaged => cpu.SetReg(i->Reg0, Width.Narrow<T>(i->Immediate));
    static void MovRegMem<T>(Cpu cpu, Insn* i) where T : unmanaged => cpu.SetReg(i->Reg0, cpu.Load<T>(i));
    static void MovMemReg<T>(Cpu cpu, Insn* i) where T : unmanaged => cpu.Store(i, cpu.GetReg<T>(i->Reg1));
    static void MovMemImm<T>(Cpu cpu, Insn* i) where T : unmanaged => cpu.Store(i, Width.Narrow<T>(i->Immediate));

    static void MovzxReg<TTo, TFrom>(Cpu cpu, Insn* i) where TTo : unmanaged where TFrom : unmanaged =>
        cpu.SetReg(i->Reg0, Width.Narrow<TTo>(Width.Zero(cpu.GetReg<TFrom>(i->Reg1))));

    static void MovzxMem<TTo, TFrom>(Cpu cpu, Insn* i) where TTo : unmanaged where TFrom : unmanaged =>
        cpu.SetReg(i->Reg0, Width.Narrow<TTo>(Width.Zero(cpu.Load<TFrom>(i))));

    static void MovsxReg<TTo, TFrom>(Cpu cpu, Insn* i) where TTo : unmanaged where TFrom : unmanaged =>
        cpu.SetReg(i->Reg0, Width.Narrow<TTo>(Width.Signed<TFrom>(Width.Zero(cpu.GetReg<TFrom>(i->Reg1)))));

    static void MovsxMem<TTo, TFrom>(Cpu cpu, Insn* i) where TTo : unmanaged where TFrom : unmanaged =>
        cpu.SetReg(i->Reg0, Width.Narrow<TTo>(Width.Signed<TFrom>(Width.Zero(cpu.Load<TFrom>(i)))));

    static void LeaWide(Cpu cpu, Insn* i)
    {
        ulong* gpr = cpu.State->Gpr;
        gpr[i->Reg0] = gpr[i->Base] + (gpr[i->Index] << i->Shift) + (ulong)i->Displacement;
    }

    static void Lea<T>(Cpu cpu, Insn* i) where T
        : unmanaged => cpu.SetReg(i->Reg0, Width.Narrow<T>(cpu.EffectiveOffset(i)));

    /// <summary>A false condition still clears the upper half of a 32-bit destination.</summary>
    static void CmovReg<TIf, T>(Cpu cpu, Insn* i) where TIf : struct, ICondition where T : unmanaged =>
        cpu.SetReg(i->Reg0, cpu.GetReg<T>(TIf.Holds(cpu) ? i->Reg1 : i->Reg0));

    static void CmovMem<TIf, T>(Cpu cpu, Insn* i) where TIf : struct, ICondition where T : unmanaged
    {
        T value = cpu.Load<T>(i);
        cpu.SetReg(i->Reg0, TIf.Holds(cpu) ? value : cpu.GetReg<T>(i->Reg0));
    }

    static void SetReg<TIf>(Cpu cpu, Insn* i) where TIf
        : struct, ICondition => cpu.SetReg(i->Reg0, TIf.Holds(cpu) ? (byte)1 : (byte)0);
    static void SetMem<TIf>(Cpu cpu, Insn* i) where TIf
        : struct, ICondition => cpu.Store(i, TIf.Holds(cpu) ? (byte)1 : (byte)0);

    static T Swap<T>(T value) where T : unmanaged => sizeof(T) switch
    {
        2 => Unsafe.BitCast<ushort, T>(BinaryPrimitives.ReverseEndianness(Unsafe.BitCast<T, ushort>(value))),
        4 => Unsafe.BitCast<uint, T>(BinaryPrimitives.ReverseEndianness(Unsafe.BitCast<T, uint>(value))),
        _ => Unsafe.BitCast<ulong, T>(BinaryPrimitives.ReverseEndianness(Unsafe.BitCast<T, ulong>(value))),
    };

    static void MovbeLoad<T>(Cpu cpu, Insn* i) where T : unmanaged => cpu.SetReg(i->Reg0, Swap(cpu.Load<T>(i)));
    static void MovbeStore<T>(Cpu cpu, Insn* i) where T : unmanaged => cpu.Store(i, Swap(cpu.GetReg<T>(i->Reg1)));
    static void Bswap<T>(Cpu cpu, Insn* i) where T : unmanaged => cpu.SetReg(i->Reg0, Swap(cpu.GetReg<T>(i->Reg0)));

    /// <summary>Undefined; the processors give 0.</summary>
    static void BswapWord(Cpu cpu, Insn* i) => cpu.SetReg<ushort>(i->Reg0, 0);

    static void Cbw(Cpu cpu, Insn* i) => cpu.SetReg(0, (ushort)(sbyte)cpu.Rax);
    static void Cwde(Cpu cpu, Insn* i) => cpu.SetReg(0, (uint)(short)cpu.Rax);
    static void Cdqe(Cpu cpu, Insn* i) => cpu.Rax = (ulong)(int)cpu.Rax;
    static void Cwd(Cpu cpu, Insn* i) => cpu.SetReg(2, (ushort)((short)cpu.Rax >> 15));
    static void Cdq(Cpu cpu, Insn* i) => cpu.SetReg(2, (uint)((int)cpu.Rax >> 31));
    static void Cqo(Cpu cpu, Insn* i) => cpu.Rdx = (ulong)((long)cpu.Rax >> 63);

    static Handler SelectMov(in Instruction x, Insn* i)
    {
        OpKind to = x.Op0Kind, from = x.Op1Kind;
        // Moves of segment, control and debug registers are the system group's.
        if (to == OpKind.Register && !x.Op0Register.IsGPR() || from == OpKind.Register && !x.Op1Register.IsGPR())
            return null;
        return Size(in x) switch
        {
            1 => MovForm<byte>(in x, i),
            2 => MovForm<ushort>(in x, i),
            4 => MovForm<uint>(in x, i),
            _ => MovForm<ulong>(in x, i),
        };
    }

    static Handler MovForm<T>(in Instruction x, Insn* i) where T : unmanaged
    {
        if (IsImmediate(x.Op1Kind))
        {
            i->Immediate = x.GetImmediate(1);
            return x.Op0Kind == OpKind.Memory ? &MovMemImm<T> : &MovRegImm<T>;
        }
        return x.Op0Kind == OpKind.Memory ? &MovMemReg<T> : x.Op1Kind == OpKind.Memory ? &MovRegMem<T> : &MovRegReg<T>;
    }

    static Handler SelectMovzx(in Instruction x)
    {
        bool memory = x.Op1Kind == OpKind.Memory,
            fromByte = x.Code is Code.Movzx_r16_rm8 or Code.Movzx_r32_rm8 or Code.Movzx_r64_rm8;
        return (Size(in x), fromByte) switch
        {
            (2, true) => memory ? &MovzxMem<ushort, byte> : &MovzxReg<ushort, byte>,
            (4, true) => memory ? &MovzxMem<uint, byte> : &MovzxReg<uint, byte>,
            (8, true) => memory ? &MovzxMem<ulong, byte> : &MovzxReg<ulong, byte>,
            (2, false) => memory ? &MovzxMem<ushort, ushort> : &MovzxReg<ushort, ushort>,
            (4, false) => memory ? &MovzxMem<uint, ushort> : &MovzxReg<uint, ushort>,
            _ => memory ? &MovzxMem<ulong, ushort> : &MovzxReg<ulong, ushort>,
        };
    }

    static Handler SelectMovsx(in Instruction x)
    {
        bool memory = x.Op1Kind == OpKind.Memory;
        return x.Code switch
        {
            Code.Movsx_r16_rm8 => memory ? &MovsxMem<ushort, byte> : &MovsxReg<ushort, byte>,
            Code.Movsx_r32_rm8 => memory ? &MovsxMem<uint, byte> : &MovsxReg<uint, byte>,
            Code.Movsx_r64_rm8 => memory ? &MovsxMem<ulong, byte> : &MovsxReg<ulong, byte>,
            Code.Movsx_r16_rm16 or Code.Movsxd_r16_rm16 => memory ? &MovsxMem<ushort, ushort>
                : &MovsxReg<ushort, ushort>,
            Code.Movsx_r32_rm16 => memory ? &MovsxMem<uint, ushort> : &MovsxReg<uint, ushort>,
            Code.Movsx_r64_rm16 => memory ? &MovsxMem<ulong, ushort> : &MovsxReg<ulong, ushort>,
            Code.Movsxd_r32_rm32 => memory ? &MovsxMem<uint, uint> : &MovsxReg<uint, uint>,
            _ => memory ? &MovsxMem<ulong, uint> : &MovsxReg<ulong, uint>,
        };
    }

    static Handler SelectLea(in Instruction x, Insn* i) => Size(in x) switch
    {
        2 => &Lea<ushort>,
        4 => &Lea<uint>,
        _ => i->AddressSize == 8 ? &LeaWide : &Lea<ulong>,
    };

    static Handler SelectCmov<TIf>(in Instruction x) where TIf : struct, ICondition
    {
        bool memory = x.Op1Kind == OpKind.Memory;
        return Size(in x) switch
        {
            2 => memory ? &CmovMem<TIf, ushort> : &CmovReg<TIf, ushort>,
            4 => memory ? &CmovMem<TIf, uint> : &CmovReg<TIf, uint>,
            _ => memory ? &CmovMem<TIf, ulong> : &CmovReg<TIf, ulong>,
        };
    }

    static Handler SelectSet<TIf>(in Instruction x) where TIf : struct, ICondition => x.Op0Kind == OpKind.Memory
        ? &SetMem<TIf> : &SetReg<TIf>;

    static Handler SelectMovbe(in Instruction x)
    {
        bool loads = x.Op1Kind == OpKind.Memory;
        return Size(in x) switch
        {
            2 => loads ? &MovbeLoad<ushort> : &MovbeStore<ushort>,
            4 => loads ? &MovbeLoad<uint> : &MovbeStore<uint>,
            _ => loads ? &MovbeLoad<ulong> : &MovbeStore<ulong>,
        };
    }

    static Handler SelectBswap(in Instruction x) =>
        Size(in x) switch { 2 => &BswapWord, 4 => &Bswap<uint>, _ => &Bswap<ulong> };
}
