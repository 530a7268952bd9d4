using Qkvm.Core.Pci;
using Qkvm.Hw.Pci;

namespace Qkvm.Machines.Tests.Q35;

/// <summary>Intel 3 Series Express Chipset Family, order 316966, section 5.1.</summary>
public sealed class MchTests
{
    const int PciExpressBar = 0x60;
    readonly ChipsetBench _bench = new();

    [Fact]
    public void Configuration_space_appears_in_memory_where_PCIEXBAR_says()
    {
        Assert.Null(_bench.Mch.Ecam);
        Assert.Equal(uint.MaxValue, _bench.Memory.Read(0xB000_0000, 4));
        _bench.Bus.WriteConfig(0, PciExpressBar, 4, 0xB000_0001);
        Assert.Equal((0xB000_0000UL, 256UL << 20), _bench.Mch.Ecam);
        Assert.Equal(0x29C0_8086u, _bench.Memory.Read(0xB000_0000, 4));
        Assert.Equal(0x2918_8086u, _bench.Memory.Read(0xB000_0000 + (31 << 15), 4));
        Assert.Equal(0x2918u, _bench.Memory.Read(0xB000_0002 + (31 << 15), 2));
        Assert.Equal(uint.MaxValue, _bench.Memory.Read(0xB000_0000 + (5 << 15), 4));   // nobody there
        Assert.Equal(uint.MaxValue, _bench.Memory.Read(0xB000_0000 + (1 << 20), 4));   // no such bus
        Assert.Equal(uint.MaxValue, _bench.Memory.Read(0xB000_0100, 4));               // not an Express function

        _bench.Memory.Write(0xB000_0000 + (31 << 15) + PciConfig.InterruptLine, 1, 0x5A);
        Assert.Equal(0x5Au, _bench.Bus.ReadConfig(ChipsetBench.LpcDevFn, PciConfig.InterruptLine, 1));
        _bench.Bus.WriteConfig(0, PciExpressBar, 4, 0xE000_0001);
        Assert.Equal(uint.MaxValue, _bench.Memory.Read(0xB000_0000, 4));
        Assert.Equal(0x29C0_8086u, _bench.Memory.Read(0xE000_0000, 4));
        _bench.Bus.WriteConfig(0, PciExpressBar, 4, 0xE000_0000);
        Assert.Equal(uint.MaxValue, _bench.Memory.Read(0xE000_0000, 4));
    }

    /// <summary>Section 5.1.13: bits 2:1 are the length, and the base is a multiple of it.</summary>
    [Theory]
    [InlineData(0xB000_0001u, 0xB000_0000UL, 256)] [InlineData(0xB800_0003u, 0xB800_0000UL, 128)]
    [InlineData(0xBC00_0005u, 0xBC00_0000UL, 64)] [InlineData(0xBC00_0001u, 0xB000_0000UL, 256)]
    public void Its_length_is_chosen(uint register, ulong at, int mebibytes)
    {
        _bench.Bus.WriteConfig(0, PciExpressBar, 4, register);
        Assert.Equal((at, (ulong)mebibytes << 20), _bench.Mch.Ecam);
        Assert.Equal(0x29C0_8086u, _bench.Memory.Read(at, 4));
        Assert.Equal(uint.MaxValue, _bench.Memory.Read(at + ((ulong)mebibytes << 20), 4));
    }

    [Fact]
    public void A_reserved_length_is_no_window()
    {
        _bench.Bus.WriteConfig(0, PciExpressBar, 4, 0xB000_0007);
        Assert.Null(_bench.Mch.Ecam);
    }

    /// <summary>Section 5.1.24: D_LCK keeps D_OPEN away.</summary>
    [Fact]
    public void Locked_SMRAM_does_not_open()
    {
        _bench.Bus.WriteConfig(0, 0x9D, 1, 0x42);
        Assert.Equal(0x42u, _bench.Bus.ReadConfig(0, 0x9D, 1));
        _bench.Bus.WriteConfig(0, 0x9D, 1, 0x52);
        Assert.Equal(0x12u, _bench.Bus.ReadConfig(0, 0x9D, 1));
    }
}
