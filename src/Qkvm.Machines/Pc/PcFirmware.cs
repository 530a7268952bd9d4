using System.Buffers.Binary;
using System.Text;
using Qkvm.Core.Acpi;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Core.Pci;
using Qkvm.Core.Tpm;
using Qkvm.Hw.Iommu;
using Qkvm.Machines.Firmware;
using Qkvm.Machines.Firmware.Boot;

namespace Qkvm.Machines.Pc;

/// <summary>Fills fw_cfg for the PC's firmware: numbers, memory map, tables, kernel, boot order.</summary>
sealed class PcFirmware(MachineConfig config, PcMemory memory, FwCfg fwCfg, bool kvm, Action<string> warn)
{
    const ulong KvmReserved = 0xFEFF_C000, KvmReservedSize = 0x4000; // KVM's identity map and TSS on Intel processors
    // At the top of low RAM, where no initrd may go: SeaBIOS puts tables and a TPM's log into 256 KiB at most
    const ulong FirmwareReserve = 0x40000;
    const uint Usable = 1;
    // The firmware has read the files' lengths before it sets up what the tables then tell of.
    const int AcpiUnit = 128 << 10, LoaderUnit = 4 << 10;

    // etc/system-states: one byte each for S0 to S5; bit 7: supported, the rest SLP_TYP
    static byte[] SystemStates(SleepStates states) =>
    [
        0x80, 0, 0, (byte)(1 | (states.ToRam ? 0x80 : 0)), (byte)(states.S4Type | (states.ToDisk ? 0x80 : 0)), 0x80,
    ];

    byte[][]? _userTables;
    bool _hasSmbios;
    int _tablesLength, _loaderLength;                              // not migrated: the firmware has read the files

    public void AddNumbers(SleepStates states)
    {
        CpuTopology topology = config.Topology;
        fwCfg.Add(FwCfgKey.Uuid, config.Uuid.ToByteArray(bigEndian: true));
        fwCfg.Add64(FwCfgKey.RamSize, memory.Below + memory.Above);
        fwCfg.Add16(FwCfgKey.NoGraphic, config.NoGraphic ? (ushort)1 : (ushort)0);
        CountCpus(topology.Cpus);
        ushort idLimit = (ushort)(topology.ApicId(topology.MaxCpus - 1) + 1);
        fwCfg.Add16(FwCfgKey.MaxCpus, idLimit);
        AddNuma(idLimit);
        fwCfg.Add16(FwCfgKey.BootMenu, config.Boot.Menu ? (ushort)1 : (ushort)0);
        fwCfg.Add32(FwCfgKey.Irq0Override, 1);
        fwCfg.AddFile("etc/system-states", SystemStates(states));
        if (config.Boot.SplashTime is { } splash) fwCfg.AddFile("etc/boot-menu-wait", BitConverter.GetBytes(splash));
        fwCfg.AddFile("etc/boot-fail-wait", BitConverter.GetBytes(config.Boot.RebootTimeout ?? -1));
        AddMemoryMap();
        // Firmware puts PCI's large BARs from here on.
        if (memory.DeviceMemory.Size > 0)
            fwCfg.AddFile("etc/reserved-memory-end", BitConverter.GetBytes(memory.PciHole64));
    }

