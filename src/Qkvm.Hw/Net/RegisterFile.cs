using System.Buffers.Binary;
using Qkvm.Core.State;

namespace Qkvm.Hw.Net;

/// <summary>What a read does to a register of statistics.</summary>
enum OnRead : byte { Stays, Clears, ClearsWithLower }

/// <summary>A register of 32 bits as the data sheet has it.</summary>
/// <param name="Name">The data sheet's.</param>
/// <param name="Reset">After a reset of the MAC.</param>
/// <param name="Writable">Bits that a driver's write changes.</param>
/// <param name="Count">Of an array.</param>
readonly record struct Register(string Name, int Offset, uint Reset = 0, uint Writable = uint.MaxValue,
    OnRead OnRead = OnRead.Stays, int Count = 1);

/// <summary>The registers of a card, by their offsets.</summary>
sealed class RegisterFile
{
    readonly uint[] _words, _reset, _writable;
    readonly OnRead[] _onRead;
    readonly bool[] _exists;

    /// <param name="size">Bytes; a multiple of four.</param>
    public RegisterFile(IEnumerable<Register> table, int size)
    {
        int words = size / 4;
        (_words, _reset, _writable) = (new uint[words], new uint[words], new uint[words]);
        (_onRead, _exists) = (new OnRead[words], new bool[words]);
        foreach (Register register in table)
            for (int i = 0; i < register.Count; i++)
            {
                int at = register.Offset / 4 + i;
                (_reset[at], _writable[at]) = (register.Reset, register.Writable);
                (_onRead[at], _exists[at]) = (register.OnRead, true);
            }
        Reset();
    }

    public int Size => _words.Length * 4;

    public uint this[int offset] { get => _words[offset / 4]; set => _words[offset / 4] = value; }

    public void Reset() => _reset.CopyTo(_words, 0);

    /// <summary>What a driver reads; zero where nothing is.</summary>
    public uint GuestRead(int offset)
    {
        int at = offset / 4;
        if ((uint)at >= (uint)_words.Length) return 0;
        uint value = _words[at];
        if (_onRead[at] != OnRead.Stays)
        {
            _words[at] = 0;
            if (_onRead[at] == OnRead.ClearsWithLower) _words[at - 1] = 0;
        }
        return value;
    }

    public void GuestWrite(int offset, uint value)
    {
        int at = offset / 4;
        if ((uint)at < (uint)_words.Length) _words[at] = _words[at] & ~_writable[at] | value & _writable[at];
    }

    /// <summary>Counts up to the most that the register holds.</summary>
    public void Count(int offset, uint by = 1)
    {
        ref uint word = ref _words[offset / 4];
        word = by > uint.MaxValue - word ? uint.MaxValue : word + by;
    }

    /// <summary>Of a counter of two registers.</summary>
    public void CountLong(int offset, uint by)
    {
        int at = offset / 4;
        ulong value = (_words[at] | (ulong)_words[at + 1] << 32) + by;
        (_words[at], _words[at + 1]) = ((uint)value, (uint)(value >> 32));
    }

    /// <summary>One block of little endian words, each at its offset.</summary>
    public void Exchange(StateStream state)
    {
        byte[] bytes = new byte[Size];
        for (int i = 0; i < _words.Length; i++)
            BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(i * 4), _words[i]);
        state.Block("registers", bytes);
        if (!state.IsLoading) return;
        for (int i = 0; i < _words.Length; i++)
        {
            uint value = BinaryPrimitives.ReadUInt32LittleEndian(bytes.AsSpan(i * 4));
            if (value != 0 && !_exists[i]) throw state.Refuse("registers", $"nothing is at {i * 4:x}");
            _words[i] = value;
        }
    }
}
