using Iced.Intel;
using Qkvm.Accel.Tcg;

namespace Qkvm.Accel.Tests;

/// <summary>Random code for 16-bit modes and for segments with bases and limits: addresses of any size, stacks that
/// wrap, segment loads, jumps of both operand sizes. Memory operands go anywhere; all flags are defined where they are
/// read.</summary>
sealed unsafe class ModeFuzzer(int bits, bool isReal, ushort[] selectors)
{
    static readonly string[] s_conditions =
        ["o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g"];
    static readonly Register[] s_segments = [Register.ES, Register.DS, Register.FS, Register.GS];

    readonly IntegerFuzzer _integer = new(0, bits, 0);
    readonly VectorFuzzer _vector = new(0, VectorGroup.Vector, 0, bits), _x87 = new(0, VectorGroup.X87, 0, bits);
    Random _random = new();
    List<SequenceItem> _items = [];

    public Sequence Next(int seed)
    {
        _random = new Random(seed);
        _integer.Reseed(seed);
        _vector.Reseed(seed);
        _x87.Reseed(seed);
        List<SequenceItem> function = [];
        _items = function;
        Body(3);
        bool isWide = Chance(50);
        int released = Chance(30) ? 2 * _random.Next(4) : 0;
        _items.Add(new SequenceItem(released == 0 ? Instruction.Create(isWide ? Code.Retnd : Code.Retnw)
            : Instruction.Create(isWide ? Code.Retnd_imm16 : Code.Retnw_imm16, released)));
        _items = [];
        int length = _random.Next(4, 30);
        while (_items.Count < length)
            switch (_random.Next(20))
            {
                case < 2: Forward(); break;
                case 2: Loop(); break;
                case 3: Call(function[0], isWide); break;
                case 4: Indirect(); break;
                case < 8: Segment(); break;
                case < 10: Stack(); break;
                case 10: Tame(); break;
                case 11: Strings(); break;
                default: Plain(); break;
            }
        _items.Add(new SequenceItem(Instruction.Create(Code.Ud2)));
        _items.AddRange(function);
        return new Sequence(bits) { Items = _items };
    }

    bool Chance(int percent) => _random.Next(100) < percent;

    void Add(in Instruction x)
    {
        _items.Add(new SequenceItem(x));
        bool defines = UndefinedResults.Flags(x, 40, 8) != 0;
        if (defines)
            _items.Add(new SequenceItem(Instruction.Create(Code.Cmp_rm8_imm8, Register.AL + _random.Next(8),
                _random.Next(-128, 128))));
    }

    void Plain()
    {
        for (; ; )
        {
            int kind = _random.Next(20);
            if (kind > 2) _integer.Choose();
            else if (kind > 0) _vector.Choose();
            else _x87.Choose();
            Instruction x = kind > 2 ? _integer.Instruction : kind > 0 ? _vector.Instruction : _x87.Instruction;
            if (x.Mnemonic is Mnemonic.Clzero or Mnemonic.Div or Mnemonic.Idiv && !Chance(10)) continue;
            // Undefined results, or what the processor may choose.
            if (x.Mnemonic is Mnemonic.Shld or Mnemonic.Shrd or Mnemonic.Bsf or Mnemonic.Bsr or Mnemonic.Bswap
                or Mnemonic.Maskmovq or Mnemonic.Maskmovdqu
                or Mnemonic.Vmaskmovdqu or Mnemonic.Rdrand or Mnemonic.Rdseed || x.IsVsib
                || x.IsStringInstruction) continue;
            if (x.Mnemonic == Mnemonic.Enter && Chance(70)) continue;
            if (isReal && Chance(30))
                x.SegmentPrefix = x.MemorySegment == Register.None ? Register.None : Register.ES + _random.Next(6);
            if (x.HasLockPrefix && Chance(80) || !CanEncode(x)) continue;
            Add(x);
            return;
        }
    }

    bool CanEncode(in Instruction x) => Encoder.Create(bits, s_nowhere).TryEncode(x, 0x1000, out _, out _);

    void Body(int length)
    {
        for (int i = 0; i < length; i++) Plain();
    }