    /// <summary>For firmware that makes its own tables: the number of nodes, the node of each APIC id, the size of each
    /// node.</summary>
    void AddNuma(int idLimit)
    {
        NumaConfig numa = config.Numa;
        var words = new ulong[1 + idLimit + numa.Nodes.Count];
        words[0] = (ulong)numa.Nodes.Count;
        for (int cpu = 0; cpu < numa.CpuNodes.Count; cpu++)
            words[1 + config.Topology.ApicId(cpu)] = (ulong)numa.CpuNodes[cpu];
        for (int node = 0; node < numa.Nodes.Count; node++) words[1 + idLimit + node] = numa.Nodes[node].Size;
        var bytes = new byte[words.Length * sizeof(ulong)];
        for (int i = 0; i < words.Length; i++)
            BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(i * sizeof(ulong)), words[i]);
        fwCfg.Add(FwCfgKey.Numa, bytes);
    }

    /// <summary>Firmware looks for so many root buses beside the first.</summary>
    public void AddRoots(PciBus first)
    {
        if (first.Expanders.Count() is > 0 and var count)
            fwCfg.AddFile("etc/extra-pci-roots", BitConverter.GetBytes((ulong)count));
    }

    /// <summary>-acpitable's.</summary>
    public byte[][] UserTables => _userTables ??= [.. config.AcpiTables.Select(UserAcpiTable.Load)];

    /// <summary>Those that the next start waits for.</summary>
    public void CountCpus(int cpus) => fwCfg.Add16(FwCfgKey.CpuCount, (ushort)cpus);

    /// <param name="product">The machine as SMBIOS names it.</param>
    /// <param name="chipset">As firmware has set it up; asked whenever it reads the tables.</param>
    /// <param name="terms">What stands in \_SB beside the devices of the tree.</param>
    public void AddTables(string product, Board board, Func<AcpiChipset> chipset, Func<Aml[]> terms)
    {
        if (config.Acpi)
        {
            if (config.Nvdimm != null) fwCfg.AddFile(NvdimmTables.PageFile, new byte[NvdimmMethods.PageSize]);
            fwCfg.OnFirstLook(AddAcpi);
            fwCfg.OnSelect(AcpiTables.LoaderFile, AddAcpi);
        }
        _hasSmbios = true;
        _ = UserTables;                                            // their errors are told at the start
        var options = new SmbiosOptions(config.Smbios);
        AddSmbios();
        // Bus numbers are the firmware's to give.
        if (options.Has(SmbiosOptions.OnboardDevice)) fwCfg.OnSelect(SmbiosTables.TablesFile, AddSmbios);

        void AddSmbios()
        {
            var (anchor, tables) = SmbiosTables.Build(new SmbiosPlatform(product, config.MachineType, config.Uuid,
                config.Topology, board.Cpus is [var first, ..] ? first.ProcessorId : 0, memory.Below, memory.Above)
                {
                    HasWideAnchor = config.HasWideSmbios,
                    AboveStart = memory.AboveStart,
                    FindDevice = id => board.Tree.AllDevices.FirstOrDefault(node => node.Id == id)?.Device
                        is PciDevice device ? (device.Bus.Number, device.DevFn) : null,
                }, options);
            fwCfg.AddFile(SmbiosTables.AnchorFile, anchor);
            fwCfg.AddFile(SmbiosTables.TablesFile, tables);
        }

        void AddAcpi()
        {
            AcpiTables.Files acpi = AcpiTables.Build(new AcpiPlatform
            {
                ApicIds = board.ApicIds,
                IsCpuPresent = board.IsCpuPresent,
                UserTables = UserTables,
                AreCpusDescribed = board.HasHotPlug,
                Chipset = chipset(),
                Hpet = config.Hpet,
                SleepStates = board.SleepStates,
                Memory = memory,
                Numa = config.Numa,
                Nvdimms = config.Nvdimm == null ? null : ([.. board.Nvdimms], config.Nvdimm),
                Tree = board.Tree,
                Terms = [.. terms(), .. board.HotPlugTerms()],
                Root = board.Pci,
                Iommu = board.Pci?.Iommu as IntelIommu,
                Tpm = board.Tree.AllDevices.Select(node => node.Device).OfType<ITpmDevice>().FirstOrDefault(),
                HasGenerationId = board.Tree.AllDevices.Any(node => node.Device is IGenerationId),
            });
            fwCfg.AddFile(AcpiTables.TablesFile, Padded(acpi.Tables, AcpiUnit, ref _tablesLength));
            fwCfg.AddFile(AcpiTables.RsdpFile, acpi.Rsdp);
            fwCfg.AddFile(AcpiTables.LoaderFile, Padded(acpi.Loader, LoaderUnit, ref _loaderLength));
        }

        // At first with room for what is told later, and never less again.
        static byte[] Padded(byte[] contents, int unit, ref int length)
        {
            int room = length == 0 ? unit / 4 : 0;
            length = Math.Max(length, (contents.Length + room + unit - 1) / unit * unit);
            Array.Resize(ref contents, length);
            return contents;
        }
    }

    /// <summary>What is neither RAM nor a chip's.</summary>
    public IReadOnlyList<MemoryRange> ReservedRanges =>
    [
        .. kvm ? [new MemoryRange(KvmReserved, KvmReservedSize, MemoryRange.Reserved)] : Array.Empty<MemoryRange>(),
        .. memory.Limits.TellsOfHyperTransport ? [AddressLimits.HyperTransport] : Array.Empty<MemoryRange>(),
    ];

    /// <summary>The kernel, the boot order and users' files.</summary>
    /// <param name="commandLineTail">What the machine adds to the kernel's.</param>
    /// <param name="hasRoms">The firmware runs option ROMs.</param>
    public void AddRest(BootOrder order, string commandLineTail = "", bool hasRoms = true)
    {
        if (_userTables == null && config.AcpiTables is [var table, ..])
            throw new ConfigurationException($"{table.Owner}: the machine {config.MachineType} has no ACPI tables; "
                + "leave it out");
        if (!_hasSmbios && config.Smbios.Count > 0)
            throw new ConfigurationException($"-smbios: the machine {config.MachineType} has no SMBIOS tables; "
                + "leave it out");
        AddKernel(order, commandLineTail, hasRoms);
        AddBootOrder(order);
        AddUserFiles();
    }

    /// <summary>-kernel: a Linux kernel or a Multiboot image, started by an option ROM that comes first in the boot
    /// order.</summary>
    void AddKernel(BootOrder order, string commandLineTail, bool hasRoms)
    {
        if (config.Kernel is not { } given) return;
        KernelConfig wanted = given with { Append = given.Append + commandLineTail };
        byte[] kernel = ReadFile(wanted.File, "-kernel");
        string rom = "linuxboot.bin";
        ulong memoryEnd = memory.Below > FirmwareReserve ? memory.Below - FirmwareReserve : 0;
        bool isLinux = LinuxImage.HasMagic(kernel) && LinuxImage.Refusal(kernel) is null;
        if (!isLinux && MultibootImage.FindHeader(kernel) >= 0)
        {
            MultibootImage.Load(fwCfg, wanted.File, kernel, wanted.Append, wanted.Initrd, memoryEnd, warn);
            rom = "multiboot.bin";
        }
        else
            LinuxImage.Load(fwCfg, wanted.File, kernel, wanted.Append, wanted.Initrd,
                wanted.Initrd is null ? null : ReadFile(wanted.Initrd, "-initrd"), memoryEnd);
        if (!hasRoms) return;
        byte[] contents = FirmwareImages.Find(config.Firmware, rom)
            ?? throw new ConfigurationException($"-kernel {wanted.File}: this build embeds no {rom}; give a " +
            "directory with it: -L DIRECTORY");
        fwCfg.AddFile($"genroms/{rom}", contents);
        order.Add(0, $"/rom@genroms/{rom}");
    }

    void AddUserFiles()
    {
        foreach (FwCfgConfig item in config.FwCfg)
            fwCfg.AddFile(item.Name, item.File != null ? ReadFile(item.File, $"-fw_cfg name={item.Name}")
                : Encoding.UTF8.GetBytes(item.Text ?? ""));
    }

    void AddBootOrder(BootOrder order)
    {
        byte[] contents = order.ToArray(config.Boot.Strict);
        if (contents.Length > 0) fwCfg.AddFile("bootorder", contents);
    }

    /// <summary>etc/e820: entries of address, length and type, as INT 15h AX=E820h has them.</summary>
    void AddMemoryMap()
    {
        var map = new List<byte>();
        Add(0, memory.Below, Usable);
        if (memory.Above > 0) Add(memory.AboveStart, memory.Above, Usable);
        foreach (MemoryRange range in ReservedRanges) Add(range.Address, range.Length, range.Type);
        fwCfg.AddFile("etc/e820", map.ToArray());

        void Add(ulong address, ulong length, uint type)
        {
            Span<byte> entry = stackalloc byte[20];
            BinaryPrimitives.WriteUInt64LittleEndian(entry, address);
            BinaryPrimitives.WriteUInt64LittleEndian(entry[8..], length);
            BinaryPrimitives.WriteUInt32LittleEndian(entry[16..], type);
            map.AddRange(entry);
        }
    }

    /// <exception cref="ConfigurationException">Names the option.</exception>
    public static byte[] ReadFile(string file, string option)
    {
        try { return File.ReadAllBytes(file); }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new ConfigurationException($"{option}: could not open '{file}': {e.Message}", e);
        }
    }
}
