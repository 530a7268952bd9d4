using Qkvm.Core.Memory;
using Qkvm.Core.State;

namespace Qkvm.Hw.Isa;

/// <summary>DMA controller: four channels' registers. Spec: Intel 8237A data sheet, order 231466; names are the
/// sheet's.</summary>
/// <param name="stride">Ports from one register to the next: 1, or 2 for the 16-bit controller.</param>
public sealed class I8237(int stride) : IRegisterBank
{
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
