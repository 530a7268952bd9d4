using System.Buffers.Binary;

namespace Qkvm.Host;

public static partial class HostProcess
{
    const int PageShift = 12;

    /// <summary>Where in the host's memory an address of this process is. Linux, Documentation/admin-guide/mm/pagemap.
    /// Null: nowhere now, or the host does not tell.</summary>
    /// <exception cref="IOException">The host has no such file.</exception>
    public static ulong? PhysicalAddressOf(ulong address)
    {
        const ulong Present = 1UL << 63, FrameBits = (1UL << 55) - 1;
        using FileStream map = File.OpenRead("/proc/self/pagemap");
        map.Position = (long)(address >> PageShift) * sizeof(ulong);
        Span<byte> entry = stackalloc byte[sizeof(ulong)];
        if (map.ReadAtLeast(entry, entry.Length, throwOnEndOfStream: false) < entry.Length) return null;
        ulong value = BinaryPrimitives.ReadUInt64LittleEndian(entry);
        if ((value & Present) == 0 || (value & FrameBits) == 0) return null;
        return (value & FrameBits) << PageShift | address & (1UL << PageShift) - 1;
    }
}
