using Iced.Intel;
using Qkvm.Accel.Tcg;

namespace Qkvm.Accel.Tests;

/// <summary>Random sequences whose memory operands stay (nearly always) in the scratch memory. While it appends
/// instructions it knows which registers point there, which hold small numbers, and which flags are undefined: before
/// something reads those, it defines them, so that nothing undefined spreads.</summary>
/// <remarks>Here: what is known, and appending. SequenceFuzzer.Operands aims memory operands, SequenceFuzzer.Flow makes
/// control flow.</remarks>
sealed unsafe partial class SequenceFuzzer
{
    enum Kind : byte { Any, Pointer, Small }

    /// <summary>A pointer's distance from a multiple of 64 near the middle of the scratch memory.</summary>
    readonly record struct Value(Kind Kind, int Delta = 0);

    const int Farthest = 1024, Rsp = 4;

    /// <summary>The distance of RSP in functions, which several callers share.</summary>
    const int Unknown = 1;

    readonly int _bits, _count;
    readonly bool _isLong;
    readonly IntegerFuzzer _integer;
    readonly VectorFuzzer _vector, _x87, _avx512;
    readonly InstructionInfoFactory _info = new();
    readonly Value[] _known = new Value[16];
    readonly bool[] _frozen = new bool[16];
    Random _random = new();
    List<SequenceItem> _items = [];
    ulong _undefined;
    ushort _undefinedX87;
    int _written;

    /// <summary>Of a hundred plain instructions, how many are of AVX-512.</summary>
    int _avx512Share;

    public SequenceFuzzer(int bits)
    {
        (_bits, _isLong, _count) = (bits, bits == 64, bits == 64 ? 16 : 8);
        _integer = new IntegerFuzzer(0, bits, 0);
        _vector = new VectorFuzzer(0, VectorGroup.Vector, 0, bits);
        _x87 = new VectorFuzzer(0, VectorGroup.X87, 0, bits);
        _avx512 = new VectorFuzzer(0, VectorGroup.Avx512, 0, bits);
    }

    /// <summary>What the sequence expects of registers: see <see cref="Initial"/>.</summary>
    readonly Value[] _initial = new Value[16];

    public Sequence Next(int seed)
    {
        _random = new Random(seed);
        _integer.Reseed(seed);
        _vector.Reseed(seed);
        _x87.Reseed(seed);
        _avx512.Reseed(seed);
        // Half of all sequences have none, so that what the others cost them shows.
        _avx512Share = HostOracle.HasAvx512 && Chance(50) ? _random.Next(3, 22) : 0;
        for (int i = 0; i < _count; i++)
            _known[i] = i is Rsp || Chance(i == 5 ? 70 : 40) ? new Value(Kind.Pointer) : Chance(30)
                ? new Value(Kind.Small) : default;
        _known.CopyTo(_initial, 0);
        Array.Clear(_frozen);
        _functions.Clear();
        _modified = null;
        MakeFunctions();
        _items = [];
        (_undefined, _undefinedX87) = (0, 0);
        int length = _random.Next(4, 41);
        while (_items.Count < length) Step();
        Append(new SequenceItem(Instruction.CreateBranch(_isLong ? Code.Jmp_rel32_64
            : Code.Jmp_rel32_32, SequenceArena.Exit)));
        SequenceItem? patched = Chance(25) ? _modified : null;
        foreach (Function function in _functions) _items.AddRange(function.Items);
        return new Sequence(_bits) { Items = _items, Patched = patched };
    }

