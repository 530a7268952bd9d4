using System.Diagnostics;
using Qkvm.Core.Net;
using Qkvm.Core.Pci;
using Qkvm.Core.State;
using Qkvm.Hw.Net;
using Qkvm.Hw.Tests.Virtio;
using Qkvm.Hw.Virtio;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Net;

/// <summary>A driver that writes anything anywhere, beside a wire that brings frames of any length. Nothing may throw
/// or stall, no register may be a buffer, and after a reset the card carries a frame either way.</summary>
sealed class CardFuzz : IDisposable
{
    const int Steps = 2000;
    const ulong Bar = 0xC000_0000, Ports = 0xC000;
    const ulong Rings = 0x10_0000, RingsEnd = 0x14_0000;           // where descriptors are, and a bit more

    static readonly string[] s_cards = ["e1000", "e1000e", "rtl8139", "virtio", "virtio-mq"];
    // Registers that make something happen; all others have their turn too.
    static readonly int[] s_intel = [0, 0x10, 0x14, 0x18, 0x20, 0x38, 0xC0, 0xC4, 0xC8, 0xD0, 0xD8, 0xDC, 0xE4, 0x100,
        0x100, 0x400, 0x400, 0x2170, 0x2800, 0x2804, 0x2808, 0x2810, 0x2818, 0x2818, 0x2820, 0x282C, 0x3800, 0x3804,
        0x3808, 0x3810, 0x3818, 0x3818, 0x3818, 0x3820, 0x382C, 0x3900, 0x3908, 0x3910, 0x3918, 0x5000, 0x5008,
        0x5400, 0x5404, 0x5600];
    static readonly int[] s_realtek = [0x10, 0x14, 0x18, 0x1C, 0x20, 0x24, 0x28, 0x2C, 0x30, 0x37, 0x37, 0x38, 0x3C,
        0x3E, 0x40, 0x44, 0x44, 0x48, 0x4C, 0x50, 0x52, 0x54, 0xD9, 0xD9, 0xE0, 0xE0, 0xE4, 0xE8];
    static readonly int[] s_virtio = [0, 4, 8, 12, 16, 0x14, 0x14, 0x16, 0x18, 0x1A, 0x1C, 0x20, 0x24, 0x28, 0x2C, 0x30,
        0x34, 0x1000, 0x2000, 0x2006, 0x3000, 0x3000, 0x3004, 0x3004, 0x3008, 0x300C, 0x3010];
    static readonly int[] s_lengths = [0, 1, 13, 14, 15, 17, 59, 60, 64, 200, 1500, 1513, 1514, 1515, 1518, 1522, 2048,
        4096, 9014, 16383, 16384, 32768, 65535, 65536];

    readonly Random _random;
    readonly string _name;
    readonly PciBench _bench = new();
    readonly FuzzWire _wire;
    readonly PciDevice _card;
    readonly INetCard _net;
    readonly E1000Driver? _intel;
    readonly VirtioGuest? _virtio;
    readonly int[] _registers;

    CardFuzz(int seed)
    {
        _random = new Random(seed);
        _name = s_cards[seed % s_cards.Length];
        NetOffloads offloads = _random.Next(2) == 0 ? NetOffloads.None : NetOffloads.Checksum | NetOffloads.Tso4
            | NetOffloads.Tso6 | NetOffloads.TsoEcn | NetOffloads.Uso;
        _wire = new FuzzWire(offloads, _random);
        var site = new NetCardSite(_wire, Frames.Mac, _bench.Loop, _bench.Clock);
        switch (_name)
        {
            case "e1000":
                var e1000 = new E1000(site, new E1000Options());
                (_card, _net, _registers, _intel) = (e1000, e1000, s_intel, new E1000Driver(_bench, e1000));
                break;
            case "e1000e":
                var e1000e = new E1000e(site, new E1000eOptions());
                (_card, _net, _registers, _intel) = (e1000e, e1000e, s_intel, new E1000Driver(_bench, e1000e,
                    portBar: 2));
                break;
            case "rtl8139":
                var rtl8139 = new Rtl8139(site);
                (_card, _net, _registers) = (_bench.Plug(rtl8139, 4), rtl8139, s_realtek);
                break;
            default:
                var virtio = new VirtioNet("net", _wire, Frames.Mac, new VirtioNetOptions(Pairs: _name == "virtio-mq"
                    ? FuzzWire.Queues : 1), _bench.Loop, _bench.Pump.Post);
                _virtio = new VirtioGuest(_bench, virtio);
                (_card, _net, _registers) = (_virtio.Function, virtio, s_virtio);
                break;
        }
    }

