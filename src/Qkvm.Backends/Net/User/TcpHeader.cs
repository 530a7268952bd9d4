using System.Buffers.Binary;

namespace Qkvm.Backends.Net.User;

[Flags]
enum TcpFlags : byte { None = 0, Fin = 1, Syn = 2, Rst = 4, Psh = 8, Ack = 16 }

/// <summary>A TCP header as it came. RFC 9293, section 3.1; window scale RFC 7323.</summary>
readonly ref struct TcpHeader
{
    public const int MinLength = 20, MaxLength = 60;

    const byte EndOfOptions = 0, NoOperation = 1, MaximumSegmentSize = 2, WindowScaleOption = 3;
    const int MaxScale = 14;

    public ushort SourcePort { get; private init; }
    public ushort DestinationPort { get; private init; }
    public uint Sequence { get; private init; }
    public uint Acknowledgment { get; private init; }
    public TcpFlags Flags { get; private init; }
    public ushort Window { get; private init; }

    /// <summary>Bytes, options included.</summary>
    public int Length { get; private init; }

    /// <summary>Of the options; 0 if it is not there.</summary>
    public ushort SegmentSize { get; private init; }

    /// <summary>0 to 14, or -1 if the option is not there.</summary>
    public int WindowScale { get; private init; }

    public bool Has(TcpFlags flag) => (Flags & flag) != 0;

    /// <param name="head">The segment, at least its header.</param>
    /// <param name="length">Of the whole segment.</param>
    public static bool TryParse(ReadOnlySpan<byte> head, int length, out TcpHeader header)
    {
        header = default;
        if (head.Length < MinLength || length < MinLength) return false;
        int size = (head[12] >> 4) * 4;
        if (size < MinLength || size > length || size > head.Length) return false;
        (ushort segmentSize, int scale) = ParseOptions(head[MinLength..size]);
        header = new TcpHeader
        {
            SourcePort = BinaryPrimitives.ReadUInt16BigEndian(head),
            DestinationPort = BinaryPrimitives.ReadUInt16BigEndian(head[2..]),
            Sequence = BinaryPrimitives.ReadUInt32BigEndian(head[4..]),
            Acknowledgment = BinaryPrimitives.ReadUInt32BigEndian(head[8..]),
            Flags = (TcpFlags)(head[13] & 0x1F),
            Window = BinaryPrimitives.ReadUInt16BigEndian(head[14..]),
            Length = size, SegmentSize = segmentSize, WindowScale = scale,
        };
        return true;
    }

    /// <summary>A broken option ends them: what came before it counts.</summary>
    static (ushort SegmentSize, int WindowScale) ParseOptions(ReadOnlySpan<byte> options)
    {
        ushort segmentSize = 0;
        int scale = -1;
        while (options.Length > 0 && options[0] != EndOfOptions)
        {
            if (options[0] == NoOperation) { options = options[1..]; continue; }
            if (options.Length < 2 || options[1] < 2 || options[1] > options.Length) break;
            ReadOnlySpan<byte> option = options[..options[1]];
            if (option is [MaximumSegmentSize, 4, ..]) segmentSize = BinaryPrimitives.ReadUInt16BigEndian(option[2..]);
            else if (option is [WindowScaleOption, 3, var shift]) scale = Math.Min((int)shift, MaxScale);
            options = options[option.Length..];
        }
        return (segmentSize, scale);
    }
}
