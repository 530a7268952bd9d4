using System.Runtime.InteropServices;

namespace Qkvm.Accel.Tcg;

// SAFETY: Host is a page of RAM, which the machine keeps as long as its vCPUs.
/// <summary>One linear page of 4 KiB in the software TLB. A hit is <c>linear - tag &lt;= 4096 - size</c>, which rejects
/// page crossings too.</summary>
[StructLayout(LayoutKind.Sequential, Size = 32)]
unsafe struct TlbEntry
{
    /// <summary>Of tags: none.</summary>
    public static ulong Invalid => NoAddress.Upper;

    // Flags of Known.
    public const ulong Read = 1, Write = 2, Global = 4, Large = 8, WritableRam = 16, Flags = 0xFFF;

    /// <summary>The page if loads (or, in the execute sets, fetches) may go straight to <see cref="Host"/>.</summary>
    public ulong ReadTag;

    /// <summary>The page if stores may: never for pages with decoded code, watched pages, ROM and registers.</summary>
    public ulong WriteTag;

    /// <summary>The page in host memory; null for registers.</summary>
    public byte* Host;

    /// <summary>The page whose translation this entry holds, and what is permitted; 0 if none.</summary>
    public ulong Known;
}

/// <summary>What only the slow path needs of a <see cref="TlbEntry"/>.</summary>
struct TlbDetail
{
    /// <summary>The physical page.</summary>
    public ulong Physical;

    /// <summary>Index in <see cref="CodeMaps"/>, -1 for registers.</summary>
    public int Map;
}

/// <summary>A translation: what the page leads to, and what is permitted (of <see cref="TlbEntry.Known"/>) in a
/// set.</summary>
readonly record struct PrivatePage(ulong Linear, ulong Physical, ulong Known, int Set);

/// <summary>The sets of TLB entries: one for each way in which rights are judged, so that changes of privilege flush
/// nothing.</summary>
static class TlbSet
{
    public const int User = 0, Supervisor = 1, SupervisorAc = 2;

    /// <summary>As <see cref="User"/>, with alignment checks: its entries have no tags, so that each access comes
    /// by.</summary>
    public const int UserAligned = 3;
    public const int UserFetch = 4, SupervisorFetch = 5, Count = 6;

    /// <summary>Entries of a set for data, of one for fetches: code is translated once, data is looked up again and
    /// again.</summary>
    public const int Size = 1 << 14, FetchSize = 1 << 11;

    /// <summary>Entries of all sets.</summary>
    public const int Total = UserFetch * Size + (Count - UserFetch) * FetchSize;

    /// <summary>Where a set begins among them.</summary>
    public static int Start(int set) => set < UserFetch ? set * Size : UserFetch * Size + (set - UserFetch) * FetchSize;

    public static bool IsUser(int set) => set is User or UserFetch or UserAligned;
    public static bool IsFetch(int set) => set >= UserFetch;
}
