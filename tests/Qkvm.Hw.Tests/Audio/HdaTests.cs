using Qkvm.Core.Devices;
using Qkvm.Core.Pci;
using Qkvm.Hw.Audio;
using Qkvm.Testing;
using static Qkvm.Hw.Audio.HdaVerbs;

namespace Qkvm.Hw.Tests.Audio;

/// <summary>High Definition Audio 1.0a: the controller, and codecs by their verbs.</summary>
public sealed class HdaTests : IDisposable
{
    const ulong Bar = 0xE000_0000, Gctl = 8, WakeEn = 0xC, StateSts = 0xE, IntCtl = 0x20, IntSts = 0x24, WalClk = 0x30,
        CorbBase = 0x40, CorbWp = 0x48, CorbRp = 0x4A, CorbCtl = 0x4C, CorbSts = 0x4D, RirbBase = 0x50, RirbWp = 0x58,
        RirbCtl = 0x5C, RirbSts = 0x5D, Icoi = 0x60, Icii = 0x64, Icis = 0x68, DplBase = 0x70,
        Out = 0x80 + 4 * 0x20, In = 0x80;
    const ulong Ctl = 0, Sts = 3, Lpib = 4, Cbl = 8, Lvi = 0xC, Fmt = 0x12, Bdpl = 0x18;
    const ulong Corb = 0x1000, Rirb = 0x2000, List = 0x3000, Positions = 0x4000, Data = 0x10_0000;
    const uint Gie = 1u << 31, Cie = 1u << 30, Stereo48 = 0x0011;

    readonly SoundBench _bench = new();
    readonly HdaController _card;
    readonly QBus _link;

    public HdaTests()
    {
        DeviceSite site = _bench.Board.Site;
        _card = (HdaController)HdaController.Ich6.Create(FakeBoard.Defaults(HdaController.Ich6), site);
        _link = Assert.Single(site.Buses);
        _bench.Plug(_card, (uint)Bar);
        Add(HdaCodec.Duplex);
        Write(Gctl, 1, 4);
    }

    public void Dispose() => _bench.Dispose();

    uint Read(ulong at, int size) => (uint)_bench.Memory.Space.Read(Bar + at, size);
    void Write(ulong at, uint value, int size) => _bench.Memory.Space.Write(Bar + at, size, value);

    IDevice Add(DeviceModel model, params (string, string)[] given)
    {
        var site = new DeviceSite(_bench.Board, $"-device {model.Name}", _link);
        var properties = FakeBoard.Defaults(model, given);
        IDevice codec = model.Create(properties, site);
        _link.Wires!.Plug(codec, properties, site);
        return codec;
    }

    static uint Command(int node, uint verb, uint payload, uint codec = 0) =>
        codec << 28 | (uint)node << 20 | (verb < 0x10 ? verb << 16 : verb << 8) | payload;

    /// <summary>By the immediate command registers.</summary>
    uint Ask(int node, uint verb, uint payload = 0, uint codec = 0)
    {
        Write(Icoi, Command(node, verb, payload, codec), 4);
        Write(Icis, 3, 2);
        return Read(Icii, 4);
    }

    /// <summary>A stream of two buffers, number 5, and the DAC bound to it.</summary>
    void Play(uint size, ulong address = Data, ushort format = (ushort)Stereo48)
    {
        _bench.PutDwords(List, (uint)address, (uint)(address >> 32), size, 1, (uint)address + size,
            (uint)(address >> 32), size, 1);
        Write(Out + Bdpl, (uint)List, 4);
        Write(Out + Cbl, size * 2, 4);
        Write(Out + Lvi, 1, 2);
        Write(Out + Fmt, format, 2);
        Ask(Dac, SetFormat, format);
        Ask(Dac, SetStream, 0x50);
        Write(IntCtl, Gie | 0xFF, 4);
        Write(Out + Ctl + 2, 0x50, 1);
        Write(Out + Ctl, 0x1E, 1);                                 // run, and all interrupts
    }

