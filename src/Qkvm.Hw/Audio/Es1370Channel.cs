using Qkvm.Core.Audio;
using Qkvm.Core.State;

namespace Qkvm.Hw.Audio;

/// <summary>One of DAC1, DAC2 and the ADC: a ring of memory that it moves frames through, and a count of frames after
/// which it asks for attention. Spec: ENSONIQ AudioPCI ES1370 Specification, "Frame address and frame count
/// registers", "Sample count register"; names are the sheet's.</summary>
/// <param name="shift">Of its format in the Serial Interface Control Register.</param>
/// <param name="status">Its bit in the Interrupt/Chip Select Status Register.</param>
sealed class Es1370Channel(Es1370 card, int shift, uint status, uint enable, uint pause, uint interruptEnable)
    : IAudioSource, IAudioTarget
{
    const int Stereo = 1, Sixteen = 2, DwordSize = 4;

    uint _frameAddress, _frameCount, _sampleCount;                 // counts: the size, less one; above, where it is
    byte _byte;                                                    // of the dword that it is at

    public uint Status => status;
    public uint InterruptEnable => interruptEnable;
    public uint FrameAddress { get => _frameAddress; set => _frameAddress = value & ~3u; }

    public uint FrameCount
    {
        get => _frameCount;
        set => (_frameCount, _byte) = (value, 0);
    }

    /// <summary>Writing it begins a new count.</summary>
    public uint SampleCount
    {
        get => _sampleCount;
        set => _sampleCount = value << 16 | value & 0xFFFF;
    }

    public bool IsRunning => (card.Control & enable) != 0 && (card.Serial & pause) == 0;

    public AudioFormat Format(int rate)
    {
        uint format = card.Serial >> shift;
        return new AudioFormat(rate, (format & Sixteen) != 0 ? SampleType.S16 : SampleType.U8,
            (format & Stereo) != 0 ? 2 : 1);
    }

    public void Reset()
    {
        _frameAddress = _frameCount = _sampleCount = 0;
        _byte = 0;
    }

    public int Read(Span<byte> frames) => Transfer(frames, default);

    void IAudioTarget.Write(ReadOnlySpan<byte> frames) => Transfer(default, frames);

    public void Exchange(StateStream state)
    {
        state.Field("frame-address", ref _frameAddress);
        state.Field("frame-count", ref _frameCount);
        state.Field("sample-count", ref _sampleCount);
        state.Field("byte", ref _byte);
        if (_byte >= DwordSize) throw state.Refuse("byte", "a dword has four");
    }

    int Transfer(Span<byte> read, ReadOnlySpan<byte> written)
    {
        int length = Math.Max(read.Length, written.Length), done = 0;
        int frame = Format(1).FrameSize;
        while (done < length && IsRunning)
        {
            int at = (int)(_frameCount >> 16) * DwordSize + _byte;
            int size = ((int)(_frameCount & 0xFFFF) + 1) * DwordSize;
            if (at >= size) at = 0;                                // the guest put it beyond the end
            int frames = (int)(_sampleCount >> 16) + 1;
            int count = Math.Min(Math.Min(length - done, size - at), frames * frame);
            if (read.Length > 0) card.Dma.Read(_frameAddress + (uint)at, read.Slice(done, count));
            else card.Dma.Write(_frameAddress + (uint)at, written.Slice(done, count));
            done += count;
            at = (at + count) % size;
            _frameCount = _frameCount & 0xFFFF | (uint)(at / DwordSize) << 16;
            _byte = (byte)(at % DwordSize);
            // a frame that the end of the ring cuts counts once
            int moved = (count + frame - 1) / frame;
            if (moved < frames) _sampleCount -= (uint)moved << 16;
            else
            {
                _sampleCount = _sampleCount & 0xFFFF | _sampleCount << 16;
                card.Finished(this);
            }
        }
        return done;
    }
}
