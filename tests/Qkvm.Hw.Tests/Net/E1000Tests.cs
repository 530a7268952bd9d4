using Qkvm.Core.Net;
using Qkvm.Core.State;
using Qkvm.Hw.Net;
using Qkvm.Hw.Tests.Virtio;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Net;

public sealed class E1000Tests : IDisposable
{
    const int Eecd = 0x10, Eerd = 0x14, Mdic = 0x20, Icr = 0xC0, Itr = 0xC4, Ics = 0xC8, Ims = 0xD0, Imc = 0xD8,
        Rctl = 0x100;

    readonly PciBench _bench = new();
    readonly NetWire _wire = new();
    readonly E1000 _card;
    readonly E1000Driver _driver;

    public E1000Tests()
    {
        _card = Make();
        _driver = new E1000Driver(_bench, _card);
    }

    E1000 Make(E1000Options? options = null) =>
        new(new NetCardSite(_wire, Frames.Mac, _bench.Loop, _bench.Clock), options ?? new E1000Options());

    public void Dispose() => _bench.Dispose();

    [Theory]
    [InlineData(0x0000, 0x0014_0240)] [InlineData(0x0008, 0x8008_0783)] [InlineData(0x0010, 0x188)]
    [InlineData(0x0038, 0x8100)] [InlineData(0x0E00, 0x602)] [InlineData(0x1000, 0x0010_0030)]
    [InlineData(0x5400, 0x1200_5452)] [InlineData(0x5404, 0x8000_5634)] [InlineData(0x5820, 0x0022_2300)]
    [InlineData(0x0100, 0)] [InlineData(0x5FFC, 0)] [InlineData(0x1_FFFC, 0)]
    public void Registers_read_as_after_a_reset(int register, uint value)
    {
        Assert.Equal(value, _driver[register]);
        _driver[0x38] = 1;
        _driver[0x5400] = 5;
        _driver[0] = 1 << 26;                                      // CTRL.RST
        Assert.Equal(value, _driver[register]);
    }

    [Fact]
    public void The_configuration_space_is_that_of_an_82540EM()
    {
        Assert.Equal(0x100E_8086u, _bench.Bus.ReadConfig(_card.DevFn, 0, 4));
        Assert.Equal(0x0200_0003u, _bench.Bus.ReadConfig(_card.DevFn, 8, 4));
        Assert.Equal(0x1100_1AF4u, _bench.Bus.ReadConfig(_card.DevFn, 0x2C, 4));
        Assert.Equal(1u, _bench.Bus.ReadConfig(_card.DevFn, 0x3D, 1));
    }

    [Fact]
    public void The_EEPROM_sums_up_by_either_way_to_read_it()
    {
        int sum = 0, serial = 0;
        for (uint i = 0; i < 64; i++)
        {
            _driver[Eerd] = i << 8 | 1;
            Assert.Equal(0x10u, _driver[Eerd] & 0x10);
            sum += (int)(_driver[Eerd] >> 16);
            serial += ReadSerially(i);
        }
        Assert.Equal(0xBABA, sum & 0xFFFF);
        Assert.Equal(sum, serial);
        Assert.Equal(0x5634, ReadSerially(2));
        Assert.Equal(0x100E, ReadSerially(13));
    }

    /// <summary>Section 5.6.1: CS, start bit, 10b, six bits of address; then the word, all by rising clocks.</summary>
    int ReadSerially(uint address)
    {
        uint bits = 0b110 << 6 | address;
        for (int i = 8; i >= 0; i--) Clock((bits >> i & 1) != 0);
        Assert.Equal(0u, _driver[Eecd] & 8);
        int word = 0;
        for (int i = 0; i < 16; i++)
        {
            Clock(false);
            word = word << 1 | (int)(_driver[Eecd] >> 3 & 1);
        }
        _driver[Eecd] = 0;
        return word;

        void Clock(bool bit)
        {
            uint lines = 2 | (bit ? 4u : 0);
            _driver[Eecd] = lines;
            _driver[Eecd] = lines | 1;
        }
    }

