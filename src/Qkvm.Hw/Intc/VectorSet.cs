using System.Numerics;
using Qkvm.Core.State;

namespace Qkvm.Hw.Intc;

/// <summary>256 bits, one a vector: IRR, ISR or TMR of a local APIC.</summary>
public sealed class VectorSet
{
    readonly uint[] _words = new uint[8];

    /// <summary>The register of 32 vectors, 0 to 7.</summary>
    public uint Word(int index) => _words[index];

    public bool this[int vector]
    {
        get => (_words[vector >> 5] & 1u << vector) != 0;
        set
        {
            if (value) _words[vector >> 5] |= 1u << vector;
            else _words[vector >> 5] &= ~(1u << vector);
        }
    }

    /// <summary>The highest vector in the set, or -1.</summary>
    public int Highest
    {
        get
        {
            for (int i = 7; i >= 0; i--)
                if (_words[i] != 0) return i * 32 + BitOperations.Log2(_words[i]);
            return -1;
        }
    }

    /// <summary>How many are in the set.</summary>
    public int Count
    {
        get
        {
            int count = 0;
            foreach (uint word in _words) count += BitOperations.PopCount(word);
            return count;
        }
    }

    /// <summary>Several of the 32 vectors of a register.</summary>
    public void Add(int index, uint vectors) => _words[index] |= vectors;
    public void Remove(int index, uint vectors) => _words[index] &= ~vectors;

    public void Clear() => Array.Clear(_words);

    public void Exchange(StateStream state)
    {
        for (int i = 0; i < _words.Length; i++) state.Field($"word{i}", ref _words[i]);
    }
}
