using System.Text;
using System.Text.Json.Serialization;
using Qkvm.Core.Display;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

[JsonConverter(typeof(NamedEnum<ImageFormat>))]
public enum ImageFormat { Ppm, Png }

/// <param name="Device">Whose screen; the primary one by default.</param>
/// <param name="Head">Which of its screens: each has one, 0.</param>
public sealed record ScreenDumpArguments(string Filename, string? Device = null, int? Head = null,
    ImageFormat Format = ImageFormat.Ppm);

/// <summary>screendump: a screen into a file.</summary>
static class ScreenDump
{
    public static readonly Command Command =
        new Command<ScreenDumpArguments, Nothing>("screendump", ScreenDumpJson.Default, RunAsync)
    {
        Human = new("screendump", "filename [-f format] [device [head]]", "save screen from head 'head' of display "
            + "device 'device' in specified format 'format' as image 'filename'; formats are png and ppm", words =>
        {
            string path = words.Word("filename");
            string format = words.Flag('f') ? words.Word() : "ppm";
            if (format is not ("ppm" or "png")) throw new CommandException($"invalid parameter value: {format}");
            string? device = words.Optional();
            int? head = words.HasMore ? (int)words.Integer() : null;
            return new ScreenDumpArguments(path, device, head,
                format == "png" ? ImageFormat.Png : ImageFormat.Ppm);
        }),
        Completes = [Hmp.Completions.Files],
    };

    static async ValueTask<Nothing> RunAsync(CommandContext context, ScreenDumpArguments arguments)
    {
        var picture = new FrameBuffer();
        Screen(context, arguments).Paint(picture);
        await Task.Run(() => OutputFile.Write(arguments.Filename, file => file.Write(
            arguments.Format == ImageFormat.Png ? PngImage.Of(picture) : PortablePixmap(picture)),
            "failed to open file")).ConfigureAwait(false);
        return Nothing.Value;
    }

    static IDisplaySource Screen(CommandContext context, ScreenDumpArguments arguments)
    {
        if (arguments.Device is not { } id)
        {
            if (arguments.Head != null) throw new CommandException("'head' must be specified together with 'device'");
            return context.Machine.Displays.Count > 0 ? context.Machine.Displays[0]
                : throw new CommandException("There is no console to take a screendump from");
        }
        if (context.Devices.FirstOrDefault(d => d.Device.Id == id).Device is not { } device)
            throw CommandException.DeviceNotFound(id);
        IDisplaySource? screen = device.Device?.Facet<IDisplaySource>();
        return screen != null && arguments.Head is null or 0 ? screen : throw new CommandException(
            $"Device {id} (head {arguments.Head ?? 0}) is not bound to a QemuConsole");
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
