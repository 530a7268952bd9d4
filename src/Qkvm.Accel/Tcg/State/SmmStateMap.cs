using System.Buffers.Binary;

namespace Qkvm.Accel.Tcg;

/// <summary>The 512 bytes at FE00h of a processor's system management memory: its registers meanwhile. Spec: AMD64 APM
/// vol. 2, table 10-1. Saves or loads, as it is made.</summary>
/// <param name="area">All of it.</param>
/// <param name="loads">Registers are set from it.</param>
readonly ref struct SmmStateMap(Span<byte> area, bool loads)
{
    /// <summary>Where it lies, from SMBASE on.</summary>
    public const ulong Start = 0xFE00;
    public const int Size = 0x200;

    // Offsets in it
    public const int Es = 0x00, SegmentSize = 0x10, Gdtr = 0x60, Ldtr = 0x70, Idtr = 0x80, Tr = 0x90,
        HaltRestart = 0xC9, Efer = 0xD0, Revision = 0xFC, SmBase = 0x100, Cr4 = 0x148, Cr3 = 0x150, Cr0 = 0x158,
        Dr7 = 0x160, Dr6 = 0x168, Rflags = 0x170, Rip = 0x178, Rax = 0x1F8;

    /// <summary>Of the revision: the 64-bit map; SMBASE can be moved; there is no restart of I/O
    /// instructions.</summary>
    public const uint RevisionId = 0x0002_0064;

    const int Attributes = 2, Limit = 4, Base = 8;

    readonly Span<byte> _area = area;

    public void Field(int at, ref ulong value)
    {
        if (loads) value = BinaryPrimitives.ReadUInt64LittleEndian(_area[at..]);
        else BinaryPrimitives.WriteUInt64LittleEndian(_area[at..], value);
    }

    public void Field(int at, ref uint value)
    {
        if (loads) value = BinaryPrimitives.ReadUInt32LittleEndian(_area[at..]);
        else BinaryPrimitives.WriteUInt32LittleEndian(_area[at..], value);
    }

    public void Field(int at, ref ushort value)
    {
        if (loads) value = BinaryPrimitives.ReadUInt16LittleEndian(_area[at..]);
        else BinaryPrimitives.WriteUInt16LittleEndian(_area[at..], value);
    }

    public void Segment(int at, ref Segment segment)
    {
        const ushort attributes = 0xF0FF;                          // bits 11 to 8 belong to the limit
        Field(at, ref segment.Selector);
        Field(at + Attributes, ref segment.Access);
        Field(at + Limit, ref segment.Limit);
        Field(at + Base, ref segment.Base);
        segment.Access &= attributes;
    }

    /// <summary>A descriptor table: 16 bits of limit.</summary>
    public void Table(int at, ref ulong start, ref uint limit)
    {
        Field(at + Base, ref start);
        Field(at + Limit, ref limit);
        limit = (ushort)limit;
    }
}
