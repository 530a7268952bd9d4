using Qkvm.Core.Acpi;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;

namespace Qkvm.Machines.Firmware;

/// <summary>What SMBIOS tells of a machine beside -smbios.</summary>
/// <param name="Product">"Standard PC (i440FX + PIIX, 1996)".</param>
public sealed record SmbiosPlatform(string Product, string MachineType, Guid Uuid, CpuTopology Topology,
    string CpuModel,
    ulong BelowFourGiB, ulong AboveFourGiB);

/// <summary>SMBIOS 2.8 tables as QEMU describes its PCs. Spec: DMTF DSP0134, chapter 7. Type 0 is left to the firmware
/// unless
/// -smbios type=0 gives it.</summary>
public static class SmbiosTables
{
    public const string AnchorFile = "etc/smbios/smbios-anchor", TablesFile = "etc/smbios/smbios-tables";

    const ulong DimmSize = 16UL << 30;
    const ulong FourGiB = 1UL << 32;

    // Fields that -smbios type=N takes
    static readonly Dictionary<int, string[]> Fields = new()
    {
        [0] = ["vendor", "version", "date", "release", "uefi"],
        [1] = ["manufacturer", "product", "version", "serial", "uuid", "sku", "family"],
        [2] = ["manufacturer", "product", "version", "serial", "asset", "location"],
        [3] = ["manufacturer", "version", "serial", "asset", "sku"],
        [4] = ["sock_pfx", "manufacturer", "version", "serial", "asset", "part", "max-speed", "current-speed"],
        [11] = ["value", "path"],
        [17] = ["loc_pfx", "bank", "manufacturer", "serial", "asset", "part", "speed"],
    };

