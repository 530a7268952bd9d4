using Iced.Intel;

namespace Qkvm.Accel.Tests;

/// <summary>What a hostile program might try: random bytes as code, registers and displacements that lead to or near
/// pages at the ends of the address space, of 2 GiB and of 4 GiB. No jump but over the next instruction; UD2 ends
/// it.</summary>
sealed class WildFuzzer
{
    public const ulong Page = 0x1000, Code = 0x12345000;
    const int Longest = 15, Rsp = 4;

    public static readonly ulong[] Pages =
    [
        0, 0x1000, 0x7FFF_F000, 0x8000_0000, 0xFFFF_F000, 0x1_0000_0000, 0x7FFF_FFFF_E000, 0x7FFF_FFFF_F000,
            0xFFFF_8000_0000_0000,
        0xFFFF_8000_0000_1000, 0xFFFF_FFFF_7FFF_F000, 0xFFFF_FFFF_8000_0000, 0xFFFF_FFFF_FFFF_E000,
            0xFFFF_FFFF_FFFF_F000, Code, Code + Page,
    ];

    readonly InstructionInfoFactory _info = new();
    readonly ulong?[] _known = new ulong?[16];
    readonly byte[] _bytes = new byte[Longest];
    Random _random = new();

    public readonly ulong[] Registers = new ulong[16];

    /// <summary>Registers are those that it starts with.</summary>
    public List<byte> Next(int seed, ulong start)
    {
        _random = new Random(seed);
        for (int i = 0; i < 16; i++) _known[i] = Registers[i] = i == Rsp && Chance(90) ? Near() & ~7UL : Number();
        List<byte> code = [];
        int count = _random.Next(1, 14);
        for (int i = 0; i < count; i++)
        {
            Instruction x;
            while (!IsFit(x = Random(start + (ulong)code.Count))) { }
            if (Chance(10)) code.AddRange([(byte)(0x70 | _random.Next(16)), (byte)x.Length]);
            Aim(ref x, start + (ulong)code.Count);
            code.AddRange(_bytes[..x.Length]);
            // Flags that are undefined are not for others to read.
            if (UndefinedResults.Flags(x, 40, 8) != 0) code.AddRange([0x3C, (byte)_random.Next(256)]);
            Forget(x);
        }
        code.AddRange([0x0F, 0x0B]);
        return code;
    }

    bool Chance(int percent) => _random.Next(100) < percent;

    /// <summary>In a page, more often than not near its ends.</summary>
    ulong Near() =>
        Pages[_random.Next(Pages.Length)]
        + (ulong)(_random.Next(3) switch { 0 => _random.Next(0x1000), 1 => _random.Next(-20, 20),
        _ => 0xFF0 + _random.Next(0x20) });

    ulong Number() => _random.Next(8) switch
    {
        0 => (ulong)_random.NextInt64(),
        1 => (ulong)_random.Next(-64, 64),
        2 => Near() - 0x7FFF_FF00 - (ulong)_random.Next(0x100),
        3 => Near() + 0x7FFF_FF00 + (ulong)_random.Next(0x100),
        _ => Near(),
    };

    Instruction Random(ulong at)
    {
        TranslatorKnowledgeTests.Fill(_bytes, _random, 64);
        return Decode(at);
    }

    Instruction Decode(ulong at)
    {
        Decoder decoder = Decoder.Create(64, _bytes, DecoderOptions.AMD);
        decoder.IP = at;
        return decoder.Decode();
    }

    /// <summary>Goes on to the next instruction, and its results are defined.</summary>
    static bool IsFit(in Instruction x) => x.Code != Iced.Intel.Code.INVALID && x.FlowControl == FlowControl.Next
        && !x.IsVsib && !(x.HasRepPrefix || x.HasRepnePrefix)
        && x.Mnemonic
        is not (Mnemonic.Rdtsc or Mnemonic.Rdtscp or Mnemonic.Rdrand or Mnemonic.Rdseed or Mnemonic.Rdpmc
        or Mnemonic.Popf or Mnemonic.Popfq
            or Mnemonic.Shld or Mnemonic.Shrd or Mnemonic.Bsf or Mnemonic.Bsr or Mnemonic.Bswap or Mnemonic.Maskmovq
            or Mnemonic.Maskmovdqu
            or Mnemonic.Vmaskmovdqu or Mnemonic.Cpuid or Mnemonic.Pause or Mnemonic.Tpause or Mnemonic.Umwait
            or Mnemonic.Rdpru or Mnemonic.Clzero
            or Mnemonic.Fnsave or Mnemonic.Fnstenv);

    /// <summary>Changes the displacement so that the operand lies in a page, if the registers are known and it is near
    /// enough.</summary>
    void Aim(ref Instruction x, ulong at)
    {
        Decoder decoder = Decoder.Create(64, _bytes, DecoderOptions.AMD);
        decoder.IP = at;
        x = decoder.Decode();
        ConstantOffsets where = decoder.GetConstantOffsets(x);
        if (!where.HasDisplacement || Chance(15) || Value(x) is not { } rest) return;
        ulong displacement = Near() - rest;
        bool fits = where.DisplacementSize
            switch { 1 => (sbyte)displacement == (long)displacement, 4 => (int)displacement == (long)displacement,
            8 => true, _ => false };
        if (!fits || x.Encoding == EncodingKind.EVEX && where.DisplacementSize == 1) return;
        BitConverter.GetBytes(displacement).AsSpan(0, where.DisplacementSize)
            .CopyTo(_bytes.AsSpan(where.DisplacementOffset));
        x = Decode(at);
    }

    /// <summary>The address of a memory operand but for the displacement; null: nobody knows.</summary>
    ulong? Value(in Instruction x)
    {
        if (x.IsIPRelativeMemoryOperand) return x.NextIP;
        ulong sum = 0;
        if (x.MemoryBase != Register.None)
        {
            if (_known[x.MemoryBase.GetNumber()] is not { } value) return null;
            sum = value;
        }
        if (x.MemoryIndex == Register.None) return sum;
        return _known[x.MemoryIndex.GetNumber()] is { } index ? sum + index * (ulong)x.MemoryIndexScale : null;
    }

    void Forget(in Instruction x)
    {
        foreach (UsedRegister used in _info.GetInfo(x).GetUsedRegisters())
            if (used.Register.IsGPR()
                && used.Access is not (OpAccess.Read or OpAccess.CondRead or OpAccess.NoMemAccess or OpAccess.None))
            {
                int number = used.Register.GetFullRegister().GetNumber();
                _known[number] = number == Rsp && x.StackPointerIncrement != 0
                    ? _known[Rsp] + (ulong)(long)x.StackPointerIncrement : null;
            }
    }
}
