using Qkvm.Core.Char;
using Qkvm.Core.Devices;
using Qkvm.Core.State;
using Qkvm.Hw.Virtio;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Virtio;

public sealed class VirtioSerialTests : IDisposable
{
    const ulong Data = SerialBench.Data;

    readonly SerialBench _bench = new();
    readonly FakeChar _backend = new();

    public void Dispose() => _bench.Dispose();

    [Fact]
    public void A_driver_hears_of_the_ports_and_their_names_in_the_order_of_the_protocol()
    {
        _bench.Plug(_backend, isConsole: true);
        _bench.Plug(null, name: "agent", number: 2);
        _bench.Start();
        Assert.Equal(["0:Add=1", "2:Add=1"], _bench.Heard());
        _bench.Say(0, SerialBench.PortReady, 1);
        Assert.Equal(["0:Console=1", "0:Open=1"], _bench.Heard());
        _bench.Say(2, SerialBench.PortReady, 1);
        Assert.Equal(["2:Name=1 'agent'"], _bench.Heard());
        Assert.Equal(4u, _bench.Guest.Config(4, 4));
    }

    [Fact]
    public void A_client_of_the_host_that_comes_and_goes_opens_and_closes_a_port_but_no_console()
    {
        var other = new FakeChar();
        _bench.Plug(_backend, isConsole: true);
        _bench.Plug(other, number: 1);
        _bench.Start();
        _bench.OpenPort(0);
        _bench.OpenPort(1);
        other.Frontend!.Event(CharEvent.Opened);
        other.Frontend.Event(CharEvent.Closed);
        _backend.Frontend!.Event(CharEvent.Closed);
        Assert.Equal(["1:Open=1", "1:Open=0"], _bench.Heard());
    }

    [Fact]
    public void Without_buffers_a_driver_hears_what_is_so_once_it_gives_some()
    {
        _bench.Plug(_backend, number: 1);
        _bench.Start(buffers: 1);
        _bench.OpenPort(1);
        for (int i = 0; i < 100; i++)
            _backend.Frontend!.Event(i % 2 == 0 ? CharEvent.Opened : CharEvent.Closed);
        Assert.Empty(_bench.Heard());
        _bench.GiveBuffers(4);
        Assert.Equal(["1:Open=0"], _bench.Heard());
    }

    [Fact]
    public void The_guest_opens_and_closes_a_port_which_its_frontend_tells()
    {
        _bench.Plug(_backend, number: 1);
        _bench.Start();
        Assert.False(_backend.Frontend!.IsOpen);
        _bench.OpenPort(1);
        Assert.True(_backend.Frontend.IsOpen);
        _bench.Say(1, SerialBench.Open, 1);
        _bench.Say(1, SerialBench.Open, 0);
        Assert.False(_backend.Frontend.IsOpen);
        Assert.Equal([true, false], _bench.Opened);
    }

    [Fact]
    public void A_reset_of_the_driver_closes_what_it_had_open()
    {
        _bench.Plug(_backend, number: 1);
        _bench.Start();
        _bench.OpenPort(1);
        _bench.Guest.Status = 0;
        Assert.Equal([true, false], _bench.Opened);
    }

    [Fact]
    public void What_a_backend_does_not_take_stays_with_the_guest_and_goes_on_in_the_middle()
    {
        _bench.Plug(_backend, number: 1);
        _bench.Start();
        _bench.OpenPort(1);
        _backend.Space = 7;
        _bench.Write(1, "0123456789");
        _bench.Write(1, "abc", Data + 0x100);
        Assert.Equal("0123456", _backend.Text);
        Assert.Equal(0, _bench.Guest.Queues[5].UsedIndex);
        _backend.Space = 4;
        _backend.Frontend!.Writable();
        Assert.Equal(("0123456789a", (ushort)1), (_backend.Text, _bench.Guest.Queues[5].UsedIndex));
        _backend.Space = 100;
        _backend.Frontend.Writable();
        Assert.Equal(("0123456789abc", (ushort)2), (_backend.Text, _bench.Guest.Queues[5].UsedIndex));
    }

    [Fact]
    public void A_backend_that_takes_everything_gets_a_MiB_and_then_others_have_their_turn()
    {
        _bench.Plug(_backend, number: 1);
        _bench.Start();
        _bench.OpenPort(1);
        _bench.Guest.Request(5, (0x200000, 0x180000));
        Assert.Equal(1 << 20, _backend.Output.Count);
        _bench.Pci.Clock.Advance(1);
        Assert.Equal(0x180000, _backend.Output.Count);
        Assert.Equal(1, _bench.Guest.Queues[5].UsedIndex);
    }

