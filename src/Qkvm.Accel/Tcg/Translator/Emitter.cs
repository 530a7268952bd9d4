using Qkvm.Host;

namespace Qkvm.Accel.Tcg.Translator;

// SAFETY: the room left is asked for before a block is begun (Translator.LargestBlock); what is patched was emitted
// here.
/// <summary>Writes host code. Registers are numbered as instructions encode them; addresses are executable ones, all
/// below 2 GiB. Intel SDM vol. 2, chapter 2.</summary>
sealed unsafe class Emitter
{
    public const int Rax = 0, Rcx = 1, Rdx = 2, Rbx = 3, Rsp = 4, Rbp = 5, Rsi = 6, Rdi = 7, R8 = 8, R9 = 9, R10 = 10,
        R11 = 11, R12 = 12, R13 = 13, R14 = 14, R15 = 15;

    /// <summary>No base or index.</summary>
    public const int None = -1;

    // Opcodes of one byte that many emit: reg, r/m.
    public const byte AddLoad = 0x03, OrLoad = 0x0B, AndLoad = 0x23, SubLoad = 0x2B, AndStore = 0x21, XorLoad = 0x33,
        CompareLoad = 0x3B, Store = 0x89, Load = 0x8B, Lea = 0x8D;

    // Groups of 81h and 83h.
    public const int Add = 0, Or = 1, And = 4, Sub = 5, Xor = 6, Compare = 7;

    // Of C1h and D3h.
    public const int Shl = 4, Shr = 5, Sar = 7;

    /// <summary>LAHF and SAHF exist in 64-bit code: the first processors have dropped them there.</summary>
    static readonly bool s_hasLahf = HostFeatures.Current.Has("lahf-lm");

    byte* _at, _end;
    nint _toExecutable;

    public void Start(byte* writable, byte* end, byte* executable)
    {
        _at = writable;
        _end = end;
        _toExecutable = (nint)(executable - writable);
    }

    /// <summary>The executable address of what comes next.</summary>
    public uint Here => (uint)(nint)(_at + _toExecutable);
    public byte* Writable => _at;

    /// <summary>Makes less room; the executable address of what is left out.</summary>
    public uint TakeFromEnd(int bytes) => (uint)(nint)((_end -= bytes) + _toExecutable);
    public long Room => _end - _at;

    public void Byte(int value) => *_at++ = (byte)value;

    public void Bytes(ReadOnlySpan<byte> values)
    {
        values.CopyTo(new Span<byte>(_at, values.Length));
        _at += values.Length;
    }

    public void Int(int value)
    {
        *(int*)_at = value;
        _at += sizeof(int);
    }

    public void Long(ulong value)
    {
        *(ulong*)_at = value;
        _at += sizeof(ulong);
    }

    /// <summary>A displacement to patch later; its executable address.</summary>
    public uint Hole()
    {
        uint at = Here;
        Int(0);
        return at;
    }

    /// <summary>Makes a 32-bit displacement, by its executable address, lead to a target.</summary>
    public void Patch(uint hole, uint target) =>
        *(int*)((byte*)(nint)hole - _toExecutable) = (int)(target - (hole + sizeof(int)));

    public void PatchHere(uint hole) => Patch(hole, Here);

    public uint Jump()
    {
        Byte(0xE9);
        return Hole();
    }

    public void Jump(uint target) => Patch(Jump(), target);

    /// <summary>Jcc rel32; the condition is the low four bits of its opcode.</summary>
    public uint JumpIf(int condition)
    {
        Byte(0x0F);
        Byte(0x80 | condition);
        return Hole();
    }

    public void Call(uint target)
    {
        Byte(0xE8);
        Patch(Hole(), target);
    }

    public const int Overflow = 0, NotOverflow = 1, Below = 2, AboveOrEqual = 3, Equal = 4, NotEqual = 5,
        BelowOrEqual = 6, Above = 7, Sign = 8;

    void Rex(bool wide, int reg, int index, int rm, bool always = false)
    {
        int rex = (wide ? 8 : 0) | (reg >> 3 & 1) << 2 | (index > 0 ? index >> 3 & 1 : 0) << 1
            | (rm > 0 ? rm >> 3 & 1 : 0);
        if (rex != 0 || always) Byte(0x40 | rex);
    }

