using System.Runtime.CompilerServices;

namespace Qkvm.Accel.Tcg;

// SAFETY: State and _jit lie in the vCPU's own region, which is freed after its thread has ended.
/// <summary>What instructions on x87, MMX and vector registers share: whether they may run, and their memory
/// operands.</summary>
public sealed unsafe partial class Cpu
{
    const ushort X87Flags = 0x3F, X87Summary = 0x8080, X87Top = 0x3800;

    internal ref ushort X87Control => ref *(ushort*)(State->Xsave.Bytes + XsaveArea.Fcw);
    internal ref ushort X87Status => ref *(ushort*)(State->Xsave.Bytes + XsaveArea.Fsw);

    /// <summary>SSE: #UD with CR0.EM or without CR4.OSFXSR, then #NM with CR0.TS. Intel SDM vol. 3, table
    /// 14-1.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal void CheckSse()
    {
        CpuState* state = State;
        if (((state->Cr0 & (Tcg.Cr0.Em | Tcg.Cr0.Ts)) | (~state->Cr4 & Cr4.Osfxsr)) != 0)
            throw SseFault();
    }

    GuestFault SseFault() =>
        (State->Cr0 & Tcg.Cr0.Em) != 0 || (State->Cr4 & Cr4.Osfxsr) == 0 ? Ud()
            : Fault(Vector.DeviceNotAvailable);

    /// <summary>AVX: #UD unless protected mode, CR4.OSXSAVE and XCR0 enable it, then #NM. Intel SDM vol. 2, section
    /// 2.4.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal void CheckAvx()
    {
        const ulong SseAndAvx = 6;
        CpuState* state = State;
        if ((state->Cr0 & (Tcg.Cr0.Ts | Tcg.Cr0.Pe)) != Tcg.Cr0.Pe
            || (state->Cr4 & Cr4.Osxsave) == 0
            || (state->Xcr0 & SseAndAvx) != SseAndAvx || IsVirtual8086) throw AvxFault();
    }

    GuestFault AvxFault() =>
        !IsProtected || IsVirtual8086 || (State->Cr4 & Cr4.Osxsave) == 0 || (State->Xcr0 & 6) != 6 ? Ud()
            : Fault(Vector.DeviceNotAvailable);

    /// <summary>MMX: #UD with CR0.EM, #NM with CR0.TS, then what the x87 has pending.</summary>
    internal void CheckMmx()
    {
        if ((State->Cr0 & Tcg.Cr0.Em) != 0) throw Ud();
        if ((State->Cr0 & Tcg.Cr0.Ts) != 0) throw Fault(Vector.DeviceNotAvailable);
        CheckX87Pending();
    }

    /// <summary>x87 instructions that do not look for pending exceptions.</summary>
    internal void CheckX87Available()
    {
        if ((State->Cr0 & (Tcg.Cr0.Em | Tcg.Cr0.Ts)) != 0) throw Fault(Vector.DeviceNotAvailable);
    }

    /// <summary>An unmasked exception waits.</summary>
    internal bool IsX87Pending => (X87Status & ~X87Control & X87Flags) != 0;

    internal void CheckX87Pending()
    {
        if (!IsX87Pending)
        {
            if (_tellsError) EndError();
        }
        else if ((State->Cr0 & Tcg.Cr0.Ne) != 0) throw Fault(Vector.X87);
        else TellError();
    }

    /// <summary>FSW.ES and B after FCW or FSW was loaded.</summary>
    internal void SummarizeX87()
    {
        if (IsX87Pending) X87Status |= X87Summary;
        else
        {
            X87Status &= unchecked((ushort)~X87Summary);
            if (_tellsError) EndError();
        }
    }

    /// <summary>The registers keep their numbers, and the area counts them from TOP: they change places in
    /// it.</summary>
    internal void SetX87Top(int top)
    {
        const int registers = 8, size = 16;
        byte* area = State->Xsave.Bytes;
        int turn = top - (X87Status >> 11 & 7);
        if (turn == 0) return;
        byte* copy = stackalloc byte[registers * size];
        Buffer.MemoryCopy(area + XsaveArea.St0, copy, registers * size, registers * size);
        for (int i = 0; i < registers; i++)
            Buffer.MemoryCopy(copy + (i + turn & 7) * size, area + XsaveArea.St0 + i * size, size, size);
        X87Status = (ushort)(X87Status & ~X87Top | top << 11);
    }

    /// <summary>MMX registers are the x87's by number: TOP becomes 0, all are valid.</summary>
    internal void EnterMmx()
    {
        SetX87Top(0);
        State->Xsave.Bytes[XsaveArea.Ftw] = 0xFF;
    }

    /// <summary>The linear address of the memory operand, checked against its segment.</summary>
    internal ulong VectorLinear(Insn* i, int size, bool write) => OperandLinear(i, size, write);

    /// <summary>The bytes of the memory operand: in guest memory itself, or a copy.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal byte* VectorSource(Insn* i, ulong linear, int size)
    {
        TlbEntry* entry = Entry(_tlb, linear);
        ulong inside = linear - entry->ReadTag;
        return inside <= (ulong)(PageSize - size) ? entry->Host + inside : VectorCopy(i, linear, size);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    internal byte* VectorCopy(Insn* i, ulong linear, int size)
    {
        byte* scratch = State->VectorScratch;
        if (_checksAlignment) CheckAlignment(linear, size, i->Segment, write: false);
        int first = (int)Math.Min((ulong)size, PageSize - (linear & PageMask));
        ReadPart(linear, scratch, first, CurrentSet, i->Segment);
        if (first < size) ReadPart(Wrap(linear + (ulong)first), scratch + first, size - first, CurrentSet, i->Segment);
        return scratch;
    }

    /// <summary>Where the memory operand can be written later, without a fault; null: through
    /// <see cref="WriteVector"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal byte* VectorTarget(Insn* i, ulong linear, int size)
    {
        TlbEntry* entry = Entry(_tlb, linear);
        ulong inside = linear - entry->WriteTag;
        return inside <= (ulong)(PageSize - size) ? entry->Host + inside : ProbeVector(i, linear, size);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    byte* ProbeVector(Insn* i, ulong linear, int size)
    {
        PrepareWrite(linear, size, i->Segment);
        return null;
    }

    internal void WriteVector(ulong linear, byte* data, int size) =>
        WriteBytes(linear, new ReadOnlySpan<byte>(data, size));
}