    [Fact]
    public void It_is_8086_2668_with_16_KiB_of_registers_and_MSI()
    {
        Assert.Equal(0x26688086u, _card.Config.Get32(PciConfig.VendorId));
        Assert.Equal(0x04030001u, _card.Config.Get32(PciConfig.RevisionId));
        Assert.Equal(0x60, _card.Config[PciConfig.CapabilityPointer]);
        Assert.Equal(0x00800005u, _card.Config.Get32(0x60));
        Assert.Equal(1, _card.Config[0x40]);
        Assert.Equal(0x4000UL, _card.BarRegions[0]!.Size);
        Assert.Equal((0x4401u, 1u, 0x3Cu, 0x1Du), (Read(0, 2), Read(3, 1), Read(4, 2), Read(6, 2)));
        Assert.Equal((0x42u, 0x42u), (Read(0x4E, 1), Read(0x5E, 1)));
        var newer = (PciDevice)_bench.Make(HdaController.Ich9, ("msi", "off"));
        Assert.Equal(0x293E8086u, newer.Config.Get32(PciConfig.VendorId));
        Assert.Null(newer.Msi);
    }

    [Fact]
    public void Leaving_reset_tells_which_codecs_there_are()
    {
        Assert.Equal(1u, Read(StateSts, 2));
        Write(StateSts, 1, 2);
        Assert.Equal(0u, Read(StateSts, 2));
        Add(HdaCodec.Output, ("cad", "3"));
        Add(HdaCodec.Micro);
        Write(IntCtl, Gie, 4);
        Write(Gctl, 0, 4);
        Write(IntCtl, Gie, 4);                                     // held in reset: nothing is written
        Assert.Equal(0u, Read(IntCtl, 4));
        Write(Gctl, 1, 4);
        Assert.Equal(0b1011u, Read(StateSts, 2));
        Write(WakeEn, 1, 2);
        Write(IntCtl, Gie | Cie, 4);
        Assert.True(_bench.Inta);
        Assert.Equal(Gie | Cie, Read(IntSts, 4));
    }

    [Fact]
    public void Addresses_are_given_once()
    {
        Assert.Contains("cad=0: another codec has this address", Assert.Throws<ConfigurationException>(() =>
            Add(HdaCodec.Output, ("cad", "0"))).Message);
        for (int i = 1; i < 15; i++) Add(HdaCodec.Output);
        Assert.True(_link.Wires!.IsFull);
        Assert.Contains("15 codecs", Assert.Throws<ConfigurationException>(() => Add(HdaCodec.Output)).Message);
    }

    [Theory]
    [InlineData("hda-duplex", "on", 0x1AF40022u, 0x00020004u)]
    [InlineData("hda-duplex", "off", 0x1AF40021u, 0x00020004u)]
    [InlineData("hda-output", "on", 0x1AF40012u, 0x00020002u)]
    [InlineData("hda-micro", "on", 0x1AF40032u, 0x00020004u)]
    public void A_codecs_tree_is_read_by_parameters(string name, string mixer, uint identity, uint nodes)
    {
        DeviceModel model = new[] { HdaCodec.Duplex, HdaCodec.Output, HdaCodec.Micro }.First(m => m.Name == name);
        Add(model, ("mixer", mixer), ("cad", "2"));
        Assert.Equal(identity, Ask(Root, GetParameter, VendorId, 2));
        Assert.Equal(0x0001_0001u, Ask(Root, GetParameter, SubordinateNodes, 2));
        Assert.Equal(nodes, Ask(Group, GetParameter, SubordinateNodes, 2));
        Assert.Equal(1u, Ask(Group, GetParameter, FunctionType, 2));
        Assert.Equal(mixer == "on" ? 0x1Du : 0x11u, Ask(Dac, GetParameter, WidgetCapabilities, 2));
        Assert.Equal(4u, Ask(LineOut, GetParameter, WidgetCapabilities, 2) >> 20);
        Assert.Equal((uint)Dac, Ask(LineOut, GetConnections, 0, 2));
        Assert.Equal(0x1FCu, Ask(Dac, GetParameter, PcmRates, 2) & 0xFFFF);
        Assert.Equal(name == "hda-output" ? 0u : 0x20u, Ask(LineIn, GetParameter, PinCapabilities, 2));
    }