    /// <summary>Register values for one run of the sequence made last.</summary>
    public ulong[] Initial(Random random)
    {
        var gpr = new ulong[16];
        for (int i = 0; i < _count; i++)
        {
            gpr[i] = _initial[i].Kind switch
            {
                Kind.Pointer =>
                    SequenceArena.Scratch + (ulong)(random.Next(3) == 0
                    ? random.Next(2, 7) * SequenceArena.PageSize - random.Next(4) * 64
                    : random.Next(0x1400, SequenceArena.ScratchSize - 0x1400) & -64),
                Kind.Small => (ulong)random.Next(-64, 65),
                _ => Number(random),
            };
            if (!_isLong) gpr[i] = (uint)gpr[i];
        }
        // Now and then into a guard page.
        int guarded = random.Next(_count);
        if (random.Next(12) == 0 && _initial[guarded].Kind == Kind.Pointer)
            gpr[guarded] = SequenceArena.Scratch
                + (ulong)(random.Next(2) == 0 ? 0 : SequenceArena.ScratchSize - random.Next(3) * 64);
        return gpr;
    }

    /// <summary>An XSAVE image to start with; continues the sequence's own random numbers.</summary>
    public void FillVectors(byte* image, bool unmasked)
    {
        _vector.Instruction = default;
        _vector.FillVectors(image, unmasked);
    }

    static ulong Number(Random random) => random.Next(6) switch
    {
        0 => (ulong)random.Next(-3, 4),
        1 => 1UL << random.Next(64),
        2 => (1UL << random.Next(64)) - 1,
        3 => (uint)random.NextInt64(),
        _ => (ulong)random.NextInt64() ^ (ulong)random.NextInt64() << 1,
    };

    bool Chance(int percent) => _random.Next(100) < percent;

    void Step()
    {
        int kind = _random.Next(100);
        if (kind < 14) Flow();
        else if (kind < 20) Special();
        else Plain();
    }

    /// <summary>One instruction from the fuzzers of single ones, with whatever must go before it.</summary>
    void Plain()
    {
        for (int tries = 0; tries < 50; tries++)
        {
            int kind = _random.Next(100);
            Instruction x;
            if (kind < 66)
            {
                _integer.Choose();
                x = _integer.Instruction;
            }
            else if (kind >= 90 - _avx512Share && kind < 90)
            {
                _avx512.Choose();
                x = _avx512.Instruction;
            }
            else if (kind < 90)
            {
                _vector.Choose();
                x = _vector.Instruction;
            }
            else
            {
                _x87.Choose();
                x = _x87.Instruction;
            }
            if (TryAppendAimed(x)) return;
        }
        Append(Instruction.Create(Code.Nopd));
    }

    void Append(in Instruction x) => Append(new SequenceItem(x));

    /// <summary>Appends, defines flags before they are read, and forgets what the instruction overwrites.</summary>
    void Append(SequenceItem item)
    {
        Instruction x = item.Instruction;
        ulong read = Flags(x.RflagsRead);
        if ((_undefined & read) != 0) DefineFlags(x);
        if (x.Mnemonic == Mnemonic.Fnstsw && _undefinedX87 != 0)
        {
            Add(new SequenceItem(Instruction.Create(Code.Fxam)));
            _undefinedX87 = 0;
        }
        Add(item);
        if (UndefinedResults.IsX87(x)) _undefinedX87 = UndefinedResults.X87(x);
        bool isShift = x.Mnemonic is Mnemonic.Shl or Mnemonic.Sal or Mnemonic.Shr or Mnemonic.Sar or Mnemonic.Rol
            or Mnemonic.Ror or Mnemonic.Rcl
            or Mnemonic.Rcr or Mnemonic.Shld or Mnemonic.Shrd;
        // REP with a count of 0 compares nothing.
        bool maySkip = isShift || x.HasRepPrefix || x.HasRepnePrefix;
        if (!maySkip) _undefined &= ~Flags(x.RflagsWritten | x.RflagsCleared | x.RflagsSet);
        int bits = (x.Op0Kind == OpKind.Register ? x.Op0Register.GetSize() : x.MemorySize.GetSize()) * 8;
        _undefined |= !isShift ? UndefinedResults.Flags(x, 0, bits)
            : Rflags.Af | Rflags.Of | (bits < 32 ? Rflags.Cf : 0)
            | (x.Mnemonic is Mnemonic.Shld or Mnemonic.Shrd ? Rflags.Arithmetic : 0);
        Value stack = _known[Rsp];
        int written = WrittenBy(x);
        _written |= written;
        for (int i = 0; i < _count; i++)
            if ((written >> i & 1) != 0) _known[i] = default;
        if (x.Mnemonic is Mnemonic.Push or Mnemonic.Pop or Mnemonic.Pushf or Mnemonic.Pushfd or Mnemonic.Pushfq
            or Mnemonic.Popf or Mnemonic.Popfd
            or Mnemonic.Popfq && x.Op0Register.GetFullRegister() != Register.RSP)
            SetPointer(Rsp, stack, x.StackPointerIncrement);
    }

