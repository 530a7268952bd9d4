using Qkvm.Core.Audio;
using Qkvm.Core.Devices;
using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Core.State;

namespace Qkvm.Hw.Audio;

/// <summary>The ENSONIQ AudioPCI. Spec: ENSONIQ AudioPCI ES1370 Specification, "Register descriptions"; names are the
/// sheet's.</summary>
/// <remarks>Deviations: the volumes of its AK4531 codec change nothing; the UART and the joystick are not connected; a
/// channel in stop mode loops, as in QEMU.</remarks>
public sealed class Es1370 : PciDevice, IRegisterBank
{
    public static readonly DeviceModel Model = new("ES1370", BusKind.Pci, [Property.Audiodev()],
        static (properties, site) => new Es1370(properties.Text("audiodev"), site))
    {
        Aliases = ["es1370"],
        Category = DeviceCategory.Sound,
        Description = "ENSONIQ AudioPCI ES1370",
    };

    const ushort Ensoniq = 0x1274, DeviceId = 0x5000;
    const uint AudioClass = 0x040100;
    const int RegionSize = 0x100;
    const ushort SlowDevsel = 0x0400;
    const byte MinimumGrant = 0x0C, MaximumLatency = 0x80;         // offsets 3Eh and 3Fh

    // Registers
    const int ControlAt = 0x00, StatusAt = 0x04, MemoryPage = 0x0C, CodecAt = 0x10, SerialAt = 0x20,
        SampleCounts = 0x24, Memory = 0x30, MemoryEnd = 0x40;
    const byte DacPage = 0x0C, AdcPage = 0x0D;

    // Control
    const uint AdcEnable = 0x10, Dac2Enable = 0x20, Dac1Enable = 0x40;
    const int RateSelectShift = 12, DivisorShift = 16;
    const uint CodecClock = 1_411_200;

    // Status
    const uint Pending = 0x8000_0000, StatusReset = 0x60, Dac1 = 4, Dac2 = 2, Adc = 1;

    // Serial Interface Control
    const uint P1InterruptEnable = 0x100, P2InterruptEnable = 0x200, R1InterruptEnable = 0x400, P1Pause = 0x800,
        P2Pause = 0x1000;

    readonly Es1370Channel[] _channels;                            // DAC1, DAC2, ADC
    readonly PlaybackStream _dac1, _dac2;
    readonly RecordingStream _adc;
    uint _control, _status, _serial;
    ushort _codec;
    byte _page;

    public Es1370(string? audiodev, DeviceSite site)
        : base(new PciIdentity(Ensoniq, DeviceId, AudioClass, SubsystemVendorId: 0x4942, SubsystemId: 0x4C4C),
            Model.Name)
    {
        _channels =
        [
            new(this, 0, Dac1, Dac1Enable, P1Pause, P1InterruptEnable),
            new(this, 2, Dac2, Dac2Enable, P2Pause, P2InterruptEnable),
            new(this, 4, Adc, AdcEnable, 0, R1InterruptEnable),
        ];
        _dac1 = site.Playback(audiodev, "es1370.dac1", _channels[0]);
        _dac2 = site.Playback(audiodev, "es1370.dac2", _channels[1]);
        _adc = site.Recording(audiodev, "es1370.adc", _channels[2]);
        Config.Define16(PciConfig.Status, SlowDevsel);
        Config.Define(PciConfig.InterruptPin + 1, MinimumGrant);
        Config.Define(PciConfig.InterruptPin + 2, MaximumLatency);
        Bar(0, MemoryRegion.Io("es1370", RegionSize, this, AccessSizes.Bytes), BarKind.Io);
        ResetDevice();
    }

    internal uint Control => _control;
    internal uint Serial => _serial;

