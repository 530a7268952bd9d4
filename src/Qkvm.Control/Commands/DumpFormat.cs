using Qkvm.Control.Hmp;

namespace Qkvm.Control.Commands;

/// <summary>"4xw": how many, as what, of which size.</summary>
/// <param name="Form">x, d, u, o or c.</param>
/// <param name="Size">1, 2, 4 or 8 bytes.</param>
readonly record struct DumpFormat(int Count, char Form, int Size)
{
    const int MaxBytes = 1 << 20;

    /// <exception cref="MonitorException">A letter that is none, or too much at once.</exception>
    public static DumpFormat Parse(MonitorArguments words, string standard, char defaultForm)
    {
        string format = words.Format() ?? standard;
        int digits = format.TakeWhile(char.IsAsciiDigit).Count();
        int count = digits == 0 ? 1 : int.TryParse(format.AsSpan(0, digits), out int n) ? n : int.MaxValue;
        char form = defaultForm;
        int size = 4;
        foreach (char c in format.AsSpan(digits))
            switch (c)
            {
                case 'x' or 'd' or 'u' or 'o' or 'c': form = c; if (c == 'c') size = 1; break;
                case 'b': size = 1; break;
                case 'h': size = 2; break;
                case 'w': size = 4; break;
                case 'g' or 'L': size = 8; break;
                case 'i': form = c; break;
                default: throw words.Error($"invalid char in format: '{c}'");
            }
        if (count < 1 || (long)count * size > MaxBytes)
            throw words.Error($"a dump of {format[..digits]} items is too large");
        return new DumpFormat(count, form, size);
    }

    public string Text(ulong value)
    {
        long signed = Size switch { 1 => (sbyte)value, 2 => (short)value, 4 => (int)value, _ => (long)value };
        return Form switch
        {
            'd' => signed.ToString(),
            'u' => value.ToString(),
            'o' => "0" + Convert.ToString((long)value, 8),
            'c' => value is >= 32 and < 127 ? $"'{(char)value}'" : $"'\\x{value:x2}'",
            _ => "0x" + value.ToString($"x{Size * 2}"),
        };
    }
}
