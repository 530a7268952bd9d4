using Qkvm.Core.Audio;
using Qkvm.Core.Devices;
using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Core.State;

namespace Qkvm.Hw.Audio;

/// <summary>The AC '97 audio controller of the 82801AA (ICH). Spec: Intel 82801AA, order 290655, chapter 13; names are
/// the sheet's.</summary>
/// <remarks>Deviations: the codec is ready at once, and in a cold reset too; no FIFO error ever occurs; no modem and no
/// second codec; interrupts of GPIO and resume never come.</remarks>
public sealed class Ac97 : PciDevice
{
    public static readonly DeviceModel Model = new("AC97", BusKind.Pci, [Property.Audiodev()],
        static (properties, site) => new Ac97(properties.Text("audiodev"), site))
    { Category = DeviceCategory.Sound, Description = "Intel 82801AA AC97 Audio" };

    const ushort Intel = 0x8086, DeviceId = 0x2415;
    const uint AudioClass = 0x040100;
    const int MixerSize = 0x400, BusMasterSize = 0x100;
    const ushort MediumDevsel = 0x0280;                            // and fast back-to-back

    // "Global" registers behind those of the channels
    const int GLOB_CNT = 0x2C, GLOB_STA = 0x30, CAS = 0x34;
    const uint ColdReset = 0x02, WarmReset = 0x04, CntBits = 0x3F, PrimaryReady = 0x100;
    const uint PIINT = 0x20, POINT = 0x40, MINT = 0x80;

    readonly Ac97Codec _codec = new();
    readonly Ac97Channel[] _channels;                              // PCM in, PCM out, microphone
    readonly PlaybackStream _out;
    readonly RecordingStream _in, _microphone;
    uint _globalControl;
    bool _semaphore;                                               // CAS

    public Ac97(string? audiodev, DeviceSite site)
        : base(new PciIdentity(Intel, DeviceId, AudioClass, Revision: 1), Model.Name)
    {
        _channels = [new(this, PIINT), new(this, POINT), new(this, MINT)];
        _in = site.Recording(audiodev, "ac97.pi", _channels[0]);
        _out = site.Playback(audiodev, "ac97.po", _channels[1]);
        _microphone = site.Recording(audiodev, "ac97.mc", _channels[2]);
        Config.Define16(PciConfig.Status, MediumDevsel);
        Bar(0, MemoryRegion.Io("ac97-nam", MixerSize, new Mixer(this), new AccessSizes(1, 4, 2, 2)), BarKind.Io);
        Bar(1, MemoryRegion.Io("ac97-nabm", BusMasterSize, new BusMaster(this), AccessSizes.Bytes), BarKind.Io);
        Follow();
    }

    protected override void ResetDevice()
    {
        _globalControl = 0;
        _semaphore = false;
        ResetCodec();
        Update(_channels[0]);
    }

    protected override void ExchangeDevice(StateStream state)
    {
        _codec.Exchange(state.Group("codec"));
        for (int i = 0; i < _channels.Length; i++) _channels[i].Exchange(state.Group("channel", i));
        state.Field("global-control", ref _globalControl);
        state.Field("semaphore", ref _semaphore);
        if (state.IsLoading) Follow();
        _in.Exchange(state.Group("pi"));
        _out.Exchange(state.Group("po"));
        _microphone.Exchange(state.Group("mc"));
    }

    /// <summary>After a channel's registers changed.</summary>
    internal void Update(Ac97Channel channel)
    {
        bool wanted = false;
        foreach (Ac97Channel any in _channels) wanted |= any.WantsInterrupt;
        IntX.Set(wanted);
        if (channel == _channels[0]) _in.IsActive = channel.IsRunning;
        else if (channel == _channels[1]) _out.IsActive = channel.IsRunning;
        else _microphone.IsActive = channel.IsRunning;
    }

    void ResetCodec()
    {
        _codec.Reset();
        foreach (Ac97Channel channel in _channels)
        {
            channel.Reset();
            Update(channel);
        }
        Follow();
    }

    /// <summary>What is played is as the mixer says.</summary>
    void Follow()
    {
        _in.Format = new AudioFormat(_codec.Rate(Ac97Codec.PcmLrAdcRate), SampleType.S16, 2);
        _out.Format = new AudioFormat(_codec.Rate(Ac97Codec.PcmFrontDacRate), SampleType.S16, 2);
        _microphone.Format = new AudioFormat(_codec.Rate(Ac97Codec.MicAdcRate), SampleType.S16, 1);
        _out.Volume = _codec.Volume;
    }

    uint GlobalStatus
    {
        get
        {
            uint status = PrimaryReady;
            foreach (Ac97Channel channel in _channels)
                if (channel.WantsInterrupt) status |= channel.Interrupt;
            return status;
        }
    }

    void WriteGlobalControl(int shift, byte value)
    {
        uint before = _globalControl;
        _globalControl = (before & ~(0xFFu << shift) | (uint)value << shift) & CntBits & ~WarmReset; // clears itself
        if ((before & ColdReset) != 0 && (_globalControl & ColdReset) == 0) ResetCodec();
    }

    /// <summary>NAMBAR: the codec's own registers, words.</summary>
    sealed class Mixer(Ac97 card) : IRegisterBank
    {
        public ulong Read(ulong offset, int size)
        {
            card._semaphore = false;
            return offset < Ac97Codec.Size ? card._codec.Read((int)offset & ~1) : 0UL;
        }

        public void Write(ulong offset, int size, ulong value)
        {
            card._semaphore = false;
            if (offset >= Ac97Codec.Size) return;
            card._codec.Write((int)offset & ~1, (ushort)value);
            card.Follow();
        }
    }

    /// <summary>NABMBAR.</summary>
    sealed class BusMaster(Ac97 card) : IRegisterBank
    {
        public ulong Read(ulong offset, int size)
        {
            int at = (int)offset, channel = at / Ac97Channel.Size;
            if (at < GLOB_CNT && channel < card._channels.Length)
                return card._channels[channel].Read(at % Ac97Channel.Size);
            if (at is >= GLOB_CNT and < GLOB_STA) return (byte)(card._globalControl >> ((at - GLOB_CNT) * 8));
            if (at is >= GLOB_STA and < CAS) return (byte)(card.GlobalStatus >> ((at - GLOB_STA) * 8));
            if (at != CAS) return 0;
            bool wasTaken = card._semaphore;
            card._semaphore = true;                                // "reading sets it"
            return wasTaken ? 1UL : 0;
        }

        public void Write(ulong offset, int size, ulong value)
        {
            int at = (int)offset, channel = at / Ac97Channel.Size;
            if (at < GLOB_CNT && channel < card._channels.Length)
                card._channels[channel].Write(at % Ac97Channel.Size, (byte)value);
            else if (at is >= GLOB_CNT and < GLOB_STA)
                card.WriteGlobalControl((at - GLOB_CNT) * 8, (byte)value);
        }
    }
}
