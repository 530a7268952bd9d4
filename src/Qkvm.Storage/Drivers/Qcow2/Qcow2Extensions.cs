using System.Buffers.Binary;
using System.Text;
using Qkvm.Core.Devices;

namespace Qkvm.Storage.Drivers.Qcow2;

/// <summary>One header extension: type, length, data padded to eight bytes.</summary>
readonly record struct Qcow2Extension(uint Type, ReadOnlyMemory<byte> Data)
{
    public const uint End = 0, BackingFormat = 0xE2792ACA, FeatureNames = 0x6803F857, Bitmaps = 0x23852875,
        DataFile = 0x44415441, CryptoHeader = 0x0537BE77;

    public int PaddedLength => 8 + (Data.Length + 7) / 8 * 8;

    public void WriteTo(Span<byte> target)
    {
        BinaryPrimitives.WriteUInt32BigEndian(target, Type);
        BinaryPrimitives.WriteInt32BigEndian(target[4..], Data.Length);
        Data.Span.CopyTo(target[8..]);
    }
}

/// <summary>The header extensions of an image. Unknown ones stay as they are.</summary>
sealed class Qcow2Extensions
{
    const int FeatureNameSize = 48;

    readonly List<Qcow2Extension> _all = [];

    public static Qcow2Extensions ReadFrom(ReadOnlySpan<byte> firstCluster, Qcow2Header header, string name)
    {
        var extensions = new Qcow2Extensions();
        int end = header.BackingOffset > 0 ? (int)header.BackingOffset : firstCluster.Length;
        for (int at = header.HeaderLength; at <= end - 8;)
        {
            uint type = BinaryPrimitives.ReadUInt32BigEndian(firstCluster[at..]);
            uint length = BinaryPrimitives.ReadUInt32BigEndian(firstCluster[(at + 4)..]);
            if (type == Qcow2Extension.End) break;
            if (length > end - at - 8)
                throw new ConfigurationException($"Could not open '{name}': Header extension 0x{type:x} of {length} " +
                    "bytes is too large");
            var extension = new Qcow2Extension(type, firstCluster.Slice(at + 8, (int)length).ToArray());
            extensions._all.Add(extension);
            at += extension.PaddedLength;
        }
        return extensions;
    }

    public IReadOnlyList<Qcow2Extension> All => _all;

    /// <summary>Puts an extension in the place of the one of its type; null takes that away.</summary>
    public void Set(uint type, byte[]? data)
    {
        int at = _all.FindIndex(extension => extension.Type == type);
        _all.RemoveAll(extension => extension.Type == type);
        if (data != null) _all.Insert(at < 0 ? 0 : at, new Qcow2Extension(type, data));
    }

    /// <summary>The external data file's name, as the image has it.</summary>
    public string? DataFile => Find(Qcow2Extension.DataFile) is { Length: > 0 and < 1024 } data
        ? Encoding.UTF8.GetString(data.Span) : null;

    /// <summary>Where the LUKS header lies.</summary>
    public (long Offset, long Length)? CryptoHeader => Find(Qcow2Extension.CryptoHeader) is { Length: >= 16 } data
        ? (BinaryPrimitives.ReadInt64BigEndian(data.Span), BinaryPrimitives.ReadInt64BigEndian(data.Span[8..])) : null;

    public bool HasBitmaps => Find(Qcow2Extension.Bitmaps).Length > 0;

    public string? BackingFormat =>
        Find(Qcow2Extension.BackingFormat) is { Length: > 0 and < 256 } data ? Encoding.UTF8.GetString(data.Span)
            : null;

    /// <summary>The names that the image gives the bits of its incompatible features.</summary>
    public string FeatureNames(ulong bits)
    {
        var names = new List<string>();
        ulong unnamed = 0;
        for (int bit = 0; bit < 64; bit++)
            if ((bits >> bit & 1) == 0) continue;
            else if (FeatureName(bit) is { } name) names.Add(name);
            else unnamed |= 1UL << bit;
        if (unnamed != 0) names.Add($"Unknown incompatible feature: {unnamed:x}");
        return string.Join(", ", names);
    }

    public static byte[] FeatureNameTable()
    {
        var table = new byte[Qcow2Features.Names.Length * FeatureNameSize];
        for (int i = 0; i < Qcow2Features.Names.Length; i++)
        {
            (byte type, byte bit, string name) = Qcow2Features.Names[i];
            Span<byte> entry = table.AsSpan(i * FeatureNameSize, FeatureNameSize);
            (entry[0], entry[1]) = (type, bit);
            Encoding.ASCII.GetBytes(name, entry[2..]);
        }
        return table;
    }

    string? FeatureName(int bit)
    {
        ReadOnlySpan<byte> table = Find(Qcow2Extension.FeatureNames).Span;
        for (int size; table.Length > 2; table = table[size..])
        {
            size = Math.Min(FeatureNameSize, table.Length);
            if (table[0] != 0 || table[1] != bit) continue;
            string name = Encoding.ASCII.GetString(table[2..size]).Split('\0')[0];
            return string.Create(name.Length, name, static (text, from) =>
            {
                for (int i = 0; i < from.Length; i++) text[i] = char.IsControl(from[i]) ? '?' : from[i];
            });
        }
        foreach ((byte type, byte known, string name) in Qcow2Features.Names)
            if (type == 0 && known == bit) return name;
        return null;
    }

    /// <summary>The last one of its type, which is the one that QEMU goes by.</summary>
    public ReadOnlyMemory<byte> Find(uint type) => _all.FindLast(extension => extension.Type == type).Data;
}
