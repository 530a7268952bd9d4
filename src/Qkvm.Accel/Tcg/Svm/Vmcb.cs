using System.Buffers.Binary;

namespace Qkvm.Accel.Tcg;

/// <summary>A virtual machine control block, or the area in which VMRUN keeps the host's state, which has the same
/// form: a copy of what is used of it. Spec: AMD64 APM vol. 2, appendix B.</summary>
/// <param name="area">From its first byte on.</param>
readonly ref struct Vmcb(Span<byte> area)
{
    /// <summary>Bytes in use, and of these what an exit may change: two parts.</summary>
    public const int Size = 0x698, ExitStart = 0x58, ExitEnd = 0xE0, StateStart = 0x400;

    // Control area
    public const int Intercepts = 0, PauseThreshold = 0x3C, PauseCount = 0x3E, IoMap = 0x40, MsrMap = 0x48,
        TscOffset = 0x50, Asid = 0x58, TlbControl = 0x5C, VirtualInterrupt = 0x60, InterruptShadow = 0x68,
        ExitCode = 0x70, ExitInfo1 = 0x78, ExitInfo2 = 0x80, ExitIntInfo = 0x88, NestedControl = 0x90,
        EventInjection = 0xA8, NestedCr3 = 0xB0, NextRip = 0xC8, FetchedCount = 0xD0, Fetched = 0xD1;

    // State save area
    public const int Es = StateStart, Fs = StateStart + 0x40, Gs = StateStart + 0x50, Gdtr = StateStart + 0x60,
        Ldtr = StateStart + 0x70, Idtr = StateStart + 0x80, Tr = StateStart + 0x90, Cpl = StateStart + 0xCB,
        Efer = StateStart + 0xD0, Cr4 = StateStart + 0x148, Cr3 = StateStart + 0x150, Cr0 = StateStart + 0x158,
        Dr7 = StateStart + 0x160, Dr6 = StateStart + 0x168, Rflags = StateStart + 0x170, Rip = StateStart + 0x178,
        Rsp = StateStart + 0x1D8, Rax = StateStart + 0x1F8, Star = StateStart + 0x200, LStar = StateStart + 0x208,
        CStar = StateStart + 0x210, FMask = StateStart + 0x218, KernelGsBase = StateStart + 0x220,
        SysenterCs = StateStart + 0x228, SysenterEsp = StateStart + 0x230, SysenterEip = StateStart + 0x238,
        Cr2 = StateStart + 0x240, Pat = StateStart + 0x268;

    /// <summary>Bits of <see cref="NestedControl"/> and <see cref="InterruptShadow"/>.</summary>
    public const ulong NestedPaging = 1, IsShadowed = 1;

    const int SegmentSize = 0x10, Attributes = 2, Limit = 4, Base = 8;

    readonly Span<byte> _area = area;

    public Span<byte> Bytes => _area;

    public ulong this[int at]
    {
        get => BinaryPrimitives.ReadUInt64LittleEndian(_area[at..]);
        set => BinaryPrimitives.WriteUInt64LittleEndian(_area[at..], value);
    }

    public uint Dword(int at) => BinaryPrimitives.ReadUInt32LittleEndian(_area[at..]);
    public ushort Word(int at) => BinaryPrimitives.ReadUInt16LittleEndian(_area[at..]);

    public static int SegmentAt(int number) => Es + number * SegmentSize;

    /// <summary>Attributes are those of the descriptor without the limit's bits between them; what is not present is
    /// as good as null.</summary>
    public Segment ReadSegment(int at)
    {
        ushort packed = Word(at + Attributes);
        var access = (ushort)(packed & 0xFF | (packed & 0xF00) << 4);
        return new Segment
        {
            Selector = Word(at), Access = (access & Segment.Present) != 0 ? access : (ushort)0,
            Limit = Dword(at + Limit), Base = this[at + Base],
        };
    }

    public void WriteSegment(int at, in Segment segment)
    {
        var packed = (ushort)(segment.Access & 0xFF | segment.Access >> 4 & 0xF00);
        BinaryPrimitives.WriteUInt16LittleEndian(_area[at..], segment.Selector);
        BinaryPrimitives.WriteUInt16LittleEndian(_area[(at + Attributes)..], packed);
        WriteTable(at, segment.Base, segment.Limit);
    }

    public (ulong Base, uint Limit) ReadTable(int at) => (this[at + Base], Word(at + Limit));

    public void WriteTable(int at, ulong start, uint limit)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(_area[(at + Limit)..], limit);
        this[at + Base] = start;
    }
}