    /// <summary>Until the time is over; each batch has a card and a seed of its own.</summary>
    public static void Run(int seed, TimeSpan time, Action<string> print)
    {
        var clock = Stopwatch.StartNew();
        long steps = 0, frames = 0;
        for (; clock.Elapsed < time; seed++)
            try
            {
                using var fuzz = new CardFuzz(seed);
                var batch = Stopwatch.StartNew();
                fuzz.RunBatch();
                (steps, frames) = (steps + Steps, frames + fuzz._wire.Sent);
                if (batch.Elapsed > TimeSpan.FromSeconds(20)) print($"seed {seed}: {fuzz._name} took {batch.Elapsed}");
            }
            catch (Exception e)
            {
                throw new InvalidOperationException($"seed {seed}, {s_cards[seed % s_cards.Length]}: {e.Message}", e);
            }
        print($"cards: {steps} steps, {frames} frames sent, last seed {seed - 1}: nothing amiss");
    }

    public void Dispose() => _bench.Dispose();

    void RunBatch()
    {
        for (int i = 0; i < 16; i++)
            _bench.Memory.Space.Write(Frame(i), Frames.TcpFrame(i < 8 ? 100 * i : 4000 * (i - 7)));
        int wildness = 0;
        for (int i = 0; i < Steps; i++)
        {
            if (i % 50 == 0) (wildness, _) = (Pick([0, 2, 20, 100]), StartAnew());
            if (_random.Next(100) < wildness) Step();
            else Drive();
            if (_random.Next(3) == 0) _bench.Pump.RunPosted();
        }
        _bench.Pump.RunPosted();
        Assert.Equal(0, _bench.Memory.Registers.Accesses);
        AssertAlive();
    }

    static ulong Frame(int i) => 0x30_0000 + (ulong)i * 0xF000;

    bool StartAnew()
    {
        _card.Reset();
        _bench.Pump.RunPosted();
        Start();
        if (_random.Next(3) > 0) _bench.Clock.Advance(3_000_000_000); // for the link
        return true;
    }

    /// <summary>What a driver does, with mistakes in the descriptors alone.</summary>
    void Drive()
    {
        if (_random.Next(3) == 0) Give();
        else if (_virtio != null) Offer(Pick([.. _virtio.Queues]));
        else if (_intel != null) DriveIntel();
        else DriveRealtek();
        if (_random.Next(10) == 0) _bench.Memory.Space.Read(Base + (ulong)Pick(_registers), 4);
    }

    void DriveIntel()
    {
        if (_random.Next(3) == 0) _intel![0x2818] = (uint)_random.Next(17);
        for (int i = _random.Next(6); i > 0; i--)
        {
            int kind = _random.Next(8);
            // Where headers begin and sums belong, for IPv4 and TCP: right, or not
            ulong offsets = _random.Next(4) == 0 ? (ulong)_random.NextInt64() : 0x0000_3222_0000_180EUL;
            ulong length = (uint)Pick([54, 60, 154, 754, 4054, _random.Next(70000)]);
            if (kind == 0) _intel!.Add(offsets, length | (ulong)_random.Next(256) << 24 | 1UL << 29
                | 54UL << 40 | (ulong)Pick([1000, 1460, 0, 1, _random.Next(65536)]) << 48);
            else if (kind < 5) _intel!.Add(Address(), length | 1UL << 20 | (ulong)(Pick([0x2B, 0x2F, 0x2A, 0x6B, 0x6F])
                & ~(_random.Next(4) == 0 ? 1 : 0)) << 24 | (ulong)_random.Next(4) << 40);
            else _intel!.Add(Address(), (ulong)_random.NextInt64() & ~0xFF00_FFFFUL | length & 0xFFFF
                | (ulong)Pick([0x0B, 0x0A, 0x0F, 0x4B]) << 24);
        }
        _intel!.Kick();
    }

