using Qkvm.Core.Acpi;
using Qkvm.Core.Tpm;
using Qkvm.Hw.Intc;
using Qkvm.Hw.Pci;

namespace Qkvm.Machines.Firmware;

/// <summary>All ACPI tables of the PC, as the files that the firmware places and links: "etc/acpi/tables",
/// "etc/acpi/rsdp" and the loader script. Spec: ACPI 6.3, section 5.2; HPET: IA-PC HPET 1.0a, section 3.2.4.</summary>
public static class AcpiTables
{
    public const string TablesFile = "etc/acpi/tables", RsdpFile = "etc/acpi/rsdp", LoaderFile = "etc/table-loader";
    public const ulong LocalApicAddress = 0xFEE0_0000, IoApicAddress = 0xFEC0_0000, IoApicStep = 0x1_0000,
        HpetAddress = 0xFED0_0000;

    // Offsets into the power management block
    const uint Pm1ControlOffset = 4, PmTimerOffset = 8;
    const int SciInterrupt = 9;
    const uint FirstX2Id = 255;
    const int FacsAlignment = 64, RsdpAlignment = 16;

    // Offsets of pointers in the FADT and of the RSDP's fields
    const int FadtFacs = 36, FadtDsdt = 40, FadtXDsdt = 140;
    const int RsdpChecksum = 8, RsdpRsdt = 16, RsdpXsdt = 24, RsdpExtendedChecksum = 32, RsdpSize = 36,
        RsdpFirstPart = 20;

    public sealed record Files(byte[] Tables, byte[] Rsdp, byte[] Loader)
    {
        /// <summary>Of a machine whose tables do not change.</summary>
        public void AddTo(FwCfg fwCfg)
        {
            fwCfg.AddFile(TablesFile, Tables);
            fwCfg.AddFile(RsdpFile, Rsdp);
            fwCfg.AddFile(LoaderFile, Loader);
        }
    }

    public static Files Build(AcpiPlatform platform)
    {
        var linker = new TableLoader();
        linker.AddAllocate(RsdpFile, RsdpAlignment, LoaderZone.FSegment);
        linker.AddAllocate(TablesFile, FacsAlignment, LoaderZone.High);
        var blob = new List<byte>();

        int? facs = platform.Reduced == null ? Append(blob, Facs()) : null;
        int dsdt = AppendTable(blob, linker, Dsdt.Build(platform));
        byte[] fadtBytes = platform.Reduced is { } reduced ? ReducedFadt(reduced) : Fadt(platform, platform.Chipset!);
        byte[]? licence = platform.UserTables.FirstOrDefault(UserAcpiTable.IsLicence);
        UserAcpiTable.CopyMakers(licence, fadtBytes);
        if (facs is { } at) Point(fadtBytes, FadtFacs, at, 4);
        Point(fadtBytes, FadtDsdt, dsdt, 4);
        Point(fadtBytes, FadtXDsdt, dsdt, 8);
        int fadt = Append(blob, fadtBytes);
        if (facs != null) linker.AddPointerTo(TablesFile, TablesFile, fadt + FadtFacs, 4);
        linker.AddPointerTo(TablesFile, TablesFile, fadt + FadtDsdt, 4);
        linker.AddPointerTo(TablesFile, TablesFile, fadt + FadtXDsdt, 8);
        AddTableChecksum(linker, fadt, fadtBytes.Length);

        var tables = new List<int> { fadt, AppendTable(blob, linker, Madt(platform)) };
        if (platform.Hpet) tables.Add(AppendTable(blob, linker, Hpet()));
        if (platform.Memory is { } memory && platform.Numa is { Nodes.Count: > 0 } numa)
        {
            tables.Add(AppendTable(blob, linker, SratTable.Build(platform.ApicIds, memory, numa,
                platform.Nvdimms?.Present ?? [])));
            if (numa.Distances.Count > 0) tables.Add(AppendTable(blob, linker, SlitTable.Build(numa)));
            if (numa.HasAttributes) tables.Add(AppendTable(blob, linker, HmatTable.Build(numa)));
        }
        if (platform.Nvdimms is { } nvdimms)
        {
            tables.Add(AppendNvdimms(blob, linker, nvdimms.Present));
            if (nvdimms.Present.Count > 0)
                tables.Add(AppendTable(blob, linker, NfitTable.Build(nvdimms.Present, nvdimms.Config)));
        }
        if (platform.Ecam is { } ecam) tables.Add(AppendTable(blob, linker, Mcfg(ecam.Base, ecam.Size)));
        if (platform.Iommu is { } iommu)
            tables.Add(AppendTable(blob, linker, DmarTable.Build(iommu.Options, platform.Root)));
        if (platform.Tpm is { } tpm) tables.Add(AppendTpm(blob, linker, tpm));
        if (platform.HasGenerationId) tables.Add(AppendGenerationId(blob, linker));
        if (platform.Reduced == null) tables.Add(AppendTable(blob, linker, Waet()));
        foreach (byte[] table in platform.UserTables) tables.Add(AppendTable(blob, linker, table));

        int rsdt = AppendRoot(blob, linker, "RSDT", 4, tables, licence);
        int xsdt = AppendRoot(blob, linker, "XSDT", 8, tables, licence);
        return new Files([.. blob], Rsdp(linker, rsdt, xsdt), linker.ToArray());
    }

