namespace Qkvm.Core.Display;

/// <summary>What a guest's pointer looks like, where its card draws it.</summary>
/// <param name="HotX">The place of the shape that points.</param>
/// <param name="Pixels">0xAARRGGBB, colours multiplied by alpha, rows without gaps; none for a pointer that is not
/// seen.</param>
public sealed record CursorShape(int Width, int Height, int HotX, int HotY, uint[] Pixels)
{
    public static readonly CursorShape Hidden = new(0, 0, 0, 0, []);
}