    void DriveRealtek()
    {
        switch (_random.Next(4))
        {
            case 0:                                                // C+: a descriptor of a frame, and TPPOLL
                _bench.Memory.Space.Write(Rings + 0x4000 + (ulong)_random.Next(8) * 16, 8,
                    (uint)Pick([60, 154, 754, 4054, _random.Next(65536)]) | 1UL << 31 | (uint)_random.Next(16) << 27
                    | (ulong)_random.Next(0x800) << 16 | (ulong)_random.Next(4) << 48);
                _bench.Memory.Space.Write(Rings + 0x4008 + (ulong)_random.Next(8) * 16, 8, Address());
                _bench.Memory.Space.Write(Bar + 0xD9, 1, 0x40);
                break;
            case 1:
                _bench.Memory.Space.Write(Rings + (ulong)_random.Next(8) * 16, 8, (uint)_random.Next(0x2000) | 1UL << 31
                    | (_random.Next(4) == 0 ? 1UL << 30 : 0));
                _bench.Memory.Space.Write(Rings + 8 + (ulong)_random.Next(8) * 16, 8, Address());
                break;
            case 2:
                ulong at = (ulong)_random.Next(4) * 4;
                _bench.Memory.Space.Write(Bar + 0x20 + at, 4, Address());
                _bench.Memory.Space.Write(Bar + 0x10 + at, 4, (uint)Pick([60, 154, 754, 1792, _random.Next(8192)]));
                break;
            default:                                               // all that came is read
                _bench.Memory.Space.Write(Bar + 0x38, 2, _bench.Memory.Space.Read(Bar + 0x3A, 2) - 16 & 0xFFFF);
                _bench.Memory.Space.Write(Bar + 0x3E, 2, 0xFFFF);
                break;
        }
    }

    void Step()
    {
        switch (_random.Next(20))
        {
            case < 8: Register(Pick(_registers), Pick([2, 4, 4, 4, 8])); break;
            case 8: Register(_random.Next(0x2_0000), Pick([1, 2, 4, 8])); break;
            case 9: _bench.Memory.Space.Read(Base + (ulong)Pick(_registers), Pick([1, 2, 4])); break;
            case 10: Port(); break;
            case < 15: Describe(); break;
            case < 18: Give(); break;
            case 18: Rarely(); break;
            default: _bench.Clock.Advance(_random.Next(_random.Next(2) == 0 ? 3_000_000 : 600_000_000)); break;
        }
    }

    void Rarely()
    {
        switch (_random.Next(12))
        {
            case 0: _net.SetLink(_random.Next(3) > 0); break;
            case 1: _card.Reset(); Place(); break;
            case 2: Start(); break;
            case 3: _bench.Bus.WriteConfig(_card.DevFn, 4, 2, (uint)_random.Next(8)); break;
            case 4: _bench.Enable(_card); break;
            case 5: _bench.Bus.WriteConfig(_card.DevFn, _random.Next(0x30, 0x100) & ~3, 4, Value()); Place(); break;
            case 6:
                _bench.Pump.RunPosted();
                StateNode state = StateNode.Save(_card.Exchange);
                state.Load(_card.Exchange);
                Assert.Equal(state.ToString(), StateNode.Save(_card.Exchange).ToString());
                break;
            case 7: _wire.Answers = _random.Next(2) == 0; break;
            default: Start(); break;
        }
    }

    ulong Base => _virtio != null ? VirtioGuest.Bar : Bar;

    void Register(int offset, int size)
    {
        ulong at = Base + (ulong)(_virtio != null ? offset % 0x4000 : _intel == null ? offset % 256 : offset);
        if (_random.Next(6) == 0) _bench.Memory.Space.Read(at, Math.Min(size, 4));
        else _bench.Memory.Space.Write(at, size, size == 8 ? Address() : Value());
    }

    void Port()
    {
        int size = Pick([1, 2, 4]);
        ulong at = Ports + (ulong)_random.Next(_intel != null ? 8 : 0x100);
        if (_random.Next(3) == 0) _bench.Memory.Ports.Read(at, size);
        else _bench.Memory.Ports.Write(at, size, _random.Next(2) == 0 ? (ulong)Pick(_registers) : Value());
    }

