using Qkvm.Core.Memory;
using Qkvm.Core.State;

namespace Qkvm.Hw.Isa;

/// <summary>DMA controller: four channels' registers. Spec: Intel 8237A data sheet, order 231466; names are the
/// sheet's.</summary>
/// <param name="stride">Ports from one register to the next: 1, or 2 for the 16-bit controller.</param>
public sealed class I8237(int stride) : IRegisterBank
{
    // Mode and command
    const byte TypeMask = 0x0C, ToMemory = 0x04, FromMemory = 0x08, AutoInitialize = 0x10, Decrement = 0x20,
        Disable = 0x04;

    const int Channels = 4, ChannelRegisters = Channels * 2;
    const int StatusCommand = 8, Request = 9, SingleMask = 10, Mode = 11, ClearFlipFlop = 12, MasterClear = 13,
        ClearMask = 14, AllMask = 15;

    readonly ushort[] _base = new ushort[ChannelRegisters];        // even: base address, odd: base word count
    readonly ushort[] _current = new ushort[ChannelRegisters];
    readonly byte[] _modes = new byte[Channels];
    byte _command, _status, _request, _mask = 0x0F;
    bool _upperByte;                                               // the first/last flip-flop

    public void Reset()
    {
        Array.Clear(_base);
        Array.Clear(_current);
        Array.Clear(_modes);
        Clear();
    }

    public ulong Read(ulong offset, int size)
    {
        int register = (int)offset / stride;
        if (register < ChannelRegisters) return (byte)(_current[register] >> Shift());
        switch (register)
        {
            case StatusCommand:
                byte status = (byte)(_status | _request << 4);
                _status = 0;                                       // terminal counts
                return status;
            case AllMask: return (byte)(0xF0 | _mask);
            default: return 0;                                     // temporary register
        }
    }

    public void Write(ulong offset, int size, ulong value)
    {
        int register = (int)offset / stride;
        byte data = (byte)value;
        byte channel = (byte)(1 << (data & 3));
        switch (register)
        {
            case < ChannelRegisters:
                int shift = Shift();
                _base[register] = (ushort)(_base[register] & ~(0xFF << shift) | data << shift);
                _current[register] = _base[register];
                break;
            case StatusCommand: _command = data; break;
            case Request: _request = (byte)((data & 4) != 0 ? _request | channel : _request & ~channel); break;
            case SingleMask: _mask = (byte)((data & 4) != 0 ? _mask | channel : _mask & ~channel); break;
            case Mode: _modes[data & 3] = (byte)(data & 0xFC); break;
            case ClearFlipFlop: _upperByte = false; break;
            case MasterClear: Clear(); break;
            case ClearMask: _mask = 0; break;
            case AllMask: _mask = (byte)(data & 0x0F); break;
        }
    }

    public void Exchange(StateStream state)
    {
        for (int i = 0; i < ChannelRegisters; i++)
        {
            StateStream group = state.Group("register", i);
            group.Field("base", ref _base[i]);
            group.Field("current", ref _current[i]);
        }
        state.Block("modes", _modes);
        state.Field("command", ref _command);
        state.Field("status", ref _status);
        state.Field("request", ref _request);
        state.Field("mask", ref _mask);
        state.Field("upper-byte", ref _upperByte);
        _status &= 0x0F;
        _request &= 0x0F;
        _mask &= 0x0F;
    }

    /// <summary>Moves whole units until the channel's count is over: "Transfer types", "Autoinitialize".</summary>
    /// <param name="page">What stands in front of the current address.</param>
    /// <param name="read">Of the device that is written to; empty where it is read from.</param>
    /// <returns>How many bytes.</returns>
    public int Transfer(int channel, ulong page, Dma memory, Span<byte> read, ReadOnlySpan<byte> written)
    {
        bool fromMemory = read.Length > 0;
        int length = Math.Max(read.Length, written.Length) / stride * stride, done = 0;
        ref ushort address = ref _current[channel * 2], count = ref _current[channel * 2 + 1];
        byte mode = _modes[channel];
        if ((mode & TypeMask) != (fromMemory ? FromMemory : ToMemory)) return 0;
        while (done < length && !IsMasked(channel) && (_command & Disable) == 0)
        {
            // up to where the address turns round, or the count ends; downwards one by one
            int units = (mode & Decrement) != 0 ? 1 : Math.Min((length - done) / stride, 0x10000 - address);
            units = Math.Min(units, count + 1);
            ulong at = page | (ulong)address * (uint)stride;
            if (fromMemory) memory.Read(at, read.Slice(done, units * stride));
            else memory.Write(at, written.Slice(done, units * stride));
            done += units * stride;
            address = (ushort)((mode & Decrement) != 0 ? address - 1 : address + units);
            count = (ushort)(count - units);
            if (count == ushort.MaxValue) EndCount(channel, mode);
        }
        return done;
    }

    /// <summary>Its count is over, or it has been masked.</summary>
    public bool IsMasked(int channel) => (_mask >> channel & 1) != 0;

    void EndCount(int channel, byte mode)
    {
        _status |= (byte)(1 << channel);
        if ((mode & AutoInitialize) == 0) _mask |= (byte)(1 << channel);
        else _base.AsSpan(channel * 2, 2).CopyTo(_current.AsSpan(channel * 2));
    }

    int Shift()
    {
        int shift = _upperByte ? 8 : 0;
        _upperByte = !_upperByte;
        return shift;
    }

    void Clear()
    {
        _command = _status = _request = 0;
        _mask = 0x0F;
        _upperByte = false;
    }
}
