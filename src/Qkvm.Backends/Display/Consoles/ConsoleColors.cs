using Qkvm.Core.Display;

namespace Qkvm.Backends.Display.Consoles;

/// <summary>The colours of a text console, as Select Graphic Rendition sets them. Spec: ECMA-48, section 8.3.117, and
/// xterm's control sequences for 256 and for all colours.</summary>
sealed class ConsoleColors
{
    const int White = 7, Bright = 8;

    /// <summary>A PC's.</summary>
    static ReadOnlySpan<uint> Basic =>
    [
        0x000000, 0xAA0000, 0x00AA00, 0xAA5500, 0x0000AA, 0xAA00AA, 0x00AAAA, 0xAAAAAA,
        0x555555, 0xFF5555, 0x55FF55, 0xFFFF55, 0x5555FF, 0xFF55FF, 0x55FFFF, 0xFFFFFF,
    ];

    /// <summary>Where nothing was written yet.</summary>
    public static TextCell Empty => new(' ', Basic[White], Basic[0]);

    bool _isBold, _isInverse;
    int _basicInk;                                                 // -1: it is no basic one
    uint _ink, _paper;

    public ConsoleColors() => Reset();

    public TextCell Blank => new(' ', Basic[White], _paper);

    public TextCell Cell(char character)
    {
        uint ink = _isBold && _basicInk is >= 0 and < Bright ? Basic[_basicInk + Bright] : _ink;
        return _isInverse ? new(character, _paper, ink) : new(character, ink, _paper);
    }

    void Reset()
    {
        _isBold = _isInverse = false;
        SetInk(White);
        _paper = Basic[0];
    }

    void SetInk(int basic) => (_basicInk, _ink) = (basic, Basic[basic]);

    public void Select(ReadOnlySpan<int> parameters)
    {
        for (int i = 0; i < parameters.Length; i++)
            switch (parameters[i])
            {
                case 0: Reset(); break;
                case 1: _isBold = true; break;
                case 7: _isInverse = true; break;
                case 22: _isBold = false; break;
                case 27: _isInverse = false; break;
                case >= 30 and <= 37: SetInk(parameters[i] - 30); break;
                case 38: if (Extended(parameters, ref i) is { } ink) (_basicInk, _ink) = (-1, ink); break;
                case 39: SetInk(White); break;
                case >= 40 and <= 47: _paper = Basic[parameters[i] - 40]; break;
                case 48: if (Extended(parameters, ref i) is { } paper) _paper = paper; break;
                case 49: _paper = Basic[0]; break;
                case >= 90 and <= 97: SetInk(parameters[i] - 90 + Bright); break;
                case >= 100 and <= 107: _paper = Basic[parameters[i] - 100 + Bright]; break;
            }
    }

    /// <summary>5;N or 2;R;G;B behind 38 and 48; null for neither.</summary>
    static uint? Extended(ReadOnlySpan<int> parameters, ref int at)
    {
        ReadOnlySpan<int> rest = parameters[(at + 1)..];
        switch (rest)
        {
            case [5, var index, ..]:
                at += 2;
                return Indexed(index & 255);
            case [2, var red, var green, var blue, ..]:
                at += 4;
                return (uint)((red & 255) << 16 | (green & 255) << 8 | blue & 255);
            default: return null;
        }
    }

    /// <summary>One of 256: 16 basic ones, a cube of 216, and 24 greys.</summary>
    public static uint Indexed(int index)
    {
        if (index < 16) return Basic[index];
        if (index >= 232) return (uint)(8 + (index - 232) * 10) * 0x010101;
        index -= 16;
        return Level(index / 36) << 16 | Level(index / 6 % 6) << 8 | Level(index % 6);

        static uint Level(int step) => step == 0 ? 0u : (uint)(55 + step * 40);
    }
}