    /// <summary>A descriptor, or a piece of one, among those that the card reads.</summary>
    void Describe()
    {
        ulong at = Rings + (ulong)_random.Next((int)(RingsEnd - Rings)) & ~15UL;
        if (_random.Next(2) == 0) at = Rings + (ulong)_random.Next(64) * 16; // the first of a ring
        if (_random.Next(4) == 0 && _virtio != null) at += 0x1000;           // with what is offered and used
        if (_virtio != null && _random.Next(2) == 0)
        {
            foreach (GuestQueue queue in _virtio.Queues)
                if (_random.Next(2) == 0) Offer(queue);
            return;
        }
        ulong second = _random.Next(3) switch
        {
            // a length, EOP, IFCS or TSE, RS, DEXT, and what more there may be
            0 => (uint)Pick(s_lengths) | (ulong)_random.Next(256) << 24 | (ulong)_random.NextInt64() << 32,
            1 => (ulong)_random.Next(200) | 0x2BUL << 24 | 1UL << 20,
            _ => (ulong)_random.NextInt64(),
        };
        if (_name == "rtl8139" && _random.Next(2) == 0)            // OWN, and the length, before the address
        {
            _bench.Memory.Space.Write(at, 8, 0xB000_0000UL | (uint)Pick(s_lengths) & 0xFFFF
                | (uint)_random.Next(4) << 16 | (ulong)_random.Next() << 32);
            _bench.Memory.Space.Write(at + 8, 8, Address());
            return;
        }
        _bench.Memory.Space.Write(at, 8, Address());
        _bench.Memory.Space.Write(at + 8, 8, second);
    }

    /// <summary>A chain, right or wrong, in a virtqueue.</summary>
    void Offer(GuestQueue queue)
    {
        int count = _random.Next(1, 5), first = _random.Next(queue.Size);
        for (int i = 0; i < count; i++)
        {
            int length = _random.Next(10) == 0 ? Pick(s_lengths) : _random.Next(2) == 0 ? 12 : _random.Next(2000);
            ushort flags = (ushort)((i + 1 < count ? GuestQueue.Next : 0)
                | (_random.Next(2) == 0 ? GuestQueue.Write : 0) | (_random.Next(20) == 0 ? GuestQueue.Indirect : 0));
            if (_random.Next(30) == 0) flags = (ushort)_random.Next();
            queue.Descriptor((first + i) % queue.Size, Address(), (uint)length, flags, _random.Next(30) == 0
                ? (ushort)_random.Next() : (ushort)((first + i + 1) % queue.Size));
        }
        queue.Offer((ushort)(_random.Next(50) == 0 ? _random.Next() : first));
        if (_random.Next(60) == 0) queue.AvailableIndex += (ushort)_random.Next(2000);
        _virtio!.Notify(_virtio.Queues.IndexOf(queue));
    }

    void Give()
    {
        byte[] frame = new byte[Pick(s_lengths)];
        if (_random.Next(2) == 0 || frame.Length < 100) _random.NextBytes(frame);
        else Frames.TcpFrame(frame.Length - Frames.Payload).CopyTo(frame, 0);
        if (frame.Length > 18 && _random.Next(4) == 0) (frame[12], frame[13]) = (0x81, 0);
        if (frame.Length > 6 && _random.Next(2) == 0) Frames.Mac.CopyTo(frame, 0);
        else if (frame.Length > 6 && _random.Next(2) == 0) frame.AsSpan(0, 6).Fill(0xFF);
        _wire.Give(frame, _wire.RandomHeader(), _random.Next(FuzzWire.Queues));
    }

    uint Value() => _random.Next(6) switch
    {
        0 => (uint)_random.Next(300),
        1 => 1u << _random.Next(32),
        2 => ~0u,
        3 => (uint)(Rings + (ulong)_random.Next(0x4_0000)),
        4 => (uint)(_random.Next(64) * 16),
        _ => (uint)_random.NextInt64(),
    };

