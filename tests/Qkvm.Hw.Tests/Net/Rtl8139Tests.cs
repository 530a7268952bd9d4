using Qkvm.Core.Memory;
using Qkvm.Core.Net;
using Qkvm.Core.State;
using Qkvm.Hw.Net;
using Qkvm.Hw.Tests.Virtio;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Net;

public sealed class Rtl8139Tests : IDisposable
{
    const ulong Bar = 0xC000_0000, Ports = 0xC000, Ring = 0x10_0000, SendRing = 0x11_0000, Buffers = 0x20_0000;
    const int Tsd = 0x10, Tsad = 0x20, RbStart = 0x30, Cr = 0x37, Capr = 0x38, Cbr = 0x3A, Imr = 0x3C, Isr = 0x3E,
        Rcr = 0x44, Control9346 = 0x50, Cpcr = 0xE0, Poll = 0xD9;

    readonly PciBench _bench = new();
    readonly NetWire _wire;
    readonly Rtl8139 _card;

    public Rtl8139Tests() : this(NetOffloads.None) { }

    Rtl8139Tests(NetOffloads offloads)
    {
        _wire = new NetWire(offloads);
        _card = new Rtl8139(new NetCardSite(_wire, Frames.Mac, _bench.Loop, _bench.Clock));
        _bench.Plug(_card, 4);
        _bench.Bus.WriteConfig(_card.DevFn, 0x10, 4, (uint)Ports);
        _bench.Bus.WriteConfig(_card.DevFn, 0x14, 4, (uint)Bar);
    }

    AddressSpace Memory => _bench.Memory.Space;
    uint Get(int register, int size) => (uint)Memory.Read(Bar + (ulong)register, size);
    void Set(int register, int size, uint value) => Memory.Write(Bar + (ulong)register, size, value);

    public void Dispose() => _bench.Dispose();

    [Theory]
    [InlineData(0, 4, 0x1200_5452)] [InlineData(4, 2, 0x5634)] [InlineData(0x10, 4, 0x2000)]
    [InlineData(0x1C, 4, 0x2000)]
    [InlineData(0x37, 1, 1)] [InlineData(0x38, 2, 0xFFF0)] [InlineData(0x40, 4, 0x7480_0000)]
    [InlineData(0x52, 1, 0x0C)]
    [InlineData(0x58, 1, 0xD0)] [InlineData(0x5E, 1, 0x20)] [InlineData(0x64, 2, 0x782D)] [InlineData(0xFF, 1, 0)]
    public void Registers_read_as_after_a_reset(int register, int size, uint value)
    {
        Assert.Equal(value, Get(register, size));
        Set(Cr, 1, 0x0C);
        Set(Imr, 2, 1);
        Set(Cr, 1, 0x10);
        Assert.Equal(value, Get(register, size));
        Assert.Equal(value, (uint)_bench.Memory.Ports.Read(Ports + (ulong)register, size));
    }

    [Fact]
    public void The_EEPROM_has_the_address()
    {
        Assert.Equal(0x8129u, ReadEeprom(0));
        Assert.Equal((0x5452u, 0x1200u, 0x5634u), (ReadEeprom(7), ReadEeprom(8), ReadEeprom(9)));
        Set(0, 4, 1);
        Assert.Equal(0x1200_5452u, Get(0, 4));                     // locked
        Set(Control9346, 1, 0xC0);
        Set(0, 4, 1);
        Assert.Equal(1u, Get(0, 4));
    }

    uint ReadEeprom(uint address)
    {
        uint bits = 6 << 6 | address, word = 0;
        for (int i = 8; i >= 0; i--) Clock(bits >> i & 1);
        for (int i = 0; i < 16; i++)
        {
            Clock(0);
            word = word << 1 | Get(Control9346, 1) & 1;
        }
        Set(Control9346, 1, 0);
        return word;

        void Clock(uint bit)
        {
            Set(Control9346, 1, 0x88 | bit << 1);
            Set(Control9346, 1, 0x8C | bit << 1);
        }
    }

    [Fact]
    public void Four_slots_send_in_turn()
    {
        Set(Cr, 1, 0x0C);
        Set(Imr, 2, 4);
        for (int i = 0; i < 6; i++)
        {
            Memory.Write(Buffers, Frames.Plain(60 + i));
            Set(Tsad + i % 4 * 4, 4, (uint)Buffers);
            Set(Tsd + i % 4 * 4, 4, (uint)(60 + i));
            Assert.Equal(0xA000u, Get(Tsd + i % 4 * 4, 4) & 0xA000);
            Assert.True(_bench.Inta);
            Set(Isr, 2, 4);
            Assert.False(_bench.Inta);
        }
        Assert.Equal(Enumerable.Range(0, 6).Select(i => Frames.Plain(60 + i)), _wire.Sent.Select(s => s.Frame));
        Assert.Equal(0xF00Fu, Get(0x60, 2));
    }

