using System.Buffers.Binary;

namespace Qkvm.Core.Usb;

public enum UsbRequestKind : byte { Standard, Class, Vendor, Reserved }

public enum UsbRecipient : byte { Device, Interface, Endpoint, Other }

/// <summary>The eight bytes that a control transfer begins with. USB 2.0, section 9.3.</summary>
/// <param name="RequestType">bmRequestType.</param>
public readonly record struct UsbSetup(byte RequestType, byte Request, ushort Value, ushort Index, ushort Length)
{
    public const int Size = 8;

    public static UsbSetup Read(ReadOnlySpan<byte> bytes) => new(bytes[0], bytes[1],
        BinaryPrimitives.ReadUInt16LittleEndian(bytes[2..]), BinaryPrimitives.ReadUInt16LittleEndian(bytes[4..]),
        BinaryPrimitives.ReadUInt16LittleEndian(bytes[6..]));

    /// <summary>Data go from the device to the host.</summary>
    public bool IsIn => (RequestType & 0x80) != 0;
    public UsbRequestKind Kind => (UsbRequestKind)(RequestType >> 5 & 3);

    /// <summary>Reserved values are Other.</summary>
    public UsbRecipient Recipient => (RequestType & 0x1F) is var r && r < 3 ? (UsbRecipient)r : UsbRecipient.Other;

    /// <summary>bmRequestType and bRequest, to switch over: 0x8006 is GET_DESCRIPTOR of the device.</summary>
    public ushort Code => (ushort)(RequestType << 8 | Request);
}
