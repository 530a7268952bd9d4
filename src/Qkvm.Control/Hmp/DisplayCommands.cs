using System.Text;
using Qkvm.Core.Display;

namespace Qkvm.Control.Hmp;

/// <summary>Commands about the screen.</summary>
static class DisplayCommands
{
    public static readonly MonitorCommand[] All =
    [
        new("screendump", "filename [-f format]", "save screen in specified format (ppm) as image 'filename'", ScreenDump),
    ];

    static void ScreenDump(IMonitor monitor, MonitorArguments arguments)
    {
        string path = arguments.Word("filename");
        if (arguments.Flag("-f") && arguments.Word("format") is var format && format != "ppm")
            throw new MonitorException($"format '{format}' is not built yet; there is ppm");
        if (monitor.Machine.Displays.Count == 0) throw new MonitorException("there is no console to take a screendump from");
        var picture = new FrameBuffer();
        monitor.Machine.Displays[0].Paint(picture);
        File.WriteAllBytes(path, PortablePixmap(picture));
    }

    /// <summary>PPM, "P6": a header in text, then red, green and blue of each pixel.</summary>
    public static byte[] PortablePixmap(FrameBuffer picture)
    {
        byte[] header = Encoding.ASCII.GetBytes($"P6\n{picture.Width} {picture.Height}\n255\n");
        var image = new byte[header.Length + picture.Pixels.Length * 3];
        header.CopyTo(image, 0);
        int at = header.Length;
        foreach (uint pixel in picture.Pixels)
        {
            image[at++] = (byte)(pixel >> 16);
            image[at++] = (byte)(pixel >> 8);
            image[at++] = (byte)pixel;
        }
        return image;
    }
}
