using Qkvm.Core.Audio;
using Qkvm.Core.Memory;
using Qkvm.Core.State;

namespace Qkvm.Hw.Audio;

/// <summary>A stream descriptor: a cyclic list of buffers in guest memory. Spec: High Definition Audio 1.0a, sections
/// 3.3.35 to 3.3.43 and 3.6; names are the sheet's.</summary>
/// <remarks>Deviations: buffer descriptors are read when their time comes, not ahead; no FIFO or descriptor error ever
/// occurs.</remarks>
sealed class HdaStream(HdaController controller, int index)
{
    /// <summary>From one descriptor to the next.</summary>
    public const int Size = 0x20;

    // Offsets in the descriptor, dwords
    const int CTL = 0x00, LPIB = 0x04, CBL = 0x08, LVI = 0x0C, FIFOS = 0x10, BDPL = 0x18, BDPU = 0x1C;

    // CTL, with STS in its uppermost byte
    const uint SRST = 0x01, RUN = 0x02, BCIS = 1u << 26, FIFORDY = 1u << 29, Clearable = 7u << 26;
    const int EnableToStatus = 24, TagShift = 20;                  // IOCE, FEIE and DEIE are bits 2 to 4
    const uint Enables = 0x1C;

    const int DescriptorSize = 16, FormatShift = 16, PositionSize = 8;
    const uint IOC = 1, FifoSize = 0x100;

    readonly record struct Register(int Offset, uint Reset, uint Writable);

    static readonly Register[] s_registers =
    [
        new(CTL, 0, 0x00FF_001F), new(LPIB, 0, 0), new(CBL, 0, uint.MaxValue), new(LVI, 0, 0xFF),
        new(FIFOS, FifoSize, 0x7F7F_0000),                         // with FMT above
        new(BDPL, 0, ~0x7Fu), new(BDPU, 0, uint.MaxValue),
    ];

    readonly uint[] _registers = new uint[Size / 4];
    byte _entry;                                                   // of the list
    uint _offset;                                                  // in its buffer

    ref uint this[int offset] => ref _registers[offset / 4];

    public bool IsRunning => (this[CTL] & (RUN | SRST)) == RUN;

    /// <summary>Which codecs it is for: 1 to 15.</summary>
    public int Tag => (int)(this[CTL] >> TagShift & 15);

    public ushort Format => (ushort)(this[FIFOS] >> FormatShift);

    public bool WantsInterrupt => (this[CTL] >> EnableToStatus & this[CTL] & Enables) != 0;

    public uint Position => this[LPIB];

    public void Reset()
    {
        foreach (Register register in s_registers) this[register.Offset] = register.Reset;
        (_entry, _offset) = (0, 0);
    }

    public uint Read(int offset) => offset == CTL && IsRunning ? this[CTL] | FIFORDY : _registers[offset / 4];

    public void Write(int offset, byte value)
    {
        int at = offset & ~3, shift = (offset & 3) * 8;
        if (Array.FindIndex(s_registers, register => register.Offset == at) is not (>= 0 and var found)) return;
        uint mask = 0xFFu << shift, written = (uint)value << shift, writable = s_registers[found].Writable & mask;
        this[at] = this[at] & ~writable | written & writable;
        if (at != CTL) return;
        this[CTL] &= ~(written & Clearable);
        if ((this[CTL] & SRST) == 0) return;
        uint kept = this[CTL] & SRST;
        Reset();
        this[CTL] = kept;
    }

    /// <summary>Moves bytes between a codec and guest memory.</summary>
    /// <returns>How many there were.</returns>
    public int Transfer(Span<byte> read, ReadOnlySpan<byte> written)
    {
        int length = Math.Max(read.Length, written.Length), done = 0;
        for (int empty = 0; done < length && empty <= byte.MaxValue;)
        {
            ulong descriptor = ((ulong)this[BDPU] << 32 | this[BDPL]) + (ulong)(_entry * DescriptorSize);
            ulong address = controller.Dma.Read(descriptor, 8);
            uint size = (uint)controller.Dma.Read(descriptor + 8, 4), flags = (uint)controller.Dma.Read(descriptor + 12,
                4);
            int count = (int)Math.Min((uint)(length - done), size - Math.Min(size, _offset));
            if (this[CBL] > this[LPIB]) count = (int)Math.Min((uint)count, this[CBL] - this[LPIB]);
            empty = count == 0 ? empty + 1 : 0;                    // a list of empty buffers must end, too
            if (read.Length > 0) controller.Dma.Read(address + _offset, read.Slice(done, count));
            else controller.Dma.Write(address + _offset, written.Slice(done, count));
            done += count;
            _offset += (uint)count;
            this[LPIB] += (uint)count;
            if (this[LPIB] >= this[CBL]) this[LPIB] = 0;
            if (_offset < size) continue;
            if ((flags & IOC) != 0) this[CTL] |= BCIS;
            _entry = _entry >= (byte)this[LVI] ? (byte)0 : (byte)(_entry + 1);
            _offset = 0;
        }
        if (controller.PositionBuffer is { } positions)
            controller.Dma.Write(positions + (ulong)(index * PositionSize), 4, this[LPIB]);
        return done;
    }

    public void Exchange(StateStream state)
    {
        foreach (Register register in s_registers)
            state.Group("register", register.Offset / 4).Field("value", ref this[register.Offset]);
        state.Field("entry", ref _entry);
        state.Field("offset", ref _offset);
    }

    /// <summary>Section 3.7.1: base rate, multiple, divisor, bits and channels; a format that is none has no
    /// rate.</summary>
    public static AudioFormat Decode(ushort format)
    {
        const int NotPcm = 0x8000, Base44 = 0x4000;
        int rate = ((format & Base44) != 0 ? 44100 : 48000) * ((format >> 11 & 7) + 1) / ((format >> 8 & 7) + 1);
        SampleType? type = (format >> 4 & 7) switch { 0 => SampleType.U8, 1 => SampleType.S16,
            2 or 3 or 4 => SampleType.S32, _ => null };
        bool isKnown = (format & NotPcm) == 0 && (format >> 11 & 7) <= 3 && type != null;
        return new AudioFormat(isKnown ? rate : 0, type ?? SampleType.S16, (format & 15) + 1);
    }
}