    /// <summary>reg, r/m register.</summary>
    public void Op(bool wide, byte opcode, int reg, int rm)
    {
        Rex(wide, reg, 0, rm);
        Byte(opcode);
        Byte(0xC0 | (reg & 7) << 3 | rm & 7);
    }

    /// <summary>reg, [absolute]; as RIP-relative.</summary>
    /// <param name="immediate">Bytes that follow the displacement.</param>
    public void Op(bool wide, byte opcode, int reg, void* address, int immediate = 0)
    {
        Rex(wide, reg, 0, 0);
        Byte(opcode);
        ModRmAbsolute(reg, address, immediate);
    }

    /// <summary>reg, [base + index &lt;&lt; shift + displacement].</summary>
    public void Op(bool wide, byte opcode, int reg, int @base, int index, int shift, int displacement)
    {
        Rex(wide, reg, index, @base);
        Byte(opcode);
        ModRmMemory(reg, @base, index, shift, displacement);
    }

    public void ModRmAbsolute(int reg, void* address, int immediate)
    {
        Byte((reg & 7) << 3 | 5);
        Int((int)((long)address - (Here + sizeof(int) + (uint)immediate)));
    }

    /// <param name="scalesShort">Displacements of one byte count operands: none is made.</param>
    public void ModRmMemory(int reg, int @base, int index, int shift, int displacement, bool scalesShort = false)
    {
        const int needsSib = 4, needsDisplacement = 5, noIndex = 4;
        int field = (reg & 7) << 3;
        if (@base == None)
        {
            Byte(field | needsSib);
            Byte(shift << 6 | (index == None ? noIndex : index & 7) << 3 | needsDisplacement);
            Int(displacement);
            return;
        }
        int mode = displacement == 0 && (@base & 7) != needsDisplacement ? 0 : displacement == (sbyte)displacement
            && !scalesShort ? 0x40 : 0x80;
        if (index != None || (@base & 7) == needsSib)
        {
            Byte(mode | field | needsSib);
            Byte(shift << 6 | (index == None ? noIndex : index & 7) << 3 | @base & 7);
        }
        else Byte(mode | field | @base & 7);
        if (mode == 0x40) Byte(displacement);
        else if (mode == 0x80) Int(displacement);
    }

    /// <summary>The low 13 bits of one register, times 8, to another. Changes no flags.</summary>
    public void IndexOf13Bits(int to, int from)
    {
        Byte(0x66);
        Op(false, Lea, to, None, from, 3, 0);                       // LEA of 16 bits drops the rest
        MoveZeroExtended16(to, to);
    }

    /// <summary>JRCXZ over what follows; its distance is set by <see cref="Land"/>.</summary>
    public byte* JumpIfRcxZero()
    {
        Bytes([0xE3, 0]);
        return _at - 1;
    }

    /// <summary>A short jump's distance, from just behind it to here.</summary>
    public void Land(byte* distance) => *distance = (byte)(_at - (distance + 1));

    public void Move(int to, int from) => Op(true, Load, to, from);
    public void Move32(int to, int from) => Op(false, Load, to, from);
    public void LoadFrom(int to, void* address) => Op(true, Load, to, address);
    public void StoreTo(void* address, int from) => Op(true, Store, from, address);

    /// <summary>Shortest form that loads this value; keeps flags.</summary>
    public void MoveImmediate(int to, ulong value)
    {
        if (value == (uint)value)
        {
            Rex(false, 0, 0, to);
            Byte(0xB8 | to & 7);
            Int((int)value);
        }
        else if ((long)value == (int)value)
        {
            Rex(true, 0, 0, to);
            Byte(0xC7);
            Byte(0xC0 | to & 7);
            Int((int)value);
        }
        else
        {
            Rex(true, 0, 0, to);
            Byte(0xB8 | to & 7);
            Long(value);
        }
    }

