using Qkvm.Core.Devices;
using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Core.State;
using Qkvm.Core.Time;

namespace Qkvm.Hw.Audio;

/// <summary>The HDA controllers of the 82801FB (ICH6) and 82801I (ICH9). Spec: High Definition Audio 1.0a, section 3.3;
/// names are the sheet's.</summary>
/// <remarks>Deviations: codecs answer at once, and never unasked; the rings have 256 entries, as in QEMU; the stream
/// synchronisation register is not there, nor is traffic class selection.</remarks>
public sealed class HdaController : PciDevice, IRegisterBank
{
    public static readonly DeviceModel Ich6 = Family("intel-hda", 0x2668, 1, "ICH6");
    public static readonly DeviceModel Ich9 = Family("ich9-intel-hda", 0x293E, 3, "ICH9");

    const ushort Intel = 0x8086;
    const uint HdaClass = 0x040300;
    const int RegionSize = 0x4000, AliasAt = 0x2000, MsiAt = 0x60, HdCtl = 0x40;
    const byte HdaMode = 1;
    const uint WallClockHertz = 24_000_000;

    // Offsets, dwords; those of 16 and 8 bits stand in one
    const int GCAP = 0x00, OUTPAY = 0x04, GCTL = 0x08, WAKEEN = 0x0C, INTCTL = 0x20, INTSTS = 0x24, WALCLK = 0x30,
        ICOI = 0x60, ICII = 0x64, ICIS = 0x68, DPLBASE = 0x70, DPUBASE = 0x74, Streams = 0x80;
    const uint CRST = 1, GIE = 1u << 31, CIE = 1u << 30, PositionEnable = 1, ICB = 1, IRV = 2;
    const int InputStreams = 4, OutputStreams = 4, StateStsShift = 16;

    readonly record struct Register(int Offset, uint Reset, uint Writable, uint Clearable = 0);

    static readonly Register[] s_registers =
    [
        new(GCAP, 0x0100_0000 | OutputStreams << 12 | InputStreams << 8 | 1, 0),   // version 1.0, 64 bits
        new(OUTPAY, 0x001D_003C, 0), new(GCTL, 0, 0x103),
        new(WAKEEN, 0, 0x7FFF, 0x7FFF_0000),                       // with STATESTS above
        new(0x10, 0, 0, 2), new(INTCTL, 0, GIE | CIE | (1u << InputStreams + OutputStreams) - 1),
        new(ICOI, 0, uint.MaxValue), new(ICII, 0, 0), new(ICIS, 0, 0, IRV),
        new(DPLBASE, 0, ~0x7Eu), new(DPUBASE, 0, uint.MaxValue),
    ];

    readonly HdaBus _bus;
    readonly HdaRings _rings;
    readonly HdaStream[] _streams;                                 // inputs, then outputs
    readonly TickClock _wallClock;
    readonly uint[] _registers = new uint[Streams / 4];
    long _wallStart;

    static DeviceModel Family(string name, ushort deviceId, byte revision, string chipset) => new(name, BusKind.Pci,
        [
            Property.OnOffAuto("msi"), Property.Missing("old_msi_addr", "off"), Property.Missing("debug", "0"),
        ],
        (properties, site) =>
        {
            var bus = new HdaBus();
            bus.Controller = new HdaController(name, deviceId, revision, bus, site.Clock,
                properties.OnOffAuto("msi") != false);
            site.AddBus(new QBus(site.NameBus(HdaBus.Kind, ".0"), HdaBus.Kind, bus));
            return bus.Controller;
        })
    { Category = DeviceCategory.Sound, Description = $"Intel HD Audio Controller ({chipset})" };

    HdaController(string name, ushort deviceId, byte revision, HdaBus bus, IVirtualClock clock, bool hasMsi)
        : base(new PciIdentity(Intel, deviceId, HdaClass, revision), name)
    {
        (_bus, _rings, _wallClock) = (bus, new HdaRings(this, bus), new TickClock(clock, WallClockHertz));
        _streams = [.. Enumerable.Range(0, InputStreams + OutputStreams).Select(i => new HdaStream(this, i))];
        Config.Define(HdCtl, HdaMode);
        if (hasMsi) Msi = new Msi(this, vectors: 1, MsiAt);
        Bar(0, MemoryRegion.Io(name, RegionSize, this, AccessSizes.UpToDword), BarKind.Memory32);
        ResetRegisters();
    }

    ref uint this[int offset] => ref _registers[offset / 4];

    bool IsReset => (this[GCTL] & CRST) == 0;

    /// <summary>Where positions of streams are told, or null.</summary>
    internal ulong? PositionBuffer => (this[DPLBASE] & PositionEnable) == 0 ? null
        : (ulong)this[DPUBASE] << 32 | this[DPLBASE] & ~PositionEnable;

