using Qkvm.Core.Block;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Hw.Storage;
using Qkvm.Hw.Timer;

namespace Qkvm.Machines.Pc;

/// <summary>What the firmware finds in CMOS RAM. Spec: IBM PC/AT Technical Reference, "CMOS RAM Address Map"; from 34h
/// on the bytes that SeaBIOS (and Bochs before it) agreed with its emulators.</summary>
static class PcCmos
{
    // Bytes of CMOS RAM
    const int ShutdownStatus = 0x0F, FloppyTypes = 0x10, DiskTypes = 0x12, Equipment = 0x14, BaseMemory = 0x15,
        ExtendedMemory = 0x17, Disk0Type = 0x19, Disk1Type = 0x1A, Disk0 = 0x1B, Disk1 = 0x24, ExtendedMemory2 = 0x30,
        MemoryAbove16M = 0x34, BootOrder3 = 0x38, DiskTranslation = 0x39, BootOrder12 = 0x3D, MemoryAbove4G = 0x5B,
        OtherCpus = 0x5F;

    const byte WakeUp = 0xFE;                                      // SeaBIOS's
    const byte EquipmentFloppy = 0x01, EquipmentFpu = 0x02, EquipmentMouse = 0x04,
        EquipmentSecondFloppy = 0x40;
    const byte UserDiskType = 47, NoFloppyCheck = 1, LbaTranslation = 1;
    const int Heads = 16, Sectors = 63, MaxCylinders = 16383;
    const long LargestUntranslated = 1024L * Heads * Sectors * 512;
    const int Places = 4;

    public static void Describe(Mc146818 rtc, PcMemory memory, int cpus)
    {
        Put(rtc, BaseMemory, Math.Min(memory.Below >> 10, 640), 2);
        ulong extended = memory.Below > 1 << 20 ? (memory.Below - (1 << 20)) >> 10 : 0;
        Put(rtc, ExtendedMemory, Math.Min(extended, 0xFFFF), 2);
        Put(rtc, ExtendedMemory2, Math.Min(extended, 0xFFFF), 2);
        ulong above16M = memory.Below > 16 << 20 ? (memory.Below - (16 << 20)) >> 16 : 0;
        Put(rtc, MemoryAbove16M, Math.Min(above16M, 0xFFFF), 2);
        Put(rtc, MemoryAbove4G, memory.Above >> 16, 3);
        CountCpus(rtc, cpus);
    }

    /// <summary>What the firmware does at its next start: wakes what sleeps.</summary>
    public static void ExpectWakeUp(Mc146818 rtc) => rtc[ShutdownStatus] = WakeUp;

    public static void CountCpus(Mc146818 rtc, int cpus) =>
        rtc[OtherCpus] = cpus > byte.MaxValue ? (byte)0 : (byte)(cpus - 1); // fw_cfg has the number of many

    /// <summary>-boot's letters, up to three.</summary>
    public static void SetBootOrder(Mc146818 rtc, string order)
    {
        int[] codes = [.. order.Select(Code).Take(3)];
        rtc[BootOrder12] = (byte)(codes.ElementAtOrDefault(0) | codes.ElementAtOrDefault(1) << 4);
        rtc[BootOrder3] = (byte)(codes.ElementAtOrDefault(2) << 4 | NoFloppyCheck);

        static int Code(char letter) => letter switch
        {
            'a' or 'b' => 1,
            'c' => 2,
            'd' => 3,
            'n' => 4,
            _ => throw new ConfigurationException($"-boot order={letter}: boot devices are a (floppy), c (disk), d " +
                "(CD-ROM), n (network)"),
        };
    }

    /// <summary>Kinds of the first controller's drives, and what else the equipment byte tells.</summary>
    public static void DescribeFloppies(Mc146818 rtc, QBus tree)
    {
        var controller = tree.AllDevices.FirstOrDefault(node => node.Device is I82078)?.Device as I82078;
        FloppyType a = controller?[0]?.Type ?? FloppyType.None, b = controller?[1]?.Type ?? FloppyType.None;
        int drives = (a != FloppyType.None ? 1 : 0) + (b != FloppyType.None ? 1 : 0);
        rtc[FloppyTypes] = (byte)((int)a << 4 | (int)b);
        rtc[Equipment] = (byte)(EquipmentFpu | EquipmentMouse | drives switch { 0 => 0, 1 => EquipmentFloppy,
            _ => EquipmentFloppy | EquipmentSecondFloppy });
    }

    /// <summary>Geometry and translation of the disks on the first two IDE buses.</summary>
    public static void DescribeDisks(Mc146818 rtc, QBus tree)
    {
        BlockBackend?[] disks = [.. Enumerable.Range(0, Places).Select(place => DiskAt(tree, place))];
        rtc[DiskTypes] = (byte)((disks[0] != null ? 0xF0 : 0) | (disks[1] != null ? 0x0F : 0));
        if (disks[0] is { } first) Geometry(rtc, Disk0Type, Disk0, first);
        if (disks[1] is { } second) Geometry(rtc, Disk1Type, Disk1, second);
        int translations = 0;
        for (int i = 0; i < Places; i++)
            if (disks[i] is { } disk && disk.Length > LargestUntranslated) translations |= LbaTranslation << (i * 2);
        rtc[DiskTranslation] = (byte)translations;
    }

    /// <param name="place">Channel * 2 + unit.</param>
    static BlockBackend? DiskAt(QBus tree, int place)
    {
        const int Units = IdeChannel.Drives;
        var channel = tree.Find($"ide.{place / Units}")?.Wires as IdeChannel;
        return (channel?[place % Units] as AtaDrive)?.Backend;
    }

    static void Geometry(Mc146818 rtc, int type, int at, BlockBackend disk)
    {
        const byte MoreThan8Heads = 0xC8;
        ulong cylinders = (ulong)Math.Clamp(disk.Length / 512 / (Heads * Sectors), 2, MaxCylinders);
        rtc[type] = UserDiskType;
        Put(rtc, at, cylinders, 2);
        rtc[at + 2] = Heads;
        Put(rtc, at + 3, 0xFFFF, 2);                               // no write precompensation
        rtc[at + 5] = MoreThan8Heads;
        Put(rtc, at + 6, cylinders, 2);                            // landing zone
        rtc[at + 8] = Sectors;
    }

    static void Put(Mc146818 rtc, int at, ulong value, int bytes)
    {
        for (int i = 0; i < bytes; i++) rtc[at + i] = (byte)(value >> (i * 8));
    }
}