    /// <summary>Group 1 with a register: add, or, and, sub, xor, cmp.</summary>
    public void Arithmetic(bool wide, int operation, int register, int value)
    {
        bool isShort = value == (sbyte)value;
        Rex(wide, 0, 0, register);
        Byte(isShort ? 0x83 : 0x81);
        Byte(0xC0 | operation << 3 | register & 7);
        if (isShort) Byte(value);
        else Int(value);
    }

    /// <summary>Group 1 with a 32-bit number in memory.</summary>
    public void Arithmetic32(int operation, void* address, int value)
    {
        bool isShort = value == (sbyte)value;
        Byte(isShort ? 0x83 : 0x81);
        ModRmAbsolute(operation, address, isShort ? 1 : 4);
        if (isShort) Byte(value);
        else Int(value);
    }

    /// <summary>cmp byte [address], value.</summary>
    public void CompareByte(void* address, int value)
    {
        Byte(0x80);
        ModRmAbsolute(Compare, address, 1);
        Byte(value);
    }

    public void StoreByte(void* address, int value)
    {
        Byte(0xC6);
        ModRmAbsolute(0, address, 1);
        Byte(value);
    }

    public void Store32(void* address, int value)
    {
        Byte(0xC7);
        ModRmAbsolute(0, address, sizeof(int));
        Int(value);
    }

    /// <summary>test dword [address], value.</summary>
    public void Test32(void* address, int value)
    {
        Byte(0xF7);
        ModRmAbsolute(0, address, sizeof(int));
        Int(value);
    }

    /// <summary>Changes no flags.</summary>
    public void Not(int register)
    {
        Rex(true, 0, 0, register);
        Byte(0xF7);
        Byte(0xD0 | register & 7);
    }

    public void Not32(int register)
    {
        Rex(false, 0, 0, register);
        Byte(0xF7);
        Byte(0xD0 | register & 7);
    }

    public void Negate32(int register)
    {
        Rex(false, 0, 0, register);
        Byte(0xF7);
        Byte(0xD8 | register & 7);
    }

    /// <summary>cmovcc, 64 bits.</summary>
    public void MoveIf(int condition, int to, int from)
    {
        Rex(true, to, 0, from);
        Byte(0x0F);
        Byte(0x40 | condition);
        Byte(0xC0 | (to & 7) << 3 | from & 7);
    }

    /// <summary>movzx register, word register.</summary>
    public void MoveZeroExtended16(int to, int from)
    {
        Rex(false, to, 0, from);
        Bytes([0x0F, 0xB7]);
        Byte(0xC0 | (to & 7) << 3 | from & 7);
    }

    /// <summary>movzx register, word [address].</summary>
    public void MoveZeroExtended16(int register, void* address)
    {
        Rex(false, register, 0, 0);
        Bytes([0x0F, 0xB7]);
        ModRmAbsolute(register, address, 0);
    }

    public void Shift(bool wide, int operation, int register, int count)
    {
        Rex(wide, 0, 0, register);
        Byte(0xC1);
        Byte(0xC0 | operation << 3 | register & 7);
        Byte(count);
    }

    /// <summary>Saves the arithmetic flags in <see cref="JitState.Flags"/>; uses R10, keeps RAX.</summary>
    public void SaveFlags(uint* flags)
    {
        Move(R10, Rax);
        if (s_hasLahf) Byte(0x9F);                                  // lahf
        else Bytes([0x9C, 0x58, 0x88, 0xC4]);                       // pushfq; pop rax; mov ah, al
        Bytes([0x0F, 0x90, 0xC0]);                                  // seto al
        Byte(0x66);
        Op(false, Store, Rax, flags);
        Move(Rax, R10);
    }

    /// <summary>The reverse: OF by the addition that overflows, or all by POPFQ, which takes as long as twenty
    /// others.</summary>
    public void RestoreFlags(uint* flags)
    {
        Move(R10, Rax);
        Op(false, Load, Rax, flags);
        if (s_hasLahf) Bytes([0x04, 0x7F, 0x9E]);                   // add al, 7Fh; sahf
        else Bytes([0xC0, 0xE0, 3, 0x86, 0xE0, 0x50, 0x9D]);        // shl al, 3; xchg al, ah; push rax; popfq
        Move(Rax, R10);
    }
}
