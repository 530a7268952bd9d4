using System.Text;
using System.Text.Json.Serialization;
using Qkvm.Core.Display;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

[JsonConverter(typeof(NamedEnum<ImageFormat>))]
public enum ImageFormat { Ppm }

public sealed record ScreenDumpArguments(string Filename, ImageFormat Format = ImageFormat.Ppm);

/// <summary>screendump: the primary screen into a file.</summary>
static class ScreenDump
{
    public static readonly Command Command =
        new Command<ScreenDumpArguments, Nothing>("screendump", ScreenDumpJson.Default, RunAsync)
    {
        Human = new("screendump", "filename [-f format]", "save screen in specified format (ppm) as image 'filename'",
            words =>
        {
            string path = words.Word("filename");
            if (words.Flag('f') && words.Word() is var format && format != "ppm")
                throw new Core.Machine.CommandException($"invalid parameter value: {format}");
            return new ScreenDumpArguments(path);
        }),
        Completes = [Hmp.Completions.Files],
    };

    static async ValueTask<Nothing> RunAsync(CommandContext context, ScreenDumpArguments arguments)
    {
        if (context.Machine.Displays.Count == 0)
            throw new CommandException("There is no console to take a screendump from");
        var picture = new FrameBuffer();
        context.Machine.Displays[0].Paint(picture);
        await Task.Run(() => OutputFile.Write(arguments.Filename, file => file.Write(PortablePixmap(picture)),
            "failed to open file")).ConfigureAwait(false);
        return Nothing.Value;
    }

    /// <summary>PPM, "P6": a header in text, then red, green and blue of each pixel.</summary>
    static byte[] PortablePixmap(FrameBuffer picture)
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

[JsonSerializable(typeof(ScreenDumpArguments))]
sealed partial class ScreenDumpJson : JsonSerializerContext;
