using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Host;

namespace Qkvm.Machines.Pc;

/// <summary>Where a chipset splits RAM, and how much it gives PCI above.</summary>
/// <param name="OnePieceLimit">From so many bytes on RAM is split.</param>
/// <param name="Split">Then it goes up to here, and on at 4 GiB.</param>
/// <param name="PciHole64Size">Of PCI's window above 4 GiB.</param>
public sealed record PcMemoryPlan(ulong OnePieceLimit, ulong Split, ulong PciHole64Size)
{
    public static readonly PcMemoryPlan I440Fx = new(0xE000_0000, 0xC000_0000, 2UL << 30);
    public static readonly PcMemoryPlan Q35 = new(0xB000_0000, 0x8000_0000, 32UL << 30);
}

/// <summary>The PC's memory: RAM below and above 4 GiB, PCI wherever RAM is not, the firmware below 4 GiB and, its end,
/// below 1 MiB.</summary>
public sealed class PcMemory : IDisposable
{
    public const ulong FourGiB = 1UL << 32;

    const ulong SpaceSize = 1UL << 52;
    const ulong OneGiB = 1 << 30, OneMiB = 1 << 20, LegacyHole = 0xA0000, IsaBiosSize = 128 << 10;
    const ulong Smallest = 1 << 20;

    readonly MemoryBackend _backend;
    readonly List<GuestRam> _roms = [];

    /// <param name="memory">The RAM; disposed of with this.</param>
    /// <param name="bios">Empty: the firmware is placed later, by <see cref="PlaceFirmware"/>.</param>
    /// <param name="plan">The i440FX's, unless another is given.</param>
    /// <param name="config">-m, where there may be more memory than at the start.</param>
    public PcMemory(MemoryBackend memory, byte[] bios, MachineLock machineLock, PcMemoryPlan? plan = null,
        MemoryConfig? config = null)
    {
        ulong size = memory.Size;
        if (size < Smallest || size % GuestRam.PageSize != 0)
            throw new ConfigurationException($"-m: {size} bytes; RAM is a multiple of 4 KiB, at least 1 MiB");
        plan ??= PcMemoryPlan.I440Fx;
        PciHole64Size = plan.PciHole64Size;
        Below = size >= plan.OnePieceLimit ? plan.Split : size;
        Above = size - Below;
        DeviceMemory = PlaceDevices(config);
        _backend = memory;
        RamRegion = MemoryRegion.OfRam("pc.ram", Ram, 0, size);
        Pci = MemoryRegion.Container("pci", SpaceSize);
        var root = MemoryRegion.Container("system", SpaceSize);
        root.Map(0, Pci, -1);
        root.Map(0, MemoryRegion.Alias("ram-below-4g", RamRegion, 0, Below));
        if (Above > 0) root.Map(FourGiB, MemoryRegion.Alias("ram-above-4g", RamRegion, Below, Above));

        // What PCI leaves empty in the first megabyte floats high; without this, RAM would show through the closed
        // segments.
        Pci.Map(LegacyHole,
            MemoryRegion.Io("pci-empty", OneMiB - LegacyHole, new FloatingBus(), AccessSizes.UpToQword), -1);
        if (bios.Length > 0)
        {
            GuestRam contents = NewRom("pc.bios", (ulong)bios.Length);
            bios.CopyTo(contents.Span(0, bios.Length));
            PlaceFirmware(MemoryRegion.Rom(contents.Name, contents, 0, contents.Size));
        }
        Space = new AddressSpace("memory", root, machineLock) { RejectsUnassigned = true };
    }

    /// <summary>Bytes from address 0 on, and from 4 GiB on.</summary>
    public ulong Below { get; }
    public ulong Above { get; }

    /// <summary>Where memory may come, behind RAM; of no size where none may.</summary>
    public (ulong Base, ulong Size) DeviceMemory { get; }

    /// <summary>Where PCI's window above 4 GiB begins: behind RAM and what may come, at a multiple of 1 GiB.</summary>
    public ulong PciHole64 => RoundUp(DeviceMemory.Base + DeviceMemory.Size);

    public ulong PciHole64Size { get; }

    public GuestRam Ram => _backend.Ram;
    public MemoryRegion RamRegion { get; }

    /// <summary>PCI's memory space: addresses are the CPU's.</summary>
    public MemoryRegion Pci { get; }
    public AddressSpace Space { get; }

    static ulong RoundUp(ulong address) => (address + OneGiB - 1) & ~(OneGiB - 1);

    /// <summary>Each slot's memory may lie at a multiple of 1 GiB.</summary>
    (ulong Base, ulong Size) PlaceDevices(MemoryConfig? config)
    {
        const int AddressBits = 40;
        ulong start = RoundUp(FourGiB + Above);
        if (config == null || config.MaxSize <= Below + Above) return (start, 0);
        ulong size = config.MaxSize - Below - Above + (ulong)config.Slots * OneGiB;
        ulong last = RoundUp(start + size) + PciHole64Size - 1;
        return last >> AddressBits == 0 ? (start, size)
            : throw new ConfigurationException($"-m maxmem=: Address space limit 0x{(1UL << AddressBits) - 1:x} < "
                + $"0x{last:x} phys-bits too low ({AddressBits})");
    }

    /// <summary>Memory of a ROM, disposed of with this.</summary>
    public GuestRam NewRom(string name, ulong size)
    {
        var rom = new GuestRam(name, size);
        _roms.Add(rom);
        return rom;
    }

    /// <summary>Has the firmware end at 4 GiB, and its last 128 KiB at 1 MiB, too.</summary>
    public void PlaceFirmware(MemoryRegion rom)
    {
        ulong isa = Math.Min(rom.Size, IsaBiosSize);
        Pci.Map(FourGiB - rom.Size, rom);
        Pci.Map(OneMiB - isa, MemoryRegion.Alias("isa-bios", rom, rom.Size - isa, isa), 1);
    }

    public void Dispose()
    {
        _backend.Dispose();
        foreach (GuestRam rom in _roms) rom.Dispose();
    }

    sealed class FloatingBus : IRegisterBank
    {
        public ulong Read(ulong offset, int size) => ulong.MaxValue;
        public void Write(ulong offset, int size, ulong value) { }
    }
}
