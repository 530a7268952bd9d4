using System.Buffers.Binary;
using System.IO.Compression;
using System.Text;
using Qkvm.Core.Display;
using Qkvm.Core.Machine;

namespace Qkvm.Tests.Control;

/// <summary>screendump in both its formats.</summary>
public sealed class ScreenDumpTests : IDisposable
{
    readonly ControlBench _bench = new(config => config with
    {
        Devices = [.. config.Devices.Select(d => d.Driver == "VGA" ? d with { Id = "video" } : d)],
    });

    readonly string _path = Path.Combine(Path.GetTempPath(), $"qkvm-{Guid.NewGuid():N}");

    public void Dispose()
    {
        _bench.Dispose();
        File.Delete(_path);
    }

    [Fact]
    public void A_png_has_the_pixels_of_the_ppm()
    {
        _bench.Query("screendump", $$"""{"filename":"{{_path}}"}""");
        byte[] ppm = File.ReadAllBytes(_path);
        Assert.StartsWith("P6\n720 400\n255\n", Encoding.ASCII.GetString(ppm, 0, 15));
        foreach (string arguments in new[] { "", ",\"device\":\"video\"", ",\"device\":\"video\",\"head\":0" })
        {
            _bench.Query("screendump", $$"""{"filename":"{{_path}}","format":"png"{{arguments}}}""");
            Assert.Equal(ppm[15..], Pixels(File.ReadAllBytes(_path), 720, 400));
        }
        File.Delete(_path);
        Assert.Equal("", _bench.Human($"screendump {_path} -f png video 0"));
        Assert.Equal(ppm[15..], Pixels(File.ReadAllBytes(_path), 720, 400));
    }

    [Fact]
    public void A_png_has_colours()
    {
        var picture = new FrameBuffer();
        picture.Resize(3, 2);
        uint[] pixels = [0xFF0000, 0x00FF00, 0x0000FF, 0x123456, 0xABCDEF, 0xFFFFFF];
        pixels.CopyTo(picture.Pixels);
        Assert.Equal([.. pixels.SelectMany(p => new[] { (byte)(p >> 16), (byte)(p >> 8), (byte)p })],
            Pixels(PngImage.Of(picture), 3, 2));
    }

    /// <summary>The texts are QEMU's.</summary>
    [Theory]
    [InlineData("""{"filename":"x","head":1}""", "'head' must be specified together with 'device'")]
    [InlineData("""{"filename":"x","device":"nix"}""", "Device 'nix' not found")]
    [InlineData("""{"filename":"x","device":"video","head":1}""",
        "Device video (head 1) is not bound to a QemuConsole")]
    [InlineData("""{"filename":"x","device":"disk0"}""", "Device disk0 (head 0) is not bound to a QemuConsole")]
    public void A_screen_that_is_not_there_is_told(string arguments, string message) =>
        Assert.Equal(message, Assert.Throws<CommandException>(() => _bench.Query("screendump", arguments)).Message);

    /// <summary>Decodes what <see cref="PngImage"/> writes: one IDAT, rows by their differences.</summary>
    static byte[] Pixels(byte[] png, int width, int height)
    {
        Assert.Equal([0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A, 0, 0, 0, 13], png[..12]);
        Assert.Equal([8, 2, 0, 0, 0], png[24..29]);
        Assert.Equal((width, height), (BinaryPrimitives.ReadInt32BigEndian(png.AsSpan(16)),
            BinaryPrimitives.ReadInt32BigEndian(png.AsSpan(20))));
        Assert.Equal([0, 0, 0, 0, .. "IEND"u8, 0xAE, 0x42, 0x60, 0x82], png[^12..]); // a CRC that everybody knows
        using var zlib = new ZLibStream(new MemoryStream(png, 41, BinaryPrimitives.ReadInt32BigEndian(png.AsSpan(33))),
            CompressionMode.Decompress);
        var pixels = new byte[width * height * 3];
        for (int y = 0; y < height; y++)
        {
            Assert.Equal(2, zlib.ReadByte());
            zlib.ReadExactly(pixels, y * width * 3, width * 3);
            if (y > 0)
                for (int i = y * width * 3; i < (y + 1) * width * 3; i++) pixels[i] += pixels[i - width * 3];
        }
        Assert.Equal(-1, zlib.ReadByte());
        return pixels;
    }
}