    [Theory]
    [InlineData(0, 0x1140)] [InlineData(1, 0x796D)] [InlineData(2, 0x0141)] [InlineData(3, 0x0C20)]
    [InlineData(4, 0x0DE1)] [InlineData(5, 0x41E0)] [InlineData(9, 0x0E00)] [InlineData(10, 0x3C00)]
    public void The_PHY_answers_at_address_1(uint register, uint value)
    {
        _driver[Mdic] = 2u << 26 | 1 << 21 | register << 16;
        Assert.Equal(1u << 28 | value, _driver[Mdic] & 0x5000_FFFF);
        _driver[Mdic] = 2u << 26 | 2 << 21 | register << 16;
        Assert.Equal(0x5000_0000u, _driver[Mdic] & 0x5000_FFFF);
    }

    [Fact]
    public void The_link_comes_half_a_second_after_it_is_negotiated_anew_or_the_cable_is_plugged()
    {
        _driver[Ims] = 4;
        _driver[Mdic] = 1u << 26 | 1 << 21 | 0x1340;
        Assert.Equal(0u, _driver[8] & 2);
        Assert.Equal(4u, _driver[Icr]);
        _bench.Clock.Advance(499_000_000);
        Assert.False(_bench.Inta);
        _bench.Clock.Advance(1_000_000);
        Assert.True(_bench.Inta);
        Assert.Equal(2u, _driver[8] & 2);
        _card.SetLink(false);
        Assert.Equal(0u, _driver[8] & 2);
        _driver.Start();
        _driver.SendLegacy(Frames.Plain(60));
        Assert.Empty(_wire.Sent);
        _card.SetLink(true);
        _bench.Clock.Advance(500_000_000);
        Assert.True(_card.IsLinkUp);
    }

    [Fact]
    public void Interrupts_follow_causes_and_masks()
    {
        _driver[Ics] = 0x85;
        Assert.False(_bench.Inta);
        _driver[Ims] = 0x80;
        Assert.True(_bench.Inta);
        _driver[Imc] = 0x80;
        Assert.False(_bench.Inta);
        _driver[Ims] = 4;
        Assert.True(_bench.Inta);
        _driver[Icr] = 4;
        Assert.False(_bench.Inta);
        Assert.Equal(0x81u, _driver[Icr]);
        Assert.Equal(0u, _driver[Icr]);
        Assert.Equal(4u, _driver[Ims]);
    }

    [Fact]
    public void Interrupts_keep_the_distance_of_ITR()
    {
        _driver[Ims] = 1;
        _driver[Itr] = 1000;                                       // of 256 ns
        _driver[Ics] = 1;
        Assert.True(_bench.Inta);
        _ = _driver[Icr];
        _driver[Ics] = 1;
        Assert.False(_bench.Inta);
        _bench.Clock.Advance(255_999);
        Assert.False(_bench.Inta);
        _bench.Clock.Advance(1);
        Assert.True(_bench.Inta);
    }

    [Fact]
    public void A_legacy_frame_is_sent_padded_and_reported()
    {
        _driver.Start();
        _driver[Ims] = 1;
        _driver.SendLegacy(Frames.Plain(42));
        Assert.Equal([.. Frames.Plain(42), .. new byte[18]], Assert.Single(_wire.Sent).Frame);
        Assert.Equal(1u, _driver.TransmitStatus(0));
        Assert.Equal(1u, _driver[0x3810]);
        Assert.True(_bench.Inta);
        Assert.Equal(3u, _driver[Icr]);                            // TXDW, TXQE
        Assert.Equal((1u, 64u, 0u), (_driver[0x4080], _driver[0x4090], _driver[0x4080]));
    }

    [Fact]
    public void A_frame_is_gathered_over_kicks()
    {
        _driver.Start();
        byte[] frame = Frames.Plain(100);
        _driver.Add(_driver.Buffer(frame.AsSpan(0, 30)), 30);
        _driver.Kick();
        Assert.Empty(_wire.Sent);
        _driver.Add(_driver.Buffer(frame.AsSpan(30)), 70 | 0x0BUL << 24);
        _driver.Kick();
        Assert.Equal(frame, Assert.Single(_wire.Sent).Frame);
    }

    [Theory]
    [InlineData(false)] [InlineData(true)]
    public void A_checksum_is_inserted_or_left_to_the_backend(bool takes)
    {
        using var other = new Other(takes ? NetOffloads.Checksum : NetOffloads.None);
        byte[] whole = Frames.TcpFrame(101), raw = Frames.WithoutSum(whole);
        Frames.Put(raw, Frames.Ip + 10, 0);
        other.Driver.Add(Context(), 0x20UL << 24);
        other.Driver.AddData(raw, 3);
        other.Driver.Kick();
        var (header, sent) = Assert.Single(other.Wire.Sent);
        if (takes)
        {
            Assert.Equal(new NetHeader(NeedsChecksum: true, ChecksumStart: 34, ChecksumOffset: 16), header);
            Assert.True(FrameFinisher.TryCompleteChecksum(header, sent));
        }
        else Assert.Equal(default, header);
        Assert.Equal(whole, sent);
    }

