using Iced.Intel;
using Qkvm.Accel.Tcg;

namespace Qkvm.Accel.Tests;

/// <summary>Jumps, loops, calls, and instructions that the fuzzers of single ones leave out.</summary>
sealed partial class SequenceFuzzer
{
    sealed record Function(List<SequenceItem> Items, int Written, ulong Undefined, ushort UndefinedX87, int Popped);

    static readonly string[] s_conditions =
        ["o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g"];
    static readonly Code[] s_near = Jumps("rel32"), s_short = Jumps("rel8");

    readonly List<Function> _functions = [];
    bool _isInside;

    /// <summary>The last instruction whose immediate may be anything.</summary>
    SequenceItem? _modified;

    static Code[] Jumps(string form) =>
        [.. s_conditions.SelectMany(_ => (string[])["64", "32"], (c, size) => Enum.Parse<Code>($"J{c}_{form}_{size}"))];

    Code Jump(int condition, bool isShort) => (isShort ? s_short : s_near)[condition * 2 + (_isLong ? 0 : 1)];

    void Flow()
    {
        if (_isInside) Plain();
        else
            switch (_random.Next(10))
            {
                case < 4: Forward(); break;
                case < 6: Loop(); break;
                case < 8: Call(); break;
                default: Indirect(); break;
            }
    }

    /// <summary>Over some instructions, or not.</summary>
    void Forward()
    {
        bool isCounter = Chance(10), isShort = isCounter || Chance(50);
        Code code = isCounter ? _isLong ? Chance(50) ? Code.Jrcxz_rel8_64 : Code.Jecxz_rel8_64 : Code.Jecxz_rel8_32
            : Chance(12) ? isShort ? _isLong ? Code.Jmp_rel8_64 : Code.Jmp_rel8_32 : _isLong ? Code.Jmp_rel32_64
            : Code.Jmp_rel32_32
            : Jump(_random.Next(16), isShort);
        var jump = new SequenceItem(Instruction.CreateBranch(code, 0)) { Aim = Aim.Branch };
        Append(jump);
        Skip(jump);
    }

    /// <summary>A body that may not run; what is known after it holds either way.</summary>
    void Skip(SequenceItem jump)
    {
        Value[] known = [.. _known];
        (ulong undefined, ushort undefinedX87) = (_undefined, _undefinedX87);
        Body(_random.Next(1, 5));
        for (int i = 0; i < _count; i++)
            if (_known[i] != known[i]) _known[i] = default;
        _undefined |= undefined;
        _undefinedX87 |= undefinedX87;
        jump.Target = Landing();
    }

    /// <summary>Something for a jump to aim at: the next instruction does not exist yet.</summary>
    SequenceItem Landing()
    {
        Code code = Chance(70) ? Code.Nopd : (_undefined & Rflags.Cf) == 0 ? Code.Cmc : Code.Clc;
        var landing = new SequenceItem(Instruction.Create(code));
        Add(landing);
        if (code == Code.Clc) _undefined &= ~Rflags.Cf;
        return landing;
    }

    void Body(int length)
    {
        bool before = _isInside;
        _isInside = true;
        for (int i = 0; i < length; i++) Step();
        _isInside = before;
    }

