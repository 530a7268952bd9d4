namespace Qkvm.Accel.Tcg.Translator;

// EVEX. Intel SDM vol. 2, section 2.7: 62h, then R X B R' 0 mmm, W vvvv 1 pp, z L'L b V' aaa; R, X, B, R', V' and vvvv
// inverted.
// SAFETY: parses at most the 15 bytes of an instruction that Iced has decoded, in the copy of its page.
unsafe ref partial struct Form
{
    /// <summary>From the prefix: extensions of the ModRM byte's reg and r/m, two bits each.</summary>
    void ParseEvex(byte* prefix, bool is64, out int reg, out int rm)
    {
        int first = ~prefix[1], second = prefix[2], third = prefix[3];
        IsEvex = true;
        Map = prefix[1] & 7;
        reg = first >> 7 & 1 | (first >> 4 & 1) << 1;
        rm = first >> 5 & 1 | (first >> 6 & 1) << 1;
        Wide = (second & 0x80) != 0;
        Implied = second & 3;
        Vvvv = ~second >> 3 & 15 | (~third >> 3 & 1) << 4;
        Length = third >> 5 & 3;
        _masking = third & 0x97;
        if (is64) return;
        reg = rm = 0;
        Vvvv &= 7;
    }

    /// <param name="rm">A vector register, whose fifth bit takes the place of an index's fourth; or a base.</param>
    readonly void EmitEvex(Emitter to, int reg, int index, int rm)
    {
        int r = reg >> 3 & 1, r2 = reg >> 4 & 1, x = index > 0 ? index >> 3 & 1 : 0, b = rm > 0 ? rm >> 3 & 1 : 0;
        if (rm > 0) x |= rm >> 4 & 1;
        to.Byte(0x62);
        to.Byte((r ^ 1) << 7 | (x ^ 1) << 6 | (b ^ 1) << 5 | (r2 ^ 1) << 4 | Map);
        to.Byte((Wide ? 0x80 : 0) | (~Vvvv & 15) << 3 | 4 | Implied);
        to.Byte(_masking | Length << 5 | (~Vvvv >> 4 & 1) << 3);
        to.Byte(Opcode);
    }
}
