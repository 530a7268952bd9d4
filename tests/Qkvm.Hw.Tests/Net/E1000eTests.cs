using Qkvm.Core.Memory;
using Qkvm.Core.State;
using Qkvm.Hw.Net;
using Qkvm.Hw.Tests.Virtio;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Net;

public sealed class E1000eTests : IDisposable
{
    const ulong VectorBar = 0xC100_0000;
    const int Icr = 0xC0, Ics = 0xC8, Ims = 0xD0, Eiac = 0xDC, Iam = 0xE0, Ivar = 0xE4, Eitr = 0xE8, ControlExt = 0x18;

    readonly PciBench _bench = new();
    readonly NetWire _wire = new();
    readonly E1000e _card;
    readonly E1000Driver _driver;

    public E1000eTests()
    {
        _card = new E1000e(new NetCardSite(_wire, Frames.Mac, _bench.Loop, _bench.Clock), new E1000eOptions());
        _driver = new E1000Driver(_bench, _card, portBar: 2);
    }

    AddressSpace Memory => _bench.Memory.Space;
    public void Dispose() => _bench.Dispose();

    void EnableVectors()
    {
        int at = (int)_bench.Bus.ReadConfig(_card.DevFn, 0x34, 1);
        while (_bench.Bus.ReadConfig(_card.DevFn, at, 1) != 0x11)
            at = (int)_bench.Bus.ReadConfig(_card.DevFn, at + 1, 1);
        _bench.Bus.WriteConfig(_card.DevFn, 0x1C, 4, (uint)VectorBar);
        _bench.Bus.WriteConfig(_card.DevFn, at + 2, 2, 0x8000);
        for (ulong i = 0; i < 5; i++)
        {
            Memory.Write(VectorBar + i * 16, 8, 0xFEE0_0000);
            Memory.Write(VectorBar + i * 16 + 8, 8, i);
        }
    }

    [Theory]
    [InlineData(0, 0x0014_0241)] [InlineData(8, 0x0008_0283)] [InlineData(0x10, 0x300)]
    [InlineData(0x1000, 0x0014_0014)]
    [InlineData(0x2170, 0x0004_0402)] [InlineData(0x3840, 0x403)] [InlineData(0x5B30, 0x2000_0004)]
    public void Registers_read_as_after_a_reset(int register, uint value)
    {
        Assert.Equal(value, _driver[register]);
        _driver[0] = 1 << 26;
        Assert.Equal(value, _driver[register]);
    }

    [Fact]
    public void The_NVM_sums_up()
    {
        uint sum = 0;
        for (uint i = 0; i < 64; i++)
        {
            _driver[0x14] = i << 2 | 1;
            Assert.Equal(2u, _driver[0x14] & 2);
            sum += _driver[0x14] >> 16;
        }
        Assert.Equal(0xBABAu, sum & 0xFFFF);
    }

    [Fact]
    public void The_semaphore_has_one_holder()
    {
        Assert.Equal((0u, 1u), (_driver[0x5B50], _driver[0x5B50]));
        _driver[0x5B50] = 0;
        Assert.Equal(0u, _driver[0x5B50]);
    }

    [Fact]
    public void Causes_go_to_their_vectors_and_are_cleared_and_masked_by_themselves()
    {
        EnableVectors();
        _driver[Ivar] = 0x000A_0908;                               // RXQ0: 0, TXQ0: 1, other: 2
        _driver[Eiac] = 5u << 20;
        _driver[Iam] = ~0u;
        _driver[ControlExt] = 1 << 24;
        _driver[Ims] = 5u << 20 | 1 << 24 | 4;
        _driver.Start();
        _wire.Give(Frames.Plain(60));
        Assert.Equal((0xFEE0_0000UL, 0u), Assert.Single(_bench.Messages));
        _wire.Give(Frames.Plain(60));
        Assert.Single(_bench.Messages);                            // masked
        _driver[Ims] = 1u << 20;
        Assert.Equal(2, _bench.Messages.Count);
        _card.SetLink(false);
        Assert.Equal(2u, _bench.Messages[^1].Data & 2);
        Assert.Equal(4u, _driver[Icr] & 4);
        Assert.False(_bench.Inta);
    }

