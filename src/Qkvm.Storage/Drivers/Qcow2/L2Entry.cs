using System.Buffers.Binary;

namespace Qkvm.Storage.Drivers.Qcow2;

enum ExtentKind { Unallocated, Zero, Data, Compressed, Invalid }

/// <summary>An entry of an L2 table: one guest cluster. Spec: QEMU docs/interop/qcow2.txt, "Cluster mapping" and
/// "Extended L2 Entries".</summary>
/// <remarks>A standard entry is treated as one with a single subcluster, so that both kinds share all code.</remarks>
/// <param name="Bitmap">Bits 0-31: subcluster allocated; bits 32-63: subcluster reads as zeros.</param>
readonly record struct L2Entry(ulong Descriptor, ulong Bitmap)
{
    public const ulong Copied = 1UL << 63, OffsetMask = 0x00FF_FFFF_FFFF_FE00;

    const ulong CompressedFlag = 1UL << 62, ZeroFlag = 1;

    public long HostOffset => IsCompressed ? 0 : (long)(Descriptor & OffsetMask);
    public bool IsCompressed => (Descriptor & CompressedFlag) != 0;
    public bool IsCopied => (Descriptor & Copied) != 0;

    /// <summary>It refers to clusters of the file.</summary>
    public bool HasHost => IsCompressed || HostOffset != 0 || (uint)Bitmap != 0;

    /// <param name="hasDataFile">Guest data may lie at offset 0: COPIED says that they do.</param>
    public static L2Entry ReadFrom(ReadOnlySpan<byte> data, bool hasDataFile = false)
    {
        ulong place = hasDataFile ? OffsetMask | Copied : OffsetMask;
        ulong descriptor = BinaryPrimitives.ReadUInt64BigEndian(data);
        if (data.Length == 16) return new L2Entry(descriptor, BinaryPrimitives.ReadUInt64BigEndian(data[8..]));
        if ((descriptor & CompressedFlag) != 0) return new L2Entry(descriptor, 0);
        if ((descriptor & ZeroFlag) != 0) return new L2Entry(descriptor & ~ZeroFlag, ZeroBits(0, 1));
        return new L2Entry(descriptor, (descriptor & place) != 0 ? AllocatedBits(0, 1) : 0);
    }

    public void WriteTo(Span<byte> data)
    {
        bool isStandardZero = data.Length == 8 && !IsCompressed && (Bitmap >> 32 & 1) != 0;
        BinaryPrimitives.WriteUInt64BigEndian(data, Descriptor | (isStandardZero ? ZeroFlag : 0));
        if (data.Length == 16) BinaryPrimitives.WriteUInt64BigEndian(data[8..], Bitmap);
    }

    public ExtentKind Kind(int subcluster)
    {
        if (IsCompressed) return ExtentKind.Compressed;
        bool isAllocated = (Bitmap >> subcluster & 1) != 0, isZero = (Bitmap >> (subcluster + 32) & 1) != 0;
        if (isAllocated && (isZero || (HostOffset == 0 && !IsCopied))) return ExtentKind.Invalid;
        return isZero ? ExtentKind.Zero : isAllocated ? ExtentKind.Data : ExtentKind.Unallocated;
    }

    public static ulong AllocatedBits(int first, int count) => ((1UL << count) - 1) << first;
    public static ulong ZeroBits(int first, int count) => AllocatedBits(first, count) << 32;

    /// <summary>The entry of a compressed cluster. "Compressed Clusters Descriptor": sectors beside the first
    /// one.</summary>
    public static L2Entry Compressed(long offset, int length, int clusterBits)
    {
        int shift = 62 - (clusterBits - 8);
        long sectors = ((offset + length - 1) >> 9) - (offset >> 9);
        return new L2Entry(CompressedFlag | (ulong)sectors << shift | (ulong)offset, 0);
    }

    /// <summary>A compressed cluster's bytes in the file: they start anywhere and end at a multiple of 512.</summary>
    public (long Offset, int Length) CompressedRange(int clusterBits)
    {
        int shift = 62 - (clusterBits - 8);
        long offset = (long)(Descriptor & ((1UL << shift) - 1));
        int sectors = (int)(Descriptor >> shift & ((1UL << (clusterBits - 8)) - 1)) + 1;
        return (offset, sectors * 512 - (int)(offset & 511));
    }
}

/// <summary>Guest bytes that lie together.</summary>
/// <param name="HostOffset">Of Data.</param>
readonly record struct Extent(ExtentKind Kind, long Length, long HostOffset, L2Entry Entry);
