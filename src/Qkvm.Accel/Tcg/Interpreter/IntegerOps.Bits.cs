using System.Numerics;
using Iced.Intel;

namespace Qkvm.Accel.Tcg;
using unsafe Handler = delegate*<Cpu, Insn*, void>;

// SAFETY: an Insn lies in its arena until its block has ended; what its operands point at is the vCPU's own state, or
// RAM that was looked up for the access.
/// <summary>What BT, BTS, BTR and BTC do to the bit.</summary>
interface IBitOp
{
    static abstract bool Writes { get; }
    static abstract ulong Apply(ulong value, ulong mask);
}

/// <summary>BT BTS BTR BTC, BSF BSR TZCNT LZCNT POPCNT, CRC32, ADCX ADOX.</summary>
static unsafe partial class IntegerOps
{
    readonly struct BitTest
        : IBitOp { public static bool Writes => false; public static ulong Apply(ulong value, ulong mask) => value; }
    readonly struct BitSet
        : IBitOp { public static bool Writes => true;
        public static ulong Apply(ulong value, ulong mask) => value | mask; }
    readonly struct BitReset
        : IBitOp { public static bool Writes => true;
        public static ulong Apply(ulong value, ulong mask) => value & ~mask; }
    readonly struct BitComplement
        : IBitOp { public static bool Writes => true;
        public static ulong Apply(ulong value, ulong mask) => value ^ mask; }

    static void BitReg<TOp, T>(Cpu cpu, Insn* i) where TOp : struct, IBitOp where T : unmanaged
    {
        ulong index = i->Reg1 == Insn.NoRegister ? i->Immediate : cpu.State->Gpr[i->Reg1];
        int bit = (int)index & (Width.Bits<T>() - 1);
        ulong value = Width.Zero(cpu.GetReg<T>(i->Reg0));
        if (TOp.Writes) cpu.SetReg(i->Reg0, Width.Narrow<T>(TOp.Apply(value, 1UL << bit)));
        cpu.SetCarry((value >> bit & 1) != 0);
    }

    /// <summary>A register as bit number is signed and reaches beyond the operand: SDM vol. 2, "Bit(BitBase,
    /// BitOffset)".</summary>
    static void BitMem<TOp, T>(Cpu cpu, Insn* i) where TOp : struct, IBitOp where T : unmanaged
    {
        ulong offset = cpu.EffectiveOffset(i), index = i->Immediate;
        if (i->Reg1 != Insn.NoRegister)
        {
            long signed = (long)Width.Signed<T>(cpu.State->Gpr[i->Reg1]);
            index = (ulong)signed;
            offset += (ulong)((signed >> BitOperations.Log2((uint)Width.Bits<T>())) * sizeof(T));
            if (i->AddressSize != 8) offset = i->AddressSize == 4 ? (uint)offset : (ushort)offset;
        }
        int bit = (int)index & (Width.Bits<T>() - 1);
        T old;
        if (!TOp.Writes) old = cpu.Read<T>(i->Segment, offset);
        else if ((i->Flags & InsnFlags.Lock) == 0)
        {
            ulong linear = cpu.Linear(i->Segment, offset, sizeof(T), write: true);
            old = cpu.ReadForWrite<T>(linear, i->Segment);
            cpu.WriteLinear(linear, Width.Narrow<T>(TOp.Apply(Width.Zero(old), 1UL << bit)));
        }
        else
        {
            var atomic = new AtomicCell<T>(cpu, cpu.Linear(i->Segment, offset, sizeof(T), write: true), i->Segment);
            do old = atomic.Read();
            while (!atomic.TryReplace(old, Width.Narrow<T>(TOp.Apply(Width.Zero(old), 1UL << bit))));
            atomic.Release();
        }
        cpu.SetCarry((Width.Zero(old) >> bit & 1) != 0);
    }

    static Handler SelectBit<TOp>(in Instruction x, Insn* i) where TOp : struct, IBitOp
    {
        if (IsImmediate(x.Op1Kind)) i->Immediate = x.GetImmediate(1);
        bool memory = x.Op0Kind == OpKind.Memory;
        return Size(in x) switch
        {
            2 => memory ? &BitMem<TOp, ushort> : &BitReg<TOp, ushort>,
            4 => memory ? &BitMem<TOp, uint> : &BitReg<TOp, uint>,
            _ => memory ? &BitMem<TOp, ulong> : &BitReg<TOp, ulong>,
        };
    }

    /// <summary>A source of 0 leaves the destination alone, as processors of both makers do.</summary>
    static void Bsf<T>(Cpu cpu, Insn* i) where T : unmanaged
    {
        ulong source = Width.Zero(Operand<T>(cpu, i, 1));
        if (source != 0) cpu.SetReg(i->Reg0, Width.Narrow<T>((ulong)BitOperations.TrailingZeroCount(source)));
        cpu.SetZero(source == 0);
    }

