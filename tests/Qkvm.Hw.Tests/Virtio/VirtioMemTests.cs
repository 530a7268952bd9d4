using Qkvm.Core.Machine;
using Qkvm.Core.State;
using Qkvm.Core.Virtio;
using Qkvm.Host;
using Qkvm.Hw.Virtio;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Virtio;

/// <summary>Virtio 1.2, section 5.15, restated here.</summary>
public sealed class VirtioMemTests : IDisposable
{
    const ulong Block = 2 << 20, Room = 512 << 20, At = 0x1_0000_0000;
    const ulong Request = 0x20000, Response = 0x21000;
    const ushort Plug = 0, Unplug = 1, UnplugAll = 2, State = 3;
    const ushort Ack = 0, Nack = 1, Error = 3;
    const ushort Plugged = 0, Unplugged = 1, Mixed = 2;

    readonly PciBench _bench = new();
    readonly GuestRam _ram = new("more", Room);
    readonly VirtioMem _memory;
    readonly VirtioGuest _guest;

    public VirtioMemTests()
    {
        _memory = Make();
        _guest = new VirtioGuest(_bench, _memory, new VirtioPciOptions(0x00FF00, 0, Legacy: false));
    }

    public void Dispose()
    {
        _bench.Dispose();
        _ram.Dispose();
    }

    VirtioMem Make(bool isInaccessible = false) => new("memory", new MemoryBackend(_ram), Block, node: 1,
        hasNode: true, isInaccessible, isPreallocated: false) { Address = At };

    /// <summary>The type of the response, and the state in it.</summary>
    (ushort Type, ushort State) Ask(ushort type, ulong address = 0, ushort count = 0)
    {
        _bench.Memory.Space.Write(Request, 8, type);
        _bench.Memory.Space.Write(Request + 8, 8, address);
        _bench.Memory.Space.Write(Request + 16, 8, count);
        _bench.Memory.Space.Write(Response, 8, ulong.MaxValue);
        _guest.Request(0, (Request, 24), (Response, -10));
        Assert.Equal(10u, _guest.Queues[0].TakeUsed()!.Value.Written);
        return ((ushort)_bench.Memory.Space.Read(Response, 2), (ushort)_bench.Memory.Space.Read(Response + 8, 2));
    }

    ulong Usable => _guest.Config(32, 8);
    ulong PluggedSize => _guest.Config(40, 8);

    [Fact]
    public void It_tells_where_its_memory_is_and_how_much_is_wanted()
    {
        Assert.Equal((ushort)24, _memory.DeviceId);
        Assert.Equal(1UL, _memory.OfferedFeatures);                // VIRTIO_MEM_F_ACPI_PXM
        Assert.Equal(3UL, Make(isInaccessible: true).OfferedFeatures);
        _guest.Start();
        Assert.Equal((Block, 1UL, At, Room), (_guest.Config(0, 8), _guest.Config(8, 2), _guest.Config(16, 8),
            _guest.Config(24, 8)));
        Assert.Equal((0UL, 0UL, 0UL), (Usable, PluggedSize, _guest.Config(48, 8)));
        _memory.RequestedSize = 64 << 20;
        Assert.Equal(2, _guest.Isr);                               // the configuration has changed
        Assert.Equal((64UL << 20) + (256 << 20), Usable);
        Assert.Equal(64UL << 20, _guest.Config(48, 8));
        _memory.RequestedSize = Room;
        Assert.Equal(Room, Usable);
    }

    [Fact]
    public void Blocks_come_as_far_as_they_are_wanted_and_go()
    {
        var sizes = new List<ulong>();
        _memory.SizeChanged += () => sizes.Add(_memory.Size);
        _guest.Start();
        _memory.RequestedSize = 4 * Block;
        Assert.Equal(Ack, Ask(Plug, At + Block, 3).Type);
        Assert.Equal(3 * Block, PluggedSize);
        Assert.Equal((Ack, Plugged), Ask(State, At + Block, 3));
        Assert.Equal((Ack, Mixed), Ask(State, At, 2));
        Assert.Equal((Ack, Unplugged), Ask(State, At + 4 * Block, 9));
        Assert.Equal(Nack, Ask(Plug, At + 4 * Block, 2).Type);     // more than is wanted
        Assert.Equal(Error, Ask(Plug, At, 2).Type);                // one of them is there
        Assert.Equal(Error, Ask(Unplug, At, 2).Type);              // one of them is not
        _ram.Write(Block, 8, 1);
        _ram.Write(2 * Block, 8, 2);
        Assert.Equal(Ack, Ask(Unplug, At + 2 * Block, 1).Type);
        Assert.Equal((1UL, 0UL), (_ram.Read(Block, 8), _ram.Read(2 * Block, 8)));  // the host has it back
        Assert.Equal((Ack, Mixed), Ask(State, At + Block, 3));
        Assert.Equal(Ack, Ask(UnplugAll).Type);
        Assert.Equal((0UL, 0UL), (PluggedSize, _ram.Read(Block, 8)));
        Assert.Equal([3 * Block, 2 * Block, 0], sizes);
    }

    [Theory]
    [InlineData(At - Block, 1)]
    [InlineData(0, 1)]
    [InlineData(At + 4096, 1)]
    [InlineData(At, 0)]
    [InlineData(At + Room - Block, 1)]                             // beyond what is usable
    [InlineData(At, ushort.MaxValue)]
    [InlineData(ulong.MaxValue - Block + 1, 2)]
    public void Addresses_outside_the_usable_region_are_an_error(ulong address, int count)
    {
        _guest.Start();
        _memory.RequestedSize = 64 << 20;
        foreach (ushort type in (ushort[])[Plug, Unplug, State])
            Assert.Equal(Error, Ask(type, address, (ushort)count).Type);
        Assert.Equal(0UL, PluggedSize);
    }

    [Fact]
    public void What_no_request_is_is_an_error_and_one_without_room_stops_the_device()
    {
        _guest.Start();
        Assert.Equal(Error, Ask(9).Type);
        _guest.Request(0, (Request, 24), (Response, -9));
        Assert.Equal(VirtioStatus.NeedsReset, _guest.Status & VirtioStatus.NeedsReset);
    }

    [Fact]
    public void A_driver_that_starts_anew_finds_what_it_had_and_the_machines_reset_takes_it()
    {
        _guest.Start();
        _memory.RequestedSize = 2 * Block;
        Assert.Equal(Ack, Ask(Plug, At, 2).Type);
        _guest.Start();
        Assert.Equal(2 * Block, PluggedSize);
        _memory.RequestedSize = 0;
        Assert.Equal(2 * Block + (256 << 20), Usable);             // it shrinks with an unplugging of all alone
        _memory.UnplugAll();
        Assert.Equal((0UL, 0UL), (PluggedSize, Usable));
    }

    [Fact]
    public void Its_state_is_which_blocks_are_there()
    {
        _guest.Start();
        _memory.RequestedSize = 4 * Block;
        Assert.Equal(Ack, Ask(Plug, At + Block, 2).Type);
        StateNode state = StateNode.Save(_memory.Exchange);
        VirtioMem other = Make();
        state.Load(other.Exchange);
        Assert.Equal((2 * Block, 4 * Block), (other.Size, other.RequestedSize));
        Assert.Equal(state.ToString(), StateNode.Save(other.Exchange).ToString());
        var elsewhere = new VirtioMem("memory", new MemoryBackend(_ram), Block, 1, true, false, false)
            { Address = At + Room };
        Assert.Throws<InvalidStateException>(() => state.Load(elsewhere.Exchange));
    }
}
