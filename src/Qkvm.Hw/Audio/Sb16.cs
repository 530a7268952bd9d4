using Qkvm.Core.Audio;
using Qkvm.Core.Devices;
using Qkvm.Core.Irq;
using Qkvm.Core.Memory;
using Qkvm.Core.State;

namespace Qkvm.Hw.Audio;

/// <summary>A Sound Blaster 16: ports, interrupt and the block that its DMA moves; <see cref="Sb16Dsp"/> understands
/// commands. Spec: Creative, Sound Blaster Series Hardware Programming Guide, second edition.</summary>
/// <remarks>Deviations: no FM synthesizer, MPU-401, CD-ROM or joystick; no ADPCM and no samples without DMA: such
/// commands are silent.</remarks>
public sealed class Sb16 : IDevice, IRegisterBank, IAudioSource, IAudioTarget
{
    static readonly byte[] s_irqs = [9, 5, 7, 10];                 // by their bits in the mixer; 2 is 9
    const int Dma8Default = 1, Dma16Default = 5;

    public static readonly DeviceModel Model = new("sb16", BusKind.Isa,
        [
            Property.Audiodev(), Property.Number("iobase", 0x220, max: 0xFFF0),
            Property.Number("irq", 5, max: 15), Property.Number("dma", Dma8Default, max: 3),
            Property.Number("dma16", Dma16Default, min: 5, max: 7),
            Property.Number("version", 0x0405, max: 0xFFFF, help: "of its DSP"),
        ], Create) { Category = DeviceCategory.Sound, Description = "Creative Sound Blaster 16" };

    // Offsets from the base port
    const int MixerIndex = 0x04, MixerData = 0x05, DspReset = 0x06, ReadData = 0x0A, WriteCommand = 0x0C,
        ReadStatus = 0x0E, Acknowledge16 = 0x0F, FirstPort = 0x04, Ports = 0x0C;
    const byte Irq8 = 1, Irq16 = 2, HasData = 0x80, IdleStatus = 0x7F;

    readonly IIsaDma _dma;
    readonly IrqLine _irq;
    readonly int _dma8, _dma16;
    readonly Sb16Mixer _mixer;
    readonly Sb16Dsp _dsp;
    readonly PlaybackStream _out;
    readonly RecordingStream _in;
    byte _pending, _resetPort;
    Block _block;
    int _left;                                                     // bytes of the block
    bool _isMoving, _isPaused, _endsAfterBlock;

    /// <summary>What a command has asked to move.</summary>
    /// <param name="Size">Bytes between interrupts.</param>
    internal record struct Block(int Size, int Rate, SampleType Type, int Channels, bool IsInput, bool Repeats)
    {
        public readonly bool IsWide => Type is SampleType.U16 or SampleType.S16;
    }

    Sb16(Properties properties, DeviceSite site, IIsaDma dma)
    {
        int irq = (int)properties.Number("irq");
        (_dma, _irq) = (dma, site.Irq(irq));
        (_dma8, _dma16) = ((int)properties.Number("dma"), (int)properties.Number("dma16"));
        int irqBit = Array.IndexOf(s_irqs, (byte)(irq == 2 ? 9 : irq));
        _mixer = new Sb16Mixer((byte)(irqBit < 0 ? 0 : 1 << irqBit), (byte)(1 << _dma8 | 1 << _dma16));
        _dsp = new Sb16Dsp(this, (ushort)properties.Number("version"));
        string? audiodev = properties.Text("audiodev");
        _out = site.Playback(audiodev, "sb16", this);
        _in = site.Recording(audiodev, "sb16", this);
        Reset();
    }

    public string Name => Model.Name;

    /// <summary>Of the old commands: what is played has two channels.</summary>
    internal bool IsStereo => _mixer.IsStereo;

    static Sb16 Create(Properties properties, DeviceSite site)
    {
        if (site.Board.IsaDma is not { } dma) throw properties.Error("this machine has no ISA DMA");
        var card = new Sb16(properties, site, dma);
        site.MapPorts(properties.Number("iobase") + FirstPort,
            MemoryRegion.Io(card.Name, Ports, card, AccessSizes.Bytes));
        return card;
    }

    public void Reset()
    {
        _mixer.Reset();
        _dsp.Reset();
        _resetPort = 0;
        Halt();
    }

    /// <summary>As far as a reset of the DSP does.</summary>
    internal void Halt()
    {
        (_block, _left) = (default, 0);
        (_isMoving, _isPaused, _endsAfterBlock) = (false, false, false);
        Clear(Irq8 | Irq16);
        Follow();
    }