    [Fact]
    public void The_rings_carry_commands_and_answers()
    {
        _bench.PutDwords(Corb + 4, Command(Root, GetParameter, VendorId),
            Command(Root, GetParameter, VendorId, codec: 9), Command(Dac, GetFormat, 0));
        Write(CorbBase, (uint)Corb, 4);
        Write(RirbBase, (uint)Rirb, 4);
        Write(CorbRp, 0x8000, 2);
        Assert.Equal(0x8000u, Read(CorbRp, 2));
        Write(CorbRp, 0, 2);
        Write(RirbWp, 0x8000, 2);
        Write(IntCtl, Gie | Cie, 4);
        Write(RirbCtl, 3, 1);
        Write(CorbCtl, 2, 1);
        Write(CorbWp, 3, 2);
        Assert.Equal((3u, 2u), (Read(CorbRp, 2), Read(RirbWp, 2))); // codec 9 says nothing
        Assert.Equal((0x1AF40022u, 0u), (_bench.GetDword(Rirb + 8), _bench.GetDword(Rirb + 12)));
        Assert.Equal(0x11u, _bench.GetDword(Rirb + 16));
        Assert.True(_bench.Inta);
        Write(RirbSts, 1, 1);
        Assert.False(_bench.Inta);
    }

    [Fact]
    public void A_tone_is_heard_positions_move_and_buffers_ask_for_attention()
    {
        _bench.PutTone(Data, 48000, 48000);
        Write(DplBase, (uint)Positions | 1, 4);
        Play(48000 * 2);
        _bench.Run(100);
        Assert.Equal(4800u * 4, Read(Out + Lpib, 4));
        Assert.Equal(4800u * 4, Read(Out + Lpib + 0x2000, 4));
        Assert.Equal(4800u * 4, _bench.GetDword(Positions + 4 * 8));
        Assert.False(_bench.Inta);
        _bench.Run(400);
        Assert.True(_bench.Inta);
        Assert.Equal(Gie | 1u << 4, Read(IntSts, 4));
        Write(Out + Sts, 4, 1);
        Assert.False(_bench.Inta);
        _bench.Run(1500);
        Assert.Equal(0u, Read(Out + Lpib, 4));                     // round twice
        Assert.InRange(_bench.Heard.Frequency, 439, 441);
        Assert.InRange(_bench.Heard.Loudest, 16000, 16500);
        Write(Out + Ctl, 0, 1);
        _bench.Heard.Bytes.Clear();
        _bench.Run(100);
        Assert.Empty(_bench.Heard.Bytes);
    }

    [Fact]
    public void Another_rate_and_the_amplifier_are_heard()
    {
        _bench.PutTone(Data, 44100, 44100);
        Play(44100 * 2, format: 0x4011);
        Ask(Dac, SetAmplifier, 0xA000 | 0x4A - 6);                 // left, 6 dB less
        Ask(Dac, SetAmplifier, 0x9000 | 0x80);                     // right, mute
        Assert.Equal((0x44u, 0x80u), (Ask(Dac, GetAmplifier, 0xA000), Ask(Dac, GetAmplifier, 0x8000)));
        _bench.Run(1000);
        Assert.InRange(_bench.Heard.Frequency, 439, 441);
        Assert.InRange(_bench.Heard.Loudest, 8100, 8300);
        Assert.All(_bench.Heard.Samples.Where((_, i) => i % 2 == 1), sample => Assert.Equal(0, sample));
    }

    [Fact]
    public void Messages_come_instead_of_the_wire()
    {
        _card.Bus.WriteConfig(_card.DevFn, 0x64, 4, 0xFEE0_0000);
        _card.Bus.WriteConfig(_card.DevFn, 0x6C, 2, 0x41);
        _card.Bus.WriteConfig(_card.DevFn, 0x62, 2, 1);
        Play(4800);
        _bench.Run(100);
        Assert.Equal((0xFEE0_0000UL, 0x41u), Assert.Single(_bench.Messages));
        Assert.False(_bench.Inta);
        Write(Out + Sts, 4, 1);
        _bench.Run(100);
        Assert.Equal(2, _bench.Messages.Count);
    }

    [Fact]
    public void The_wall_clock_has_24_MHz_and_begins_with_the_link()
    {
        _bench.Run(1000);
        Assert.Equal(24_000_000u, Read(WalClk, 4));
        Write(Gctl, 0, 4);
        Write(Gctl, 1, 4);
        Assert.Equal(0u, Read(WalClk + 0x2000, 4));
    }