    [Fact]
    public void Bytes_for_a_guest_wait_until_it_has_the_port_open_and_gives_a_buffer()
    {
        _bench.Plug(_backend, number: 1);
        _bench.Start();
        _bench.Guest.Request(4, (Data, -16));
        Assert.Equal(0, _backend.Frontend!.Room);
        int before = _backend.AcceptCalls;
        _bench.OpenPort(1);
        Assert.True(_backend.AcceptCalls > before);
        Assert.Equal(16, _backend.Frontend.Room);
        _backend.Frontend.Receive("hello"u8);
        Assert.Equal((0u, 5u), _bench.Guest.Queues[4].TakeUsed());
        Assert.Equal("hello", _bench.Text(Data, 5));
        Assert.Equal(0, _backend.Frontend.Room);
        before = _backend.AcceptCalls;
        _bench.Guest.Request(4, (Data, -16));
        Assert.True(_backend.AcceptCalls > before);
    }

    [Fact]
    public void A_driver_without_multiport_has_port_0_open_always()
    {
        _bench.Plug(_backend, isConsole: true);
        _bench.Guest.Start(features: ulong.MaxValue & ~SerialBench.Multiport);
        _bench.Guest.Request(0, (Data, -16));
        Assert.Equal(16, _backend.Frontend!.Room);
        _bench.Write(0, "boot");
        Assert.Equal("boot", _backend.Text);
    }

    [Fact]
    public void The_terminals_size_reaches_a_console_and_follows_it()
    {
        _backend.WindowSize = (80, 25);
        _bench.Plug(_backend, isConsole: true);
        _bench.Start();
        _bench.Say(0, SerialBench.PortReady, 1);
        Assert.Equal("0:Resize=1 80x25", _bench.Heard()[^1]);
        Assert.Equal((80u, 25u), ((uint)_bench.Guest.Config(0, 2), (uint)_bench.Guest.Config(2, 2)));
        _backend.WindowSize = (132, 50);
        _backend.Frontend!.Event(CharEvent.Resized);
        Assert.Equal(["0:Resize=1 132x50"], _bench.Heard());
        Assert.Equal(132u, (uint)_bench.Guest.Config(0, 2));
    }

    [Fact]
    public void A_character_of_the_emergency_register_comes_out_of_the_first_console()
    {
        _bench.Plug(_backend, isConsole: true);
        _bench.Guest.Config(8, 4, 'P');
        Assert.Equal("P", _backend.Text);
    }

    [Fact]
    public void A_port_that_is_unplugged_and_plugged_again_is_told_so()
    {
        DeviceSite site = _bench.Plug(out _, _backend, number: 3);
        _bench.Start();
        _bench.OpenPort(3);
        site.Dispose();
        _bench.Write(3, "lost");
        _bench.Plug(_backend, number: 3);
        Assert.Equal(["3:Remove=1", "3:Add=1"], _bench.Heard());
    }

    [Fact]
    public void A_port_that_went_before_anybody_heard_of_it_never_was()
    {
        _bench.Start(buffers: 0);
        _bench.Plug(out _, _backend, number: 3).Dispose();
        _bench.GiveBuffers(4);
        Assert.Empty(_bench.Heard());
    }

    [Fact]
    public void Ports_take_the_numbers_that_users_name_or_free_ones()
    {
        Assert.Equal(1, _bench.Plug(null).Number);
        Refused("reserved for virtconsole", () => _bench.Plug(null, number: 0));
        Assert.Equal(0, _bench.Plug(null, isConsole: true).Number);
        Assert.Equal(2, _bench.Plug(null, isConsole: true, name: "a").Number);
        Refused("already exists at id 2", () => _bench.Plug(null, number: 2));
        Refused("already exists by name a", () => _bench.Plug(null, name: "a"));
        Refused("max. allowed: 3", () => _bench.Plug(null, number: 4));
        Assert.Equal(3, _bench.Plug(null).Number);
        Refused("Maximum port limit", () => _bench.Plug(null));
    }

    static void Refused(string why, Action plug) =>
        Assert.Contains(why, Assert.Throws<ConfigurationException>(plug).Message);

    /// <summary>A guest that knew the port as closed goes on where a client is connected.</summary>
    [Fact]
    public void A_loaded_guest_is_told_where_the_host_is_another_one()
    {
        VirtioSerialPort port = _bench.Plug(_backend, number: 1);
        _bench.Start();
        _bench.OpenPort(1);
        StateNode closed = StateNode.Save(port.Exchange);
        _backend.Frontend!.Event(CharEvent.Opened);
        Assert.Equal(["1:Open=1"], _bench.Heard());
        StateNode.Save(_bench.Guest.Function.Exchange).Load(_bench.Guest.Function.Exchange);
        closed.Load(port.Exchange);
        Assert.Empty(_bench.Heard());
        _bench.Pci.Pump.RunPosted();
        Assert.Equal(["1:Open=1"], _bench.Heard());
        Assert.True(_backend.Frontend.IsOpen);
    }
}