    /// <summary>A few rounds, counted in a register that the body leaves alone, as it does with all that is known
    /// before.</summary>
    void Loop()
    {
        bool isLoop = Chance(40);
        int counter = isLoop ? 1 : _random.Next(_count);
        if (counter == Rsp) counter = 3;
        Append(Instruction.Create(Code.Mov_r32_imm32, Dword(counter), (uint)_random.Next(1, 7)));
        if (_undefined != 0) DefineFlags(_items[^1].Instruction);
        _undefinedX87 = UndefinedResults.Conditions;                // as the body may leave them
        SequenceItem head = Landing();
        for (int i = 0; i < _count; i++) _frozen[i] = _known[i].Kind != Kind.Any;
        _frozen[counter] = true;
        Body(_random.Next(1, 6));
        if (_undefined != 0) DefineFlags(Instruction.Create(Code.Mov_r32_imm32, Dword(counter), 0));
        Code back;
        if (isLoop)
            back = (_isLong, _random.Next(4)) switch
            {
                (true, 0) => Code.Loope_rel8_64_RCX, (true, 1) => Code.Loopne_rel8_64_RCX, (true, 2) =>
                    Code.Loop_rel8_64_ECX, (true, _) => Code.Loop_rel8_64_RCX,
                (_, 0) => Code.Loope_rel8_32_ECX, (_, 1) => Code.Loopne_rel8_32_ECX, _ => Code.Loop_rel8_32_ECX,
            };
        else
        {
            Append(Instruction.Create(_isLong && Chance(50) ? Code.Dec_rm64 : Code.Dec_rm32, _items.Count % 2 == 0
                || !_isLong ? Dword(counter) : Dword(counter)));
            back = Jump(5, isShort: false);
        }
        Array.Clear(_frozen);
        Append(new SequenceItem(Instruction.CreateBranch(back, 0)) { Aim = Aim.Branch, Target = head });
    }

    void MakeFunctions()
    {
        Value[] known = [.. _known];
        for (int n = _random.Next(3); n > 0; n--)
        {
            _items = [];
            (_undefined, _undefinedX87, _written) = (0, UndefinedResults.Conditions, 0);
            Array.Clear(_known);
            _known[Rsp] = new Value(Kind.Pointer, Unknown);
            Array.Clear(_frozen);
            _frozen[Rsp] = true;
            Body(_random.Next(1, 6));
            int popped = Chance(30) ? _random.Next(1, 5) * 8 : 0;
            int written = _written;
            Add(new SequenceItem(popped == 0 ? Instruction.Create(_isLong ? Code.Retnq : Code.Retnd)
                : Instruction.Create(_isLong ? Code.Retnq_imm16 : Code.Retnd_imm16, popped)));
            _functions.Add(new Function(_items, written, _undefined, _undefinedX87, popped));
        }
        Array.Clear(_frozen);
        known.CopyTo(_known, 0);
    }

    void Call()
    {
        if (_functions.Count == 0 || !PreparePointer(Rsp))
        {
            Plain();
            return;
        }
        Function function = _functions[_random.Next(_functions.Count)];
        SequenceItem entry = function.Items[0];
        if (_undefined != 0) DefineFlags(Instruction.Create(Code.Nopd));
        Value stack = _known[Rsp];
        if (Chance(60))
            Add(new SequenceItem(Instruction.CreateBranch(_isLong ? Code.Call_rel32_64 : Code.Call_rel32_32, 0)) { Aim =
                Aim.Branch, Target = entry });
        else
        {
            int register = Address(entry);
            if (register == Rsp) register = Rsp;
            Add(new SequenceItem(Instruction.Create(_isLong ? Code.Call_rm64 : Code.Call_rm32, Wide(register))));
        }
        for (int i = 0; i < _count; i++)
            if ((function.Written >> i & 1) != 0 && i != Rsp) _known[i] = default;
        SetPointer(Rsp, stack, function.Popped);
        (_undefined, _undefinedX87) = (function.Undefined, function.UndefinedX87);
    }

    /// <summary>Puts an instruction's address into a register.</summary>
    int Address(SequenceItem? of)
    {
        int register = _random.Next(_count);
        if (register == Rsp) register = _isLong ? 11 : 0;
        Append(_isLong && Chance(50)
            ? new SequenceItem(Instruction.Create(Code.Lea_r64_m, Wide(register),
            new MemoryOperand(Register.RIP, Register.None, 1, 0, 8))) { Aim = Aim.Memory, Target = of }
            : new SequenceItem(Instruction.Create(Code.Mov_r32_imm32, Dword(register), 0)) { Aim = Aim.Immediate,
            Target = of });
        return register;
    }