    static int Append(List<byte> blob, byte[] table)
    {
        int at = blob.Count;
        blob.AddRange(table);
        return at;
    }

    static int AppendTable(List<byte> blob, TableLoader linker, byte[] table)
    {
        int at = Append(blob, table);
        AddTableChecksum(linker, at, table.Length);
        return at;
    }

    /// <summary>The table ends with the address of the event log, which the loader places.</summary>
    static int AppendTpm(List<byte> blob, TableLoader linker, ITpmDevice tpm)
    {
        linker.AddAllocate(ITpmDevice.LogFile, alignment: 1, LoaderZone.High);
        byte[] table = TpmTables.Build(tpm);
        int at = Append(blob, table);
        linker.AddPointerTo(ITpmDevice.LogFile, TablesFile, at + table.Length - sizeof(ulong), sizeof(ulong));
        AddTableChecksum(linker, at, table.Length);
        return at;
    }

    /// <summary>The table has the address of the number's page, which the loader places.</summary>
    static int AppendGenerationId(List<byte> blob, TableLoader linker)
    {
        linker.AddAllocate(IGenerationId.File, IGenerationId.FileSize, LoaderZone.High);
        byte[] table = GenerationIdTable.Build(out int pointer);
        int at = Append(blob, table);
        linker.AddPointerTo(IGenerationId.File, TablesFile, at + pointer, sizeof(uint));
        AddTableChecksum(linker, at, table.Length);
        return at;
    }

    /// <summary>The table has the address of the page of calls, which the loader places.</summary>
    static int AppendNvdimms(List<byte> blob, TableLoader linker, IReadOnlyList<Nvdimm> nvdimms)
    {
        linker.AddAllocate(NvdimmTables.PageFile, NvdimmMethods.PageSize, LoaderZone.High);
        byte[] table = NvdimmTables.Build(nvdimms, out int pointer);
        int at = Append(blob, table);
        linker.AddPointerTo(NvdimmTables.PageFile, TablesFile, at + pointer, sizeof(uint));
        AddTableChecksum(linker, at, table.Length);
        return at;
    }

    static void AddTableChecksum(TableLoader linker, int at, int length) =>
        linker.AddChecksumOf(TablesFile, at + AcpiTable.ChecksumOffset, at, length);

    /// <summary>RSDT and XSDT: offsets into the file, which the loader turns into addresses.</summary>
    /// <param name="licence">A table whose makers these have, too, or null.</param>
    static int AppendRoot(List<byte> blob, TableLoader linker, string signature, byte pointerSize, List<int> tables,
        byte[]? licence)
    {
        var root = new AcpiTable(signature, 1);
        foreach (int offset in tables)
            _ = pointerSize == 4 ? root.U32((uint)offset) : root.U64((ulong)offset);
        byte[] bytes = root.ToArray();
        UserAcpiTable.CopyMakers(licence, bytes);
        int at = Append(blob, bytes);
        for (int i = 0; i < tables.Count; i++)
            linker.AddPointerTo(TablesFile, TablesFile, at + AcpiTable.HeaderSize + i * pointerSize, pointerSize);
        AddTableChecksum(linker, at, bytes.Length);
        return at;
    }

