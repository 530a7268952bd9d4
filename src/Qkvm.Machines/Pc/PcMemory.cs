using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Host;
using Qkvm.Machines.Firmware.Boot;

namespace Qkvm.Machines.Pc;

/// <summary>Where a chipset splits RAM, and how much it gives PCI above.</summary>
/// <param name="OnePieceLimit">From so many bytes on RAM is split.</param>
/// <param name="Split">Then it goes up to here, and on at 4 GiB.</param>
/// <param name="PciHole64Size">Of PCI's window above 4 GiB.</param>
public sealed record PcMemoryPlan(ulong OnePieceLimit, ulong Split, ulong PciHole64Size)
{
    /// <summary>A host bridge shows RAM or the bus below 1 MiB as the guest wishes. Without one RAM is there, and the
    /// firmware over it, which can be written, and is fresh after a reset.</summary>
    public bool HasHostBridge { get; init; } = true;

    /// <summary>Of the RAM, as monitors name it.</summary>
    public string RamName { get; init; } = "pc.ram";

    public static readonly PcMemoryPlan I440Fx = new(0xE000_0000, 0xC000_0000, 2UL << 30);
    public static readonly PcMemoryPlan Q35 = new(0xB000_0000, 0x8000_0000, 32UL << 30);
}

/// <summary>What the processors' addresses allow.</summary>
/// <param name="Bits">Of a physical address.</param>
/// <param name="KeepsHyperTransport">They are AMD's: no memory is at <see cref="HyperTransport"/>.</param>
public sealed record AddressLimits(int Bits = 40, bool KeepsHyperTransport = false)
{
    /// <summary>The last 12 GiB below 1 TiB are the system's own. AMD I/O Virtualization Technology, order 48882,
    /// section 2.1.2, table 3.</summary>
    public static readonly MemoryRange HyperTransport = new(0xFD_0000_0000, 0x3_0000_0000, MemoryRange.Reserved);

    /// <summary>Whether the processors know such addresses at all.</summary>
    public bool TellsOfHyperTransport => KeepsHyperTransport && Bits >= 40;
}

/// <summary>The PC's memory: RAM below and above 4 GiB, PCI wherever RAM is not, the firmware below 4 GiB and, its end,
/// below 1 MiB.</summary>
public sealed class PcMemory : IDisposable
{
    public const ulong FirstMiB = 1 << 20, FourGiB = 1UL << 32;

    const ulong SpaceSize = 1UL << 52;
    const ulong OneGiB = 1 << 30, RomHole = 0xC0000, IsaBiosSize = 128 << 10;
    const ulong Smallest = 1 << 20;

    readonly MachineRam _memory;
    readonly List<GuestRam> _roms = [];
    readonly MemoryRegion _root;
    readonly PcMemoryPlan _plan;
    readonly byte[] _bios;
    readonly GuestRam? _biosRam;

    /// <param name="memory">The RAM; disposed of with this.</param>
    /// <param name="bios">Empty: the firmware is placed later, by <see cref="PlaceFirmware"/>.</param>
    /// <param name="plan">The i440FX's, unless another is given.</param>
    /// <param name="config">-m, where there may be more memory than at the start.</param>
    /// <param name="limits">Of the processors.</param>
    /// <param name="hasSmm">There is system management mode.</param>
    public PcMemory(MachineRam memory, byte[] bios, MachineLock machineLock, PcMemoryPlan? plan = null,
        MemoryConfig? config = null, bool hasSmm = false, AddressLimits? limits = null)
    {
        ulong size = memory.Size;
        if (size < Smallest || size % GuestRam.PageSize != 0)
            throw new ConfigurationException($"-m: {size} bytes; RAM is a multiple of 4 KiB, at least 1 MiB");
        _plan = plan ??= PcMemoryPlan.I440Fx;
        PciHole64Size = plan.PciHole64Size;
        Below = size >= plan.OnePieceLimit ? plan.Split : size;
        Above = size - Below;
        Limits = limits ?? new AddressLimits();
        ulong last = PlaceAbove(config);
        if (Limits.KeepsHyperTransport && last >= AddressLimits.HyperTransport.Address)
        {
            AboveStart = AddressLimits.HyperTransport.Address + AddressLimits.HyperTransport.Length;
            last = PlaceAbove(config);
        }
        if (Limits.Bits > 32 && last >> Limits.Bits != 0)
            throw new ConfigurationException($"-m: Address space limit 0x{(1UL << Limits.Bits) - 1:x} < 0x{last:x} "
                + $"phys-bits too low ({Limits.Bits}); give less memory, or -cpu …,phys-bits=");
        _memory = memory;
        RamRegion = memory.Region(plan.RamName);
        Pci = MemoryRegion.Container("pci", SpaceSize);
        MemoryRegion root = _root = MemoryRegion.Container("system", SpaceSize);
        root.Map(0, Pci, -1);
        root.Map(0, MemoryRegion.Alias("ram-below-4g", RamRegion, 0, Below));
        if (Above > 0) root.Map(AboveStart, MemoryRegion.Alias("ram-above-4g", RamRegion, Below, Above));

        // What PCI leaves empty where ROMs go floats high; without this, RAM would show through the closed segments.
        // Deviation: where no card has a screen, RAM shows from A0000h to BFFFFh, as on QEMU; the chip floats there.
        // Programs that write to a text screen unasked, as memtest86+, count on memory.
        Pci.Map(RomHole,
            MemoryRegion.Io("pci-empty", FirstMiB - RomHole, new FloatingBus(), AccessSizes.UpToQword), -1);
        _bios = bios;
        if (bios.Length > 0)
        {
            GuestRam contents = _biosRam = NewRom("pc.bios", (ulong)bios.Length);
            PlaceFirmware(plan.HasHostBridge ? MemoryRegion.Rom(contents.Name, contents, 0, contents.Size)
                : MemoryRegion.OfRam(contents.Name, contents, 0, contents.Size));
            ReloadFirmware();
        }
        Space = new AddressSpace("memory", root, machineLock) { RejectsUnassigned = true };
        if (!hasSmm) return;
        var smm = MemoryRegion.Container("smm", SpaceSize);
        smm.Map(0, MemoryRegion.Alias("system", root, 0, SpaceSize));
        Smm = new AddressSpace("cpu-smm", smm, machineLock, Space) { RejectsUnassigned = true };
    }

