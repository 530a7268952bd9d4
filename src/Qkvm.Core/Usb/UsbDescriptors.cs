namespace Qkvm.Core.Usb;

/// <summary>What a device says of itself, at each speed it has. USB 2.0, section 9.6; USB 3.2, section 9.6.</summary>
/// <param name="Release">bcdDevice.</param>
/// <param name="Texts">Strings 1 and on, in US English.</param>
public sealed record UsbDescription(ushort Vendor, ushort ProductId, ushort Release, params string[] Texts)
{
    /// <summary>Which string is which; 0 for none.</summary>
    public byte Manufacturer { get; init; } = 1;
    public byte Product { get; init; } = 2;
    public byte Serial { get; init; } = 3;

    /// <summary>As monitors call it; null: by the string of <see cref="Product"/>.</summary>
    public string? Title { get; init; }

    /// <summary>Low or full speed; null: it has neither.</summary>
    public UsbLayout? Full { get; init; }
    public UsbLayout? High { get; init; }
    public UsbLayout? Super { get; init; }

    /// <summary>Windows shall suspend it when nobody uses it (<see cref="UsbMsOs"/>).</summary>
    public bool SuspendsOnWindows { get; init; }

    /// <summary>It is a low speed device, which <see cref="Full"/> then describes.</summary>
    public bool IsLow { get; init; }

    public UsbSpeeds Speeds => (Full == null ? 0 : IsLow ? UsbSpeeds.Low : UsbSpeeds.Full)
        | (High == null ? 0 : UsbSpeeds.High) | (Super == null ? 0 : UsbSpeeds.Super);

    public UsbLayout? At(UsbSpeed speed) => speed switch
    {
        UsbSpeed.Super => Super,
        UsbSpeed.High => High,
        _ => Full,
    };
}

/// <summary>A device descriptor (9.6.1) and the configurations below it.</summary>
/// <param name="Version">bcdUSB.</param>
/// <param name="MaxPacket0">Of endpoint 0; at super speed its logarithm, 9.</param>
public sealed record UsbLayout(ushort Version, byte MaxPacket0, params UsbConfiguration[] Configurations)
{
    public byte Class { get; init; }
    public byte Subclass { get; init; }
    public byte Protocol { get; init; }

    public UsbConfiguration? Find(byte value) => Array.Find(Configurations, c => c.Value == value);
}

/// <summary>Section 9.6.3.</summary>
/// <param name="MaxPower">In the descriptor's unit: 2 mA, at super speed 8 mA.</param>
public sealed record UsbConfiguration(byte Value, byte Attributes, byte MaxPower, params UsbInterface[] Interfaces)
{
    public const byte AlwaysSet = 0x80, SelfPowered = 0x40, RemoteWakeup = 0x20;

    /// <summary>A string's number.</summary>
    public byte Text { get; init; }

    public UsbInterface? Find(byte number, byte alternate) =>
        Array.Find(Interfaces, i => i.Number == number && i.Alternate == alternate);

    public int InterfaceCount => Interfaces.DistinctBy(i => i.Number).Count();
}

/// <summary>Section 9.6.5.</summary>
public sealed record UsbInterface(byte Number, byte Class, byte Subclass, byte Protocol, params UsbEndpoint[] Endpoints)
{
    public byte Alternate { get; init; }

    /// <summary>A string's number.</summary>
    public byte Text { get; init; }

    /// <summary>Class descriptors between it and its endpoints.</summary>
    public byte[] Extra { get; init; } = [];
}

public enum UsbTransfer : byte { Control, Isochronous, Bulk, Interrupt }

/// <summary>Section 9.6.6.</summary>
/// <param name="Address">Number, and <see cref="In"/> for device to host.</param>
/// <param name="MaxPacket">wMaxPacketSize.</param>
/// <param name="Interval">bInterval, in the speed's unit.</param>
public sealed record UsbEndpoint(byte Address, UsbTransfer Transfer, ushort MaxPacket, byte Interval = 0)
{
    public const byte In = 0x80;

    /// <summary>bmAttributes beside the transfer type.</summary>
    public byte Attributes { get; init; }

    /// <summary>Class descriptors behind it.</summary>
    public byte[] Extra { get; init; } = [];

    // Of super speed's companion descriptor (USB 3.2, section 9.6.7)
    public byte MaxBurst { get; init; }
    public byte BurstAttributes { get; init; }
    public ushort BytesPerInterval { get; init; }
}
