using Iced.Intel;
using Qkvm.Accel.Tcg;
using Qkvm.Host;

namespace Qkvm.Accel.Tests;

/// <summary>Random integer instructions, from random bytes, with registers under which they do not fault.</summary>
sealed unsafe class IntegerFuzzer(int seed, int bits, ulong scratch)
{
    const int Middle = HostOracle.ScratchSize / 2;

    Random _random = new(seed);
    readonly byte[] _bytes = new byte[15];
    readonly int _registers = bits == 64 ? 16 : 8;

    public Instruction Instruction;
    public readonly ulong[] Gpr = new ulong[16];
    public ulong Flags;

    /// <summary>Starts over, as if made with this seed.</summary>
    public void Reseed(int seed) => _random = new Random(seed);

    public ReadOnlySpan<byte> Bytes => _bytes.AsSpan(0, Instruction.Length);

    /// <summary>The next instruction of the integer group that cannot fault.</summary>
    public void Next(byte* memory)
    {
        do Choose();
        while (!ChooseRegisters(memory));
    }

    /// <summary>The next instruction of the integer group that goes on to the one after it, whatever its operands
    /// are.</summary>
    public void Choose()
    {
        do
        {
            Roll();
            var decoder = Decoder.Create(bits, new ByteArrayCodeReader(_bytes));
            decoder.Decode(out Instruction);
        }
        while (!IsWanted(Instruction));
    }

    void Roll()
    {
        int at = 0;
        _random.NextBytes(_bytes);
        if (_random.Next(12) == 0) _bytes[at++] = 0xF0;
        if (_random.Next(6) == 0) _bytes[at++] = 0x66;
        if (_random.Next(12) == 0) _bytes[at++] = 0x67;
        if (_random.Next(8) == 0) _bytes[at++] = (byte)(0xF2 + _random.Next(2));
        if (_random.Next(24) == 0) _bytes[at++] = (byte)(new byte[] { 0x26, 0x2E, 0x36, 0x3E })[_random.Next(4)];
        if (_random.Next(16) == 0)
        {
            _bytes[at] = 0xC4;
            _bytes[at + 1] = (byte)(_bytes[at + 1] & 0xE0 | 2 + _random.Next(2));
            _bytes[at + 2] &= 0xFB;                                 // L0
            _bytes[at + 3] = (byte)(0xF0 + _random.Next(8));
            return;
        }
        if (bits == 64 && _random.Next(2) == 0) _bytes[at++] = (byte)(0x40 | _random.Next(16));
        int map = _random.Next(8);
        if (map < 3) _bytes[at++] = 0x0F;
        if (map == 0)
        {
            _bytes[at++] = 0x38;
            _bytes[at] = (byte)(0xF0 + _random.Next(8));
        }
    }

    bool IsWanted(in Instruction x)
    {
        if (x.Code == Code.INVALID || x.FlowControl != FlowControl.Next || x.IsIPRelativeMemoryOperand) return false;
        Insn insn = default;
        insn.Length = 1;
        if (!IntegerOps.TrySelect(x, &insn)) return false;
        if (x.SegmentPrefix is Register.FS or Register.GS || bits == 32 && x.SegmentPrefix == Register.CS) return false;
        if (x.Mnemonic == Mnemonic.Cmpxchg16b && !HostFeatures.Current.Has("cx16") || x.Mnemonic == Mnemonic.Crc32
            && !HostFeatures.Current.Has("sse4.2")) return false;
        // Not on every host, random, not of the group's own making, or without an operand in reach.
        return x.Mnemonic is not (Mnemonic.Rdrand or Mnemonic.Rdseed or Mnemonic.Movdiri or Mnemonic.Reservednop)
            && !(x.Mnemonic == Mnemonic.Bswap && x.Op0Register.GetSize() == 2)
            // with F3h some processors refuse it
            && !(x.Mnemonic == Mnemonic.Clzero && (x.Code == Code.Clzerow || x.Length > 3))
            && !(x.Mnemonic == Mnemonic.Enter && (x.Immediate16 > 0x400 || (x.Immediate8_2nd & 31) > 8));
    }

    bool ChooseRegisters(byte* memory)
    {
        ref Instruction x = ref Instruction;
        for (int i = 0; i < 16; i++) Gpr[i] = Value();
        Gpr[4] = scratch + Middle + (ulong)_random.Next(64) * 4;
        Flags = 2 | (ulong)_random.NextInt64() & Rflags.Arithmetic;
        bool isString = x.IsStringInstruction;
        if (isString && _random.Next(3) == 0) Flags |= Rflags.Df;
        if (x.Mnemonic is Mnemonic.Enter or Mnemonic.Leave)
            Gpr[5] = scratch + Middle + 512 + (ulong)_random.Next(64) * 8;
        if (isString && !ChooseString(x)) return false;
        for (int i = 0; i < x.OpCount; i++)
            if (x.GetOpKind(i) == OpKind.Memory && !ChooseAddress(ref x, memory)) return false;
        if (x.Mnemonic is Mnemonic.Div or Mnemonic.Idiv)
            Gpr[2] = _random.Next(3) switch { 0 => 0, 1 => (ulong)((long)Gpr[0] >> 63), _ => Gpr[2] };
        if (x.Mnemonic == Mnemonic.Clzero) Gpr[0] = scratch + Middle + (ulong)_random.Next(1024);
        if (x.Mnemonic == Mnemonic.Aam && x.Immediate8 == 0) return false;
        if (bits == 32) for (int i = 0; i < 16; i++) Gpr[i] = i < 8 ? (uint)Gpr[i] : 0;
        // DIV may have taken an address' register.
        return x.Mnemonic is not (Mnemonic.Div or Mnemonic.Idiv) || !Uses(x, 2);
    }

