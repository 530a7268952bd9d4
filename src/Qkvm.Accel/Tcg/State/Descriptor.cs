namespace Qkvm.Accel.Tcg;

/// <summary>A segment, system or gate descriptor as memory holds it. Intel SDM vol. 3, sections 3.4.5, 3.5, 5.8.3, 6.11
/// and
/// 6.14.1.</summary>
/// <param name="low">The first eight bytes.</param>
/// <param name="high">The next eight of the sixteen-byte forms, else 0.</param>
/// <param name="address">Where it was read: accessed and busy bits are written there.</param>
readonly struct Descriptor(ulong low, ulong high, ulong address)
{
    // Types of system descriptors, table 3-2.
    public const int Tss16 = 1, Ldt = 2, Tss16Busy = 3, CallGate16 = 4, TaskGate = 5, InterruptGate16 = 6,
        TrapGate16 = 7, Tss32 = 9, Tss32Busy = 11, CallGate32 = 12, InterruptGate32 = 14, TrapGate32 = 15;

    /// <summary>Set in the type of a TSS while its task runs or is nested in.</summary>
    public const int Busy = 2;

    public ulong Address => address;

    /// <summary>As <see cref="Segment.Access"/> has it.</summary>
    public ushort Access => (ushort)(low >> 40 & 0xF0FF);
    public byte AccessByte => (byte)(low >> 40);
    public int Type => (int)(low >> 40) & 15;
    public bool IsSegment => (Access & Segment.System) != 0;
    public int Dpl => (int)(low >> 45) & 3;
    public bool IsPresent => (Access & Segment.Present) != 0;
    public bool IsLong => (Access & Segment.Long) != 0;
    public bool IsBig => (Access & Segment.Big) != 0;

    public bool IsCode => IsSegment && (Access & Segment.Code) != 0;
    public bool IsConforming => IsCode && (Access & 4) != 0;
    public bool IsReadable => IsSegment && (Access & (Segment.Code | 2)) != Segment.Code;
    public bool IsWritableData => IsSegment && (Access & (Segment.Code | Segment.Writable)) == Segment.Writable;

    /// <summary>The type of a system descriptor; -1 for code and data.</summary>
    public int SystemType => IsSegment ? -1 : Type;

    public uint Limit
    {
        get
        {
            uint limit = (uint)(low & 0xFFFF | low >> 32 & 0xF0000);
            return (low & 1UL << 55) != 0 ? limit << 12 | 0xFFF : limit;
        }
    }

    /// <summary>64 bits wide in the sixteen-byte forms.</summary>
    public ulong Base => low >> 16 & 0xFFFFFF | low >> 32 & 0xFF000000 | high << 32;

    public ushort GateSelector => (ushort)(low >> 16);
    public ulong GateOffset16 => low & 0xFFFF;
    public ulong GateOffset32 => low & 0xFFFF | low >> 32 & 0xFFFF0000;
    public ulong GateOffset64 => GateOffset32 | high << 32;

    /// <summary>Interrupt stack table entry, 0 for none.</summary>
    public int Ist => (int)(low >> 32) & 7;

    /// <summary>How many parameters a call gate copies.</summary>
    public int Parameters => (int)(low >> 32) & 31;

    /// <summary>Bits 12..8 of the last dword: zero in sixteen-byte descriptors, lest the upper half be taken for
    /// one.</summary>
    public bool HasCleanUpperHalf => (high >> 40 & 0x1F) == 0;

    /// <summary>What LAR loads: type, DPL, P, AVL, L, D/B and G at their places in the second dword.</summary>
    public uint LoadedRights => (uint)(low >> 32) & 0x00F0FF00;

    public Segment ToSegment(ushort selector) =>
        new() { Base = Base, Limit = Limit, Access = Access, Selector = selector };
}
