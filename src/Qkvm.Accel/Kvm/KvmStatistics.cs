using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;
using Qkvm.Core.Accel;
using Qkvm.Host;

namespace Qkvm.Accel.Kvm;

// SAFETY: buffers are pinned while the kernel fills them; nothing is read beyond what it filled.
/// <summary>What the kernel counts of a machine or a vCPU: KVM_GET_STATS_FD of Documentation/virt/kvm/api.rst, Linux
/// 5.14. The descriptions are read once.</summary>
sealed unsafe class KvmStatistics : IDisposable
{
    const int HeaderSize = 24, DescriptorSize = 16;                // struct kvm_stats_header, kvm_stats_desc
    const int MostDescriptions = 4096, MostName = 256, MostValues = 4096;
    const uint KindMask = 0xF, UnitMask = 0xF0, BaseMask = 0xF00;
    const int UnitShift = 4;

    readonly record struct Description(Statistic Schema, int Count, long Offset);

    readonly int _fd;
    Description[]? _descriptions;                                  // read when first asked for

    KvmStatistics(int fd) => _fd = fd;

    /// <param name="owner">A machine, or a vCPU before it runs: later the call would wait until it leaves the
    /// kernel.</param>
    /// <returns>Null where the kernel counts nothing.</returns>
    public static KvmStatistics? Of(int owner)
    {
        int fd = Libc.ioctl(owner, KvmApi.GetStatistics, 0);
        return fd < 0 ? null : new KvmStatistics(fd);
    }

    public IEnumerable<Statistic> Read()
    {
        foreach (Description one in _descriptions ??= Describe())
            if (Read(one.Offset, one.Count * sizeof(ulong)) is { } bytes)
                yield return one.Schema with { Values = MemoryMarshal.Cast<byte, ulong>(bytes).ToArray() };
    }

    public void Dispose() => Libc.close(_fd);

    Description[] Describe()
    {
        if (Read(0, HeaderSize) is not { } header) return [];
        uint nameSize = Word(header, 4), count = Word(header, 8), first = Word(header, 16), data = Word(header, 20);
        if (nameSize is 0 or > MostName || count > MostDescriptions) return [];
        var found = new List<Description>();
        for (uint i = 0; i < count; i++)
        {
            if (Read(first + i * (DescriptorSize + nameSize), (int)(DescriptorSize + nameSize)) is not { } one) break;
            if (Parse(one, data) is { } description) found.Add(description);
        }
        return [.. found];
    }

    /// <summary>Null for a kind that is not known.</summary>
    static Description? Parse(ReadOnlySpan<byte> one, uint data)
    {
        uint flags = Word(one, 0), offset = Word(one, 8), bucket = Word(one, 12);
        short exponent = BinaryPrimitives.ReadInt16LittleEndian(one[4..]);
        ushort size = BinaryPrimitives.ReadUInt16LittleEndian(one[6..]);
        ReadOnlySpan<byte> name = one[DescriptorSize..];
        if (name.IndexOf((byte)0) is >= 0 and var end) name = name[..end];
        uint kind = flags & KindMask, unit = (flags & UnitMask) >> UnitShift;
        if (kind > (uint)StatisticKind.Log2Histogram || unit > 1 + (uint)StatisticUnit.Boolean
            || size is 0 or > MostValues) return null;
        var schema = new Statistic(Encoding.ASCII.GetString(name), (StatisticKind)kind,
            unit == 0 ? null : (StatisticUnit)(unit - 1), (flags & BaseMask) == 0 ? 10 : 2, exponent,
            kind == (uint)StatisticKind.LinearHistogram ? bucket : 0, []);
        return new Description(schema, size, (long)data + offset);
    }

    byte[]? Read(long offset, int length)
    {
        var bytes = new byte[length];
        fixed (byte* start = bytes)
        {
            var piece = new Iovec { Base = start, Length = (nuint)length };
            return Libc.preadv(_fd, &piece, 1, offset) == length ? bytes : null;
        }
    }

    static uint Word(ReadOnlySpan<byte> bytes, int at) => BinaryPrimitives.ReadUInt32LittleEndian(bytes[at..]);
}
