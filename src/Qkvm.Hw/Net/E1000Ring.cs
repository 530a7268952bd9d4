using static Qkvm.Hw.Net.E1000Registers;

namespace Qkvm.Hw.Net;

/// <summary>A ring of descriptors as its registers describe it. Intel 317453, sections 3.2.6 and
/// 3.4.</summary>
readonly struct E1000Ring(RegisterFile registers, int at, int descriptorSize = E1000Ring.DescriptorSize)
{
    public const int DescriptorSize = 16;

    public int Size => (int)(registers[at + Length] / descriptorSize);

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
            int size = Size, head = HeadIndex, tail = (int)registers[at + Tail];
            if ((uint)head >= (uint)size || (uint)tail >= (uint)size) return 0;
            return tail >= head ? tail - head : tail - head + size;
        }
    }

    /// <summary>Of the descriptor at the head.</summary>
    public ulong Address => (registers[at + BaseLow] & ~15u | (ulong)registers[at + BaseHigh] << 32)
        + (ulong)HeadIndex * (uint)descriptorSize;

    public void Advance() => HeadIndex = HeadIndex + 1 >= Size ? 0 : HeadIndex + 1;
}
