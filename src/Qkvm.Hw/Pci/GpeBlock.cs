using Qkvm.Core.Memory;
using Qkvm.Core.State;

namespace Qkvm.Hw.Pci;

/// <summary>A block of general purpose events: status bytes, where writing one clears, then as many enable bytes. Spec:
/// ACPI 3.0, section 4.7.4.1.</summary>
/// <param name="length">Of both together, in bytes, up to 16.</param>
/// <param name="changed">What is pending and enabled may have changed.</param>
public sealed class GpeBlock(int length, Action changed) : IRegisterBank
{
    readonly int _half = length / 2;
    ulong _status, _enable;

    public bool IsPending => (_status & _enable) != 0;

    public void Reset() => _status = _enable = 0;

    /// <summary>An event has happened.</summary>
    public void Raise(int gpe)
    {
        _status |= 1UL << gpe;
        changed();
    }

    public ulong Read(ulong offset, int size)
    {
        ulong value = 0;
        for (int i = 0; i < size; i++) value |= (ulong)ReadByte((int)offset + i) << i * 8;
        return value;
    }

    public void Write(ulong offset, int size, ulong value)
    {
        for (int i = 0; i < size; i++) WriteByte((int)offset + i, (byte)(value >> i * 8));
        changed();
    }

    public void Exchange(StateStream state)
    {
        state.Field("status", ref _status);
        state.Field("enable", ref _enable);
    }

    byte ReadByte(int offset) => offset < _half ? (byte)(_status >> offset * 8)
        : offset < 2 * _half ? (byte)(_enable >> (offset - _half) * 8) : (byte)0;

    void WriteByte(int offset, byte value)
    {
        if (offset < _half) _status &= ~((ulong)value << offset * 8);
        else if (offset < 2 * _half)
            _enable = _enable & ~(0xFFUL << (offset - _half) * 8) | (ulong)value << (offset - _half) * 8;
    }
}
