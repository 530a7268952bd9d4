namespace Qkvm.Accel.Tcg;

// State components beyond the legacy region: where they are in an XSAVE area. Intel SDM vol. 1, sections 13.4.2, 13.4.3
// and 13.5.
// SAFETY: an Insn lies in its arena until its block has ended; what its operands point at is the vCPU's own state, or
// RAM that was looked up for the access.
static unsafe partial class VectorOps
{
    const ulong OpmaskState = 1 << 5, ZmmHighState = 1 << 6, Zmm16State = 1 << 7,
        Avx512States = OpmaskState | ZmmHighState | Zmm16State;

    /// <summary>In the standard format, where <see cref="CpuState.Xsave"/> has them too; in the order of the compacted
    /// one.</summary>
    static readonly (ulong Component, int At, int Size)[] s_components =
    [
        (AvxState, XsaveArea.YmmHigh0, 256), (OpmaskState, XsaveArea.Opmask0, 64),
            (ZmmHighState, XsaveArea.ZmmHigh0, 512), (Zmm16State, XsaveArea.Zmm16, 1024),
    ];

    /// <summary>Outside 64-bit mode registers from 8 on are left alone.</summary>
    static int Accessible(Cpu cpu, ulong component, int size) =>
        cpu.Is64Bit || component == OpmaskState ? size : component == Zmm16State ? 0 : size / 2;

    /// <summary>Bytes from the start of the area, in the compacted format for these components.</summary>
    static ulong PlaceOf(ulong component, bool isCompacted, ulong components)
    {
        int at = LegacySize + XsaveHeaderSize;
        foreach ((ulong other, int standard, int size) in s_components)
        {
            if (other == component && !isCompacted) return (ulong)standard;
            if (other == component) break;
            if ((components & other) != 0) at += size;
        }
        return component == PkruState && !isCompacted ? Model.Cpuid.PkruStandard : (ulong)at;
    }

    /// <summary>XINUSE: components that differ from their initial configuration.</summary>
    internal static ulong ComponentsInUse(Cpu cpu)
    {
        byte* area = cpu.State->Xsave.Bytes;
        ulong inUse = 0;
        if (*(ushort*)area != ControlInitial || IsAnySet(area + 2, XsaveArea.Mxcsr - 2)
            || IsAnySet(area + XsaveArea.St0, 128)) inUse |= X87State;
        if (IsAnySet(area + XsaveArea.Xmm0, RegisterCount(cpu) * 16)) inUse |= SseState;
        ulong looked = AvxState | (cpu.MayUseMasks ? OpmaskState | Zmm16State : 0)
            | (cpu.MayUseUppers ? ZmmHighState : 0);
        foreach ((ulong component, int at, int size) in s_components)
            if ((looked & component) != 0 && IsAnySet(area + at, Accessible(cpu, component, size))) inUse |= component;
        if (cpu.State->Pkru != 0) inUse |= PkruState;
        return inUse;
    }

    static bool IsAnySet(byte* at, int count) => new ReadOnlySpan<byte>(at, count).ContainsAnyExcept((byte)0);

    static void SaveComponents(Cpu cpu, ulong linear, ulong written, bool isCompacted, ulong asked)
    {
        byte* area = cpu.State->Xsave.Bytes;
        foreach ((ulong component, int at, int size) in s_components)
            if ((written & component) != 0)
                cpu.WriteBytes(linear + PlaceOf(component, isCompacted, asked),
                    new ReadOnlySpan<byte>(area + at, Accessible(cpu, component, size)));
        if ((written & PkruState) != 0)
            cpu.WriteLinear(linear + PlaceOf(PkruState, isCompacted, asked), (ulong)cpu.State->Pkru);
    }

    /// <summary>Into an image of the standard format; may fault.</summary>
    static void ReadComponents(Cpu cpu, ulong linear, ulong restored, bool isCompacted, ulong present, byte* image)
    {
        foreach ((ulong component, int at, int size) in s_components)
            if ((restored & component) != 0)
                cpu.ReadBytes(linear + PlaceOf(component, isCompacted, present),
                    new Span<byte>(image + at, Accessible(cpu, component, size)));
    }

    static void TakeComponents(Cpu cpu, ulong restored, ulong cleared, byte* image)
    {
        byte* area = cpu.State->Xsave.Bytes;
        foreach ((ulong component, int at, int size) in s_components)
        {
            int count = Accessible(cpu, component, size);
            if ((restored & component) != 0) Buffer.MemoryCopy(image + at, area + at, count, count);
            else if ((cleared & component) != 0 && (component == AvxState || cpu.MayUseMasks || cpu.MayUseUppers))
                new Span<byte>(area + at, count).Clear();
        }
        if ((restored & Avx512States) != 0 || (cleared & Avx512States) != 0 && (cpu.MayUseMasks || cpu.MayUseUppers))
            cpu.FindVectorsInUse();
    }
}
