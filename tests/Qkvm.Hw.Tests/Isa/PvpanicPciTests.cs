using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Hw.Isa;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Isa;

public class PvpanicPciTests
{
    [Fact]
    public void Its_register_is_in_BAR_0()
    {
        using var bench = new PciBench();
        var board = new FakeBoard(new DeviceBench(new FakeClock()));
        var values = FakeBoard.Defaults(PvpanicPci.Model, [("events", "1")]);
        var device = (PvpanicPci)PvpanicPci.Model.Create(values, board.Site);
        bench.Plug(device, 3);
        Assert.Equal(0x00111B36u, device.Config.Get32(PciConfig.VendorId));
        Assert.Equal(0x08800001u, device.Config.Get32(PciConfig.RevisionId));
        device.Bus.WriteConfig(device.DevFn, PciConfig.Bar0, 4, 0xE0000000);
        device.Bus.WriteConfig(device.DevFn, PciConfig.Command, 2, PciConfig.MemorySpace);
        Assert.Equal(1UL, bench.Memory.Space.Read(0xE0000000, 1));
        bench.Memory.Space.Write(0xE0000000, 1, 2);
        Assert.Empty(board.Requests);
        bench.Memory.Space.Write(0xE0000000, 1, 1);
        Assert.Equal(["GuestPanic 0"], board.Requests);
    }
}