    /// <summary>Adds it to the sequence, with what is undefined where it runs.</summary>
    void Add(SequenceItem item)
    {
        (item.Undefined, item.UndefinedX87) = (_undefined, _undefinedX87);
        _items.Add(item);
    }

    void SetPointer(int register, Value from, int change)
    {
        int delta = from.Delta + change;
        _known[register] = from.Kind == Kind.Pointer && Math.Abs(delta) <= Farthest ? new Value(Kind.Pointer, delta)
            : default;
    }

    /// <summary>A bit for each general register that changes, RSP of pushes included.</summary>
    int WrittenBy(in Instruction x)
    {
        int written = 0;
        foreach (UsedRegister used in _info.GetInfo(x).GetUsedRegisters())
            if (used.Access is OpAccess.Write or OpAccess.ReadWrite or OpAccess.CondWrite or OpAccess.ReadCondWrite
                && used.Register.IsGPR())
                written |= 1 << used.Register.GetFullRegister().GetNumber();
        return written;
    }

    bool WritesFrozen(in Instruction x)
    {
        int written = WrittenBy(x);
        for (int i = 0; i < _count; i++)
            if (_frozen[i] && (written >> i & 1) != 0) return true;
        return false;
    }

    /// <summary>One of several instructions that define all arithmetic flags; changes no register that
    /// matters.</summary>
    void DefineFlags(in Instruction before)
    {
        int used = 0;
        foreach (UsedRegister register in _info.GetInfo(before).GetUsedRegisters())
            if (register.Register.IsGPR()) used |= 1 << register.Register.GetFullRegister().GetNumber();
        int number = _random.Next(_count);
        Register a = Dword(number), b = Dword(_random.Next(_count));
        bool isFree = (used >> number & 1) == 0 && _known[number].Kind == Kind.Any && !_frozen[number];
        Instruction x = (isFree ? _random.Next(5) : 0) switch
        {
            0 => Instruction.Create(Code.Cmp_rm32_r32, a, b),
            1 => Instruction.Create(Code.Add_rm32_r32, a, b),
            2 => Instruction.Create(Code.Sub_r32_rm32, a, b),
            3 => Instruction.Create(Code.Neg_rm32, a),
            _ => Instruction.Create(Code.Add_rm32_imm8, a, _random.Next(-128, 128)),
        };
        Add(new SequenceItem(x));
        _undefined = 0;
        if (isFree) _written |= 1 << number;
    }

    static ulong Flags(RflagsBits bits) =>
        ((bits & RflagsBits.CF) != 0 ? Rflags.Cf : 0) | ((bits & RflagsBits.PF) != 0 ? Rflags.Pf : 0)
        | ((bits & RflagsBits.AF) != 0 ? Rflags.Af : 0) | ((bits & RflagsBits.ZF) != 0 ? Rflags.Zf : 0)
        | ((bits & RflagsBits.SF) != 0 ? Rflags.Sf : 0) | ((bits & RflagsBits.OF) != 0 ? Rflags.Of : 0);

    static Register Dword(int number) => Register.EAX + number;
    Register Wide(int number) => (_isLong ? Register.RAX : Register.EAX) + number;
}
