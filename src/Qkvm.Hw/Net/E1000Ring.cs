using static Qkvm.Hw.Net.E1000Registers;

namespace Qkvm.Hw.Net;

/// <summary>A ring of descriptors as its registers describe it. Intel 317453, sections 3.2.6 and
/// 3.4.</summary>
/// <remarks>Head and tail count 16 bytes, whatever the size of a descriptor: those of several buffers count
/// twice.</remarks>
readonly struct E1000Ring(RegisterFile registers, int at, int descriptorSize = E1000Ring.DescriptorSize)
{
    public const int DescriptorSize = 16;

    public int Size => (int)(registers[at + Length] / descriptorSize);

    /// <summary>That a descriptor counts for.</summary>
    int Step => descriptorSize / DescriptorSize;

    int Units => Size * Step;

    int HeadIndex
    {
        get => (int)registers[at + Head];
        set => registers[at + Head] = (uint)value;
    }

    /// <summary>Descriptors from the head to the tail, which are the card's; none where an index is outside the
    /// ring.</summary>
    public int Available
    {
        get
        {
            int size = Units, head = HeadIndex, tail = (int)registers[at + Tail];
            if ((uint)head >= (uint)size || (uint)tail >= (uint)size) return 0;
            return (tail >= head ? tail - head : tail - head + size) / Step;
        }
    }

    /// <summary>Of the descriptor at the head.</summary>
    public ulong Address => (registers[at + BaseLow] & ~15u | (ulong)registers[at + BaseHigh] << 32)
        + (ulong)HeadIndex * DescriptorSize;

    public void Advance() => HeadIndex = HeadIndex + Step >= Units ? 0 : HeadIndex + Step;
}