    [Fact]
    public void A_legacy_descriptor_inserts_a_checksum()
    {
        _driver.Start();
        byte[] whole = Frames.TcpFrame(64), raw = Frames.WithoutSum(whole);
        _driver.Add(_driver.Buffer(raw), (uint)raw.Length | 50 << 16 | 0x0FUL << 24 | 34UL << 40);
        _driver.Kick();
        Assert.Equal(whole, Assert.Single(_wire.Sent).Frame);
    }

    [Fact]
    public void A_large_frame_is_cut_for_a_backend_that_cannot()
    {
        _driver.Start();
        byte[] raw = Frames.ForCutting(Frames.TcpFrame(2500, flags: 0x19));
        _driver.Add(Context(), (ulong)2500 | 0x27UL << 24 | 54UL << 40 | 1000UL << 48);
        _driver.AddData(raw, 3, cut: true);
        _driver.Kick();
        Assert.Equal(3, _wire.Sent.Count);
        Assert.Equal(Frames.TcpFrame(1000, 1000, 7, 0x10, 0), _wire.Sent[0].Frame);
        Assert.Equal(Frames.TcpFrame(1000, 2000, 8, 0x10, 1000), _wire.Sent[1].Frame);
        Assert.Equal(Frames.TcpFrame(500, 3000, 9, 0x19, 2000), _wire.Sent[2].Frame);
        Assert.Equal((3u, 1u), (_driver[0x40D4], _driver[0x40F8]));
    }

    [Fact]
    public void A_large_frame_goes_whole_to_a_backend_that_cuts()
    {
        using var other = new Other(NetOffloads.Checksum | NetOffloads.Tso4);
        byte[] whole = Frames.TcpFrame(2500), expected = Frames.WithoutSum(whole);
        other.Driver.Add(Context(), (ulong)2500 | 0x27UL << 24 | 54UL << 40 | 1000UL << 48);
        other.Driver.AddData(Frames.ForCutting(whole), 3, cut: true);
        other.Driver.Kick();
        var (header, sent) = Assert.Single(other.Wire.Sent);
        Assert.Equal(new NetHeader(true, false, Segmentation.Tcp4, 54, 1000, 34, 16), header);
        Assert.Equal(expected, sent);
    }

    static ulong Context() => 14 | 24 << 8 | 33 << 16 | 34UL << 32 | 50UL << 40;

    [Fact]
    public void A_tag_is_inserted_and_stripped()
    {
        _driver[0] = 1u << 30;                                     // CTRL.VME
        _driver.Start();
        byte[] frame = Frames.Plain(80);
        _driver.Add(_driver.Buffer(frame), 80 | 0x4BUL << 24 | 0x2123UL << 48);
        _driver.Kick();
        byte[] tagged = [.. frame[..12], 0x81, 0, 0x21, 0x23, .. frame[12..]];
        Assert.Equal(tagged, Assert.Single(_wire.Sent).Frame);
        Assert.True(_wire.Give(tagged));
        Assert.Equal((80, (byte)0x0F, (byte)0, (ushort)0x2123), _driver.Received(0));
        Assert.Equal(frame, _driver.ReceivedBytes(0));
    }

    [Fact]
    public void A_frame_is_received_padded_and_counted()
    {
        _driver.Start();
        _driver[Ims] = 0x80;
        Assert.True(_wire.Give(Frames.Plain(42)));
        Assert.Equal((60, (byte)7, (byte)0, (ushort)0), _driver.Received(0));
        Assert.Equal([.. Frames.Plain(42), .. new byte[18]], _driver.ReceivedBytes(0));
        Assert.True(_bench.Inta);
        Assert.Equal(1u, _driver[0x2810]);
        Assert.Equal((1u, 64u), (_driver[0x4074], _driver[0x4088]));
        _driver[Rctl] = _driver[Rctl] & ~(1u << 26);               // with FCS
        _wire.Give(Frames.Plain(60));
        Assert.Equal(64, _driver.Received(1).Length);
    }

