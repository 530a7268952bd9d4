namespace Qkvm.Accel.Tcg;

/// <summary>What stands for no address where addresses are compared. Canonical in no paging mode, whatever data
/// pointers may hold.</summary>
/// <remarks>A guest may use any 64 bits as an address, these too, and would then find what is not there; so nobody
/// knows them: 47 bits are random.</remarks>
static class NoAddress
{
    // Bits 63 and 62 differ, and bits 56 and 47 from bit 63: Intel SDM vol. 1, section 3.3.7.1; vol. 3, section 4.4.
    const ulong Fixed = 3UL << 62 | 1UL << 56 | 1UL << 47;

    /// <summary>Bit 63 is set.</summary>
    public static readonly ulong Upper = Random() | 1UL << 63, OtherUpper = Random() | 1UL << 63;

    public static readonly ulong Lower = Random() | Fixed & ~(1UL << 63);

    static ulong Random() => (ulong)System.Random.Shared.NextInt64() & ~(Fixed | 0xFFF);
}
