using Qkvm.Core.Audio;
using Qkvm.Core.Memory;
using Qkvm.Core.State;

namespace Qkvm.Hw.Audio;

/// <summary>One of the bus master's channels: a ring of 32 buffers in guest memory. Spec: Intel 82801AA (ICH), order
/// 290655, section 13.2 ("NABM"); names are the sheet's.</summary>
sealed class Ac97Channel(Ac97 card, uint interrupt) : IAudioSource, IAudioTarget
{
    public const int Size = 0x10;

    // Offsets in the channel
    const int BDBAR = 0x00, CIV = 0x04, LVI = 0x05, SR = 0x06, PICB = 0x08, PIV = 0x0A, CR = 0x0B;

    // Status, control
    const ushort DCH = 0x01, CELV = 0x02, LVBCI = 0x04, BCIS = 0x08, FIFOE = 0x10, Clearable = LVBCI | BCIS | FIFOE;
    const byte RPBM = 0x01, RR = 0x02, LVBIE = 0x04, FEIE = 0x08, IOCE = 0x10, CrBits = 0x1F;

    // "Buffer Descriptor List"
    const int Descriptors = 32, DescriptorSize = 8, SampleSize = 2;
    const uint IOC = 1u << 31;

    uint _bdbar, _address, _control;                               // the last two: where the buffer goes on
    byte _civ, _lvi, _piv, _cr;
    ushort _sr = DCH, _picb;

    /// <summary>The Global Status bit that its interrupts show as.</summary>
    public uint Interrupt => interrupt;

    public bool IsRunning => (_cr & RPBM) != 0 && (_sr & DCH) == 0;

    public bool WantsInterrupt => (_sr & LVBCI) != 0 && (_cr & LVBIE) != 0 || (_sr & BCIS) != 0 && (_cr & IOCE) != 0
        || (_sr & FIFOE) != 0 && (_cr & FEIE) != 0;

    public void Reset()
    {
        (_bdbar, _address, _control) = (0, 0, 0);
        _civ = _lvi = _piv = _cr = 0;
        (_sr, _picb) = (DCH, 0);
    }

    public byte Read(int offset) => offset switch
    {
        < CIV => (byte)(_bdbar >> (offset * 8)),
        CIV => _civ,
        LVI => _lvi,
        SR => (byte)_sr,
        PICB => (byte)_picb,
        PICB + 1 => (byte)(_picb >> 8),
        PIV => _piv,
        CR => _cr,
        _ => 0,
    };

    public void Write(int offset, byte value)
    {
        switch (offset)
        {
            case < CIV when (_cr & RPBM) == 0:
                int shift = offset * 8;
                _bdbar = (_bdbar & ~(0xFFu << shift) | (uint)value << shift) & ~7u;
                break;
            case LVI:
                _lvi = (byte)(value % Descriptors);
                // "If the channel is halted at the last valid buffer, writing LVI makes it go on"
                if ((_cr & RPBM) != 0 && (_sr & DCH) != 0) Advance();
                break;
            case SR: _sr &= (ushort)~(value & Clearable); break;
            case CR: Control(value); break;
        }
        card.Update(this);
    }

    public int Read(Span<byte> frames) => Transfer(frames, default);

    void IAudioTarget.Write(ReadOnlySpan<byte> frames) => Transfer(default, frames);

    public void Exchange(StateStream state)
    {
        state.Field("bdbar", ref _bdbar);
        state.Field("address", ref _address);
        state.Field("control", ref _control);
        state.Field("civ", ref _civ);
        state.Field("lvi", ref _lvi);
        state.Field("piv", ref _piv);
        state.Field("cr", ref _cr);
        state.Field("sr", ref _sr);
        state.Field("picb", ref _picb);
        if (_civ >= Descriptors || _lvi >= Descriptors || _piv >= Descriptors)
            throw state.Refuse("civ", "a ring has 32 buffers");
    }

    void Control(byte value)
    {
        if ((value & RR) != 0)
        {
            Reset();
            return;
        }
        bool starts = (value & RPBM & ~_cr) != 0;
        _cr = (byte)(value & CrBits);
        if ((_cr & RPBM) == 0) _sr |= DCH;
        else if (starts && _picb > 0 && (_sr & CELV) == 0) _sr &= unchecked((ushort)~DCH); // "pause" is over
        else if (starts) Advance();
    }

    /// <summary>On to the prefetched buffer.</summary>
    void Advance()
    {
        _sr &= unchecked((ushort)~(DCH | CELV));
        _civ = _piv;
        _piv = (byte)((_piv + 1) % Descriptors);
        ulong at = _bdbar + (ulong)(_civ * DescriptorSize);
        _address = (uint)card.Dma.Read(at, 4) & ~1u;
        _control = (uint)card.Dma.Read(at + 4, 4);
        _picb = (ushort)_control;
    }

    /// <summary>Moves samples until there are no more, or the ring halts: an empty buffer ends at once, and after 32 of
    /// them comes the last valid one.</summary>
    int Transfer(Span<byte> read, ReadOnlySpan<byte> written)
    {
        int length = Math.Max(read.Length, written.Length), done = 0;
        while (IsRunning && done < length)
        {
            int count = Math.Min(length - done, _picb * SampleSize);
            if (read.Length > 0) card.Dma.Read(_address, read.Slice(done, count));
            else card.Dma.Write(_address, written.Slice(done, count));
            _address += (uint)count;
            _picb -= (ushort)(count / SampleSize);
            done += count;
            if (_picb == 0) Complete();
        }
        card.Update(this);
        return done;
    }

    void Complete()
    {
        if ((_control & IOC) != 0) _sr |= BCIS;
        if (_civ == _lvi) _sr |= LVBCI | CELV | DCH;
        else Advance();
    }
}
