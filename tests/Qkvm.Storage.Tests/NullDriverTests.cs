using Qkvm.Core.Block;
using Qkvm.Storage.Drivers;
using Qkvm.Storage.Drivers.Null;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Tests;

public class NullDriverTests
{
    static BlockDriver Open(string options) =>
        new BlockFactory(new Catalogue<BlockDriverModel>("block driver", [NullDriver.Model, NullDriver.Aio]), _ => { })
            .AddNode(Options.Parse($"{options},node-name=n", $"-blockdev {options}", "driver"));

    [Theory]
    [InlineData("null-co", 1 << 30)] [InlineData("null-aio,size=3k", 3072)]
    public async Task It_has_a_size_and_keeps_nothing(string options, long size)
    {
        await using BlockDriver disk = Open($"{options},read-zeroes=on");
        Assert.Equal(size, disk.Length);
        await disk.Write(512, BlockDriverExtensions.Pattern(1, 1024));
        Assert.Equal(new byte[1024], await disk.Read(512, 1024));
        await disk.FlushAsync();
        Assert.Equal(22, (await Assert.ThrowsAsync<BlockException>(() => disk.Read(size - 512, 1024))).Errno);
    }

    [Fact]
    public async Task Without_read_zeroes_a_buffer_stays_as_it_is()
    {
        await using BlockDriver disk = Open("null-co");
        byte[] data = BlockDriverExtensions.Pattern(1, 512);
        await disk.ReadAsync(0, new ScatterList(data));
        Assert.Equal(BlockDriverExtensions.Pattern(1, 512), data);
    }
}
