using Iced.Intel;

namespace Qkvm.Accel.Tcg.Translator;

// SAFETY: parses at most the 15 bytes of an instruction that Iced has decoded, in the copy of its page.
/// <summary>An instruction's encoding taken apart, to be put together again with other registers and another memory
/// operand.
/// Intel SDM vol. 2, sections 2.1 to 2.3.</summary>
unsafe ref partial struct Form
{
    public bool Lock, OperandPrefix, Wide, HadRex;

    /// <summary>F2h, F3h or 0.</summary>
    public byte Repeat;

    /// <summary>0: one byte, 1: 0Fh, 2: 0F38h, 3: 0F3Ah.</summary>
    public int Map;
    public int Opcode;

    // VEX and EVEX: length, implied prefix.
    public bool IsVex, IsEvex;
    public int Length, Implied, Vvvv;

    /// <summary>Of EVEX: z, b and aaa where the prefix has them.</summary>
    int _masking;

    /// <summary>As encoded, extensions included.</summary>
    public int Reg, Rm;
    public bool HasModRm;
    public ReadOnlySpan<byte> Immediate;

    /// <param name="codeSize">2, 4 or 8, as <see cref="Mode.CodeSize"/>.</param>
    public static Form Parse(byte* bytes, int length, int codeSize, bool hasModRm)
    {
        var form = new Form { HasModRm = hasModRm };
        bool is64 = codeSize == 8, hasWordAddress = codeSize == 2;
        int at = 0, rex = 0;
        for (; ; at++)
        {
            byte prefix = bytes[at];
            if (is64 && (prefix & 0xF0) == 0x40)
            {
                rex = prefix;
                continue;
            }
            if (prefix == 0x66) form.OperandPrefix = true;
            else if (prefix is 0xF2 or 0xF3) form.Repeat = prefix;
            else if (prefix == 0xF0) form.Lock = true;
            else if (prefix == 0x67) hasWordAddress = codeSize == 4;
            else if (prefix is not (0x2E or 0x36 or 0x3E or 0x26 or 0x64 or 0x65)) break;
            rex = 0;                                                // a REX prefix counts just before the opcode
        }
        form.HadRex = rex != 0;
        form.Wide = (rex & 8) != 0;
        int r = rex >> 2 & 1, b = rex & 1;
        if (bytes[at] is 0xC4 or 0xC5 && (is64 || (bytes[at + 1] & 0xC0) == 0xC0))
        {
            form.IsVex = true;
            int last;
            if (bytes[at] == 0xC5)
            {
                (form.Map, r, b, last) = (1, ~bytes[at + 1] >> 7 & 1, 0, bytes[at + 1]);
                at += 2;
            }
            else
            {
                (form.Map, r, b, last) = (bytes[at + 1] & 31, ~bytes[at + 1] >> 7 & 1, ~bytes[at + 1] >> 5 & 1,
                    bytes[at + 2]);
                form.Wide = (last & 0x80) != 0;
                at += 3;
            }
            (form.Vvvv, form.Length, form.Implied) = (~last >> 3 & 15, last >> 2 & 1, last & 3);
            // There are eight registers there, whatever those bits say.
            if (!is64) (form.Vvvv, b) = (form.Vvvv & 7, 0);
        }
        else if (bytes[at] == 0x62 && (is64 || (bytes[at + 1] & 0xC0) == 0xC0))
        {
            form.ParseEvex(bytes + at, is64, out r, out b);
            at += 4;
        }
        else if (bytes[at] == 0x0F)
        {
            form.Map = bytes[at + 1] == 0x38 ? 2 : bytes[at + 1] == 0x3A ? 3 : 1;
            at += form.Map == 1 ? 1 : 2;
        }
        form.Opcode = bytes[at++];
        // the same, which 64-bit code lacks
        if (!is64 && form.Map == 0 && form.Opcode == 0x82) form.Opcode = 0x80;
        if (hasModRm)
        {
            int modRm = bytes[at++];
            (form.Reg, form.Rm) = (modRm >> 3 & 7 | r << 3, modRm & 7 | b << 3);
            int mode = modRm >> 6;
            if (mode != 3 && hasWordAddress) at += mode == 1 ? 1 : mode == 2 || (modRm & 7) == 6 ? 2 : 0;
            else if (mode != 3)
            {
                bool hasSib = (modRm & 7) == 4;
                int sib = hasSib ? bytes[at++] : 0;
                if (mode == 1) at++;
                else if (mode == 2 || (modRm & 7) == 5 || hasSib && (sib & 7) == 5) at += 4;
            }
        }
        else form.Rm = form.Opcode & 7 | b << 3;
        form.Immediate = new ReadOnlySpan<byte>(bytes + at, length - at);
        return form;
    }

    /// <summary>Everything up to the ModRM byte, for these extensions.</summary>
    public readonly void EmitStart(Emitter to, int reg, int index, int rm)
    {
        int r = reg >> 3 & 1, x = index > 0 ? index >> 3 & 1 : 0, b = rm > 0 ? rm >> 3 & 1 : 0;
        if (IsEvex)
        {
            EmitEvex(to, reg, index, rm);
            return;
        }
        if (IsVex)
        {
            to.Byte(0xC4);
            to.Byte((~r & 1) << 7 | (~x & 1) << 6 | (~b & 1) << 5 | Map);
            to.Byte((Wide ? 0x80 : 0) | (~Vvvv & 15) << 3 | Length << 2 | Implied);
            to.Byte(Opcode);
            return;
        }
        if (Lock) to.Byte(0xF0);
        if (OperandPrefix) to.Byte(0x66);
        if (Repeat != 0) to.Byte(Repeat);
        int rex = (Wide ? 8 : 0) | r << 2 | x << 1 | b;
        if (rex != 0 || HadRex) to.Byte(0x40 | rex);
        if (Map != 0) to.Byte(0x0F);
        if (Map == 2) to.Byte(0x38);
        if (Map == 3) to.Byte(0x3A);
        to.Byte(HasModRm ? Opcode : Opcode & ~7 | rm & 7);
    }

    public readonly void EmitRegisters(Emitter to, int reg, int rm)
    {
        EmitStart(to, reg, 0, rm);
        if (HasModRm) to.Byte(0xC0 | (reg & 7) << 3 | rm & 7);
        to.Bytes(Immediate);
    }

    public readonly void EmitMemory(Emitter to, int reg, int @base, int index, int shift, int displacement)
    {
        EmitStart(to, reg, index, @base);
        to.ModRmMemory(reg, @base, index, shift, displacement, scalesShort: IsEvex);
        to.Bytes(Immediate);
    }

    public readonly void EmitAbsolute(Emitter to, int reg, void* address)
    {
        EmitStart(to, reg, 0, 0);
        to.ModRmAbsolute(reg, address, Immediate.Length);
        to.Bytes(Immediate);
    }
}