    [Fact]
    public void Packets_follow_each_other_in_the_ring_of_bytes()
    {
        Set(RbStart, 4, (uint)Buffers);
        Set(Rcr, 4, 0x0A);                                         // AB, APM, 8 KiB
        Set(Cr, 1, 0x0C);
        Assert.Equal(1u, Get(Cr, 1) & 1);
        int taken = 0;
        while (_wire.Give(Frames.Plain(1000))) taken++;
        Assert.Equal(8, taken);                                    // 4 + 1000 + 4 bytes each
        Assert.Equal(0x11u, Get(Isr, 2));                          // ROK, RXOVW
        Assert.Equal(0x03EC_4001u, (uint)Memory.Read(Buffers + 1008, 4));
        Assert.Equal(Frames.Plain(1000), _bench.Memory.Bytes(Buffers + 1012, 1000));
        Assert.Equal(8064u, Get(Cbr, 2));
        int resumes = _wire.Resumes;
        Set(Capr, 2, 2 * 1008 - 16);
        Assert.Equal(resumes + 1, _wire.Resumes);
        Assert.True(_wire.Give(Frames.Plain(1000)));
        Assert.Equal(Frames.Plain(1000)[(8192 - 8068)..], _bench.Memory.Bytes(Buffers, 1000 - 8192 + 8068));
        Assert.Equal(0u, Get(Cr, 1) & 1);
    }

    [Fact]
    public void Addresses_are_filtered()
    {
        Set(RbStart, 4, (uint)Buffers);
        Set(Cr, 1, 0x0C);
        byte[] group = [1, 0, 0x5E, 0, 0, 0xFB], other = [0x52, 0x54, 0, 0, 0, 1];
        Assert.Equal([false, false, false], Passing(0));
        Assert.Equal([true, false, false], Passing(2));
        Assert.Equal([true, true, true], Passing(1));
        Set(8, 4, ~0u);
        Set(12, 4, ~0u);
        Assert.Equal([false, true, false], Passing(4));

        bool[] Passing(uint filter)
        {
            Set(Rcr, 4, filter);
            return [Passes(Frames.Plain(60)), Passes(Frames.Plain(60, group)), Passes(Frames.Plain(60, other))];
        }

        bool Passes(byte[] frame)
        {
            uint before = Get(Cbr, 2);
            _wire.Give(frame);
            bool passed = Get(Cbr, 2) != before;
            Set(Capr, 2, Get(Cbr, 2) - 16);
            return passed;
        }
    }

    void StartPlus()
    {
        Set(Cpcr, 2, 0x63);                                        // both rings, checksums, tags
        Set(0x20, 4, (uint)SendRing);
        Set(0xE4, 4, (uint)Ring);
        for (ulong i = 0; i < 4; i++)
        {
            Memory.Write(Ring + i * 16, 4, 1u << 31 | (i == 3 ? 1u << 30 : 0) | 1600);
            Memory.Write(Ring + i * 16 + 8, 8, Buffers + i * 2048);
        }
        Set(Rcr, 4, 0x0A);
        Set(Cr, 1, 0x0C);
    }

    void SendPlus(int index, byte[] frame, uint command, uint tag = 0)
    {
        ulong at = SendRing + (ulong)index * 16, buffer = 0x30_0000 + (ulong)index * 0x4000;
        Memory.Write(buffer, frame);
        Memory.Write(at + 4, 4, tag);
        Memory.Write(at + 8, 8, buffer);
        Memory.Write(at, 4, command | 0xB000_0000 | (uint)frame.Length);
        Set(Poll, 1, 0x40);
    }

    [Fact]
    public void Descriptors_send_with_checksums_and_tags()
    {
        StartPlus();
        byte[] whole = Frames.TcpFrame(101), raw = Frames.WithoutSum(whole);
        Frames.Put(raw, Frames.Ip + 10, 0);
        SendPlus(0, raw, 1 << 18 | 1 << 16);
        Assert.Equal(whole, _wire.Sent[0].Frame);
        Assert.Equal(0x3000_0000u | (uint)raw.Length, (uint)Memory.Read(SendRing, 4)); // no OWN, no errors
        Assert.Equal(0x84u, Get(Isr, 2));                          // TOK, TDU
        SendPlus(1, Frames.Plain(80), 1 << 30, 1 << 17 | 0x2301);
        Assert.Equal([.. Frames.Plain(80)[..12], 0x81, 0, 1, 0x23, .. Frames.Plain(80)[12..]], _wire.Sent[1].Frame);
        SendPlus(0, Frames.Plain(61), 0);                          // the ring has ended
        Assert.Equal(Frames.Plain(61), _wire.Sent[2].Frame);
    }

