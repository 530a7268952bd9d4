using Qkvm.Backends.Display.Consoles;

namespace Qkvm.Backends.Display.Curses;

/// <summary>The nearest of the colours that a terminal has.</summary>
static class TerminalColors
{
    const int Cube = 16, Greys = 232, GreyCount = 24;

    /// <summary>One of the cube or of the greys: the first 16 are the user's to choose.</summary>
    public static int Nearest256(uint color)
    {
        int red = Step(color >> 16 & 255), green = Step(color >> 8 & 255), blue = Step(color & 255);
        int cube = Cube + red * 36 + green * 6 + blue;
        int grey = Greys + Math.Clamp((int)(Brightness(color) / 3 + 2) / 10 - 1, 0, GreyCount - 1);
        return Distance(color, cube) <= Distance(color, grey) ? cube : grey;

        static int Step(uint level) => level < 48 ? 0 : level < 115 ? 1 : (int)(level - 35) / 40;
    }

    /// <summary>One of the 16 that a PC's text has, in ANSI's order.</summary>
    public static int Nearest16(uint color)
    {
        int best = 0;
        for (int i = 1; i < 16; i++)
            if (Distance(color, i) < Distance(color, best)) best = i;
        return best;
    }

    /// <summary>0 to 765.</summary>
    public static uint Brightness(uint color) => (color >> 16 & 255) + (color >> 8 & 255) + (color & 255);

    static int Distance(uint color, int index)
    {
        uint other = ConsoleColors.Indexed(index);
        return Square(16) + Square(8) + Square(0);

        int Square(int shift)
        {
            int difference = (int)(color >> shift & 255) - (int)(other >> shift & 255);
            return difference * difference;
        }
    }
}