    public AddressLimits Limits { get; }

    /// <summary>Bytes from address 0 on, and from <see cref="AboveStart"/> on.</summary>
    public ulong Below { get; }
    public ulong Above { get; }

    /// <summary>4 GiB, or 1 TiB where all that follows would not fit before a hole.</summary>
    public ulong AboveStart { get; } = FourGiB;

    /// <summary>Where memory may come, behind RAM; of no size where none may.</summary>
    public (ulong Base, ulong Size) DeviceMemory { get; private set; }

    /// <summary>Where PCI's window above 4 GiB begins: behind RAM and what may come, at a multiple of 1 GiB.</summary>
    public ulong PciHole64 => RoundUp(DeviceMemory.Base + DeviceMemory.Size);

    public ulong PciHole64Size { get; }

    /// <summary>What RAM is made of, in the order of addresses.</summary>
    public IReadOnlyList<MemoryBackend> Pieces => _memory.Pieces;

    /// <summary>The first piece, which has the lowest addresses.</summary>
    public GuestRam Ram => Pieces[0].Ram;

    /// <summary>All of it, without holes.</summary>
    public MemoryRegion RamRegion { get; }

    /// <summary>PCI's memory space: addresses are the CPU's.</summary>
    public MemoryRegion Pci { get; }
    public AddressSpace Space { get; }

    /// <summary>What processors see in system management mode: the same, and over it what chips show there alone.
    /// Null: there is no such mode.</summary>
    public AddressSpace? Smm { get; }

    static ulong RoundUp(ulong address) => (address + OneGiB - 1) & ~(OneGiB - 1);

    /// <summary>Where memory may come: each slot's may lie at a multiple of 1 GiB. The last address in use.</summary>
    ulong PlaceAbove(MemoryConfig? config)
    {
        ulong start = RoundUp(AboveStart + Above);
        bool mayGrow = config != null && config.MaxSize > Below + Above;
        DeviceMemory = (start, mayGrow ? config!.MaxSize - Below - Above + (ulong)config.Slots * OneGiB : 0);
        return PciHole64 + PciHole64Size - 1;
    }

    /// <summary>Memory of a ROM, disposed of with this.</summary>
    public GuestRam NewRom(string name, ulong size)
    {
        var rom = new GuestRam(name, size);
        _roms.Add(rom);
        return rom;
    }

    /// <summary>What firmware is in: the bus, or memory where there is none.</summary>
    MemoryRegion Container => _plan.HasHostBridge ? Pci : _root;

    /// <summary>Has the firmware end at 4 GiB, and its last 128 KiB at 1 MiB, too.</summary>
    /// <param name="smm">What system management mode finds instead at 4 GiB, if anything.</param>
    public void PlaceFirmware(MemoryRegion rom, MemoryRegion? smm = null)
    {
        ulong isa = Math.Min(rom.Size, IsaBiosSize);
        PlaceFlash(FourGiB - rom.Size, rom, smm);
        Container.Map(FirstMiB - isa, MemoryRegion.Alias("isa-bios", rom, rom.Size - isa, isa), 1);
    }

    /// <summary>The firmware as at power-on, where the guest can write it.</summary>
    public void ReloadFirmware()
    {
        if (_biosRam == null) return;
        _bios.CopyTo(_biosRam.Span(0, _bios.Length));
        _biosRam.MarkWritten(0, (ulong)_bios.Length);
    }

    /// <summary>Bytes into RAM, from an address below 4 GiB on.</summary>
    public void Load(ulong address, ReadOnlySpan<byte> bytes) => _memory.Write(address, bytes, (ulong)bytes.Length);

    /// <summary>Zeros into RAM, from an address below 4 GiB on.</summary>
    public void Clear(ulong address, ulong length) => _memory.Write(address, [], length);

    /// <param name="smm">What system management mode finds instead, if anything.</param>
    public void PlaceFlash(ulong at, MemoryRegion region, MemoryRegion? smm = null)
    {
        Container.Map(at, region);
        if (smm != null) Smm?.Map(at, smm, 1);
    }

    public void Dispose()
    {
        _memory.Dispose();
        foreach (GuestRam rom in _roms) rom.Dispose();
    }

    sealed class FloatingBus : IRegisterBank
    {
        public ulong Read(ulong offset, int size) => ulong.MaxValue;
        public void Write(ulong offset, int size, ulong value) { }
    }
}
