using System.Buffers;
using System.Text;
using Qkvm.Core.Input;

namespace Qkvm.Backends.Display.Curses;

[Flags]
enum KeyModifiers { None = 0, Shift = 1, Alt = 2, Ctrl = 4 }

/// <summary>What somebody typed on a terminal.</summary>
/// <param name="Key">Of a US keyboard; none for what that lacks.</param>
/// <param name="IsLetter">Caps Lock changes it.</param>
readonly record struct TerminalKey(KeyCode Key, KeyModifiers Modifiers = KeyModifiers.None, bool IsLetter = false);

/// <summary>Takes one key and the bytes that it was.</summary>
delegate void TerminalKeyHandler(TerminalKey key, ReadOnlySpan<byte> bytes);

/// <summary>Finds the keys in what a terminal sends. Spec: ECMA-48; xterm, "Control Sequences", "PC-Style Function
/// Keys"; the variants of rxvt and of Linux' console.</summary>
/// <remarks>The escape key is how all others begin, too: it is one when <see cref="Flush"/> says that nothing
/// followed.</remarks>
sealed class TerminalKeys(TerminalKeyHandler handler)
{
    const byte Escape = 0x1B;
    const int Longest = 32;                                        // of a sequence

    readonly byte[] _pending = new byte[Longest];
    int _count;

    /// <summary>The beginning of something, which may be all there is.</summary>
    public bool IsWaiting => _count > 0;

    public void Feed(ReadOnlySpan<byte> data)
    {
        foreach (byte one in data)
        {
            _pending[_count++] = one;
            Take(isFinal: _count == Longest);
        }
    }

    /// <summary>Nothing followed for a while.</summary>
    public void Flush() => Take(isFinal: true);

    void Take(bool isFinal)
    {
        while (_count > 0 && Parse(_pending.AsSpan(0, _count), isFinal, out TerminalKey key) is > 0 and var used)
        {
            handler(key, _pending.AsSpan(0, used));
            _pending.AsSpan(used, _count - used).CopyTo(_pending);
            _count -= used;
        }
    }

    /// <returns>The bytes of the first key; 0 where some are missing.</returns>
    static int Parse(ReadOnlySpan<byte> data, bool isFinal, out TerminalKey key)
    {
        key = default;
        if (data[0] != Escape) return Character(data, isFinal, out key);
        if (data.Length == 1)
        {
            key = new TerminalKey(KeyCode.Esc);
            return isFinal ? 1 : 0;
        }
        int used = data[1] switch
        {
            (byte)'[' => Sequence(data, out key),
            (byte)'O' => data.Length < 3 ? 0 : Final(data[2], 1, KeyModifiers.None, out key) ? 3 : 2,
            _ => -1,
        };
        if (used > 0) return used;
        if (used == 0 && !isFinal) return 0;
        int rest = Parse(data[1..], isFinal, out key);             // alt and something
        if (rest > 0) key = key with { Modifiers = key.Modifiers | KeyModifiers.Alt };
        return rest > 0 ? rest + 1 : 0;
    }

    static int Character(ReadOnlySpan<byte> data, bool isFinal, out TerminalKey key)
    {
        key = default;
        if (data[0] < 0x80)
        {
            key = Ascii(data[0]);
            return 1;
        }
        return Rune.DecodeFromUtf8(data, out _, out int used) == OperationStatus.NeedMoreData && !isFinal ? 0 : used;
    }

    static TerminalKey Ascii(byte code)
    {
        switch (code)
        {
            case 0: return new(KeyCode.Spc, KeyModifiers.Ctrl);
            case 8 or 0x7F: return new(KeyCode.Backspace);
            case 9: return new(KeyCode.Tab);
            case 13: return new(KeyCode.Ret);
            case 0x1E: return new(KeyCode.D6, KeyModifiers.Ctrl);
            case 0x1F: return new(KeyCode.Minus, KeyModifiers.Ctrl);
            case <= 0x1A: return new(Keysyms.Find(code + 0x60u), KeyModifiers.Ctrl);
            case < 0x20: return new(Keysyms.Find(code + 0x40u), KeyModifiers.Ctrl);
        }
        bool isLetter = char.IsAsciiLetter((char)code);
        bool isShifted = isLetter ? char.IsAsciiLetterUpper((char)code)
            : Keysyms.IsSymbol(code, out bool shifted) && shifted;
        return new(Keysyms.Find(code), isShifted ? KeyModifiers.Shift : KeyModifiers.None, isLetter);
    }

    /// <summary>ESC [ number ; modifiers letter.</summary>
    /// <returns>As <see cref="Parse"/>.</returns>
    static int Sequence(ReadOnlySpan<byte> data, out TerminalKey key)
    {
        key = default;
        int number = 0, modifiers = 0, parameters = 1, at = 2;
        if (data.Length > 2 && data[2] == '[')                     // Linux' console: F1 to F5
        {
            if (data.Length < 4) return 0;
            key = new(data[3] is >= (byte)'A' and <= (byte)'E' ? KeyCode.F1 + (ushort)(data[3] - 'A') : KeyCode.None);
            return 4;
        }
        for (; at < data.Length && data[at] is >= 0x20 and < 0x40 and not (byte)'$'; at++)
            if (data[at] == ';') parameters++;
            else if (data[at] is >= (byte)'0' and <= (byte)'9')
            {
                ref int value = ref (parameters == 1 ? ref number : ref modifiers);
                if (parameters <= 2) value = Math.Min(value * 10 + data[at] - '0', 999);
            }
        if (at == data.Length) return 0;
        var held = (KeyModifiers)(Math.Max(modifiers, 1) - 1) & (KeyModifiers.Shift | KeyModifiers.Alt
            | KeyModifiers.Ctrl);
        Final(data[at], number, held, out key);
        return at + 1;
    }

    static bool Final(byte letter, int number, KeyModifiers held, out TerminalKey key)
    {
        KeyCode found = (char)letter switch
        {
            'A' or 'a' => KeyCode.Up, 'B' or 'b' => KeyCode.Down, 'C' or 'c' => KeyCode.Right,
            'D' or 'd' => KeyCode.Left, 'H' => KeyCode.Home, 'F' => KeyCode.End, 'E' => KeyCode.Kp5,
            'M' => KeyCode.KpEnter, 'Z' => KeyCode.Tab,
            >= 'P' and <= 'S' => KeyCode.F1 + (ushort)(letter - 'P'),
            '~' or '^' or '$' or '@' => Numbered(number),
            _ => KeyCode.None,
        };
        held |= (char)letter switch
        {
            '$' or 'Z' or >= 'a' and <= 'd' => KeyModifiers.Shift,
            '^' => KeyModifiers.Ctrl,
            '@' => KeyModifiers.Ctrl | KeyModifiers.Shift,
            _ => KeyModifiers.None,
        };
        key = new TerminalKey(found, held);
        return found != KeyCode.None;
    }

    static KeyCode Numbered(int number) => number switch
    {
        1 or 7 => KeyCode.Home, 2 => KeyCode.Insert, 3 => KeyCode.Delete, 4 or 8 => KeyCode.End,
        5 => KeyCode.PgUp, 6 => KeyCode.PgDn,
        >= 11 and <= 15 => KeyCode.F1 + (ushort)(number - 11),
        >= 17 and <= 21 => KeyCode.F6 + (ushort)(number - 17),
        23 => KeyCode.F11, 24 => KeyCode.F12,
        _ => KeyCode.None,
    };
}