    public ulong Read(ulong offset, int size)
    {
        int at = (int)offset & ~3, shift = ((int)offset & 3) * 8;
        return (byte)((at switch
        {
            ControlAt => _control,
            StatusAt => _status,
            MemoryPage => _page,
            CodecAt => _codec,
            SerialAt => _serial,
            >= SampleCounts and < Memory => _channels[(at - SampleCounts) / 4].SampleCount,
            >= Memory and < MemoryEnd when InMemory(at) is { } channel =>
                (at & 4) == 0 ? channel.FrameAddress : channel.FrameCount,
            _ => 0u,
        }) >> shift);
    }

    public void Write(ulong offset, int size, ulong value)
    {
        int at = (int)offset & ~3, shift = ((int)offset & 3) * 8;
        switch (at)
        {
            case ControlAt: _control = With(_control); break;
            case MemoryPage when shift == 0: _page = (byte)(value & 0x0F); break;
            case CodecAt: _codec = (ushort)With(_codec); break;
            case SerialAt:
                _serial = With(_serial);
                foreach (Es1370Channel channel in _channels)       // "disabling clears a pending interrupt"
                    if ((_serial & channel.InterruptEnable) == 0) _status &= ~channel.Status;
                break;
            case >= SampleCounts and < Memory:
                Es1370Channel counted = _channels[(at - SampleCounts) / 4];
                // the lower half is written, the upper one follows
                if (shift < 16) counted.SampleCount = With(counted.SampleCount) & 0xFFFF;
                break;
            case >= Memory and < MemoryEnd when InMemory(at) is { } ring:
                if ((at & 4) == 0) ring.FrameAddress = With(ring.FrameAddress);
                else ring.FrameCount = With(ring.FrameCount);
                break;
        }
        Follow();

        uint With(uint register) => register & ~(0xFFu << shift) | (uint)(byte)value << shift;
    }

    protected override void ResetDevice()
    {
        (_control, _status, _serial) = (1, StatusReset, 0);        // SERR_DIS
        (_codec, _page) = (0, 0);
        foreach (Es1370Channel channel in _channels) channel.Reset();
        Follow();
    }

    protected override void ExchangeDevice(StateStream state)
    {
        state.Field("control", ref _control);
        state.Field("status", ref _status);
        state.Field("serial", ref _serial);
        state.Field("codec", ref _codec);
        state.Field("page", ref _page);
        for (int i = 0; i < _channels.Length; i++) _channels[i].Exchange(state.Group("channel", i));
        if (state.IsLoading) FollowFormats();
        _dac1.Exchange(state.Group("dac1"));
        _dac2.Exchange(state.Group("dac2"));
        _adc.Exchange(state.Group("adc"));
    }

    /// <summary>A channel's count of frames has run out.</summary>
    internal void Finished(Es1370Channel channel)
    {
        if ((_serial & channel.InterruptEnable) == 0) return;
        _status |= channel.Status;
        Follow();
    }

    /// <summary>"Memory page register": which channel's ring the window shows.</summary>
    Es1370Channel? InMemory(int at) => (_page, at >> 3 & 1) switch
    {
        (DacPage, var channel) => _channels[channel],
        (AdcPage, 0) => _channels[2],
        _ => null,
    };

    void Follow()
    {
        _status = (_status & (Dac1 | Dac2 | Adc)) != 0 ? _status | Pending : _status & ~Pending;
        IntX.Set((_status & Pending) != 0);
        FollowFormats();
        _dac1.IsActive = _channels[0].IsRunning;
        _dac2.IsActive = _channels[1].IsRunning;
        _adc.IsActive = _channels[2].IsRunning;
    }

    void FollowFormats()
    {
        ReadOnlySpan<ushort> fixedRates = [5512, 11025, 22050, 44100];
        int programmable = (int)(CodecClock / ((_control >> DivisorShift & 0x1FFF) + 2));
        _dac1.Format = _channels[0].Format(fixedRates[(int)(_control >> RateSelectShift & 3)]);
        _dac2.Format = _channels[1].Format(programmable);
        _adc.Format = _channels[2].Format(programmable);
    }
}
