using Qkvm.Core.Acpi;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Machines.Pc;

namespace Qkvm.Machines.Firmware;

/// <summary>What SMBIOS tells of a machine beside -smbios.</summary>
/// <param name="Product">"Standard PC (i440FX + PIIX, 1996)".</param>
/// <param name="ProcessorId">CPUID leaf 1: EAX, and EDX in the upper half.</param>
public sealed record SmbiosPlatform(string Product, string MachineType, Guid Uuid, CpuTopology Topology,
    ulong ProcessorId, ulong BelowFourGiB, ulong AboveFourGiB)
{
    /// <summary>The entry point is that of SMBIOS 3.0, of 64 bits.</summary>
    public bool HasWideAnchor { get; init; }

    /// <summary>Where the memory above 4 GiB begins.</summary>
    public ulong AboveStart { get; init; } = PcMemory.FourGiB;

    /// <summary>Bus number and devfn of a PCI function by its id; null: there is none.</summary>
    public Func<string, (int Bus, int DevFn)?> FindDevice { get; init; } = static _ => null;
}

/// <summary>SMBIOS 2.8 or 3.0 tables as QEMU describes its PCs. Spec: DMTF DSP0134, chapter 7. Type 0 is left to the
/// firmware unless -smbios type=0 gives it.</summary>
public static partial class SmbiosTables
{
    public const string AnchorFile = "etc/smbios/smbios-anchor", TablesFile = "etc/smbios/smbios-tables";

    /// <exception cref="ConfigurationException">A value that is not of its field.</exception>
    public static (byte[] Anchor, byte[] Tables) Build(SmbiosPlatform platform, SmbiosOptions options)
    {
        List<byte[]> parts = [.. options.Files.Select(file => file.Structure)];
        Add(0, () => options.Has(0) ? [Bios(options)] : []);
        Add(1, () => [SystemInformation(platform, options)]);
        Add(2, () => options.Has(2) ? [BaseBoard(platform, options)] : []);
        Add(3, () => [Chassis(platform, options)]);
        Add(4, () => Enumerable.Range(0, platform.Topology.Sockets)
            .Select(socket => Processor(platform, options, socket)));
        Add(8, () => options.Each(8).Select(PortConnector));
        Add(11, () => options.Has(11) ? [OemStrings(options)] : []);
        Add(16, () => Memory(platform, options));
        Add(32, () => [new SmbiosStructure(32, 0x2000).Bytes(new byte[6]).U8(0)]);
        Add(41, () => options.Each(41).Select((device, i) => OnboardDevice(platform, device, i)));
        parts.Add(new SmbiosStructure(127, 0x7F00).ToArray());
        byte[] tables = [.. parts.SelectMany(part => part)];
        byte[] anchor = platform.HasWideAnchor ? WideAnchor(tables.Length)
            : Anchor(tables.Length, parts.Max(part => part.Length), parts.Count);
        return (anchor, tables);

        // What a file gives is not made again.
        void Add(int type, Func<IEnumerable<SmbiosStructure>> make)
        {
            if (!options.Files.Any(file => file.Type == type)) parts.AddRange(make().Select(made => made.ToArray()));
        }
    }

    /// <summary>Section 5.2.1; the firmware fills in the table's address and the checksums.</summary>
    static byte[] Anchor(int tableLength, int largest, int count)
    {
        const byte EntryLength = 31, Major = 2, Minor = 8;
        byte[] anchor =
        [
            .. "_SM_"u8, 0, EntryLength, Major, Minor, .. Aml.Number((ulong)largest, 2), 0, 0, 0, 0, 0, 0,
            .. "_DMI_"u8, 0, .. Aml.Number((ulong)tableLength, 2), 0, 0, 0, 0, .. Aml.Number((ulong)count, 2),
            Major << 4 | Minor,
        ];
        return anchor;
    }