    /// <summary>Mostly memory; else its end, a ROM, registers, the card's own, nothing.</summary>
    ulong Address() => _random.Next(20) switch
    {
        > 11 => Frame(_random.Next(16)),
        < 7 => (ulong)_random.Next((int)TestMemory.RamSize),
        7 => TestMemory.RamSize - (ulong)_random.Next(100),
        8 => TestMemory.RomAddress + (ulong)_random.Next(100),
        9 => TestMemory.IoAddress + (ulong)_random.Next(100),
        10 => Base + (ulong)Pick(_registers),
        _ => ulong.MaxValue - (ulong)_random.Next(70000),
    };

    void Place()
    {
        _bench.Enable(_card);
        if (_virtio != null) { _virtio.PlaceBars(); return; }
        _bench.Bus.WriteConfig(_card.DevFn, 0x10, 4, (uint)(_name == "rtl8139" ? Ports : Bar));
        _bench.Bus.WriteConfig(_card.DevFn, 0x14, 4, (uint)(_name == "rtl8139" ? Bar : Ports));
        if (_name == "e1000e") _bench.Bus.WriteConfig(_card.DevFn, 0x18, 4, (uint)Ports);
    }

    /// <summary>As a driver does, so that more than resets is reached.</summary>
    void Start()
    {
        Place();
        if (_intel != null)
        {
            _intel.Forget();
            _intel[0x3810] = _intel[0x3818] = _intel[0x2810] = 0;
            _intel.Start((uint)(_random.Next(2) == 0 ? 0x0400_8002 : 0x0000_803A));
        }
        else if (_virtio != null)
        {
            _bench.Pump.RunPosted();
            _virtio.Start(_random.Next(2) == 0 ? ulong.MaxValue : (ulong)_random.NextInt64() | 1UL << 32);
            _bench.Pump.RunPosted();
        }
        else StartRealtek(isPlus: _random.Next(2) == 0);
    }

    void StartRealtek(bool isPlus)
    {
        Set(0x37, 1, 0x10);
        Set(0x30, 4, 0x20_0000);
        Set(0xE4, 4, (uint)Rings);
        Set(0x20, 4, (uint)Rings + 0x4000);
        Set(0xE0, 2, isPlus ? 3u : 0);
        Set(0x37, 1, 0x0C);
        Set(0x44, 4, 0x0F);

        void Set(int register, int size, uint value) => _bench.Memory.Space.Write(Bar + (ulong)register, size, value);
    }

    void AssertAlive()
    {
        _wire.Answers = false;
        _card.Reset();
        _bench.Pump.RunPosted();
        _net.SetLink(false);
        _net.SetLink(true);
        _bench.Clock.Advance(3_000_000_000);
        Place();
        byte[] frame = Frames.Plain(60);
        if (_intel != null)
        {
            E1000Driver driver = _intel;
            driver.Forget();
            driver.Start();
            _bench.Clock.Advance(3_000_000_000);
            _wire.Give(frame);
            Assert.Equal(frame, driver.ReceivedBytes(0)[..60]);
            driver.SendLegacy(frame);
        }
        else if (_virtio != null)
        {
            _virtio.Start(1UL << 32 | 1 << 15);
            _bench.Pump.RunPosted();
            _bench.Memory.Space.Write(0x20_0000, new byte[12]);
            _bench.Memory.Space.Write(0x20_000C, frame);
            _virtio.Request(0, (0x21_0000, -1526));
            _bench.Pump.RunPosted();
            _wire.Give(frame);
            Assert.Equal(frame, _bench.Memory.Bytes(0x21_000C, 60));
            _virtio.Request(1, (0x20_0000, 72));
        }
        else
        {
            StartRealtek(isPlus: false);
            _wire.Give(frame);
            Assert.Equal(frame, _bench.Memory.Bytes(0x20_0004, 60));
            _bench.Memory.Space.Write(Rings + 0x4000, frame);
            _bench.Memory.Space.Write(Bar + 0x10, 4, 60);
        }
        _bench.Pump.RunPosted();
        Assert.Equal(frame, _wire.Last);
    }

    T Pick<T>(T[] from) => from[_random.Next(from.Length)];
}

public sealed class CardFuzzTests
{
    [Fact]
    public void Random_drivers_and_wires_break_no_card() => CardFuzz.Run(1, TimeSpan.FromSeconds(5), _ => { });
}