    [Fact]
    public void Checksums_of_received_frames_are_verified()
    {
        _driver.Start();
        _driver[0x5000] = 0x300;                                   // IPOFL, TUOFL
        byte[] good = Frames.TcpFrame(77), bad = (byte[])good.Clone(), badIp = (byte[])good.Clone();
        bad[^1] ^= 1;
        badIp[Frames.Ip + 8] ^= 1;
        _wire.Give(good);
        _wire.Give(bad);
        _wire.Give(badIp);
        _wire.Give(Frames.WithoutSum(good), new NetHeader(NeedsChecksum: true, ChecksumStart: 34, ChecksumOffset: 16));
        Assert.Equal(((byte)0x63, (byte)0), (_driver.Received(0).Status, _driver.Received(0).Errors));
        Assert.Equal(((byte)0x63, (byte)0x20), (_driver.Received(1).Status, _driver.Received(1).Errors));
        Assert.Equal(((byte)0x63, (byte)0x40), (_driver.Received(2).Status, _driver.Received(2).Errors));
        Assert.Equal(good, _driver.ReceivedBytes(3));
        Assert.Equal(0x63, _driver.Received(3).Status);
    }

    [Fact]
    public void A_large_frame_from_the_backend_is_cut()
    {
        _driver.Start();
        Assert.True(_wire.Give(Frames.TcpFrame(2500), new NetHeader(true, false, Segmentation.Tcp4, 54, 1000, 34, 16)));
        Assert.Equal(Frames.TcpFrame(1000, 1000, 7, 0x10, 0), _driver.ReceivedBytes(0));
        Assert.Equal(Frames.TcpFrame(500, 3000, 9, 0x18, 2000), _driver.ReceivedBytes(2));
        Assert.Equal(3u, _driver[0x2810]);
    }

    [Fact]
    public void A_long_frame_fills_several_buffers_where_long_ones_are_allowed()
    {
        _driver.Start();
        byte[] frame = Frames.Plain(5000);
        Assert.True(_wire.Give(frame));
        Assert.Equal(0u, _driver[0x2810]);
        Assert.Equal(1u, _driver[0x40AC]);                         // ROC
        _driver[Rctl] |= 1 << 5;
        Assert.True(_wire.Give(frame));
        Assert.Equal((2048, (byte)1), (_driver.Received(0).Length, _driver.Received(0).Status));
        Assert.Equal((904, (byte)7), (_driver.Received(2).Length, _driver.Received(2).Status));
        byte[] got = [.. _driver.ReceivedBytes(0), .. _driver.ReceivedBytes(1), .. _driver.ReceivedBytes(2)];
        Assert.Equal(frame, got);
    }

    [Fact]
    public void Frames_wait_for_descriptors()
    {
        _driver.Start();
        for (int i = 0; i < E1000Driver.RingSize - 1; i++) Assert.True(_wire.Give(Frames.Plain(60)));
        Assert.Equal(0x10u, _driver[Icr] & 0x10);                  // RXDMT0
        Assert.False(_wire.Give(Frames.Plain(60)));
        int resumes = _wire.Resumes;
        _driver[0x2818] = 3;
        Assert.Equal(resumes + 1, _wire.Resumes);
        Assert.True(_wire.Give(Frames.Plain(60)));
    }

    [Fact]
    public void Addresses_and_VLANs_are_filtered()
    {
        _driver.Start();
        byte[] broadcast = [255, 255, 255, 255, 255, 255], other = [0x52, 0x54, 0, 0, 0, 1];
        byte[] group = [1, 0, 0x5E, 0, 0xAB, 0x9C];
        Assert.Equal([true, true, false, false], Passing());
        _driver[Rctl] |= 1 << 3;                                   // UPE
        Assert.Equal([true, true, true, false], Passing());
        int hash = 0x9CAB >> 4;
        _driver[0x5200 + hash / 32 * 4] = 1u << (hash % 32);
        Assert.Equal([true, true, true, true], Passing());
        _driver[0x5200 + hash / 32 * 4] = 0;
        _driver[Rctl] = 0x0400_0012;                               // MPE alone
        Assert.Equal([true, true, false, true], Passing());
        _driver[Rctl] = 0x0404_0002;                               // VFE
        byte[] tagged = [.. Frames.Mac, .. Frames.Mac, 0x81, 0, 0, 0x21, .. new byte[60]];
        Assert.False(Passes(tagged));
        _driver[0x5600 + 4] = 1 << 1;
        Assert.True(Passes(tagged));

        bool[] Passing() => [Passes(Frames.Plain(60)), Passes(Frames.Plain(60, broadcast)),
            Passes(Frames.Plain(60, other)), Passes(Frames.Plain(60, group))];

        bool Passes(byte[] frame)
        {
            uint head = _driver[0x2810];
            Assert.True(_wire.Give(frame));
            _driver[0x2818] = (head + E1000Driver.RingSize - 1) % E1000Driver.RingSize;
            return _driver[0x2810] != head;
        }
    }

