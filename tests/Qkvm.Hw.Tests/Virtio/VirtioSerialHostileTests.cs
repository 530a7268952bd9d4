using Qkvm.Core.Char;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Virtio;

/// <summary>Drivers that lie to virtio-serial: data, and no more.</summary>
public sealed class VirtioSerialHostileTests : IDisposable
{
    const ulong Data = SerialBench.Data;

    readonly SerialBench _bench = new();
    readonly FakeChar _backend = new();

    public VirtioSerialHostileTests()
    {
        _bench.Plug(_backend, number: 1);
        _bench.Start();
        _bench.OpenPort(1);
    }

    public void Dispose() => _bench.Dispose();

    [Theory]
    [InlineData(4u), InlineData(0x7FFFFFFFu), InlineData(0xFFFFFFFFu), InlineData(0u), InlineData(3u)]
    public void Messages_about_ports_that_are_not_there_are_ignored(uint port)
    {
        for (ushort what = 1; what < 10; what++) _bench.Say(port, what, 1);
        _bench.Say(port, 0xFFFF, 0xFFFF);
        Assert.Empty(_bench.Heard());
        Assert.False(_bench.NeedsReset);
        StillWorks();
    }

    [Fact]
    public void A_driver_that_could_not_start_hears_nothing()
    {
        using var other = new SerialBench();
        other.Plug(new FakeChar(), number: 1);
        other.Guest.Start();
        other.GiveBuffers(8);
        other.Say(0, SerialBench.Ready, 0);
        Assert.Empty(other.Heard());
    }

    [Fact]
    public void A_message_that_is_too_short_is_ignored_and_of_a_long_one_the_beginning_counts()
    {
        _bench.Guest.Request(SerialBench.ControlTransmit, (Data, 7));
        for (uint i = 0; i < 4; i++) _bench.Pci.Memory.Space.Write(Data + 4 * i, 4, i == 0 ? 1u : SerialBench.Open);
        _bench.Guest.Request(SerialBench.ControlTransmit, (Data, 0x100000));
        Assert.Equal([true, false], _bench.Opened);
        Assert.False(_bench.NeedsReset);
    }

    [Theory]
    [InlineData(1), InlineData(7), InlineData(8)]
    public void A_buffer_for_messages_that_is_too_small_gets_what_it_holds(int size)
    {
        _bench.Pci.Memory.Space.Write(Data + (ulong)size, 8, 0x5555555555555555);
        using var fresh = new SerialBench();
        fresh.Plug(_backend, number: 1, name: "a-name");
        fresh.Guest.Start();
        fresh.Pci.Memory.Space.Write(Data + (ulong)size, 8, 0x5555555555555555);
        fresh.Guest.Request(SerialBench.ControlReceive, (Data, -size));
        fresh.Say(0, SerialBench.Ready, 1);
        Assert.Equal((0u, (uint)size), fresh.Guest.Queues[SerialBench.ControlReceive].TakeUsed());
        Assert.Equal(0x5555555555555555u, fresh.Pci.Memory.Space.Read(Data + (ulong)size, 8));
    }

    [Fact]
    public void A_buffer_for_messages_that_cannot_be_written_is_used_up()
    {
        using var fresh = new SerialBench();
        fresh.Plug(_backend, number: 1);
        fresh.Guest.Start();
        fresh.Guest.Request(SerialBench.ControlReceive, (Data, 64));
        fresh.Say(0, SerialBench.Ready, 1);
        Assert.Equal((0u, 0u), fresh.Guest.Queues[SerialBench.ControlReceive].TakeUsed());
    }

    [Fact]
    public void A_receive_buffer_that_cannot_be_written_breaks_the_device()
    {
        _bench.Guest.Request(4, (Data, 64));
        Assert.Equal(0, _backend.Frontend!.Room);
        Assert.True(_bench.NeedsReset);
    }

    [Fact]
    public void A_transmit_buffer_outside_memory_breaks_the_device_and_nothing_comes_out()
    {
        _bench.Guest.Request(5, (TestMemory.IoAddress, 64));
        Assert.True(_bench.NeedsReset);
        Assert.Equal(("", 0), (_backend.Text, _bench.Pci.Memory.Registers.Accesses));
    }

    [Fact]
    public void Buffers_for_a_port_that_is_not_there_are_left_alone()
    {
        _bench.Write(2, "nobody");
        _bench.Guest.Request(6, (Data, -64));
        Assert.Equal((0, 0), (_bench.Guest.Queues[7].UsedIndex, _bench.Guest.Queues[6].UsedIndex));
        Assert.False(_bench.NeedsReset);
    }

    /// <summary>128 descriptors of one page each come to 4 GiB with a chain of large ones.</summary>
    [Fact]
    public void Four_GiB_in_one_chain_come_out_in_turns()
    {
        const int Large = 0x200000;
        var buffers = new (ulong, int)[100];
        Array.Fill(buffers, (0x200000UL, Large));
        _bench.Guest.Request(5, buffers);
        Assert.Equal(1 << 20, _backend.Output.Count);
        _backend.Space = 0;
        _bench.Pci.Clock.Advance(1);
        Assert.Equal(1 << 20, _backend.Output.Count);
        Assert.False(_bench.NeedsReset);
    }

    /// <summary>The guest shortens a chain of which half was sent.</summary>
    [Fact]
    public void A_chain_that_shrinks_while_it_waits_ends()
    {
        _backend.Space = 8;
        _bench.Write(1, "0123456789");
        _bench.Guest.Queues[5].Descriptor(0, Data, 4, 0);
        _backend.Space = 100;
        _backend.Frontend!.Writable();
        Assert.Equal(1, _bench.Guest.Queues[5].UsedIndex);
        StillWorks();
    }

    [Fact]
    public void Any_write_to_the_configuration_but_the_emergency_register_is_ignored()
    {
        for (uint offset = 0; offset < 8; offset++) _bench.Guest.Config(offset, 1, 0xFF);
        Assert.Equal(4u, _bench.Guest.Config(4, 4));
        _bench.Guest.Config(8, 4, 'x');                            // there is no console
        Assert.Equal("", _backend.Text);
    }

    void StillWorks()
    {
        _backend.Output.Clear();
        _bench.Write(1, "still here", Data + 0x1000);
        Assert.Equal("still here", _backend.Text);
    }
}