    /// <summary>Section 5.2.2, likewise.</summary>
    static byte[] WideAnchor(int tableLength)
    {
        const byte EntryLength = 24, Major = 3, Minor = 0, Revision = 1;
        return [.. "_SM3_"u8, 0, EntryLength, Major, Minor, 0, Revision, 0, .. Aml.Number((ulong)tableLength, 4),
            .. new byte[8]];
    }

    static SmbiosStructure Bios(SmbiosOptions options)
    {
        const ulong NotSupported = 1 << 3;                         // BIOS characteristics
        const byte TargetedContent = 4, Uefi = 8, VirtualMachine = 16;
        string[] release = options.Text(0, "release", "0.0")!.Split('.');
        if (release.Length != 2 || !byte.TryParse(release[0], out byte major)
            || !byte.TryParse(release[1], out byte minor))
            throw new ConfigurationException($"-smbios type=0: release={options.Text(0, "release")} is not of the " +
                "form major.minor, such as 1.2");
        byte extension =
            (byte)(TargetedContent | VirtualMachine | (options.Text(0, "uefi") is "on" or "yes" ? Uefi : 0));
        return new SmbiosStructure(0, 0)
            .Text(options.Text(0, "vendor")).Text(options.Text(0, "version")).U16(0xE800)
            .Text(options.Text(0, "date"))
            .U8(0).U64(NotSupported).U8(0).U8(extension).U8(major).U8(minor).U8(0xFF).U8(0xFF);
    }

    static SmbiosStructure SystemInformation(SmbiosPlatform platform, SmbiosOptions options)
    {
        const byte PowerSwitch = 6;
        Guid uuid = platform.Uuid;
        if (options.Text(1, "uuid") is { } text && !Guid.TryParse(text, out uuid))
            throw new ConfigurationException($"-smbios type=1: uuid={text} is not a UUID, such as " +
                "550e8400-e29b-41d4-a716-446655440000");
        return new SmbiosStructure(1, 0x100)
            .Text(options.Text(1, "manufacturer", "QEMU")).Text(options.Text(1, "product", platform.Product))
            .Text(options.Text(1, "version", platform.MachineType)).Text(options.Text(1, "serial"))
            .Bytes(uuid.ToByteArray()).U8(PowerSwitch).Text(options.Text(1, "sku")).Text(options.Text(1, "family"));
    }

    static SmbiosStructure BaseBoard(SmbiosPlatform platform, SmbiosOptions options)
    {
        const byte HostingBoard = 1, Motherboard = 10;
        return new SmbiosStructure(2, 0x200)
            .Text(options.Text(2, "manufacturer", "QEMU")).Text(options.Text(2, "product", platform.Product))
            .Text(options.Text(2, "version", platform.MachineType)).Text(options.Text(2, "serial"))
            .Text(options.Text(2, "asset")).U8(HostingBoard).Text(options.Text(2, "location")).U16(0x300)
            .U8(Motherboard).U8(0);
    }

    static SmbiosStructure Chassis(SmbiosPlatform platform, SmbiosOptions options)
    {
        const byte Other = 1, Safe = 3, Unknown = 2;
        return new SmbiosStructure(3, 0x300)
            .Text(options.Text(3, "manufacturer", "QEMU")).U8(Other)
            .Text(options.Text(3, "version", platform.MachineType))
            .Text(options.Text(3, "serial")).Text(options.Text(3, "asset")).U8(Safe).U8(Safe).U8(Safe).U8(Unknown)
            .U32(0).U8(0).U8(0).U8(0).U8(0).Text(options.Text(3, "sku"));
    }

    static SmbiosStructure OemStrings(SmbiosOptions options)
    {
        var oem = new SmbiosStructure(11, 0xE00);
        string[] values =
            [.. options.Each(11).SelectMany(each => each.Fields)
            .Select(field => field.Name == "path" ? ReadText(field.Value) : field.Value)];
        return oem.Strings(values);
    }

    static string ReadText(string path)
    {
        try { return File.ReadAllText(path); }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new ConfigurationException($"-smbios type=11: path={path}: {e.Message}", e);
        }
    }
}