    public static (byte[] Anchor, byte[] Tables) Build(SmbiosPlatform platform, IReadOnlyList<SmbiosConfig> options)
    {
        Check(options);
        var structures = new List<SmbiosStructure>();
        if (options.Any(o => o.Type == 0)) structures.Add(Bios(options));
        structures.Add(SystemInformation(platform, options));
        if (options.Any(o => o.Type == 2)) structures.Add(BaseBoard(platform, options));
        structures.Add(Chassis(platform, options));
        for (int socket = 0; socket < platform.Topology.Sockets; socket++)
            structures.Add(Processor(platform, options, socket));
        if (options.Any(o => o.Type == 11)) structures.Add(OemStrings(options));
        AddMemory(structures, platform, options);
        structures.Add(new SmbiosStructure(32, 0x2000).Bytes(new byte[6]).U8(0));
        structures.Add(new SmbiosStructure(127, 0x7F00));
        byte[][] parts = [.. structures.Select(s => s.ToArray())];
        byte[] tables = [.. parts.SelectMany(p => p)];
        return (Anchor(tables.Length, parts.Max(p => p.Length), parts.Length), tables);
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

    static void Check(IReadOnlyList<SmbiosConfig> options)
    {
        foreach (SmbiosConfig option in options)
        {
            if (option.File != null)
                throw new ConfigurationException($"-smbios file={option.File}: ready-made tables are not supported; " +
                    "give type=N,field=value");
            if (option.Type is not { } type || !Fields.TryGetValue(type, out string[]? known))
                throw new ConfigurationException(
                    $"-smbios type={option.Type}: no such type; known are {string.Join(", ", Fields.Keys.Order())}");
            foreach (OptionPair field in option.Fields)
                if (!known.Contains(field.Name))
                    throw new ConfigurationException(
                        $"-smbios type={type}: Invalid parameter '{field.Name}'; known are {string.Join(", ", known)}");
        }
    }

    static string? Field(IReadOnlyList<SmbiosConfig> options, int type, string name, string? otherwise = null) =>
        options.Where(o => o.Type == type).SelectMany(o => o.Fields).Where(f => f.Name == name)
            .Select(f => f.Value).LastOrDefault() ?? otherwise;

    static ushort Number(IReadOnlyList<SmbiosConfig> options, int type, string name, ushort otherwise)
    {
        if (Field(options, type, name) is not { } text) return otherwise;
        return Properties.TryParseNumber(text, out ulong value) && value <= ushort.MaxValue ? (ushort)value
            : throw new ConfigurationException($"-smbios type={type}: {name}={text} is not a number up to 65535");
    }

    static SmbiosStructure Bios(IReadOnlyList<SmbiosConfig> options)
    {
        const ulong NotSupported = 1 << 3;                         // BIOS characteristics
        const byte TargetedContent = 4, Uefi = 8, VirtualMachine = 16;
        string[] release = Field(options, 0, "release", "0.0")!.Split('.');
        if (release.Length != 2 || !byte.TryParse(release[0], out byte major)
            || !byte.TryParse(release[1], out byte minor))
            throw new ConfigurationException($"-smbios type=0: release={Field(options, 0, "release")} is not of the " +
                "form major.minor, such as 1.2");
        byte extension =
            (byte)(TargetedContent | VirtualMachine | (Field(options, 0, "uefi") is "on" or "yes" ? Uefi : 0));
        return new SmbiosStructure(0, 0)
            .Text(Field(options, 0, "vendor")).Text(Field(options, 0, "version")).U16(0xE800)
            .Text(Field(options, 0, "date"))
            .U8(0).U64(NotSupported).U8(0).U8(extension).U8(major).U8(minor).U8(0xFF).U8(0xFF);
    }

    static SmbiosStructure SystemInformation(SmbiosPlatform platform, IReadOnlyList<SmbiosConfig> options)
    {
        const byte PowerSwitch = 6;
        Guid uuid = platform.Uuid;
        if (Field(options, 1, "uuid") is { } text && !Guid.TryParse(text, out uuid))
            throw new ConfigurationException($"-smbios type=1: uuid={text} is not a UUID, such as " +
                "550e8400-e29b-41d4-a716-446655440000");
        return new SmbiosStructure(1, 0x100)
            .Text(Field(options, 1, "manufacturer", "QEMU")).Text(Field(options, 1, "product", platform.Product))
            .Text(Field(options, 1, "version", platform.MachineType)).Text(Field(options, 1, "serial"))
            .Bytes(uuid.ToByteArray()).U8(PowerSwitch).Text(Field(options, 1, "sku")).Text(Field(options, 1, "family"));
    }

    static SmbiosStructure BaseBoard(SmbiosPlatform platform, IReadOnlyList<SmbiosConfig> options)
    {
        const byte HostingBoard = 1, Motherboard = 10;
        return new SmbiosStructure(2, 0x200)
            .Text(Field(options, 2, "manufacturer", "QEMU")).Text(Field(options, 2, "product", platform.Product))
            .Text(Field(options, 2, "version", platform.MachineType)).Text(Field(options, 2, "serial"))
            .Text(Field(options, 2, "asset")).U8(HostingBoard).Text(Field(options, 2, "location")).U16(0x300)
            .U8(Motherboard).U8(0);
    }

    static SmbiosStructure Chassis(SmbiosPlatform platform, IReadOnlyList<SmbiosConfig> options)
    {
        const byte Other = 1, Safe = 3, Unknown = 2;
        return new SmbiosStructure(3, 0x300)
            .Text(Field(options, 3, "manufacturer", "QEMU")).U8(Other)
            .Text(Field(options, 3, "version", platform.MachineType))
            .Text(Field(options, 3, "serial")).Text(Field(options, 3, "asset")).U8(Safe).U8(Safe).U8(Safe).U8(Unknown)
            .U32(0).U8(0).U8(0).U8(0).U8(0).Text(Field(options, 3, "sku"));
    }

    static SmbiosStructure Processor(SmbiosPlatform platform, IReadOnlyList<SmbiosConfig> options, int socket)
    {
        const byte CentralProcessor = 3, OtherFamily = 1, PopulatedEnabled = 0x41, OtherUpgrade = 1;
        const ushort NoCache = 0xFFFF, Characteristics = 2;        // unknown
        CpuTopology topology = platform.Topology;
        int cores = topology.Dies * topology.Cores, threads = cores * topology.Threads;
        return new SmbiosStructure(4, (ushort)(0x400 + socket))
            .Text($"{Field(options, 4, "sock_pfx", "CPU")} {socket}").U8(CentralProcessor).U8(OtherFamily)
            .Text(Field(options, 4, "manufacturer", "QEMU")).U64(0)
            .Text(Field(options, 4, "version", platform.MachineType))
            .U8(0).U16(0).U16(Number(options, 4, "max-speed", 2000)).U16(Number(options, 4, "current-speed", 2000))
            .U8(PopulatedEnabled).U8(OtherUpgrade).U16(NoCache).U16(NoCache).U16(NoCache)
            .Text(Field(options, 4, "serial")).Text(Field(options, 4, "asset")).Text(Field(options, 4, "part"))
            .U8(Short(cores)).U8(Short(cores)).U8(Short(threads)).U16(Characteristics).U16(OtherFamily)
            .U16((ushort)cores).U16((ushort)cores).U16((ushort)threads);

        static byte Short(int count) => (byte)Math.Min(count, 0xFF);
    }

    static SmbiosStructure OemStrings(IReadOnlyList<SmbiosConfig> options)
    {
        var oem = new SmbiosStructure(11, 0xE00);
        string[] values =
            [.. options.Where(o => o.Type == 11).SelectMany(o => o.Fields)
            .Select(f => f.Name == "path" ? ReadText(f.Value) : f.Value)];
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

    /// <summary>Types 16, 17 and 19: the array, one device for each 16 GiB, and where they appear.</summary>
    static void AddMemory(List<SmbiosStructure> structures, SmbiosPlatform platform,
        IReadOnlyList<SmbiosConfig> options)
    {
        const byte OtherLocation = 1, SystemMemory = 3, MultiBitEcc = 6, Dimm = 9, Ram = 7;
        const ushort OtherDetail = 2, NoErrorInformation = 0xFFFE, UseExtended = 0x7FFF;
        ulong total = platform.BelowFourGiB + platform.AboveFourGiB;
        int dimms = (int)((total + DimmSize - 1) / DimmSize);
        bool extended = total >= 2UL << 40;
        structures.Add(new SmbiosStructure(16, 0x1000).U8(OtherLocation).U8(SystemMemory).U8(MultiBitEcc)
            .U32(extended ? 0x8000_0000 : (uint)(total >> 10)).U16(NoErrorInformation).U16((ushort)dimms)
            .U64(extended ? total : 0));
        for (int i = 0; i < dimms; i++)
        {
            ulong mebibytes = Math.Min(DimmSize, total - (ulong)i * DimmSize) >> 20;
            bool big = mebibytes >= UseExtended;
            structures.Add(new SmbiosStructure(17, (ushort)(0x1100 + i)).U16(0x1000).U16(NoErrorInformation).U16(0xFFFF)
                .U16(0xFFFF)
                .U16(big ? UseExtended : (ushort)mebibytes).U8(Dimm).U8(0)
                .Text($"{Field(options, 17, "loc_pfx", "DIMM")} {i}").Text(Field(options, 17, "bank")).U8(Ram)
                .U16(OtherDetail)
                .U16(Number(options, 17, "speed", 0)).Text(Field(options, 17, "manufacturer", "QEMU"))
                .Text(Field(options, 17, "serial")).Text(Field(options, 17, "asset"))
                .Text(Field(options, 17, "part")).U8(0)
                .U32(big ? (uint)mebibytes : 0).U16(Number(options, 17, "speed", 0)).U16(0).U16(0).U16(0));
        }
        structures.Add(MappedAddress(0, 0, platform.BelowFourGiB));
        if (platform.AboveFourGiB > 0) structures.Add(MappedAddress(1, FourGiB, platform.AboveFourGiB));
    }

    static SmbiosStructure MappedAddress(int index, ulong start, ulong size)
    {
        ulong first = start >> 10, last = (start + size - 1) >> 10;
        bool extended = last >= uint.MaxValue;
        return new SmbiosStructure(19, (ushort)(0x1300 + index))
            .U32(extended ? uint.MaxValue : (uint)first).U32(extended ? uint.MaxValue : (uint)last).U16(0x1000).U8(1)
            .U64(extended ? start : 0).U64(extended ? start + size - 1 : 0);
    }
}
