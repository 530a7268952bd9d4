using Qkvm.Core.Configuration;
using Qkvm.Core.Pci;

namespace Qkvm.Hw.Pci;

/// <summary>What firmware keeps free behind a bridge for devices that come later; all ones leave it to the firmware.
/// Spec: QEMU's docs/pcie_pci_bridge.txt, "Resource Reserve" capability.</summary>
public sealed record BridgeReserve(uint Buses, ulong Io, uint Memory, uint Prefetchable32, ulong Prefetchable64)
{
    public const ulong NoBuses = uint.MaxValue;

    const byte VendorSpecific = 0x09, Length = 0x20, ResourceReserve = 1;

    public static Property[] Options { get; } =
    [
        Of("io-reserve", "I/O ports"), Of("mem-reserve", "memory"),
        Of("pref32-reserve", "prefetchable memory below 4 GiB"), Of("pref64-reserve", "prefetchable memory"),
    ];

    /// <returns>Null where the user reserves nothing.</returns>
    /// <exception cref="ConfigurationException">Two kinds of prefetchable memory, or more than 32 bits
    /// hold.</exception>
    public static BridgeReserve? Of(Properties properties)
    {
        var reserve = new BridgeReserve((uint)properties.Number("bus-reserve"), Bytes("io-reserve"),
            Low("mem-reserve"), Low("pref32-reserve"), Bytes("pref64-reserve"));
        if (reserve == new BridgeReserve(uint.MaxValue, ulong.MaxValue, uint.MaxValue, uint.MaxValue, ulong.MaxValue))
            return null;
        if (reserve is { Prefetchable32: not uint.MaxValue, Prefetchable64: not ulong.MaxValue })
            throw properties.Error("a bridge has one window of prefetchable memory: give pref32-reserve= or "
                + "pref64-reserve=, not both");
        return reserve;

        ulong Bytes(string name) => properties.NumberOrAuto(name) ?? ulong.MaxValue;

        uint Low(string name) => Bytes(name) switch
        {
            ulong.MaxValue => uint.MaxValue,
            > uint.MaxValue => throw properties.Error($"{name}= is of memory below 4 GiB: give less than 4G"),
            var size => (uint)size,
        };
    }

    public void Define(PciConfig config)
    {
        int at = config.AddCapability(VendorSpecific, Length);
        config.Define16(at + 2, Length | ResourceReserve << 8);
        config.Define32(at + 4, Buses);
        Define64(at + 8, Io);
        config.Define32(at + 16, Memory);
        config.Define32(at + 20, Prefetchable32);
        Define64(at + 24, Prefetchable64);

        void Define64(int offset, ulong value)
        {
            config.Define32(offset, (uint)value);
            config.Define32(offset + 4, (uint)(value >> 32));
        }
    }

    static Property Of(string name, string what) =>
        Property.Size(name, help: $"{what} that firmware keeps free behind the bridge");
}
