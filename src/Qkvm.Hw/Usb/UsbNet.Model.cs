using Qkvm.Core.Devices;
using Qkvm.Core.Usb;
using Qkvm.Hw.Net;

namespace Qkvm.Hw.Usb;

/// <summary>As users name it, and its descriptors. CDC 1.2, section 5.2; ECM 1.2, section 5.4.</summary>
public sealed partial class UsbNet
{
    public static readonly DeviceModel Model = new("usb-net", BusKind.Usb, [Property.Netdev(), Property.Mac(),
            Property.Automatic("bootindex", max: int.MaxValue, help: "taken; the firmware boots from no such card")],
        static (properties, site) =>
        {
            var card = new UsbNet(properties, NetCards.Site(properties, site));
            site.OnLeave(card.Close);
            return card;
        }) { Category = DeviceCategory.Network, Description = "a network card (CDC Ethernet, RNDIS)" };

    const byte CommunicationsClass = 2, DataClass = 10, ClassInterface = 0x24;
    const byte ControlModel = 2, EthernetModel = 6, VendorProtocol = 0xFF; // subclasses and a protocol
    const byte ControlInterface = 0, DataInterface = 1, StatusSize = 16, StatusInterval = 32; // ms
    const byte Power = 50;                                         // 100 mA

    // Strings' numbers
    const byte AddressText = 3, DataText = 4, ControlText = 5, RndisControlText = 6, CdcText = 7, RndisText = 9,
        SerialText = 10;

    static UsbDescription Describe(ReadOnlySpan<byte> mac) => new(0x0525, 0xA4A2, 0, "QEMU",
        "RNDIS/QEMU USB Network Device", Convert.ToHexString(mac), "QEMU USB Net Data Interface",
        "QEMU USB Net Control Interface", "QEMU USB Net RNDIS Control Interface", "QEMU USB Net CDC",
        "QEMU USB Net Subset", "QEMU USB Net RNDIS", "1")
    {
        Serial = SerialText,
        Title = "QEMU USB Network Interface",
        Full = new UsbLayout(0x0200, 64,
            new UsbConfiguration(RndisConfiguration, UsbConfiguration.AlwaysSet | UsbConfiguration.SelfPowered, Power,
                new UsbInterface(ControlInterface, CommunicationsClass, ControlModel, VendorProtocol, s_status)
                {
                    Text = RndisControlText,
                    Extra = [5, ClassInterface, 0, 0x10, 0x01, 5, ClassInterface, 1, 0, DataInterface,
                        4, ClassInterface, 2, 0, 5, ClassInterface, 6, ControlInterface, DataInterface],
                },
                new UsbInterface(DataInterface, DataClass, 0, 0, s_data) { Text = DataText }) { Text = RndisText },
            new UsbConfiguration(CdcConfiguration, UsbConfiguration.AlwaysSet | UsbConfiguration.SelfPowered, Power,
                new UsbInterface(ControlInterface, CommunicationsClass, EthernetModel, 0, s_status)
                {
                    Text = ControlText,
                    Extra = [5, ClassInterface, 0, 0x10, 0x01, 5, ClassInterface, 6, ControlInterface, DataInterface,
                        13, ClassInterface, 15, AddressText, 0, 0, 0, 0, LargestFrame & 0xFF, LargestFrame >> 8,
                        0, 0, 0],
                },
                new UsbInterface(DataInterface, DataClass, 0, 0),
                new UsbInterface(DataInterface, DataClass, 0, 0, s_data) { Alternate = 1, Text = DataText })
                { Text = CdcText }) { Class = CommunicationsClass },
    };

    static readonly UsbEndpoint[] s_status = [new(StatusIn, UsbTransfer.Interrupt, StatusSize, StatusInterval)];

    static readonly UsbEndpoint[] s_data =
        [new(DataIn, UsbTransfer.Bulk, MaxPacket), new(DataOut, UsbTransfer.Bulk, MaxPacket)];
}