    [Fact]
    public void Registers_are_reached_by_ports()
    {
        _driver.Port(0, 0x38);
        _driver.Port(4, 0x1234);
        Assert.Equal(0x1234u, _driver[0x38]);
        Assert.Equal((0x38u, 0x1234u), (_driver.Port(0), _driver.Port(4)));
    }

    [Theory]
    [InlineData(0u, 5u)] [InlineData(128u, 60000u)] [InlineData(0xF_FF80u, 0xFFFFu)]
    public void Rings_of_wrong_sizes_do_no_harm(uint length, uint tail)
    {
        _driver.Start(0x0400_803E);
        _driver[0x3808] = _driver[0x2808] = length;
        _driver[0x2818] = tail;
        for (uint at = 0; at < 3; at++)
        {
            _driver[0x3810] = at * 30000;
            _driver[0x3818] = tail;
            _bench.Clock.Advance(1000);
            _wire.Give(Frames.Plain(60));
        }
        Assert.Equal(0, _bench.Memory.Registers.Accesses);
    }

    /// <summary>Both rings at one place, all frames looped back into it, without an end.</summary>
    [Fact]
    public void A_ring_that_feeds_itself_ends()
    {
        _driver.Start(0x0400_80FE);
        _driver[0x2800] = (uint)E1000Driver.TransmitRing;
        _driver[0x3808] = _driver[0x2808] = 0xF_FF80;
        for (ulong at = 0; at < 4096; at++)
        {
            _bench.Memory.Space.Write(E1000Driver.TransmitRing + at * 16, 8, E1000Driver.TransmitRing);
            _bench.Memory.Space.Write(E1000Driver.TransmitRing + at * 16 + 8, 8, 60 | 0x0BUL << 24);
        }
        _driver[0x3818] = 4000;
        Assert.InRange(_driver[0x3810], 1u, 256u);                 // the rest comes later
        for (int i = 0; i < 20; i++) _bench.Clock.Advance(10);
        Assert.Equal(4000u, _driver[0x3810]);
    }

    [Fact]
    public void A_frame_half_gathered_is_part_of_the_state()
    {
        _driver.Start();
        byte[] frame = Frames.Plain(100);
        _driver.Add(_driver.Buffer(frame.AsSpan(0, 30)), 30);
        _driver.Kick();
        StateNode state = StateNode.Save(_card.Exchange);
        using var other = new Other(NetOffloads.None);
        state.Load(other.Card.Exchange);
        Assert.Equal(state.ToString(), StateNode.Save(other.Card.Exchange).ToString());
        ulong rest = 0x31_0000;
        other.Bench.Memory.Space.Write(rest, frame.AsSpan(30));
        other.Bench.Memory.Space.Write(E1000Driver.TransmitRing + 16, 8, rest);
        other.Bench.Memory.Space.Write(E1000Driver.TransmitRing + 24, 8, 70 | 0x0BUL << 24);
        other.Driver[0x3818] = 2;
        Assert.Equal(frame, Assert.Single(other.Wire.Sent).Frame);
    }

    /// <summary>A started card on a bench of its own.</summary>
    sealed class Other : IDisposable
    {
        public Other(NetOffloads offloads)
        {
            Wire = new NetWire(offloads);
            Card = new E1000(new NetCardSite(Wire, Frames.Mac, Bench.Loop, Bench.Clock), new E1000Options());
            Driver = new E1000Driver(Bench, Card);
            Driver.Start();
        }

        public PciBench Bench { get; } = new();
        public NetWire Wire { get; }
        public E1000 Card { get; }
        public E1000Driver Driver { get; }
        public void Dispose() => Bench.Dispose();
    }
}
