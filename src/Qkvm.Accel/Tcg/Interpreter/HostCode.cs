using Qkvm.Accel.Tcg.Thunks;

namespace Qkvm.Accel.Tcg;

// SAFETY: the code lives as long as the program; its arguments are the caller's, for the call.
/// <summary>Two host instructions that C# has no name for, as callable code: DIV of 128 bits and LOCK
/// CMPXCHG16B.</summary>
static unsafe class HostCode
{
    // mov rax,rsi; mov r8,rdx; mov rdx,rdi; div r8; mov [rcx],rdx; ret
    static ReadOnlySpan<byte> DivideBytes =>
        [0x48, 0x89, 0xF0, 0x49, 0x89, 0xD0, 0x48, 0x89, 0xFA, 0x49, 0xF7, 0xF0, 0x48, 0x89, 0x11, 0xC3];

    // push rbx; mov r8,rdx; mov rax,[rsi]; mov rdx,[rsi+8]; mov rbx,[r8]; mov rcx,[r8+8]; lock cmpxchg16b [rdi];
    // mov [rsi],rax; mov [rsi+8],rdx; setz al; movzx eax,al; pop rbx; ret
    static ReadOnlySpan<byte> Exchange16Bytes =>
    [
        0x53, 0x49, 0x89, 0xD0, 0x48, 0x8B, 0x06, 0x48, 0x8B, 0x56, 0x08, 0x49, 0x8B, 0x18, 0x49, 0x8B, 0x48, 0x08,
        0xF0, 0x48, 0x0F, 0xC7, 0x0F, 0x48, 0x89, 0x06, 0x48, 0x89, 0x56, 0x08, 0x0F, 0x94, 0xC0, 0x0F, 0xB6, 0xC0,
            0x5B, 0xC3,
    ];

    static readonly byte* s_divide = new CodeArena("host code").Add(DivideBytes);

    /// <summary>Written when first wanted: guests have it only where the host does.</summary>
    static class Exchange16
    {
        public static readonly byte* Code = new CodeArena("host code").Add(Exchange16Bytes);
    }

    /// <summary>The caller makes sure that <paramref name="high"/> is below the divisor.</summary>
    public static ulong Divide(ulong high, ulong low, ulong divisor, out ulong remainder)
    {
        ulong rest;
        ulong quotient = ((delegate* unmanaged[SuppressGCTransition]<ulong, ulong, ulong, ulong*, ulong>)s_divide)(high,
            low, divisor, &rest);
        remainder = rest;
        return quotient;
    }

    /// <summary>LOCK CMPXCHG16B on 16 aligned bytes; <paramref name="expected"/> receives what was there.</summary>
    public static bool CompareExchange16(byte* at, ulong* expected, ulong* desired) =>
        ((delegate* unmanaged[SuppressGCTransition]<byte*, ulong*, ulong*, int>)Exchange16.Code)(at, expected,
            desired) != 0;
}
