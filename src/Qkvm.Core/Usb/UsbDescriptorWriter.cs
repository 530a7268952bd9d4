using System.Buffers.Binary;
using System.Text;

namespace Qkvm.Core.Usb;

/// <summary>Descriptors as bytes. What does not fit into the buffer is cut, and counts: a host reads the first bytes to
/// learn how many there are.</summary>
ref struct UsbDescriptorWriter(Span<byte> buffer)
{
    public const byte Device = 1, Configuration = 2, String = 3, Interface = 4, Endpoint = 5, DeviceQualifier = 6,
        OtherSpeed = 7, Bos = 15, Capability = 16, Companion = 48;
    const int DeviceSize = 18, QualifierSize = 10, ConfigurationSize = 9, InterfaceSize = 9, EndpointSize = 7,
        CompanionSize = 6, LongestText = 126;
    const ushort UsEnglish = 0x0409;
    const byte CapabilityUsb2 = 2, CapabilitySuper = 3, LinkPower = 2;
    const ushort SpeedsFullToSuper = 0x0E;
    const byte FullIsLowest = 1, ExitFromU1 = 0x0A;
    const ushort ExitFromU2 = 0x20;

    readonly Span<byte> _buffer = buffer;

    /// <summary>Bytes that there would be with room for all.</summary>
    public int Length { get; private set; }

    /// <param name="leastVersion">It says no older one of USB.</param>
    public void PutDevice(UsbDescription what, UsbLayout layout, ushort leastVersion)
    {
        Put(DeviceSize, Device);
        Put16(Math.Max(layout.Version, leastVersion));
        Put(layout.Class, layout.Subclass, layout.Protocol, layout.MaxPacket0);
        Put16(what.Vendor);
        Put16(what.ProductId);
        Put16(what.Release);
        Put(what.Manufacturer, what.Product, what.Serial, (byte)layout.Configurations.Length);
    }

    /// <summary>Section 9.6.2: what it would be at the other speed.</summary>
    public void PutQualifier(UsbLayout other)
    {
        Put(QualifierSize, DeviceQualifier);
        Put16(other.Version);
        Put(other.Class, other.Subclass, other.Protocol, other.MaxPacket0, (byte)other.Configurations.Length, 0);
    }

    public void PutConfiguration(UsbConfiguration configuration, bool isSuper, byte type = Configuration)
    {
        int start = Length;
        Put(ConfigurationSize, type);
        Put16(0);                                                  // the total, below
        Put((byte)configuration.InterfaceCount, configuration.Value, configuration.Text,
            (byte)(configuration.Attributes | UsbConfiguration.AlwaysSet), configuration.MaxPower);
        foreach (UsbInterface part in configuration.Interfaces)
        {
            Put(InterfaceSize, Interface, part.Number, part.Alternate, (byte)part.Endpoints.Length, part.Class,
                part.Subclass, part.Protocol, part.Text);
            Put(part.Extra);
            foreach (UsbEndpoint endpoint in part.Endpoints) PutEndpoint(endpoint, isSuper);
        }
        if (start + 4 <= _buffer.Length)
            BinaryPrimitives.WriteUInt16LittleEndian(_buffer[(start + 2)..], (ushort)(Length - start));
    }

    /// <summary>The languages; of the device there is but one.</summary>
    public void PutLanguages()
    {
        Put(4, String);
        Put16(UsEnglish);
    }

    public void PutText(string text)
    {
        if (text.Length > LongestText) text = text[..LongestText];
        Put((byte)(2 + text.Length * 2), String);
        Put(Encoding.Unicode.GetBytes(text));
    }

    /// <summary>USB 3.2, section 9.6.2: link power management, and super speed where it has that.</summary>
    public void PutBos(UsbDescription what)
    {
        int start = Length;
        bool isHigh = what.High != null, isSuper = what.Super != null;
        Put(5, Bos);
        Put16(0);
        Put((byte)((isHigh ? 1 : 0) + (isSuper ? 1 : 0)));
        if (isHigh) Put(7, Capability, CapabilityUsb2, LinkPower, 0, 0, 0);
        if (isSuper)
        {
            Put(10, Capability, CapabilitySuper, 0);
            Put16(SpeedsFullToSuper);
            Put(FullIsLowest, ExitFromU1);
            Put16(ExitFromU2);
        }
        if (start + 4 <= _buffer.Length)
            BinaryPrimitives.WriteUInt16LittleEndian(_buffer[(start + 2)..], (ushort)(Length - start));
    }

    void PutEndpoint(UsbEndpoint endpoint, bool isSuper)
    {
        // audio's descriptors are longer, and say so themselves
        Put(EndpointSize, Endpoint, endpoint.Address, (byte)((byte)endpoint.Transfer | endpoint.Attributes));
        Put16(endpoint.MaxPacket);
        Put(endpoint.Interval);
        if (isSuper)
        {
            Put(CompanionSize, Companion, endpoint.MaxBurst, endpoint.BurstAttributes);
            Put16(endpoint.BytesPerInterval);
        }
        Put(endpoint.Extra);
    }

    void Put16(ushort value) => Put((byte)value, (byte)(value >> 8));

    void Put(params ReadOnlySpan<byte> bytes)
    {
        int count = Math.Clamp(_buffer.Length - Length, 0, bytes.Length);
        if (count > 0) bytes[..count].CopyTo(_buffer[Length..]);
        Length += bytes.Length;
    }
}
