using System.Buffers.Binary;
using System.Numerics;
using System.Text;
using System.Text.Json.Nodes;
using Qkvm.Core.Block.Images;

namespace Qkvm.Storage.Drivers.Qcow2;

/// <summary>A dirty bitmap that the image keeps. Spec: QEMU docs/interop/qcow2.txt, "Bitmaps extension".</summary>
/// <remarks>In memory from the opening to the closing; on disk it is marked in use meanwhile.</remarks>
/// <param name="size">Bytes of the disk.</param>
sealed class Qcow2Bitmap(string name, int granularityBits, long size) : DirtyBitmap(name, granularityBits, size)
{
    // flags
    const uint InUse = 1, Auto = 2, ExtraCompatible = 4;
    const int MaxNameSize = 1023, MinGranularityBits = 9, MaxGranularityBits = 31;

    public const int FixedSize = 24;

    public override bool IsPersistent => true;

    /// <summary>Is called before others change it: the image on disk is no longer as it is here.</summary>
    public Action Changing { private get; set; } = static () => { };

    protected override void OnChanging() => Changing();

    /// <summary>Where its table is on disk; 0 of one that is not there yet.</summary>
    public long TableOffset { get; set; }
    public int TableEntries { get; set; }
    byte[] Extra { get; init; } = [];

    public int PaddedSize => (FixedSize + Extra.Length + Encoding.UTF8.GetByteCount(Name) + 7) / 8 * 8;

    /// <summary>Null where the entry is impossible.</summary>
    /// <param name="data">From the entry to the directory's end.</param>
    public static Qcow2Bitmap? ReadFrom(ReadOnlySpan<byte> data, long size, int clusterSize)
    {
        if (data.Length < FixedSize) return null;
        uint entries = BinaryPrimitives.ReadUInt32BigEndian(data[8..]),
            flags = BinaryPrimitives.ReadUInt32BigEndian(data[12..]),
            extra = BinaryPrimitives.ReadUInt32BigEndian(data[20..]);
        int nameSize = BinaryPrimitives.ReadUInt16BigEndian(data[18..]), granularity = data[17];
        ulong table = BinaryPrimitives.ReadUInt64BigEndian(data);
        if (data[16] != 1 || granularity is < MinGranularityBits or > MaxGranularityBits
            || nameSize is 0 or > MaxNameSize
            || extra > data.Length - FixedSize || nameSize > data.Length - FixedSize - extra
            || (flags & ~(InUse | Auto | ExtraCompatible)) != 0 || (extra != 0 && (flags & ExtraCompatible) == 0)
            || table > 1UL << 56 || table % (uint)clusterSize != 0) return null;
        bool isInUse = (flags & InUse) != 0;
        long bytes = (((size + (1L << granularity) - 1) >> granularity) + 7) / 8;
        if (!isInUse && entries != (bytes + clusterSize - 1) / clusterSize) return null;
        return new Qcow2Bitmap(Encoding.UTF8.GetString(data.Slice(FixedSize + (int)extra, nameSize)), granularity,
            isInUse ? 0 : size)
        {
            TableOffset = (long)table, TableEntries = (int)entries, IsEnabled = (flags & Auto) != 0,
            IsInconsistent = isInUse, Extra = data.Slice(FixedSize, (int)extra).ToArray(),
        };
    }

    /// <param name="isInUse">Somebody has it open for writing.</param>
    public void WriteTo(Span<byte> data, bool isInUse)
    {
        BinaryPrimitives.WriteInt64BigEndian(data, TableOffset);
        BinaryPrimitives.WriteInt32BigEndian(data[8..], TableEntries);
        BinaryPrimitives.WriteUInt32BigEndian(data[12..], (isInUse || IsInconsistent ? InUse : 0)
            | (IsEnabled ? Auto : 0) | (Extra.Length > 0 ? ExtraCompatible : 0));
        data[16] = 1;                                              // dirty tracking bitmap
        data[17] = (byte)BitOperations.Log2((uint)Granularity);
        BinaryPrimitives.WriteUInt16BigEndian(data[18..], (ushort)Encoding.UTF8.GetByteCount(Name));
        BinaryPrimitives.WriteInt32BigEndian(data[20..], Extra.Length);
        Extra.CopyTo(data[FixedSize..]);
        Encoding.UTF8.GetBytes(Name, data[(FixedSize + Extra.Length)..]);
    }

    /// <summary>By QMP's names.</summary>
    public JsonNode Describe()
    {
        var flags = new JsonArray();
        if (IsInconsistent) flags.Add((JsonNode)"in-use");
        if (IsEnabled) flags.Add((JsonNode)"auto");
        return new JsonObject { ["flags"] = flags, ["name"] = Name, ["granularity"] = Granularity };
    }
}
