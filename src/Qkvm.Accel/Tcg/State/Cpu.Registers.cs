using System.Runtime.CompilerServices;

namespace Qkvm.Accel.Tcg;

// SAFETY: State and _jit lie in the vCPU's own region, which is freed after its thread has ended.
/// <summary>General registers by operand width.</summary>
public sealed unsafe partial class Cpu
{
    /// <summary>A general register; as a byte, numbers 16 to 19 are AH CH DH BH.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public T GetReg<T>(byte number) where T : unmanaged
    {
        if (sizeof(T) == 1) return *(T*)((byte*)State->Gpr + ((number & 15) << 3) + (number >> 4));
        return *(T*)((byte*)State->Gpr + (number << 3));
    }

    /// <summary>Writes of 32 bits clear the upper half, narrower ones keep the rest of the register.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void SetReg<T>(byte number, T value) where T : unmanaged
    {
        // Narrow writes replace the whole register, so that a wide read right after finds its bytes in one store.
        ulong* gpr = (ulong*)((byte*)State->Gpr + ((sizeof(T) == 1 ? number & 15 : number) << 3));
        if (sizeof(T) == 8) *gpr = Unsafe.BitCast<T, ulong>(value);
        else if (sizeof(T) == 4) *gpr = Unsafe.BitCast<T, uint>(value);
        else if (sizeof(T) == 2) *gpr = *gpr & ~0xFFFFUL | Unsafe.BitCast<T, ushort>(value);
        else
        {
            int shift = number >> 4 << 3;
            *gpr = *gpr & ~(0xFFUL << shift) | (ulong)Unsafe.BitCast<T, byte>(value) << shift;
        }
    }

    /// <summary>Writes the low <paramref name="size"/> bytes (2, 4, 8) of a register as an address or counter of that
    /// size.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void SetSized(byte number, int size, ulong value)
    {
        if (size == 8) State->Gpr[number] = value;
        else if (size == 4) State->Gpr[number] = (uint)value;
        else SetReg(number, (ushort)value);
    }

    /// <summary>Reads the low <paramref name="size"/> bytes (2, 4, 8) of a register.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public ulong GetSized(byte number, int size)
    {
        ulong value = State->Gpr[number];
        return size == 8 ? value : size == 4 ? (uint)value : (ushort)value;
    }
}
