using Qkvm.Core.Configuration;
using Qkvm.Core.Display;

namespace Qkvm.Backends.Display;

/// <summary>-display gtk and sdl: there are no windows here, so the screen is a VNC server on the loopback, for viewers
/// and for browsers, and the user is told how to see it.</summary>
public static class WindowDisplay
{
    /// <summary>The first free port from 5900 on, and from 5700 on for browsers, on the loopback alone.</summary>
    const string Host = "localhost", LastDisplay = "99", Taken = "of a window: taken, no effect";

    /// <summary>What QEMU takes with every display.</summary>
    internal static readonly Property[] Common =
    [
        Property.Bool("full-screen", false, "the line that tells of a viewer says how it fills the screen"),
        Property.Bool("window-close", true, Taken), Property.Bool("show-cursor", false, Taken),
    ];

    /// <summary>How a window is drawn, which is no matter of the guest's: cards that draw in three dimensions have
    /// names of their own.</summary>
    static readonly Property s_gl = Property.Enum("gl", "off", ["off", "on", "core", "es"], Taken);

    public static readonly DisplayModel Gtk = new("gtk",
        [
            .. Common, s_gl, Property.Bool("grab-on-hover", false, Taken), Property.Bool("zoom-to-fit", false, Taken),
            Property.Bool("show-tabs", false, Taken), Property.Bool("show-menubar", true, Taken),
        ], Open) { Description = "a VNC server in the place of a window" };

    public static readonly DisplayModel Sdl = new("sdl",
        [
            .. Common, s_gl,
            Property.Enum("grab-mod", "lshift-lctrl-lalt", ["lshift-lctrl-lalt", "lshift-lctrl", "rctrl"], Taken),
        ], Open) { Description = "a VNC server in the place of a window" };

    static VncServer Open(Properties properties, DisplayParts parts)
    {
        Options options = Options.Of(properties.Owner, new("vnc", $"{Host}:0"), new("to", LastDisplay),
            new("websocket", "on"));
        VncServer server = VncServer.Create(new Properties(VncServer.Model, options),
            parts with { Print = static _ => { } });
        string viewer = properties.Bool("full-screen") ? "vncviewer -FullScreen" : "vncviewer";
        parts.Warn($"{properties.Owner}: there are no windows here: see the screen with {viewer} {Host}:"
            + $"{server.Display}, or with a browser at http://{Host}:{server.WebPort}/");
        return server;
    }
}
