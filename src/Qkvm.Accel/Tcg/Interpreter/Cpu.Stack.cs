using System.Runtime.CompilerServices;

namespace Qkvm.Accel.Tcg;

// SAFETY: State and _jit lie in the vCPU's own region, which is freed after its thread has ended.
/// <summary>The stack. Its address size is 64 bits in 64-bit mode, else 32 or 16 as SS.B says, whatever the operand's
/// size.
/// Intel SDM vol. 1, section 6.2.3.</summary>
public sealed unsafe partial class Cpu
{
    /// <summary>Bytes of the stack pointer in use: 8, 4 or 2.</summary>
    public int StackSize => Is64Bit ? 8 : (State->Ss.Access & Segment.Big) != 0 ? 4 : 2;

    /// <summary>All ones where the stack pointer counts.</summary>
    public ulong StackMask => Is64Bit ? ulong.MaxValue : (State->Ss.Access & Segment.Big) != 0 ? uint.MaxValue
        : ushort.MaxValue;

    /// <summary>RSP, ESP or SP.</summary>
    public ulong StackPointer
    {
        get => State->Gpr[4] & StackMask;
        set
        {
            var mask = StackMask;
            // A 16-bit stack keeps the upper bits of ESP; a 32-bit one clears those of RSP.
            State->Gpr[4] = mask == ushort.MaxValue ? State->Gpr[4] & ~mask | value & mask : value & mask;
        }
    }

    /// <summary>Faults before RSP changes.</summary>
    public void Push<T>(T value) where T : unmanaged
    {
        var to = StackPointer - (ulong)sizeof(T) & StackMask;
        Write(Seg.Ss, to, value);
        StackPointer = to;
    }

    public T Pop<T>() where T : unmanaged
    {
        var from = StackPointer;
        T value = Read<T>(Seg.Ss, from);
        StackPointer = from + (ulong)sizeof(T);
        return value;
    }

    /// <summary>Reads from <paramref name="offset"/> above the top without popping, so that all of several pops may
    /// fault first.</summary>
    public T Peek<T>(ulong offset = 0) where T : unmanaged => Read<T>(Seg.Ss, StackPointer + offset & StackMask);

    /// <summary>Removes what <see cref="Peek"/> has read.</summary>
    public void Drop(ulong bytes) => StackPointer += bytes;

    /// <summary>Writes below the top without moving it; follow by <see cref="Drop"/> of a negative count.</summary>
    public void Poke<T>(ulong below, T value) where T
        : unmanaged => Write(Seg.Ss, StackPointer - below & StackMask, value);

    /// <summary>PUSH in 64-bit mode, where a stack of flat addresses needs no check that the TLB does not
    /// make.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal void Push64(ulong value)
    {
        ulong to = State->Gpr[4] - 8;
        TlbEntry* entry = Entry(_tlb, to);
        ulong inside = to - entry->WriteTag;
        if (inside <= PageSize - 8) *(ulong*)(entry->Host + inside) = value;
        else WriteMissed(to, value, Seg.Ss, CurrentSet);
        State->Gpr[4] = to;
    }

    /// <summary>What POP in 64-bit mode reads.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal ulong Top64()
    {
        ulong from = State->Gpr[4];
        TlbEntry* entry = Entry(_tlb, from);
        ulong inside = from - entry->ReadTag;
        return inside <= PageSize - 8 ? *(ulong*)(entry->Host + inside) : ReadMissed<ulong>(from, Seg.Ss, CurrentSet);
    }
}
