namespace Qkvm.Machines.Tests.Pc;

public sealed class PciTests : IDisposable
{
    readonly TestMachine _pc = new();

    public void Dispose() => _pc.Dispose();

    [Theory]
    [InlineData(0, 0, 0x1237_8086u)]
    [InlineData(1, 0, 0x7000_8086u)]
    [InlineData(1, 1, 0x7010_8086u)]
    [InlineData(1, 3, 0x7113_8086u)]
    [InlineData(1, 2, 0xFFFF_FFFFu)]
    [InlineData(9, 0, 0xFFFF_FFFFu)]
    public void The_chipset_answers_at_its_places(int slot, int function, uint id) =>
        Assert.Equal(id, _pc.ReadConfig(slot, function, 0));

    [Fact]
    public void Bytes_and_words_of_a_register_are_read_through_the_data_port_s_low_bits()
    {
        Assert.Equal(0x86u, _pc.ReadConfig(1, 0, 0, 1));
        Assert.Equal(0x80u, _pc.ReadConfig(1, 0, 1, 1));
        Assert.Equal(0x7000u, _pc.ReadConfig(1, 0, 2, 2));
    }

    [Fact]
    public void The_data_port_is_silent_while_the_enable_bit_is_clear()
    {
        _pc.Board.Ports.Write(0xCF8, 4, 0x0000_0800);
        Assert.Equal(0xFFFF_FFFFu, _pc.Board.Ports.Read(0xCFC, 4));
    }

    [Fact]
    public void Only_a_dword_write_changes_the_address_register()
    {
        _pc.Board.Ports.Write(0xCF8, 4, 0x8000_0800);
        _pc.Board.Ports.Write(0xCF8, 2, 0xFFFF);
        Assert.Equal(0x8000_0800u, _pc.Board.Ports.Read(0xCF8, 4));
    }

    [Fact]
    public void Another_bus_than_0_is_empty()
    {
        _pc.Board.Ports.Write(0xCF8, 4, 0x8001_0000);
        Assert.Equal(0xFFFF_FFFFu, _pc.Board.Ports.Read(0xCFC, 4));
    }

    [Fact]
    public void The_bios_shows_at_F0000_until_PAM_turns_to_RAM()
    {
        var memory = _pc.Board.Memory;
        byte rom = (byte)memory.Read(0xFFFF_0123, 1);
        Assert.Equal(rom, (byte)memory.Read(0xF0123, 1));
        memory.Write(0xF0123, 1, (byte)~rom);
        Assert.Equal(rom, (byte)memory.Read(0xF0123, 1));

        _pc.WriteConfig(0, 0, 0x59, 1, 0x30);                      // read and write RAM
        memory.Write(0xF0123, 1, 0x5A);
        Assert.Equal(0x5A, (byte)memory.Read(0xF0123, 1));

        _pc.WriteConfig(0, 0, 0x59, 1, 0x10);                      // read RAM, writes are lost
        memory.Write(0xF0123, 1, 0xFF);
        Assert.Equal(0x5A, (byte)memory.Read(0xF0123, 1));

        _pc.WriteConfig(0, 0, 0x59, 1, 0x00);
        Assert.Equal(rom, (byte)memory.Read(0xF0123, 1));
    }

    [Theory]
    [InlineData(0x5A, 0x03, 0xC0000)]
    [InlineData(0x5A, 0x30, 0xC4000)]
    [InlineData(0x5D, 0x30, 0xDC000)]
    [InlineData(0x5F, 0x30, 0xEC000)]
    public void Each_PAM_nibble_opens_its_16_KiB(int register, byte value, ulong address)
    {
        var memory = _pc.Board.Memory;
        _pc.WriteConfig(0, 0, register, 1, value);
        memory.Write(address, 4, 0x12345678);
        memory.Write(address + 0x3FFC, 4, 0x9ABCDEF0);
        Assert.Equal(0x12345678u, memory.Read(address, 4));
        Assert.Equal(0x9ABCDEF0u, memory.Read(address + 0x3FFC, 4));
        foreach (ulong other in (ulong[])[address - 4, address + 0x4000])
        {
            if (other < 0xC0000) continue;                         // the screen's window
            ulong before = memory.Read(other, 4);
            memory.Write(other, 4, ~before);
            Assert.Equal(before, memory.Read(other, 4));
        }
    }

    [Fact]
    public void A_reset_closes_the_PAM_segments_and_keeps_RAM()
    {
        _pc.WriteConfig(0, 0, 0x59, 1, 0x30);
        _pc.Board.Memory.Write(0xF0000, 1, 0x77);
        using (_pc.Board.Lock.Hold()) _pc.Machine.Reset();
        Assert.Equal(_pc.Board.Memory.Read(0xFFFF_0000, 1), _pc.Board.Memory.Read(0xF0000, 1));
        _pc.WriteConfig(0, 0, 0x59, 1, 0x30);
        Assert.Equal(0x77u, _pc.Board.Memory.Read(0xF0000, 1));
    }

    [Fact]
    public void A_write_of_bit_2_to_CF9_asks_for_a_reset()
    {
        Thread loop = _pc.StartLoop();
        int before = _pc.Accelerator.Cpus[0].Resets;
        _pc.OnLoop(() => _pc.Machine.Resume());
        _pc.Board.Ports.Write(0xCF9, 1, 2);
        Assert.Equal(2u, _pc.Board.Ports.Read(0xCF9, 1));
        _pc.OnLoop(() => Assert.Equal(before, _pc.Accelerator.Cpus[0].Resets));
        _pc.Board.Ports.Write(0xCF9, 1, 6);
        _pc.OnLoop(() => Assert.Equal(before + 1, _pc.Accelerator.Cpus[0].Resets));
        _pc.OnLoop(() => _pc.Machine.Quit());
        loop.Join();
    }
}
