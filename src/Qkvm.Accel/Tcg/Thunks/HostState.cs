namespace Qkvm.Accel.Tcg.Thunks;

/// <summary>What of its state the host's kernel lets programs use.</summary>
static unsafe class HostState
{
    /// <summary>XCR0; 0 without XSAVE. Intel SDM vol. 1, section 13.3.</summary>
    public static ulong Xcr0 { get; } = ReadXcr0();

    static ulong ReadXcr0()
    {
        const int osxsave = 1 << 27;
        if ((System.Runtime.Intrinsics.X86.X86Base.CpuId(1, 0).Ecx & osxsave) == 0) return 0;
        // xor ecx, ecx; xgetbv; shl rdx, 32; or rax, rdx; ret
        byte* code = new CodeArena("xgetbv").Add([0x31, 0xC9, 0x0F, 0x01, 0xD0, 0x48, 0xC1, 0xE2, 0x20, 0x48, 0x09, 0xD0, 0xC3]);
        return ((delegate* unmanaged<ulong>)code)();
    }
}
