using Qkvm.Hw.Display;

namespace Qkvm.Hw.Tests.Display;

/// <summary>What a guest reads out of the identification. Spec: VESA E-EDID Standard, release A, revision 2, section
/// 3.</summary>
public sealed class EdidTests
{
    [Theory]
    [InlineData(1280, 800)] [InlineData(1920, 1080)] [InlineData(3840, 2160)] [InlineData(4095, 4095)]
    [InlineData(1, 1)]
    public void The_first_timing_is_the_preferred_resolution(int width, int height)
    {
        byte[] edid = Edid.Build(width, height);
        Assert.Equal(128, edid.Length);
        Assert.Equal([0, 255, 255, 255, 255, 255, 255, 0], edid[..8]);
        Assert.Equal(0, edid.Aggregate(0, (sum, b) => sum + b) & 255);
        Assert.Equal((1, 4, 0), (edid[18], edid[19], edid[126]));
        Assert.Equal(2, edid[24] & 2);                             // the first timing is the native one
        byte[] timing = edid[54..72];
        int across = timing[2] | timing[4] >> 4 << 8, blank = timing[3] | (timing[4] & 15) << 8;
        int down = timing[5] | timing[7] >> 4 << 8, downBlank = timing[6] | (timing[7] & 15) << 8;
        Assert.Equal((width, height), (across, down));
        int front = timing[8] | timing[11] >> 6 << 8, sync = timing[9] | (timing[11] >> 4 & 3) << 8;
        Assert.True(front + sync < blank && (timing[10] >> 4) + (timing[10] & 15) < downBlank);
        double hertz = (timing[0] | timing[1] << 8) * 10_000.0 / ((across + blank) * (down + downBlank));
        if (width == 4095) Assert.InRange(hertz, 30, 60);          // as fast as the clock's field allows
        else Assert.InRange(hertz, 55, 61);
    }

    [Theory]
    [InlineData(0, 0, 3, 8)] [InlineData(1024, 768, 3, 0)] [InlineData(800, 0, 2, 0)] [InlineData(0, 864, 3, 2)]
    [InlineData(1680, 1050, 3, 5)]
    public void Other_resolutions_are_named_up_to_the_largest(int maxWidth, int maxHeight, int established,
        int standard)
    {
        byte[] edid = Edid.Build(640, 480, maxWidth, maxHeight);
        Assert.Equal(established, System.Numerics.BitOperations.PopCount(edid[35] | (uint)edid[36] << 8));
        var modes = Enumerable.Range(0, 8).Select(i => (Across: edid[38 + i * 2], Rate: edid[39 + i * 2]))
            .Where(m => m != (1, 1)).ToArray();
        Assert.Equal(standard, modes.Length);
        foreach (var (code, rate) in modes)
        {
            int width = (code + 31) * 8, height =
                (rate >> 6) switch { 0 => width * 10 / 16, 1 => width * 3 / 4, 2 => width * 4 / 5,
                _ => width * 9 / 16 };
            Assert.True((maxWidth == 0 || width <= maxWidth)
                && (maxHeight == 0 || height <= maxHeight), $"{width}x{height}");
        }
    }
}