    [Theory]
    [InlineData(false)] [InlineData(true)]
    public void A_large_frame_is_cut_or_goes_whole(bool takes)
    {
        using var test = new Rtl8139Tests(takes ? NetOffloads.Checksum | NetOffloads.Tso4 : NetOffloads.None);
        test.StartPlus();
        byte[] whole = Frames.TcpFrame(2500);
        test.SendPlus(0, Frames.ForCutting(whole), 1 << 27 | 1000 << 16);
        if (takes)
        {
            Assert.Equal(new NetHeader(true, false, Segmentation.Tcp4, 54, 1000, 34, 16), test._wire.Sent[0].Header);
            Assert.Equal(Frames.WithoutSum(whole), Assert.Single(test._wire.Sent).Frame);
            return;
        }
        Assert.Equal(3, test._wire.Sent.Count);
        Assert.Equal(Frames.TcpFrame(1000, 2000, 8, 0x10, 1000), test._wire.Sent[1].Frame);
    }

    [Fact]
    public void Descriptors_receive_with_checksums_and_tags_and_wait_when_there_are_none()
    {
        StartPlus();
        byte[] good = Frames.TcpFrame(77), bad = (byte[])good.Clone();
        bad[^1] ^= 1;
        byte[] tagged = [.. good[..12], 0x81, 0, 0x21, 0x23, .. good[12..]];
        foreach (byte[] frame in new[] { good, bad, tagged, Frames.Plain(42) }) Assert.True(_wire.Give(frame));
        Assert.Equal(0x3401_0000u | 135, (uint)Memory.Read(Ring, 4));
        Assert.Equal(good, _bench.Memory.Bytes(Buffers, good.Length));
        Assert.Equal(0x3401_2000u | 135, (uint)Memory.Read(Ring + 16, 4));
        Assert.Equal(0x0001_2321u, (uint)Memory.Read(Ring + 36, 4));
        Assert.Equal(good, _bench.Memory.Bytes(Buffers + 4096, good.Length));
        Assert.Equal(0x7400_0000u | 64, (uint)Memory.Read(Ring + 48, 4));
        Assert.False(_wire.Give(good));
        Memory.Write(Ring, 4, 1u << 31 | 1600);
        int resumes = _wire.Resumes;
        Set(Isr, 2, 0xFFFF);
        Assert.Equal(resumes + 1, _wire.Resumes);
        Assert.True(_wire.Give(good));
    }

    [Fact]
    public void Counters_are_dumped()
    {
        StartPlus();
        SendPlus(0, Frames.Plain(60), 0);
        _wire.Give(Frames.Plain(60));
        Set(0x14, 4, 0);
        Set(0x10, 4, 0x30_0000 | 8);
        Assert.Equal(0x30_0000u, Get(0x10, 4));
        Assert.Equal((1UL, 1UL), (Memory.Read(0x30_0000, 8), Memory.Read(0x30_0008, 8)));
    }

    [Fact]
    public void The_timer_interrupts()
    {
        Set(Imr, 2, 0x4000);
        Set(0x54, 4, 33_000);
        Set(0x48, 4, 0);
        _bench.Clock.Advance(999_999);
        Assert.False(_bench.Inta);
        _bench.Clock.Advance(1);
        Assert.True(_bench.Inta);
        Assert.Equal(33_000u, Get(0x48, 4));
    }

    /// <summary>A ring that ends nowhere and loops back into itself.</summary>
    [Fact]
    public void Endless_rings_do_no_harm()
    {
        StartPlus();
        Set(0x40, 4, 3 << 17);
        Set(0xE4, 4, (uint)SendRing);
        for (ulong i = 0; i < 64; i++)
        {
            Memory.Write(SendRing + i * 16, 8, 0xB000_0040);
            Memory.Write(SendRing + i * 16 + 8, 8, SendRing);
        }
        Set(Poll, 1, 0x40);
        for (int i = 0; i < 10; i++) _bench.Clock.Advance(10);
        StateNode state = StateNode.Save(_card.Exchange);
        state.Load(_card.Exchange);
        Assert.Equal(state.ToString(), StateNode.Save(_card.Exchange).ToString());
        Assert.Equal(0, _bench.Memory.Registers.Accesses);
    }
}