    public ulong Read(ulong offset, int size)
    {
        int at = (int)offset & ~3, shift = ((int)offset & 3) * 8;
        return (ulong)(ReadDword(at) >> shift) & (1UL << size * 8) - 1;
    }

    public void Write(ulong offset, int size, ulong value)
    {
        for (int i = 0; i < size; i++) WriteByte((int)offset + i, (byte)(value >> (i * 8)));
        Update();
    }

    /// <summary>The running stream of a number, or null.</summary>
    internal HdaStream? FindStream(int tag, bool isOutput)
    {
        if (tag == 0 || IsReset) return null;
        int first = isOutput ? InputStreams : 0, end = first + (isOutput ? OutputStreams : InputStreams);
        for (int i = first; i < end; i++)
            if (_streams[i].IsRunning && _streams[i].Tag == tag) return _streams[i];
        return null;
    }

    /// <summary>Raises what is enabled. Section 3.3.15.</summary>
    internal void Update() => Interrupt((InterruptStatus & GIE) != 0 && (this[INTCTL] & GIE) != 0);

    protected override void ResetDevice() => ResetRegisters();

    protected override void ExchangeDevice(StateStream state)
    {
        foreach (Register register in s_registers)
            state.Group("register", register.Offset / 4).Field("value", ref this[register.Offset]);
        _rings.Exchange(state.Group("rings"));
        for (int i = 0; i < _streams.Length; i++) _streams[i].Exchange(state.Group("stream", i));
        state.Field("wall-start", ref _wallStart);
    }

    uint InterruptStatus
    {
        get
        {
            uint status = 0;
            for (int i = 0; i < _streams.Length; i++)
                if (_streams[i].WantsInterrupt) status |= 1u << i;
            if (_rings.WantsInterrupt || (this[WAKEEN] >> StateStsShift & this[WAKEEN]) != 0) status |= CIE;
            return (status & this[INTCTL]) != 0 ? status | GIE : status;
        }
    }

    uint ReadDword(int at)
    {
        // section 3.3.44: the positions and the clock again, where they can be given to users alone
        if (at >= AliasAt && (at - AliasAt == WALCLK || at - AliasAt >= Streams)) at -= AliasAt;
        int stream = (at - Streams) / HdaStream.Size;
        return at switch
        {
            INTSTS => InterruptStatus,
            WALCLK => IsReset ? 0 : (uint)(_wallClock.Now - _wallStart),
            >= HdaRings.First and < HdaRings.End => _rings.Read(at),
            < Streams => this[at],
            _ => stream < _streams.Length ? _streams[stream].Read((at - Streams) % HdaStream.Size) : 0,
        };
    }

    void WriteByte(int offset, byte value)
    {
        int at = offset & ~3, shift = (offset & 3) * 8;
        if (IsReset && at != GCTL) return;
        if (at is >= HdaRings.First and < HdaRings.End) _rings.Write(offset, value);
        else if (at >= Streams)
        {
            int stream = (at - Streams) / HdaStream.Size;
            if (stream >= _streams.Length) return;
            _streams[stream].Write((offset - Streams) % HdaStream.Size, value);
            if ((at - Streams) % HdaStream.Size == 0) _bus.StreamsChanged();
        }
        else if (Array.FindIndex(s_registers, register => register.Offset == at) is >= 0 and var found)
        {
            uint mask = 0xFFu << shift, written = (uint)value << shift, writable = s_registers[found].Writable & mask;
            uint before = this[at];
            this[at] = (before & ~writable | written & writable) & ~(written & s_registers[found].Clearable);
            if (at == GCTL && ((before ^ this[at]) & CRST) != 0) ResetLink();
            if (at == ICIS && (written & ICB) != 0) ExecuteImmediate();
        }
    }

    /// <summary>Section 4.3: with CRST all is at its beginning; when it rises, codecs tell that they are
    /// there.</summary>
    void ResetLink()
    {
        uint control = this[GCTL];
        ResetRegisters();
        this[GCTL] = control;
        _bus.Reset();
        if ((control & CRST) == 0) return;
        this[WAKEEN] |= _bus.Present << StateStsShift;
        _wallStart = _wallClock.Now;
    }

    void ResetRegisters()
    {
        foreach (Register register in s_registers) this[register.Offset] = register.Reset;
        _rings.Reset();
        foreach (HdaStream stream in _streams) stream.Reset();
        _wallStart = 0;
        _bus.StreamsChanged();
    }

    /// <summary>Section 3.4.3: one command without the rings.</summary>
    void ExecuteImmediate()
    {
        if (_bus[this[ICOI] >> 28] is not { } codec) return;
        this[ICII] = codec.Execute(this[ICOI]);
        this[ICIS] |= IRV;
    }
}
