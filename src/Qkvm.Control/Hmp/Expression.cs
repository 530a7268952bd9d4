using System.Numerics;
using Qkvm.Control.Gdb;
using Qkvm.Core.Accel;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Hmp;

/// <summary>Numbers as the monitor takes them: 0x10, 'a', $rip and what + - &amp; | ^ * / % ~ and parentheses make of
/// such, of 64 bits. Blanks may stand anywhere, but "10 /tmp/x" is a number and a path.</summary>
public ref struct Expression
{
    const int MaxDepth = 64;

    readonly string _text;
    readonly CommandContext _context;
    int _at, _depth;

    Expression(string text, int at, CommandContext context) => (_text, _at, _context) = (text, at, context);

    /// <param name="at">Where it begins; then where it ended.</param>
    /// <exception cref="FormatException">It is none.</exception>
    public static ulong Evaluate(string text, ref int at, CommandContext context)
    {
        var expression = new Expression(text, at, context);
        ulong value = expression.Sum();
        at = expression._at;
        return value;
    }

    char Next
    {
        get
        {
            while (_at < _text.Length && char.IsWhiteSpace(_text[_at])) _at++;
            return _at < _text.Length ? _text[_at] : '\0';
        }
    }

    ulong Sum()
    {
        ulong value = Bits();
        while (Next is '+' or '-')
            value = _text[_at++] == '+' ? value + Bits() : value - Bits();
        return value;
    }

    ulong Bits()
    {
        ulong value = Product();
        while (Next is '&' or '|' or '^')
            value = _text[_at++] switch { '&' => value & Product(), '|' => value | Product(), _ => value ^ Product() };
        return value;
    }

    ulong Product()
    {
        ulong value = Unary();
        while (Next is '*' or '/' or '%' && !IsPath())
        {
            char operation = _text[_at++];
            ulong right = Unary();
            if (operation != '*' && right == 0) throw new FormatException("division by zero");
            value = operation switch
            {
                '*' => value * right,
                '/' => value / right,
                _ => value % right,
            };
        }
        return value;
    }

    /// <summary>A slash with a blank before it alone.</summary>
    readonly bool IsPath() => _text[_at] == '/' && _at > 0 && char.IsWhiteSpace(_text[_at - 1])
        && _at + 1 < _text.Length && !char.IsWhiteSpace(_text[_at + 1]);

    ulong Unary()
    {
        if (++_depth > MaxDepth) throw new FormatException("expression too deep");
        ulong value = Term();
        _depth--;
        return value;
    }

    ulong Term()
    {
        char next = Next;
        if (next == '\0') throw new FormatException("unexpected end of expression");
        int start = _at++;
        switch (next)
        {
            case '+': return Unary();
            case '-': return 0 - Unary();
            case '~': return ~Unary();
            case '(':
                ulong inner = Sum();
                if (Next != ')') throw new FormatException("')' expected");
                _at++;
                return inner;
            case '\'':
                if (_at + 1 >= _text.Length) throw new FormatException("character constant expected");
                char constant = _text[_at++];
                if (_text[_at++] != '\'') throw new FormatException("missing terminating \' character");
                return constant;
            case '$':
                while (_at < _text.Length && (char.IsAsciiLetterOrDigit(_text[_at]) || _text[_at] is '_' or '.'))
                    _at++;
                return Register(_text[(start + 1).._at]);
            default:
                if (!char.IsAsciiDigit(next)) throw new FormatException($"invalid char '{next}' in expression");
                _at = start;
                return Number();
        }
    }

    /// <summary>As C writes them: 16, 0x10, 020.</summary>
    ulong Number()
    {
        uint radix = 10;
        if (_text[_at] == '0' && _at + 1 < _text.Length)
        {
            bool isHex = _text[_at + 1] is 'x' or 'X' && _at + 2 < _text.Length && char.IsAsciiHexDigit(_text[_at + 2]);
            radix = isHex ? 16u : 8u;
            if (isHex) _at += 2;
        }
        UInt128 value = 0;
        for (; _at < _text.Length && char.IsAsciiHexDigit(_text[_at]); _at++)
        {
            uint digit = (uint)Convert.ToInt32(_text[_at].ToString(), 16);
            if (digit >= radix) break;
            value = value * radix + digit;
            if (value > ulong.MaxValue) throw new FormatException("number too large");
        }
        return (ulong)value;
    }

    readonly ulong Register(string name)
    {
        if (_context.Machine.Cpus.Count == 0) throw new FormatException("no cpu defined");
        CpuRegisters? registers = null;
        IVCpu cpu = _context.Cpu;
        _context.Machine.WhileStill(() => registers = cpu.ReadRegisters());
        return Find(registers!, name) ?? throw new FormatException("unknown register");
    }

    static ulong? Find(CpuRegisters registers, string name)
    {
        if (name == "pc") return registers.Segments[CpuRegisters.Cs].Base + registers.Rip;
        int dot = name.IndexOf('.');
        if (dot > 0)
        {
            int segment = Array.IndexOf(["es", "cs", "ss", "ds", "fs", "gs"], name[..dot]);
            return segment < 0 ? null : name[(dot + 1)..] switch
            {
                "base" => registers.Segments[segment].Base,
                "limit" => registers.Segments[segment].Limit,
                _ => null,
            };
        }
        string full = name.Length == 3 && name[0] == 'e' ? "r" + name[1..] : name;   // $eax is $rax
        if (Array.Find(GdbRegisters.All, register => register.Name == full) is not { Size: <= 8 } found) return null;
        var value = new byte[found.Size];
        found.Get(registers, value);
        return GdbRegisters.Take(value);
    }
}
