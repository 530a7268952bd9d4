using Iced.Intel;
using Qkvm.Accel.Tcg;

namespace Qkvm.Accel.Tests;

/// <summary>What random instructions are taken from.</summary>
public enum VectorGroup { Vector, X87, Avx512 }

/// <summary>Random x87, MMX, SSE, AVX and AVX-512 instructions and states under which they do not fault.</summary>
sealed unsafe partial class VectorFuzzer(int seed, VectorGroup group, ulong scratch, int bits = 64)
{
    const int Middle = HostOracle.ScratchSize / 2;

    Random _random = new(seed);
    readonly byte[] _bytes = new byte[15];
    readonly HashSet<CpuidFeature> _features = HostFeatures();

    public Instruction Instruction;
    public readonly ulong[] Gpr = new ulong[16];
    public ulong Flags;

    /// <summary>Starts over, as if made with this seed.</summary>
    public void Reseed(int seed) => _random = new Random(seed);

    public ReadOnlySpan<byte> Bytes => _bytes.AsSpan(0, Instruction.Length);

    public void Next()
    {
        do Choose();
        while (!ChooseRegisters());
    }

    /// <summary>The next instruction of the group, whatever its operands are.</summary>
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
        if (group == VectorGroup.X87)
        {
            _bytes[0] = (byte)(0xD8 + _random.Next(8));
            return;
        }
        if (group == VectorGroup.Avx512)
        {
            RollAvx512();
            return;
        }
        int kind = _random.Next(10);
        if (kind < 3)
        {
            _bytes[at] = (byte)(0xC5 - _random.Next(2));
            if (_bytes[at] == 0xC4) _bytes[at + 1] = (byte)(_bytes[at + 1] & 0xE0 | 1 + _random.Next(3));
            return;
        }
        int prefix = _random.Next(4);
        if (prefix > 0) _bytes[at++] = (byte)(prefix == 1 ? 0x66 : 0xF0 + prefix);
        if (bits == 64 && _random.Next(2) == 0) _bytes[at++] = (byte)(0x40 | _random.Next(16));
        _bytes[at++] = 0x0F;
        if (kind >= 7) _bytes[at++] = (byte)(kind == 7 ? 0x3A : 0x38);
    }

    bool IsWanted(in Instruction x)
    {
        if (x.Code == Code.INVALID || x.IsIPRelativeMemoryOperand || x.SegmentPrefix is Register.FS or Register.GS
            || x.HasLockPrefix) return false;
        foreach (CpuidFeature feature in x.Code.CpuidFeatures())
            if (!_features.Contains(feature)) return false;
        Insn insn = default;
        if (!VectorOps.TrySelect(x, &insn)) return false;
        return x.Mnemonic
            is not (Mnemonic.Xsave or Mnemonic.Xsave64 or Mnemonic.Xsavec or Mnemonic.Xsavec64 or Mnemonic.Xsaveopt
            or Mnemonic.Xsaveopt64
            or Mnemonic.Xsaves or Mnemonic.Xsaves64 or Mnemonic.Xrstor or Mnemonic.Xrstor64 or Mnemonic.Xrstors
            or Mnemonic.Xrstors64
            or Mnemonic.Fxrstor or Mnemonic.Fxrstor64 or Mnemonic.Fxsave or Mnemonic.Fxsave64 or Mnemonic.Ldmxcsr
            or Mnemonic.Vldmxcsr
            or Mnemonic.Wait
            // The environment holds addresses.
            or Mnemonic.Fnstenv or Mnemonic.Fnsave or Mnemonic.Frstor or Mnemonic.Fldenv)
            && !IsSelfDefeating(x);
    }

    /// <summary>VSIB registers that must differ.</summary>
    static bool IsSelfDefeating(in Instruction x) => x.Encoding == EncodingKind.EVEX ? ClashesWithIndex(x) : x.IsVsib
        && (x.Op0Register.GetNumber() == x.MemoryIndex.GetNumber()
        || x.Op0Register.GetNumber() == x.Op2Register.GetNumber()
            || x.Op2Register.GetNumber() == x.MemoryIndex.GetNumber());

    bool ChooseRegisters()
    {
        ref Instruction x = ref Instruction;
        for (int i = 0; i < 16; i++) Gpr[i] = (ulong)_random.NextInt64() >> _random.Next(64);
        Gpr[4] = scratch + Middle;
        Flags = 2 | (ulong)_random.NextInt64() & Rflags.Arithmetic;
        for (int i = 0; i < x.OpCount; i++)
        {
            OpKind kind = x.GetOpKind(i);
            if (kind == OpKind.Memory && !ChooseAddress(x)) return false;
            if (kind is OpKind.MemorySegRDI or OpKind.MemorySegEDI)
                Gpr[7] = scratch + Middle + (ulong)_random.Next(512);
        }
        return true;
    }

    bool ChooseAddress(in Instruction x)
    {
        Register start = x.MemoryBase, index = x.MemoryIndex;
        if (start == Register.None || x.MemoryBase.GetSize() != 8 || start == Register.RSP
            && Math.Abs((long)x.MemoryDisplacement64) > 1024) return false;
        int alignment = Alignment(x);
        ulong target = scratch + Middle + (ulong)(_random.Next(1024) & -alignment);
        if (_random.Next(8) == 0) target = scratch + HostOracle.PageSize - (ulong)(_random.Next(33) & -alignment);
        ulong scaled = 0;
        if (index != Register.None && !x.IsVsib)
        {
            if (index == start) return false;
            Gpr[index.GetNumber()] = (ulong)_random.Next(-64, 64);
            scaled = Gpr[index.GetNumber()] * (ulong)x.MemoryIndexScale;
        }
        if (start != Register.RSP) Gpr[start.GetNumber()] = target - x.MemoryDisplacement64 - scaled;
        else if (alignment > 1 || index != Register.None) return false;
        return true;
    }

    /// <summary>The strictest that the form may want, where it wants any.</summary>
    public static int Alignment(in Instruction x)
    {
        int size = x.MemorySize.GetSize();
        bool isAlignedMove = x.Mnemonic is Mnemonic.Vmovaps or Mnemonic.Vmovapd or Mnemonic.Vmovdqa or Mnemonic.Vmovntps
            or Mnemonic.Vmovntpd
            or Mnemonic.Vmovntdq or Mnemonic.Vmovntdqa;
        if (x.Encoding == EncodingKind.EVEX) return Tcg.Thunks.EvexThunkWriter.MustAlign(x.Mnemonic) ? size : 1;
        return x.Encoding == EncodingKind.VEX ? isAlignedMove ? size : 1 : size == 16 ? 16 : 1;
    }

    /// <summary>Fills an XSAVE image of the guest's layout with interesting numbers, and for gathers with near
    /// indices.</summary>
    public void FillVectors(byte* image, bool unmasked)
    {
        *(ushort*)image = (ushort)(_random.Next(3) == 0 ? 0x37F : 0x7F | _random.Next(16) << 8);
        int top = _random.Next(8);
        *(ushort*)(image + 2) = (ushort)(top << 11 | _random.Next(16) << 8 & 0x4700);
        image[4] = (byte)(_random.Next(4) == 0 ? _random.Next(256) : 0xFF);
        uint control = _random.Next(2) == 0 ? 0x1F80u
            : 0x1F80u | (uint)_random.Next(4) << 13 | (uint)_random.Next(2) << 15 | (uint)_random.Next(2) << 6;
        *(uint*)(image + 24) = control | (uint)_random.Next(64);
        if (unmasked) *(ushort*)image &= unchecked((ushort)~_random.Next(64));
        for (int i = 0; i < 8; i++) FillLong(image + 32 + i * 16);
        for (int i = 0; i < 16; i++)
        {
            FillVector(image + 160 + i * 16);
            FillVector(image + 576 + i * 16);
        }
        if (HostOracle.HasAvx512) FillAvx512(image);
        if (!Instruction.IsVsib) return;
        if (Instruction.Encoding == EncodingKind.EVEX)
        {
            FillIndices(image);
            return;
        }
        bool isWide = Instruction.Mnemonic is Mnemonic.Vpgatherqd or Mnemonic.Vpgatherqq or Mnemonic.Vgatherqps
            or Mnemonic.Vgatherqpd;
        int index = Instruction.MemoryIndex.GetNumber();
        for (int n = 0; n < 8; n++)
        {
            byte* half = image + (n < 4 ? 160 : 576) + index * 16 + n % 4 * 4;
            *(int*)half = isWide && n % 2 == 1 ? *(int*)(half - 4) >> 31 : _random.Next(-100, 100);
        }
    }

    void FillLong(byte* at)
    {
        ulong significand = (ulong)_random.NextInt64() << _random.Next(64) | 1UL << 63;
        int exponent = _random.Next(8) switch { 0 => 0x3FFF, 1 => 0, 2 => 0x7FFF, 3 => _random.Next(0x8000),
            _ => 0x3FFF + _random.Next(-70, 70) };
        if (_random.Next(8) == 0) significand = exponent == 0 ? 0 : 1UL << 63;
        if (exponent == 0) significand &= long.MaxValue;
        *(ulong*)at = significand;
        *(ulong*)(at + 8) = (ulong)(exponent | _random.Next(2) << 15);
    }

    void FillVector(byte* at)
    {
        switch (_random.Next(5))
        {
            case 0: for (int i = 0; i < 16; i++) at[i] = (byte)_random.Next(_random.Next(2) == 0 ? 4 : 256); break;
            case 1 or 2: for (int i = 0; i < 4; i++) ((float*)at)[i] = Single(); break;
            case 3: for (int i = 0; i < 2; i++) ((double*)at)[i] = Double(); break;
            default: for (int i = 0; i < 16; i++) at[i] = (byte)"ab\0zAZ09 \xFF"[_random.Next(10)]; break;
        }
    }

    float Single() => _random.Next(8) switch
    {
        0 => BitConverter.Int32BitsToSingle(_random.Next()), 1 => float.NaN, 2 => 0, 3 =>
            float.Epsilon * _random.Next(1000),
        4 => _random.Next(-1000, 1000), _ => (float)(_random.NextDouble() * Math.Pow(2, _random.Next(-40, 40))),
    };

    double Double() => _random.Next(8) switch
    {
        0 => BitConverter.Int64BitsToDouble(_random.NextInt64()), 1 => double.PositiveInfinity, 2 => -0.0, 3 =>
            double.Epsilon * _random.Next(1000),
        4 => _random.Next(-1000, 1000), _ => (_random.NextDouble() - 0.5) * Math.Pow(2, _random.Next(-80, 80)),
    };

    static HashSet<CpuidFeature> HostFeatures()
    {
        using var machine = new GuestMachine();
        bool[] has = machine.Cpu.Model.DecodableFeatures();
        return [.. Enum.GetValues<CpuidFeature>().Where(feature => (int)feature < has.Length && has[(int)feature])];
    }
}