    static byte[] Rsdp(TableLoader linker, int rsdt, int xsdt)
    {
        byte[] rsdp = AcpiTable.Headerless().Text("RSD PTR ", 8).U8(0).Text("BOCHS ", 6).U8(2)
            .U32((uint)rsdt).U32(RsdpSize).U64((ulong)xsdt).U8(0).Zeros(3).ToArray();
        linker.AddPointerTo(TablesFile, RsdpFile, RsdpRsdt, 4);
        linker.AddPointerTo(TablesFile, RsdpFile, RsdpXsdt, 8);
        linker.AddChecksumOf(RsdpFile, RsdpChecksum, 0, RsdpFirstPart);
        linker.AddChecksumOf(RsdpFile, RsdpExtendedChecksum, 0, RsdpSize);
        return rsdp;
    }

    static void Point(byte[] table, int at, int target, int size) => Aml.Number((ulong)target, size).CopyTo(table, at);

    static byte[] Facs() => AcpiTable.Headerless().Text("FACS", 4).U32(64).Zeros(56).ToArray();

    /// <summary>Section 5.2.9, as of revision 3.</summary>
    static byte[] Fadt(AcpiPlatform platform, AcpiChipset chipset)
    {
        const uint Wbinvd = 1 << 0, C1 = 1 << 2, SleepButton = 1 << 5, RtcS4 = 1 << 7, ResetRegister = 1 << 10,
            PlatformClock = 1 << 15, ApicCluster = 1 << 18;
        const ushort Keyboard8042 = 2;
        const byte Io = 1, IntModelApic = 1, CenturyByte = 0x32;
        const ushort NoC2 = 0xFFF, NoC3 = 0xFFF, ResetPort = 0xCF9;
        uint flags = Wbinvd | C1 | SleepButton | RtcS4 | ResetRegister | PlatformClock
            | (platform.ApicIds.Count > 8 ? ApicCluster : 0);
        uint pm = chipset.PmBase, control = pm + Pm1ControlOffset, timer = pm + PmTimerOffset, gpe = chipset.GpePort;
        byte gpeBits = (byte)Math.Min(chipset.GpeLength * 8, byte.MaxValue);
        return new AcpiTable("FACP", 3)
            .U32(0).U32(0)                                         // FACS and DSDT, linked
            .U8(IntModelApic).U8(0).U16(SciInterrupt)
            .U32((uint)ApmPorts.Address).U8(chipset.Enable).U8(chipset.Disable).U8(0).U8(0)
            .U32(pm).U32(0).U32(control).U32(0).U32(0).U32(timer).U32(gpe).U32(0)
            // lengths: PM1_EVT, PM1_CNT, PM2, PM_TMR, GPE0, GPE1
            .U8(4).U8(2).U8(0).U8(4).U8(chipset.GpeLength).U8(0).U8(0).U8(0)
            .U16(NoC2).U16(NoC3).U16(0).U16(0).U8(0).U8(0).U8(0).U8(0).U8(CenturyByte)
            .U16(Keyboard8042).U8(0).U32(flags)
            .Address(Io, 8, ResetPort).U8(chipset.ResetValue).Zeros(3)
            // X_FACS stays 0 beside FIRMWARE_CTRL; X_DSDT is linked
            .U64(0).U64(0)
            .Address(Io, 32, pm).Address(0, 0, 0).Address(Io, 16, control).Address(0, 0, 0)
            .Address(0, 0, 0).Address(Io, 32, timer).Address(Io, gpeBits, gpe).Address(0, 0, 0)
            .ToArray();
    }