    [Fact]
    public void A_vector_keeps_the_distance_of_EITR()
    {
        EnableVectors();
        _driver[Ivar] = 8;
        _driver[Eiac] = 1u << 20;
        _driver[Eitr] = 100;
        _driver[Ims] = 1u << 20;
        _driver[Ics] = 1u << 20;
        _driver[Ics] = 1u << 20;
        Assert.Single(_bench.Messages);
        _bench.Clock.Advance(25_600);
        Assert.Equal(2, _bench.Messages.Count);
    }

    [Fact]
    public void Without_vectors_the_wire_says_that_it_was_asserted()
    {
        _driver[Ims] = 4;
        _driver[Ics] = 4;
        Assert.True(_bench.Inta);
        Assert.Equal(0x8100_0004u, _driver[Icr]);
        Assert.False(_bench.Inta);
    }

    [Fact]
    public void Frames_come_by_extended_descriptors()
    {
        _driver[0x5008] = 1 << 15;                                 // RFCTL.EXSTEN
        _driver.Start();
        byte[] good = Frames.TcpFrame(77), bad = (byte[])good.Clone();
        bad[^1] ^= 1;
        _wire.Give(good);
        _wire.Give(bad);
        Assert.Equal(0UL, Memory.Read(E1000Driver.ReceiveRing, 8));
        Assert.Equal(0x63UL | 131UL << 32, Memory.Read(E1000Driver.ReceiveRing + 8, 8));
        Assert.Equal(0x2000_0063UL | 131UL << 32, Memory.Read(E1000Driver.ReceiveRing + 24, 8));
        Assert.Equal(good, _bench.Memory.Bytes(E1000Driver.Buffers, good.Length));
    }

    [Fact]
    public void A_frame_is_spread_over_the_buffers_of_one_descriptor()
    {
        for (ulong i = 0; i < 4; i++) Memory.Write(E1000Driver.ReceiveRing + i * 8, 8, 0x30_0000 + i * 0x1000);
        _driver[0x2170] = 0x0001_0102;                             // 256, 1024, 1024 bytes
        _driver[0x2800] = (uint)E1000Driver.ReceiveRing;
        _driver[0x2808] = 256;
        _driver[0x2818] = 2;                                       // 16 bytes count, though these are of 32
        _driver[0x100] = 0x0400_8422;
        byte[] frame = Frames.Plain(1500);
        _wire.Give(frame);
        Assert.Equal(2u, _driver[0x2810]);
        Assert.Equal((3UL | 4) | 256UL << 32, Memory.Read(E1000Driver.ReceiveRing + 8, 8));
        Assert.Equal(1024UL << 16 | 220UL << 32, Memory.Read(E1000Driver.ReceiveRing + 16, 8));
        Assert.Equal(frame[..256], _bench.Memory.Bytes(0x30_0000, 256));
        Assert.Equal(frame[1280..], _bench.Memory.Bytes(0x30_2000, 220));
    }

    [Fact]
    public void The_second_ring_sends()
    {
        _driver[0x400] = 2;
        _driver[0x3900] = (uint)E1000Driver.TransmitRing;
        _driver[0x3908] = 256;
        _driver.Add(_driver.Buffer(Frames.Plain(70)), 70 | 0x0BUL << 24);
        _driver[0x3918] = 1;
        Assert.Equal(Frames.Plain(70), Assert.Single(_wire.Sent).Frame);
        Assert.Equal(1u << 23, _driver[Icr] & 0x00C0_0000);
        StateNode state = StateNode.Save(_card.Exchange);
        state.Load(_card.Exchange);
        Assert.Equal(state.ToString(), StateNode.Save(_card.Exchange).ToString());
    }
}
