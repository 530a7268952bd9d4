using Qkvm.Core.Display;

namespace Qkvm.Backends.Display;

/// <summary>-display none: the machine has its screen, nobody looks at it.</summary>
public static class NoDisplay
{
    public static readonly DisplayModel Model = new("none", [], static (_, _) =>
        null) { Description = "nobody looks at the screen" };
}