    /// <summary>Section 5.2.9, revision 5: no SCI, no fixed hardware but reset and sleep.</summary>
    static byte[] ReducedFadt(ReducedHardware hardware)
    {
        const uint ResetRegister = 1 << 10, HardwareReduced = 1 << 20;
        const ushort NoVga = 1 << 2, NoRtc = 1 << 5;
        const int BeforeBootFlags = 109 - AcpiTable.HeaderSize, ExtendedPointers = 8 + 8;
        const int ToSleepControl = 244 - 148;                      // the fixed hardware's extended addresses
        return new AcpiTable("FACP", 5).Zeros(BeforeBootFlags)
            .U16((ushort)(NoVga | (hardware.HasRtc ? 0 : NoRtc))).U8(0).U32(ResetRegister | HardwareReduced)
            .Address(0, 8, hardware.Reset).U8(hardware.ResetValue).Zeros(3)
            .Zeros(ExtendedPointers + ToSleepControl)
            .Address(0, 8, hardware.SleepControl).Address(0, 8, hardware.SleepStatus)
            .ToArray();
    }

    /// <summary>Section 5.2.12.</summary>
    static byte[] Madt(AcpiPlatform platform)
    {
        const uint PcAtCompatible = 1;
        const ushort LevelActiveHigh = 0x0D;
        var madt = new AcpiTable("APIC", 1).U32((uint)LocalApicAddress).U32(PcAtCompatible);
        bool x2 = false;
        for (int i = 0; i < platform.ApicIds.Count; i++)
        {
            madt.Bytes(LocalApic(i, platform.ApicIds[i], platform.IsCpuPresent(i)));
            x2 |= platform.ApicIds[i] >= FirstX2Id;
        }
        for (uint i = 0; i < platform.IoApics; i++)
            madt.U8(1).U8(12).U8((byte)i).U8(0).U32((uint)(IoApicAddress + i * IoApicStep)).U32(i * IoApic.Inputs);
        madt.U8(2).U8(10).U8(0).U8(0).U32(2).U16(0);               // the timer is on the I/O APIC's pin 2
        foreach (byte irq in platform.LevelIrqs)
            madt.U8(2).U8(10).U8(0).U8(irq).U32(irq).U16(LevelActiveHigh);
        if (x2) madt.U8(10).U8(12).U16(0).U32(uint.MaxValue).U8(1).Zeros(3);
        else madt.U8(4).U8(6).U8(0xFF).U16(0).U8(1);               // LINT1 of all processors is NMI
        return madt.ToArray();
    }

    /// <summary>A processor's local APIC, or x2APIC where the id asks for that: sections 5.2.12.2 and
    /// 5.2.12.12.</summary>
    public static byte[] LocalApic(int cpu, uint id, bool isEnabled)
    {
        AcpiTable entry = AcpiTable.Headerless();
        uint flags = isEnabled ? 1u : 0;
        return (id < FirstX2Id ? entry.U8(0).U8(8).U8((byte)cpu).U8((byte)id).U32(flags)
            : entry.U8(9).U8(16).U16(0).U32(id).U32(flags).U32((uint)cpu)).ToArray();
    }

    static byte[] Hpet()
    {
        // vendor, legacy replacement, 64 bit, 3 timers, revision
        const uint EventTimerBlockId = 0x8086A201;
        return new AcpiTable("HPET", 1).U32(EventTimerBlockId).Address(0, 0, HpetAddress).U8(0).U16(0).U8(0).ToArray();
    }

    /// <summary>PCI Firmware 3.3, section 4.1.2: the configuration space of segment 0 from bus 0 on.</summary>
    static byte[] Mcfg(ulong address, ulong size) => new AcpiTable("MCFG", 1).Zeros(8).U64(address).U16(0).U8(0)
        .U8((byte)((size >> PciEcam.BusShift) - 1)).Zeros(4).ToArray();

    /// <summary>Windows ACPI Emulated devices Table: the PM timer reads reliably at the first try.</summary>
    static byte[] Waet() => new AcpiTable("WAET", 1).U32(2).ToArray();
}
