using Qkvm.Core.Memory;

namespace Qkvm.Hw.Display;

/// <summary>BAR 2 of QEMU's displays: the monitor's identification, the VGA ports where there are some, the VBE
/// registers. Spec: QEMU docs/specs/standard-vga.txt.</summary>
static class DisplayMmio
{
    public const ulong Size = 0x1000;
    const ulong EdidAt = 0, EdidSize = 0x400, VgaAt = 0x400, VgaSize = 0x20, VgaFirstPort = 0x3C0, DispiAt = 0x500,
        DispiSize = 0x16, ExtendedAt = 0x600, ExtendedSize = 8;

    /// <summary>What all of them take.</summary>
    public static Property[] Monitor =>
    [
        Property.Bool("edid", true, "identify a monitor to the guest"),
        Property.Number("xres", 0, 0, Edid.MaxResolution, "pixels across that the monitor prefers, 0 for 1280"),
        Property.Number("yres", 0, 0, Edid.MaxResolution, "lines that it prefers, 0 for 800"),
        Property.Number("xmax", 0, 0, ushort.MaxValue, "name no wider resolutions, 0 for no bound"),
        Property.Number("ymax", 0, 0, ushort.MaxValue, "name no higher resolutions, 0 for no bound"),
    ];

    public static MemoryRegion Make(Properties properties, BochsDispi dispi, VgaRegisters? registers) =>
        Make(properties.Bool("edid") ? Identify(properties) : null, dispi, registers);

    /// <param name="edid">Null: no monitor is identified.</param>
    /// <param name="registers">Null: there are none of VGA.</param>
    public static MemoryRegion Make(byte[]? edid, BochsDispi dispi, VgaRegisters? registers)
    {
        var container = MemoryRegion.Container("vga.mmio", Size);
        if (edid != null)
            container.Map(EdidAt, MemoryRegion.Io("vga.mmio-edid", EdidSize, new Blob(edid), AccessSizes.Bytes));
        if (registers != null)
            container.Map(VgaAt, MemoryRegion.Io("vga.mmio-ports", VgaSize,
                new VgaCore.Shifted(registers, VgaFirstPort - VgaRegisters.FirstPort), AccessSizes.Bytes));
        container.Map(DispiAt,
            MemoryRegion.Io("vga.mmio-dispi", DispiSize, new DispiRegisters(dispi), new AccessSizes(1, 4, 2, 2)));
        container.Map(ExtendedAt,
            MemoryRegion.Io("vga.mmio-extended", ExtendedSize, new Extended(), new AccessSizes(1, 4, 4, 4)));
        return container;
    }

    static byte[] Identify(Properties properties)
    {
        return Edid.Build(Number("xres", 1280), Number("yres", 800), Number("xmax", 0), Number("ymax", 0));

        int Number(string name, int usual) => properties.Number(name) is > 0 and var given ? (int)given : usual;
    }

    /// <summary>Bytes to read, zeros behind them.</summary>
    sealed class Blob(byte[] bytes) : IRegisterBank
    {
        public ulong Read(ulong offset, int size) => offset < (ulong)bytes.Length ? bytes[offset] : 0u;
        public void Write(ulong offset, int size, ulong value) { } // read-only
    }

    /// <summary>All DISPI registers side by side, 16 bits each.</summary>
    sealed class DispiRegisters(BochsDispi dispi) : IRegisterBank
    {
        public ulong Read(ulong offset, int size) => dispi.ReadRegister((int)offset / 2);
        public void Write(ulong offset, int size, ulong value) => dispi.WriteRegister((int)offset / 2, (ushort)value);
    }

    /// <summary>The size of this block, and the byte order: little endian alone.</summary>
    sealed class Extended : IRegisterBank
    {
        const uint LittleEndian = 0x1E1E1E1E;

        public ulong Read(ulong offset, int size) => offset == 0 ? 8 : LittleEndian;
        public void Write(ulong offset, int size, ulong value) { } // big endian is not offered
    }
}