    [Fact]
    public void Recording_fills_the_list()
    {
        _bench.Memory.Space.Write(Data, [.. Enumerable.Repeat((byte)0xAA, 4096)]);
        _bench.PutDwords(List, (uint)Data, 0, 2048, 1);
        Write(In + Bdpl, (uint)List, 4);
        Write(In + Cbl, 2048, 4);
        Ask(Adc, SetStream, 0x10);
        Write(In + Ctl + 2, 0x10, 1);
        Write(In + Ctl, 2, 1);
        _bench.Run(100);
        Assert.All(_bench.Memory.Bytes(Data, 2048), sample => Assert.Equal(0, sample));
        Assert.Equal(0xAA, _bench.Memory.Bytes(Data + 2048, 1)[0]);
        Assert.Equal(0x24u, Read(In + Sts, 1));                    // BCIS, FIFORDY
    }

    [Fact]
    public void A_streams_reset_is_seen_and_sets_it_back()
    {
        Play(4800);
        _bench.Run(50);
        Write(Out + Ctl, 1, 1);
        Assert.Equal((1u, 0u, 0u), (Read(Out + Ctl, 1), Read(Out + Lpib, 4), Read(Out + Cbl, 4)));
        Write(Out + Ctl, 0, 1);
        Assert.Equal(0u, Read(Out + Ctl, 1));
    }

    // Hostile guests

    [Fact]
    public void A_list_of_empty_buffers_ends()
    {
        Play(0);
        Write(Out + Cbl, 4096, 4);
        Write(Out + Lvi, 0xFF, 2);
        _bench.Run(100);
        Assert.Equal(0u, Read(Out + Lpib, 4));
    }

    [Theory]
    [InlineData(TestMemory.IoAddress)] [InlineData(TestMemory.HoleAddress)] [InlineData(Bar)]
    [InlineData(ulong.MaxValue - 15)]
    public void Buffers_lists_rings_and_positions_outside_memory_reach_nobody(ulong address)
    {
        Play(0xFFFF_FFFF, address);
        Write(DplBase, (uint)address & ~0x7Fu | 1, 4);
        Write(DplBase + 4, (uint)(address >> 32), 4);
        _bench.Run(50);
        Write(Out + Ctl, 0, 1);
        Write(Out + Bdpl, (uint)address & ~0x7Fu, 4);
        Write(Out + Bdpl + 4, (uint)(address >> 32), 4);
        Write(Out + Ctl, 2, 1);
        _bench.Run(50);
        Write(CorbBase, (uint)address & ~0x7Fu, 4);
        Write(CorbBase + 4, (uint)(address >> 32), 4);
        Write(RirbCtl, 2, 1);
        Write(CorbCtl, 3, 1);
        Write(CorbWp, 77, 2);
        Assert.Equal((1u, 1u), (Read(CorbSts, 1), Read(CorbCtl, 1))); // a memory error stops the ring
        Assert.Equal(0, _bench.Heard.Loudest);
        Assert.Equal(0, _bench.Trespasses);
    }

    [Theory]
    [InlineData(0xFF, 0xFF)] [InlineData(0xFFFF, 0xFF)] [InlineData(0, 0)]
    public void Pointers_of_the_rings_have_eight_bits(uint written, uint kept)
    {
        Write(CorbWp, written, 2);
        Assert.Equal(kept, Read(CorbWp, 2));
        Write(CorbBase, (uint)Corb, 4);
        Write(RirbBase, (uint)Rirb, 4);
        Write(RirbCtl, 2, 1);
        Write(CorbCtl, 2, 1);
        Assert.Equal(kept, Read(CorbRp, 2));                       // at most one round
        Write(RirbWp, written & 0x7FFF, 2);
        Assert.Equal(kept, Read(RirbWp, 2));                       // software cannot set it
    }

    [Theory]
    [InlineData(0x8011)] [InlineData(0x0071)] [InlineData(0x2011)] [InlineData(0x3FFF)]
    public void Formats_that_are_none_stand_still(int format)
    {
        Play(4800, format: (ushort)format);
        _bench.Run(100);
        Assert.Equal(0u, Read(Out + Lpib, 4));
    }

    [Fact]
    public void Verbs_and_nodes_that_nobody_knows_answer_0()
    {
        for (uint verb = 0x100; verb < 0x1000; verb += 0x11) Ask(0x7F, verb, 0xFF);
        Assert.Equal(0u, Ask(0x7F, GetParameter, VendorId));
        Assert.Equal(0u, Ask(Root, 0xABC, 0));
        for (uint address = 0x100; address < 0x4000; address += 4) Write(address, 0xFFFF_FFFF, 4);
        _bench.Run(100);
    }
}
