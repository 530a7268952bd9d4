using System.Buffers.Binary;

namespace Qkvm.Storage.Images;

/// <summary>Tells image formats by the signatures in their first sector.</summary>
public static class ImageProbe
{
    public const int HeadSize = 512;

    /// <summary>QEMU's name of the format, or null for raw.</summary>
    public static string? Detect(ReadOnlySpan<byte> head)
    {
        if (head.Length >= 8 && head.StartsWith("QFI"u8) && head[3] == 0xFB)
            return BinaryPrimitives.ReadUInt32BigEndian(head[4..]) == 1 ? "qcow" : "qcow2";
        if (head.StartsWith("KDMV"u8) || head.StartsWith("COWD"u8) || IsVmdkDescriptor(head))
            return "vmdk";
        if (head.StartsWith("vhdxfile"u8)) return "vhdx";
        if (head.StartsWith("conectix"u8)) return "vpc";
        if (head.StartsWith("QED\0"u8)) return "qed";
        if (head.StartsWith("WithoutFreeSpace"u8) || head.StartsWith("WithouFreSpacExt"u8)) return "parallels";
        if (head.StartsWith("LUKS"u8) && head.Length >= 6 && head[4] == 0xBA && head[5] == 0xBE) return "luks";
        if (head.StartsWith("Bochs Virtual HD Image"u8)) return "bochs";
        if (head.Length >= 0x44 && BinaryPrimitives.ReadUInt32LittleEndian(head[0x40..]) == 0xBEDA107F) return "vdi";
        return head.StartsWith(Drivers.Cloop.CloopDriver.Magic) ? "cloop" : null;
    }

    /// <summary>Comments and empty lines may stand above the version.</summary>
    static bool IsVmdkDescriptor(ReadOnlySpan<byte> head)
    {
        while (head.Length > 0)
        {
            int end = head.IndexOf((byte)'\n');
            ReadOnlySpan<byte> line = (end < 0 ? head : head[..end]).Trim(" \r\t"u8);
            if (line.Length > 0 && line[0] != '#')
                return line.StartsWith("version=1"u8) || line.StartsWith("version=2"u8)
                    || line.StartsWith("version=3"u8);
            if (end < 0) return false;
            head = head[(end + 1)..];
        }
        return false;
    }
}
