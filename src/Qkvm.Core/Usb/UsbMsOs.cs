using System.Buffers.Binary;
using System.Text;

namespace Qkvm.Core.Usb;

/// <summary>What Windows asks beyond the standard. Spec: Microsoft OS 1.0 Descriptors.</summary>
static class UsbMsOs
{
    public const byte StringIndex = 0xEE;

    /// <summary>Windows asks no device that is older.</summary>
    public const ushort LeastUsbVersion = 0x0200;
    public const ushort GetCompatibleId = 0xC051, GetProperties = 0xC151; // request 51h, of the device or the interface
    const ushort CompatibleIdIndex = 4, PropertiesIndex = 5, Version = 0x0100;
    const uint DoubleWord = 4;                                     // REG_DWORD, little endian
    const int CompatibleIdSize = 40, NameAt = 18;

    /// <summary>The signature, with the request's number.</summary>
    public const string Signature = "MSFT100Q";

    /// <summary>A registry value: Windows suspends the device when nobody uses it.</summary>
    const string SelectiveSuspend = "SelectiveSuspendEnabled\0";

    /// <returns>Bytes, or -1.</returns>
    public static int Answer(in UsbSetup setup, Span<byte> answer)
    {
        Span<byte> bytes = stackalloc byte[128];
        bytes.Clear();
        int length;
        if (setup is { Code: GetCompatibleId, Index: CompatibleIdIndex })
        {
            length = CompatibleIdSize;
            bytes[8] = 1;                                          // one function, with no special driver
            bytes[17] = 1;
        }
        else if (setup is { Code: GetProperties, Index: PropertiesIndex })
        {
            int name = SelectiveSuspend.Length * 2;
            length = NameAt + sizeof(ushort) + name + 2 * sizeof(uint);
            bytes[8] = 1;                                          // one property
            BinaryPrimitives.WriteInt32LittleEndian(bytes[10..], length - 10);
            BinaryPrimitives.WriteUInt32LittleEndian(bytes[14..], DoubleWord);
            BinaryPrimitives.WriteInt16LittleEndian(bytes[NameAt..], (short)name);
            Encoding.Unicode.GetBytes(SelectiveSuspend, bytes[(NameAt + 2)..]);
            bytes[NameAt + 2 + name] = sizeof(uint);
            bytes[NameAt + 2 + name + 4] = 1;
        }
        else return -1;
        BinaryPrimitives.WriteInt32LittleEndian(bytes, length);
        BinaryPrimitives.WriteUInt16LittleEndian(bytes[4..], Version);
        BinaryPrimitives.WriteUInt16LittleEndian(bytes[6..], setup.Index);
        int count = Math.Min(length, answer.Length);
        bytes[..count].CopyTo(answer);
        return count;
    }
}