    SequenceItem Landing()
    {
        var landing = new SequenceItem(Instruction.Create(Chance(50) ? Code.Nopw : Code.Cmc));
        _items.Add(landing);
        return landing;
    }

    static Code Branch(string name, int size) =>
        Enum.Parse<Code>(name.EndsWith("rel16", StringComparison.Ordinal) ? name : $"{name}_{size}");

    void Jump(string name, int size, SequenceItem? target, out SequenceItem item) =>
        _items.Add(item = new SequenceItem(Instruction.CreateBranch(Branch(name, size), 0)) { Aim = Aim.Branch,
            Target = target });

    int Size() => Chance(80) ? bits : 48 - bits;

    void Forward()
    {
        int size = Size();
        string name = _random.Next(8) switch
        {
            0 => $"Jmp_rel{size}",
            1 => "Jmp_rel8",
            2 => Chance(50) ? "Jcxz_rel8" : "Jecxz_rel8",
            < 5 => $"J{s_conditions[_random.Next(16)]}_rel8",
            _ => $"J{s_conditions[_random.Next(16)]}_rel{size}",
        };
        Jump(name, size, null, out SequenceItem jump);
        Body(_random.Next(1, 3));
        jump.Target = Landing();
    }

    void Loop()
    {
        int counter = Chance(70) ? bits : 48 - bits, size = Size();
        Add(Instruction.Create(Code.Mov_r32_imm32, Register.ECX,
            _random.Next(1, 6) | (counter == 16 ? _random.Next() << 16 : 0)));
        SequenceItem head = Landing();
        for (int i = 0; i < 2; i++)
        {
            int before = _items.Count;
            Plain();
            // The counter must come to its end.
            if (_items[before..].Exists(item => Changes(item.Instruction)))
                _items.RemoveRange(before, _items.Count - before);
        }
        string name = _random.Next(3) switch { 0 => "Loope", 1 => "Loopne", _ => "Loop" };
        Code code = Enum.Parse<Code>($"{name}_rel8_{size}_{(counter == 16 ? "CX" : "ECX")}");
        _items.Add(new SequenceItem(Instruction.CreateBranch(code, 0)) { Aim = Aim.Branch, Target = head });
    }

    static bool Changes(in Instruction x)
    {
        foreach (UsedRegister used in new InstructionInfoFactory().GetInfo(x).GetUsedRegisters())
            if (used.Register.IsGPR() && used.Register.GetFullRegister() == Register.RCX
                && used.Access is not (OpAccess.Read or OpAccess.CondRead)) return true;
        return false;
    }

    void Call(SequenceItem function, bool isWide)
    {
        if (Chance(30)) SetStack();
        int size = isWide ? 32 : 16;
        if (Chance(50)) Jump($"Call_rel{size}", size, function, out _);
        else
        {
            Add(Instruction.Create(Code.Mov_r32_imm32, Register.EBX, 0), Aim.Immediate, function);
            Add(Instruction.Create(isWide ? Code.Call_rm32 : Code.Call_rm16, isWide ? Register.EBX : Register.BX));
        }
    }

    void Add(in Instruction x, Aim aim, SequenceItem? target) =>
        _items.Add(new SequenceItem(x) { Aim = aim, Target = target });

    void Indirect()
    {
        bool isWide = Chance(40);
        var address = new SequenceItem(Instruction.Create(Code.Mov_r32_imm32, Register.ESI, 0)) { Aim = Aim.Immediate };
        _items.Add(address);
        if (Chance(60))
            Add(Instruction.Create(isWide ? Code.Jmp_rm32 : Code.Jmp_rm16, isWide ? Register.ESI : Register.SI));
        else
        {
            Add(Instruction.Create(isWide ? Code.Push_r32 : Code.Push_r16, isWide ? Register.ESI : Register.SI));
            Add(Instruction.Create(isWide ? Code.Retnd : Code.Retnw));
        }
        Body(1);
        address.Target = Landing();
    }

