using System.Buffers.Binary;
using Qkvm.Core.Audio;

namespace Qkvm.Core.Tests.Audio;

/// <summary>The file is whole at each moment that something was written.</summary>
public class WavFileTests
{
    static readonly AudioFormat s_cd = new(44100, SampleType.S16, 2);

    [Fact]
    public void The_header_is_44_bytes_and_tells_the_format_and_both_lengths()
    {
        var file = new MemoryStream();
        using (var wav = new WavFile(file, "a.wav", s_cd, Assert.Fail)) wav.Write(new byte[400]);
        byte[] data = file.ToArray();
        Assert.Equal(44 + 400, data.Length);
        Assert.Equal("52494646B401000057415645666D74201000000001000200"
            + "44AC000010B102000400100064617461"
            + "90010000", Convert.ToHexString(data[..44]));
    }

    [Theory]
    [InlineData(SampleType.U8, 1, 1, 8)] [InlineData(SampleType.S32, 2, 1, 32)] [InlineData(SampleType.F32, 2, 3, 32)]
    public void Other_formats_have_their_tag_and_sizes(SampleType type, int channels, int tag, int bits)
    {
        var file = new MemoryStream();
        _ = new WavFile(file, "a.wav", new AudioFormat(8000, type, channels), Assert.Fail);
        byte[] data = file.ToArray();
        Assert.Equal(tag, BinaryPrimitives.ReadUInt16LittleEndian(data.AsSpan(20)));
        Assert.Equal(channels, BinaryPrimitives.ReadUInt16LittleEndian(data.AsSpan(22)));
        Assert.Equal(8000 * channels * bits / 8, BinaryPrimitives.ReadInt32LittleEndian(data.AsSpan(28)));
        Assert.Equal(channels * bits / 8, BinaryPrimitives.ReadUInt16LittleEndian(data.AsSpan(32)));
        Assert.Equal(bits, BinaryPrimitives.ReadUInt16LittleEndian(data.AsSpan(34)));
    }

    [Fact]
    public void A_file_that_nobody_closed_is_whole_too()
    {
        var file = new MemoryStream();
        var wav = new WavFile(file, "a.wav", s_cd, Assert.Fail);
        for (int i = 0; i < 100; i++) wav.Write(new byte[1764]);
        Assert.Equal(176_400, wav.Length);
        int written = (int)file.Length - 44;
        Assert.InRange(written, 100_000, 176_400);
        Assert.Equal(written, BinaryPrimitives.ReadInt32LittleEndian(file.ToArray().AsSpan(40)));
        Assert.Equal(written + 36, BinaryPrimitives.ReadInt32LittleEndian(file.ToArray().AsSpan(4)));
    }

    [Fact]
    public void A_full_disk_is_told_once_and_ends_the_file()
    {
        var told = new List<string>();
        var wav = new WavFile(new FullDisk(), "a.wav", s_cd, told.Add);
        for (int i = 0; i < 10; i++) wav.Write(new byte[100_000]);
        wav.Dispose();
        Assert.Equal(["cannot write a.wav: No space left on device; no more sound is kept"], told);
    }

    sealed class FullDisk : MemoryStream
    {
        public override void Write(byte[] buffer, int offset, int count) =>
            throw new IOException("No space left on device");
    }
}
