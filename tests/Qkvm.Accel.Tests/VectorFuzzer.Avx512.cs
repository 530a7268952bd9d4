using Iced.Intel;
using Qkvm.Accel.Tcg;

namespace Qkvm.Accel.Tests;

// AVX-512: its encodings, masks, registers of 64 bytes.
sealed unsafe partial class VectorFuzzer
{
    /// <summary>Opcodes on mask registers in the maps 0Fh and 0F3Ah.</summary>
    static readonly byte[] s_masks = [0x41, 0x42, 0x44, 0x45, 0x46, 0x47, 0x4A, 0x4B, 0x90, 0x91, 0x92, 0x93, 0x98,
        0x99], s_shifts = [0x30, 0x31, 0x32, 0x33];

    /// <summary>Bytes are random already; five in six become EVEX, the others VEX with a mask register. Intel SDM vol.
    /// 2, section 2.7.1.</summary>
    void RollAvx512()
    {
        if (_random.Next(6) == 0)
        {
            bool shifts = _random.Next(5) == 0;
            byte opcode = shifts ? s_shifts[_random.Next(s_shifts.Length)] : s_masks[_random.Next(s_masks.Length)];
            _bytes[0] = (byte)(shifts || _random.Next(2) == 0 ? 0xC4 : 0xC5);
            if (_bytes[0] == 0xC5) _bytes[2] = opcode;
            else
            {
                _bytes[1] = (byte)(_bytes[1] & 0xE0 | (shifts ? 3 : 1));
                _bytes[3] = opcode;
            }
            return;
        }
        _bytes[0] = 0x62;
        _bytes[1] = (byte)(_bytes[1] & 0xF0 | 1 + _random.Next(3));
        if (bits == 32) _bytes[1] |= 0xF0;
        _bytes[2] |= 4;
        // No rounding of what has none, and no mask, in a third of all.
        if (_random.Next(3) == 0) _bytes[3] &= 0x68;
        if (bits == 32) _bytes[3] |= 8;
    }

    /// <summary>Gathers refuse an index that is the destination.</summary>
    static bool ClashesWithIndex(in Instruction x) =>
        x.IsVsib && x.Op0Kind == OpKind.Register && x.Op0Register.GetNumber() == x.MemoryIndex.GetNumber();

    /// <summary>Half of the time all of it stays in its initial state, as with most programs.</summary>
    void FillAvx512(byte* image)
    {
        if (group != VectorGroup.Avx512 && _random.Next(2) == 0) return;
        bool hasUppers = _random.Next(3) != 0;
        for (int i = 0; i < 8; i++) *(ulong*)(image + XsaveArea.Opmask0 + i * 8) = MaskValue();
        for (int at = XsaveArea.ZmmHigh0; hasUppers && at < XsaveArea.Zmm16; at += 16) FillVector(image + at);
        for (int at = XsaveArea.Zmm16; at < sizeof(XsaveArea); at += 16) FillVector(image + at);
    }

    ulong MaskValue() => _random.Next(6) switch
    {
        0 => 0, 1 => ulong.MaxValue, 2 => (1UL << _random.Next(64)) - 1, 3 => 1UL << _random.Next(17), _ =>
            (ulong)_random.NextInt64() ^ (ulong)_random.NextInt64() << 1,
    };

    /// <summary>Indices near 0, of dwords or qwords.</summary>
    void FillIndices(byte* image)
    {
        bool isWide = Instruction.Mnemonic is Mnemonic.Vpgatherqd or Mnemonic.Vpgatherqq or Mnemonic.Vgatherqps
            or Mnemonic.Vgatherqpd
            or Mnemonic.Vpscatterqd or Mnemonic.Vpscatterqq or Mnemonic.Vscatterqps or Mnemonic.Vscatterqpd;
        int index = Instruction.MemoryIndex.GetNumber();
        for (int n = 0; n < 16; n++)
        {
            int near = _random.Next(-100, 100);
            if (!isWide) *(int*)Part(image, index, n * 4) = near;
            else if (n % 2 == 0) *(long*)Part(image, index, n * 4) = near;
        }
    }

    /// <summary>Where bytes of a ZMM register are.</summary>
    static byte* Part(byte* image, int register, int at) => register >= 16
        ? image + XsaveArea.Zmm16 + (register - 16) * 64 + at
        : at >= 32 ? image + XsaveArea.ZmmHigh0 + register * 32 + at - 32
        : at >= 16 ? image + XsaveArea.YmmHigh0 + register * 16 + at - 16 : image + XsaveArea.Xmm0 + register * 16 + at;
}