    static bool Uses(in Instruction x, int gpr) =>
        x.MemoryBase != Register.None && x.MemoryBase.GetNumber() == gpr || x.MemoryIndex != Register.None
            && x.MemoryIndex.GetNumber() == gpr;

    bool ChooseString(in Instruction x)
    {
        for (int i = 0; i < x.OpCount; i++)
            if (x.GetOpKind(i) is OpKind.MemorySegSI or OpKind.MemoryESDI) return false;
        Gpr[6] = scratch + Middle + (ulong)_random.Next(256);
        Gpr[7] = _random.Next(2) == 0 ? Gpr[6] + (ulong)_random.Next(-32, 32)
            : scratch + Middle + (ulong)_random.Next(256);
        Gpr[1] = (ulong)_random.Next(64);
        if (_random.Next(2) == 0) Gpr[0] = 0;
        return true;
    }

    /// <summary>Aims the memory operand at the scratch memory through its base register.</summary>
    bool ChooseAddress(ref Instruction x, byte* memory)
    {
        Register start = x.MemoryBase, index = x.MemoryIndex;
        if (start == Register.None || start.GetSize() == 2) return false;
        int size = start.GetSize(), number = start.GetNumber();
        if (x.Mnemonic == Mnemonic.Lea) return true;
        ulong target = scratch + Middle + (ulong)_random.Next(1024);
        if (x.Mnemonic is Mnemonic.Cmpxchg16b) target &= ~15UL;
        if (_random.Next(16) == 0)
            target = scratch + HostOracle.PageSize - (ulong)_random.Next(x.Mnemonic == Mnemonic.Cmpxchg16b ? 1 : 9);
        ulong displacement = x.MemoryDisplacement64;
        bool isBit = x.Mnemonic is Mnemonic.Bt or Mnemonic.Bts or Mnemonic.Btr or Mnemonic.Btc;
        if (isBit && x.Op1Kind == OpKind.Register)
        {
            int bit = x.Op1Register.GetNumber();
            if (bit == number || index != Register.None && bit == index.GetNumber()) return false;
            long offset = _random.Next(-4096, 4096);
            Gpr[bit] = x.Op1Register.GetSize()
                switch { 2 => Gpr[bit] & ~0xFFFFUL | (ushort)offset, 4 => Gpr[bit] & ~0xFFFFFFFFUL | (uint)offset,
                _ => (ulong)offset };
        }
        if (x.Mnemonic == Mnemonic.Xlatb)
        {
            Gpr[3] = scratch + Middle;
            return true;
        }
        if (number == 4 && x.Mnemonic is Mnemonic.Push or Mnemonic.Pop && start.GetNumber() == 4)
        {
            // The stack pointer stays where it is: only near displacements reach the scratch memory.
            if ((long)displacement is < -1024 or > 1024 || index != Register.None) return false;
            return true;
        }
        ulong scaled = 0;
        if (index != Register.None)
        {
            if (index.GetNumber() == number || index.GetNumber() == 4) return false;
            Gpr[index.GetNumber()] = Small(index.GetSize());
            scaled = Gpr[index.GetNumber()] * (ulong)x.MemoryIndexScale;
        }
        ulong value = target - displacement - scaled;
        Gpr[number] = size == 4 && number != 4 ? (uint)value | (bits == 64 ? (ulong)_random.Next() << 32 : 0)
            : size == 4 ? (uint)value : value;
        bool touchesAccumulator = number == 0 || index != Register.None && index.GetNumber() == 0;
        if (x.Mnemonic is Mnemonic.Cmpxchg or Mnemonic.Cmpxchg8b or Mnemonic.Cmpxchg16b && !touchesAccumulator
            && _random.Next(2) == 0)
        {
            ulong* at = (ulong*)(memory + (target - scratch));
            Gpr[0] = *at;
            if (x.Mnemonic == Mnemonic.Cmpxchg8b && !Uses(x, 2)) (Gpr[0], Gpr[2]) = ((uint)*at, *at >> 32);
            if (x.Mnemonic == Mnemonic.Cmpxchg16b && !Uses(x, 2)) Gpr[2] = at[1];
        }
        return true;
    }

    ulong Small(int size) => size == 4 && bits == 64 ? (ulong)(uint)_random.Next(-64, 64)
        : (ulong)(long)_random.Next(-64, 64);

    /// <summary>Edge values as often as any.</summary>
    ulong Value() => _random.Next(6) switch
    {
        0 => (ulong)_random.Next(-3, 4),
        1 => 1UL << _random.Next(64),
        2 => (1UL << _random.Next(64)) - 1,
        3 => (ulong)(uint)_random.NextInt64(),
        _ => (ulong)_random.NextInt64() ^ (ulong)_random.NextInt64() << 1,
    };
}
