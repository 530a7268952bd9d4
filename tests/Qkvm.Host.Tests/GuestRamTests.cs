namespace Qkvm.Host.Tests;

public sealed class GuestRamTests : IDisposable
{
    readonly GuestRam _ram = new("ram", 4 * GuestRam.PageSize);

    public void Dispose() => _ram.Dispose();

    [Fact]
    public void Memory_is_zero_at_first() => Assert.Equal(-1, _ram.Span(0, (int)_ram.Size).IndexOfAnyExcept((byte)0));

    [Theory]
    [InlineData(1, 0x88UL)] [InlineData(2, 0x7788UL)] [InlineData(4, 0x55667788UL)]
    [InlineData(8, 0x1122334455667788UL)]
    public void Values_are_little_endian(int size, ulong expected)
    {
        _ram.Write(8, 8, 0x1122334455667788);
        Assert.Equal(expected, _ram.Read(8, size));
        Assert.Equal(0x88, _ram.Span(8, 1)[0]);
    }

    [Fact]
    public void Discarded_pages_read_as_zeros_and_their_neighbours_stay()
    {
        _ram.Span(0, (int)_ram.Size).Fill(0xAA);
        _ram.Discard((ulong)GuestRam.PageSize, (ulong)GuestRam.PageSize);
        Assert.Equal(0UL, _ram.Read((ulong)GuestRam.PageSize, 8));
        Assert.Equal(0xAAUL, _ram.Read((ulong)GuestRam.PageSize - 1, 1));
        Assert.Equal(0xAAUL, _ram.Read(2 * (ulong)GuestRam.PageSize, 1));
    }
}