    public ulong Read(ulong offset, int size)
    {
        switch ((int)offset + FirstPort)
        {
            case MixerIndex: return _mixer.Index;
            case MixerData: return _mixer.Read(_pending);
            case ReadData: return _dsp.Read();
            case WriteCommand: return IdleStatus;                  // never busy
            case ReadStatus:
                Clear(Irq8);
                return (ulong)(IdleStatus | (_dsp.HasAnswer ? HasData : 0));
            case Acknowledge16:
                Clear(Irq16);
                return 0xFF;
            default: return 0xFF;
        }
    }

    public void Write(ulong offset, int size, ulong value)
    {
        switch ((int)offset + FirstPort)
        {
            case MixerIndex: _mixer.Index = (byte)value; break;
            case MixerData:
                _mixer.Write((byte)value);
                _out.Volume = _mixer.Volume;
                break;
            case DspReset:
                if ((_resetPort & 1) != 0 && (value & 1) == 0) _dsp.Wake();
                _resetPort = (byte)value;
                break;
            case WriteCommand: _dsp.Write((byte)value); break;
        }
    }

    public int Read(Span<byte> frames) => Move(frames, default);

    void IAudioTarget.Write(ReadOnlySpan<byte> frames) => Move(default, frames);

    public void Exchange(StateStream state)
    {
        _mixer.Exchange(state.Group("mixer"));
        _dsp.Exchange(state.Group("dsp"));
        state.Field("reset-port", ref _resetPort);
        state.Field("pending", ref _pending);
        int size = _block.Size, rate = _block.Rate, type = (int)_block.Type, channels = _block.Channels;
        bool isInput = _block.IsInput, repeats = _block.Repeats, level = _irq.Level;
        state.Field("size", ref size, 0, 0x20000);
        state.Field("rate", ref rate, 0, 1_000_000);
        state.Field("type", ref type, 0, (int)SampleType.S16);
        state.Field("channels", ref channels, 0, 2);
        state.Field("input", ref isInput);
        state.Field("repeats", ref repeats);
        _block = new Block(size, rate, (SampleType)type, channels, isInput, repeats);
        state.Field("left", ref _left, 0, 0x20000);
        state.Field("moving", ref _isMoving);
        state.Field("paused", ref _isPaused);
        state.Field("ends", ref _endsAfterBlock);
        state.Field("irq", ref level);
        if (state.IsLoading)
        {
            _irq.Restore(level);
            FollowFormat();
        }
        _out.Exchange(state.Group("out"));
        _in.Exchange(state.Group("in"));
    }

    internal void Start(Block block)
    {
        (_block, _left) = (block, block.Size);
        (_isMoving, _isPaused, _endsAfterBlock) = (true, false, false);
        Follow();
    }

    /// <param name="isWide">Of 16-bit blocks.</param>
    internal void Pause(bool isWide, bool isPaused)
    {
        if (_isMoving && _block.IsWide == isWide) _isPaused = isPaused;
        Follow();
    }

    /// <summary>"Exit auto-init DMA": with the block that is being moved.</summary>
    internal void EndAfterBlock(bool isWide)
    {
        if (_isMoving && _block.IsWide == isWide) _endsAfterBlock = true;
    }

    /// <param name="isWide">As after a 16-bit block.</param>
    internal void Raise(bool isWide)
    {
        _pending |= isWide ? Irq16 : Irq8;
        _irq.Set(true);
    }

    void Clear(int bits)
    {
        _pending &= (byte)~bits;
        if (_pending == 0) _irq.Set(false);
    }

    int Move(Span<byte> read, ReadOnlySpan<byte> written)
    {
        int length = Math.Max(read.Length, written.Length), done = 0;
        int channel = _block.IsWide ? _dma16 : _dma8;
        while (_isMoving && !_isPaused && done < length)
        {
            int count = Math.Min(length - done, _left);
            count = read.Length > 0 ? _dma.Read(channel, read.Slice(done, count))
                : _dma.Write(channel, written.Slice(done, count));
            if (count == 0) break;                                 // the guest has masked the channel
            done += count;
            _left -= count;
            if (_left > 0) continue;
            Raise(_block.IsWide);
            _isMoving = _block.Repeats && !_endsAfterBlock;
            _left = _block.Size;
        }
        Follow();
        return done;
    }

    void Follow()
    {
        FollowFormat();
        _out.IsActive = _isMoving && !_isPaused && !_block.IsInput;
        _in.IsActive = _isMoving && !_isPaused && _block.IsInput;
    }

    void FollowFormat()
    {
        _out.Format = _in.Format = new AudioFormat(_block.Rate, _block.Type, _block.Channels);
        _out.Volume = _mixer.Volume;
    }
}