    static void Bsr<T>(Cpu cpu, Insn* i) where T : unmanaged
    {
        ulong source = Width.Zero(Operand<T>(cpu, i, 1));
        if (source != 0) cpu.SetReg(i->Reg0, Width.Narrow<T>((ulong)BitOperations.Log2(source)));
        cpu.SetZero(source == 0);
    }

    static void Tzcnt<T>(Cpu cpu, Insn* i) where T : unmanaged
    {
        ulong source = Width.Zero(Operand<T>(cpu, i, 1));
        Count<T>(cpu, i, source, source == 0 ? Width.Bits<T>() : BitOperations.TrailingZeroCount(source));
    }

    static void Lzcnt<T>(Cpu cpu, Insn* i) where T : unmanaged
    {
        ulong source = Width.Zero(Operand<T>(cpu, i, 1));
        Count<T>(cpu, i, source, BitOperations.LeadingZeroCount(source) - (64 - Width.Bits<T>()));
    }

    static void Count<T>(Cpu cpu, Insn* i, ulong source, int result) where T : unmanaged
    {
        cpu.SetReg(i->Reg0, Width.Narrow<T>((ulong)result));
        LazyFlags.Result<T>(cpu.State, (ulong)result, source == 0, false);
    }

    static void Popcnt<T>(Cpu cpu, Insn* i) where T : unmanaged
    {
        ulong source = Width.Zero(Operand<T>(cpu, i, 1));
        cpu.SetReg(i->Reg0, Width.Narrow<T>((ulong)BitOperations.PopCount(source)));
        cpu.ArithmeticFlags = source == 0 ? Rflags.Zf : 0;
    }

    static void Crc32<T>(Cpu cpu, Insn* i) where T : unmanaged
    {
        ulong data = Width.Zero(Operand<T>(cpu, i, 1));
        uint crc = (uint)cpu.State->Gpr[i->Reg0];
        cpu.State->Gpr[i->Reg0] = sizeof(T) switch
        {
            1 => BitOperations.Crc32C(crc, (byte)data),
            2 => BitOperations.Crc32C(crc, (ushort)data),
            4 => BitOperations.Crc32C(crc, (uint)data),
            _ => BitOperations.Crc32C(crc, data),
        };
    }

    static void Adcx<T>(Cpu cpu, Insn* i) where T : unmanaged
    {
        ulong b = Width.Zero(Operand<T>(cpu, i, 1)), a = Width.Zero(cpu.GetReg<T>(i->Reg0)),
            result = a + b + (cpu.Carry ? 1UL : 0);
        cpu.SetReg(i->Reg0, Width.Narrow<T>(result));
        cpu.SetCarry(Width.ToTop<T>(a & b | (a | b) & ~result) >> 63 != 0);
    }

    static void Adox<T>(Cpu cpu, Insn* i) where T : unmanaged
    {
        ulong b = Width.Zero(Operand<T>(cpu, i, 1)), a = Width.Zero(cpu.GetReg<T>(i->Reg0)),
            result = a + b + (cpu.Overflow ? 1UL : 0);
        cpu.SetReg(i->Reg0, Width.Narrow<T>(result));
        LazyFlags.KeepOthers(cpu.State,
            LazyFlags.Carries(cpu.State->FlagsCarries >> 63, Width.ToTop<T>(a & b | (a | b) & ~result) >> 63));
    }

    static Handler SelectBsf(in Instruction x) =>
        Size(in x) switch { 2 => &Bsf<ushort>, 4 => &Bsf<uint>, _ => &Bsf<ulong> };
    static Handler SelectBsr(in Instruction x) =>
        Size(in x) switch { 2 => &Bsr<ushort>, 4 => &Bsr<uint>, _ => &Bsr<ulong> };
    static Handler SelectTzcnt(in Instruction x) =>
        Size(in x) switch { 2 => &Tzcnt<ushort>, 4 => &Tzcnt<uint>, _ => &Tzcnt<ulong> };
    static Handler SelectLzcnt(in Instruction x) =>
        Size(in x) switch { 2 => &Lzcnt<ushort>, 4 => &Lzcnt<uint>, _ => &Lzcnt<ulong> };
    static Handler SelectPopcnt(in Instruction x) =>
        Size(in x) switch { 2 => &Popcnt<ushort>, 4 => &Popcnt<uint>, _ => &Popcnt<ulong> };
    static Handler SelectAdcx(in Instruction x) => Size(in x) == 4 ? &Adcx<uint> : &Adcx<ulong>;
    static Handler SelectAdox(in Instruction x) => Size(in x) == 4 ? &Adox<uint> : &Adox<ulong>;

    static Handler SelectCrc32(in Instruction x) => x.Code switch
    {
        Code.Crc32_r32_rm8 or Code.Crc32_r64_rm8 => &Crc32<byte>,
        Code.Crc32_r32_rm16 => &Crc32<ushort>,
        Code.Crc32_r32_rm32 => &Crc32<uint>,
        _ => &Crc32<ulong>,
    };
}