    /// <summary>Through a register or the stack, over some instructions.</summary>
    void Indirect()
    {
        int register = Address(null);
        SequenceItem address = _items[^1];
        SequenceItem jump;
        if (Chance(70))
            jump = new SequenceItem(Instruction.Create(_isLong ? Code.Jmp_rm64 : Code.Jmp_rm32, Wide(register)));
        else
        {
            // Not over what makes the stack usable: the address is already in its register.
            _frozen[register] = true;
            bool isUsable = PreparePointer(Rsp);
            _frozen[register] = false;
            if (!isUsable)
                jump = new SequenceItem(Instruction.Create(_isLong ? Code.Jmp_rm64 : Code.Jmp_rm32, Wide(register)));
            else
            {
                Value stack = _known[Rsp];
                Append(Instruction.Create(_isLong ? Code.Push_r64 : Code.Push_r32, Wide(register)));
                jump = new SequenceItem(Instruction.Create(_isLong ? Code.Retnq : Code.Retnd));
                _known[Rsp] = stack;
            }
        }
        Value kept = _known[Rsp];
        Add(jump);
        _known[Rsp] = kept;
        Skip(address);
    }

    void Special()
    {
        switch (_random.Next(7))
        {
            case 0:
                PushFlags();
                break;
            case 1:
                Append(Instruction.Create(_isLong ? Code.Pushfq : Code.Pushfd), needsStack: true);
                break;
            case 2:
                Append(Instruction.Create(Chance(50) ? Code.Lahf : Code.Sahf), needsStack: false);
                break;
            case 3:
                Append(Instruction.Create(Chance(50) ? Code.Std : Code.Cld));
                break;
            case 4:
                SetMxcsr();
                break;
            default:
                Modify();
                break;
        }
    }

    void Append(in Instruction x, bool needsStack)
    {
        if (WritesFrozen(x) || needsStack && !PreparePointer(Rsp)) return;
        Append(x);
    }

    void PushFlags()
    {
        if (_frozen[Rsp] || !PreparePointer(Rsp)) return;
        ulong image = (ulong)_random.Next() & (Rflags.Arithmetic | Rflags.Df) | Rflags.If | 2;
        if (Chance(20)) image |= Rflags.Id;
        if (Chance(6)) image |= Rflags.Tf;
        Append(Instruction.Create(_isLong ? Code.Pushq_imm32 : Code.Pushd_imm32, (int)image));
        Append(Instruction.Create(_isLong ? Code.Popfq : Code.Popfd));
        _undefined = 0;
    }

    /// <summary>Any rounding, now and then flushing to zero, all exceptions masked.</summary>
    void SetMxcsr()
    {
        int value = 0x1F80 | _random.Next(4) << 13 | _random.Next(64) | (Chance(30) ? 0x8040 : 0);
        var at = new MemoryOperand(Register.None, Register.None, 1,
            (long)SequenceArena.Scratch + _random.Next(0x400, 0x4000), _isLong ? 8 : 4);
        Append(Instruction.Create(Code.Mov_rm32_imm32, at, value));
        Append(Instruction.Create(Code.Ldmxcsr_m32, at));
    }

    /// <summary>A store into the immediate of an instruction that comes later, or right away.</summary>
    void Modify()
    {
        int number = _random.Next(_count);
        if (_known[number].Kind != Kind.Any || _frozen[number] || number == Rsp) return;
        var modified =
            new SequenceItem(Instruction.Create(Code.Mov_r32_imm32, Dword(number), (uint)_random.Next(0x1000000)));
        var at = new MemoryOperand(_isLong ? Register.RIP : Register.None, Register.None, 1, 0, _isLong ? 8 : 4);
        bool isWide = Chance(50);
        Append(new SequenceItem(isWide ? Instruction.Create(Code.Mov_rm32_r32, at, Dword(_random.Next(_count)))
            : Instruction.Create(Code.Mov_rm8_imm8, at, _random.Next(-128, 128))) { Aim = Aim.Memory, Target = modified,
            FromEnd = isWide ? 4 : _random.Next(1, 5) });
        for (int between = _random.Next(3); between > 0; between--)
        {
            _frozen[number] = true;
            Plain();
            _frozen[number] = false;
        }
        Append(modified);
        _known[number] = default;
        _modified = modified;
    }
}
