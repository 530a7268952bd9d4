using System.Buffers.Binary;

namespace Qkvm.Core.Net;

/// <summary>How a frame that is longer than a packet is to be cut: gso_type. Virtio 1.2, section 5.1.6.</summary>
public enum Segmentation : byte { None = 0, Tcp4 = 1, UdpFragments = 3, Tcp6 = 4, Udp = 5, Ecn = 0x80 }

/// <summary>What is still to be done to a frame: struct virtio_net_hdr, which guests and tap interfaces speak alike.
/// Virtio 1.2, section 5.1.6.</summary>
/// <param name="NeedsChecksum">The checksum of all from <paramref name="ChecksumStart"/> belongs at
/// <paramref name="ChecksumStart"/> + <paramref name="ChecksumOffset"/>, where the pseudo header's stands.</param>
/// <param name="IsChecked">Somebody has verified the checksums.</param>
/// <param name="HeaderLength">Bytes to be repeated in front of each segment; a hint.</param>
/// <param name="SegmentSize">Bytes of payload in each segment.</param>
public readonly record struct NetHeader(bool NeedsChecksum = false, bool IsChecked = false,
    Segmentation Segmentation = Segmentation.None, ushort HeaderLength = 0, ushort SegmentSize = 0,
    ushort ChecksumStart = 0, ushort ChecksumOffset = 0)
{
    /// <summary>Bytes of struct virtio_net_hdr; one with num_buffers has two more.</summary>
    public const int Length = 10;

    const byte FlagNeedsChecksum = 1, FlagDataValid = 2;

    /// <summary>What is left undone; null: a way to cut frames that nobody knows.</summary>
    public NetOffloads? LeftUndone
    {
        get
        {
            NetOffloads all = NeedsChecksum ? NetOffloads.Checksum : NetOffloads.None;
            if ((Segmentation & Segmentation.Ecn) != 0) all |= NetOffloads.TsoEcn;
            return (Segmentation & ~Segmentation.Ecn) switch
            {
                Segmentation.None => all,
                Segmentation.Tcp4 => all | NetOffloads.Tso4,
                Segmentation.Tcp6 => all | NetOffloads.Tso6,
                Segmentation.Udp => all | NetOffloads.Uso,
                _ => null,
            };
        }
    }

    /// <param name="source">At least <see cref="Length"/> bytes, little endian.</param>
    public static NetHeader Read(ReadOnlySpan<byte> source) => new(
        (source[0] & FlagNeedsChecksum) != 0, (source[0] & FlagDataValid) != 0, (Segmentation)source[1],
        BinaryPrimitives.ReadUInt16LittleEndian(source[2..]), BinaryPrimitives.ReadUInt16LittleEndian(source[4..]),
        BinaryPrimitives.ReadUInt16LittleEndian(source[6..]), BinaryPrimitives.ReadUInt16LittleEndian(source[8..]));

    public void Write(Span<byte> target)
    {
        target[0] = (byte)((NeedsChecksum ? FlagNeedsChecksum : 0) | (IsChecked ? FlagDataValid : 0));
        target[1] = (byte)Segmentation;
        BinaryPrimitives.WriteUInt16LittleEndian(target[2..], HeaderLength);
        BinaryPrimitives.WriteUInt16LittleEndian(target[4..], SegmentSize);
        BinaryPrimitives.WriteUInt16LittleEndian(target[6..], ChecksumStart);
        BinaryPrimitives.WriteUInt16LittleEndian(target[8..], ChecksumOffset);
    }
}
