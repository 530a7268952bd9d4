using Qkvm.Hw.Char;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Char;

public sealed class PciSerialTests : IDisposable
{
    const ulong Ports = 0xC000;
    const int Data = 0, InterruptEnable = 1;

    readonly PciBench _bench = new();
    readonly FakeChar[] _backends = [new(), new(), new(), new()];
    readonly PciSerial _card;

    public PciSerialTests()
    {
        _card = _bench.Plug(new PciSerial("card", 0x0004, 2, _bench.Clock, _backends), 3);
        _bench.Bus.WriteConfig(_card.DevFn, 0x10, 4, (uint)Ports);
    }

    public void Dispose() => _bench.Dispose();

    [Fact]
    public void Each_port_has_eight_addresses_and_a_backend_of_its_own()
    {
        for (int i = 0; i < 4; i++) _bench.Memory.Ports.Write(Ports + 8 * (ulong)i, 1, (ulong)('a' + i));
        Assert.Equal(["a", "b", "c", "d"], _backends.Select(b => b.Text));
        Assert.Equal(0x07000200u, _bench.Bus.ReadConfig(_card.DevFn, 8, 4) & 0xFFFFFF00);
    }

    [Fact]
    public void The_interrupt_is_up_while_any_port_asks_for_it()
    {
        foreach (int port in (int[])[1, 3])
        {
            _bench.Memory.Ports.Write(Ports + 8 * (ulong)port + InterruptEnable, 1, 1);
            _backends[port].Frontend!.Receive("x"u8);
        }
        Assert.True(_bench.Inta);
        _bench.Memory.Ports.Read(Ports + 8 + Data, 1);
        Assert.True(_bench.Inta);
        _bench.Memory.Ports.Read(Ports + 24 + Data, 1);
        Assert.False(_bench.Inta);
    }
}