    void SetStack()
    {
        bool isEdge = Chance(20);
        int sp = isEdge ? _random.Next(-4, 5) & 0xFFFF : _random.Next(0x1000, 0xF000) & -2;
        Add(Chance(60) ? Instruction.Create(Code.Mov_r32_imm32, Register.ESP, sp)
            : Instruction.Create(Code.Mov_r16_imm16, Register.SP, sp));
    }

    void Segment()
    {
        Register segment = s_segments[_random.Next(4)];
        ushort selector = selectors[_random.Next(selectors.Length)];
        Register through = Register.AX + _random.Next(8);
        if (through == Register.SP) through = Register.BP;
        switch (_random.Next(6))
        {
            case 0:
                Add(Instruction.Create(Chance(50) ? Code.Push_imm16 : Code.Pushd_imm32, selector));
                Code push = _items[^1].Instruction.Code;
                Add(Instruction.Create(Enum.Parse<Code>($"Pop{(push == Code.Push_imm16 ? "w" : "d")}_{segment}"),
                    segment));
                break;
            case 1:
                Add(Instruction.Create(Enum.Parse<Code>($"Push{(Chance(50) ? "w" : "d")}_{segment}"), segment));
                break;
            case 2:
                Add(Instruction.Create(Chance(50) ? Code.Mov_rm16_Sreg : Code.Mov_r32m16_Sreg, Chance(50) ? Register.AX
                    : Register.EAX, Register.ES + _random.Next(6)));
                if (!CanEncode(_items[^1].Instruction)) _items.RemoveAt(_items.Count - 1);
                break;
            case 3 when isReal:
                bool isWide = Chance(50);
                string name = segment.ToString();
                string operands = isWide ? "32_m1632" : "16_m1616";
                Add(Instruction.Create(Enum.Parse<Code>($"L{char.ToLowerInvariant(name[0])}s_r{operands}"),
                    (isWide ? Register.EAX : Register.AX) + _random.Next(3),
                    new MemoryOperand(Register.BX, Register.SI, 1, _random.Next(100), 1)));
                goto default;
            default:
                Add(Instruction.Create(Code.Mov_r16_imm16, through, selector));
                Add(Instruction.Create(Code.Mov_Sreg_rm16, segment, through));
                break;
        }
    }

    void Stack()
    {
        switch (_random.Next(10))
        {
            case 0: SetStack(); break;
            case 1: Add(Instruction.Create(Chance(50) ? Code.Pushaw : Code.Pushad)); break;
            case 2: Add(Instruction.Create(Chance(50) ? Code.Popaw : Code.Popad)); break;
            case 3 when isReal && bits == 16: Add(Instruction.Create(Chance(50) ? Code.Pushfw : Code.Pushfd)); break;
            case 4: Add(Instruction.Create(Code.Sub_rm16_imm8, Register.SP, _random.Next(32) * 2)); break;
            case 5:
                Add(Instruction.Create(Code.Mov_r16_rm16, Register.BP, Register.SP));
                Add(Instruction.Create(Chance(50) ? Code.Leavew : Code.Leaved));
                break;
            case 6: Add(Instruction.Create(Chance(50) ? Code.Pop_rm16
                : Code.Pop_rm32, new MemoryOperand(Register.BP, Register.DI, 1, _random.Next(-100, 100), 1))); break;
            case 7: Add(Instruction.Create(Chance(50) ? Code.Pop_rm16
                : Code.Pop_rm32, new MemoryOperand(Register.ESP, Register.None, 1, _random.Next(100), 1))); break;
            case 8: Add(Instruction.Create(Chance(50) ? Code.Push_rm16
                : Code.Push_rm32, new MemoryOperand(Register.ESP, Register.None, 1, _random.Next(100), 1))); break;
            default:
                for (int n = _random.Next(1, 4); n > 0; n--)
                {
                    bool isWide = Chance(40);
                    Add(Instruction.Create(Chance(50) ? isWide ? Code.Push_r32 : Code.Push_r16 : isWide ? Code.Pop_r32
                        : Code.Pop_r16, (isWide ? Register.EAX : Register.AX) + _random.Next(8)));
                }
                break;
        }
    }

