using System.Runtime.CompilerServices;

namespace Qkvm.Accel.Tcg;

// SAFETY: the operand is a register of the vCPU's own state, or RAM that was checked for its width.
/// <summary>Operands of 1, 2, 4 and 8 bytes as 64-bit values; every branch here is decided when T is.</summary>
static unsafe class Width
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Zero<T>(T value) where T : unmanaged
    {
        if (sizeof(T) == 1) return Unsafe.BitCast<T, byte>(value);
        if (sizeof(T) == 2) return Unsafe.BitCast<T, ushort>(value);
        if (sizeof(T) == 4) return Unsafe.BitCast<T, uint>(value);
        return Unsafe.BitCast<T, ulong>(value);
    }

    /// <summary>The low bits.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static T Narrow<T>(ulong value) where T : unmanaged
    {
        if (sizeof(T) == 1) return Unsafe.BitCast<byte, T>((byte)value);
        if (sizeof(T) == 2) return Unsafe.BitCast<ushort, T>((ushort)value);
        if (sizeof(T) == 4) return Unsafe.BitCast<uint, T>((uint)value);
        return Unsafe.BitCast<ulong, T>(value);
    }

    /// <summary>The low bits, sign-extended.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Signed<T>(ulong value) where T : unmanaged
    {
        if (sizeof(T) == 1) return (ulong)(sbyte)value;
        if (sizeof(T) == 2) return (ulong)(short)value;
        if (sizeof(T) == 4) return (ulong)(int)value;
        return value;
    }

    /// <summary>The low bits, zero-extended.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Cut<T>(ulong value) where T : unmanaged
    {
        if (sizeof(T) == 1) return (byte)value;
        if (sizeof(T) == 2) return (ushort)value;
        if (sizeof(T) == 4) return (uint)value;
        return value;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int Bits<T>() where T : unmanaged => sizeof(T) * 8;

    /// <summary>Moves the operand's top bit to bit 63.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong ToTop<T>(ulong value) where T : unmanaged => value << (64 - sizeof(T) * 8);
}