    /// <summary>Makes a register fit for an address.</summary>
    void Tame()
    {
        Register low = Register.AX + _random.Next(8), wide = Register.EAX + (low - Register.AX);
        if (Chance(50)) Add(Instruction.Create(Code.Movzx_r32_rm16, wide, low));
        else Add(Instruction.Create(Code.Mov_r32_imm32, wide,
            _random.Next(Chance(20) ? 0x10 : 0x10000) ^ (Chance(10) ? 0xFFFF : 0)));
    }

    void Strings()
    {
        string[] names = ["Movsb_m8_m8", "Movsw_m16_m16", "Movsd_m32_m32", "Stosb_m8_AL", "Stosw_m16_AX",
            "Stosd_m32_EAX", "Lodsb_AL_m8", "Lodsw_AX_m16",
            "Lodsd_EAX_m32", "Cmpsb_m8_m8", "Cmpsw_m16_m16", "Cmpsd_m32_m32", "Scasb_AL_m8", "Scasw_AX_m16",
                "Scasd_EAX_m32"];
        var code = Enum.Parse<Code>(names[_random.Next(names.Length)]);
        int size = Chance(70) ? bits : 48 - bits;
        bool isRepeated = Chance(60);
        if (Chance(60)) Add(Instruction.Create(Code.Mov_r32_imm32, Register.EDI, _random.Next(0x10000)));
        if (Chance(60)) Add(Instruction.Create(Code.Mov_r32_imm32, Register.ESI, _random.Next(0x10000)));
        if (isRepeated)
            Add(Instruction.Create(Code.Mov_r32_imm32, Register.ECX,
                _random.Next(Chance(50) ? 10 : 0x1800) | (size == 16 ? _random.Next() << 16 : 0)));
        if (Chance(30)) Add(Instruction.Create(Chance(50) ? Code.Std : Code.Cld));
        var bytes = new List<byte>();
        if (isRepeated) bytes.Add((byte)(0xF2 + _random.Next(2)));
        if (size != bits) bytes.Add(0x67);
        if (isReal && Chance(20)) bytes.Add(Chance(50) ? (byte)0x26 : (byte)0x2E);
        Instruction x = Plain(code, bits);
        foreach (byte value in Bytes(x)) bytes.Add(value);
        Add(Decoder.Create(bits, new ByteArrayCodeReader([.. bytes])).Decode());
    }

    static Instruction Plain(Code code, int bits)
    {
        int size = bits;
        string name = code.ToString();
        return name[..4] switch
        {
            "Movs" =>
                name[4] switch { 'b' => Instruction.CreateMovsb(size), 'w' => Instruction.CreateMovsw(size),
                _ => Instruction.CreateMovsd(size) },
            "Stos" =>
                name[4] switch { 'b' => Instruction.CreateStosb(size), 'w' => Instruction.CreateStosw(size),
                _ => Instruction.CreateStosd(size) },
            "Lods" =>
                name[4] switch { 'b' => Instruction.CreateLodsb(size), 'w' => Instruction.CreateLodsw(size),
                _ => Instruction.CreateLodsd(size) },
            "Cmps" =>
                name[4] switch { 'b' => Instruction.CreateCmpsb(size), 'w' => Instruction.CreateCmpsw(size),
                _ => Instruction.CreateCmpsd(size) },
            _ => name[4] switch { 'b' => Instruction.CreateScasb(size), 'w' => Instruction.CreateScasw(size),
                _ => Instruction.CreateScasd(size) },
        };
    }

    List<byte> Bytes(in Instruction x)
    {
        var writer = new Collector();
        Encoder.Create(bits, writer).Encode(x, 0);
        return writer.Bytes;
    }

    public static ulong Number(Random random) => (uint)(random.Next(8) switch
    {
        0 => random.Next(-3, 4),
        1 => 1 << random.Next(32),
        < 5 => random.Next(0x10000),
        _ => random.Next(),
    });

    static readonly CodeWriter s_nowhere = new Collector();

    sealed class Collector : CodeWriter
    {
        public readonly List<byte> Bytes = [];
        public override void WriteByte(byte value) => Bytes.Add(value);
    }
}
