using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Host;
using Qkvm.Machines.Pc;

namespace Qkvm.Machines.Tests.Pc;

public class MemoryLayoutTests
{
    const ulong MiB = 1 << 20, GiB = 1 << 30;

    static MemoryBackend Backend(ulong size) => new(new GuestRam("pc.ram", size));

    [Theory]
    [InlineData(256, 256, 0)]
    [InlineData(3072, 3072, 0)]
    [InlineData(3583, 3583, 0)]
    [InlineData(3584, 3072, 512)]
    [InlineData(4096, 3072, 1024)]
    [InlineData(8192, 3072, 5120)]
    public void RAM_is_split_at_3_GiB_from_3_5_GiB_on(ulong size, ulong below, ulong above)
    {
        using var memory = new PcMemory(Backend(size * MiB), new byte[256 << 10], new MachineLock());
        Assert.Equal((below * MiB, above * MiB), (memory.Below, memory.Above));

        memory.Space.Write(below * MiB - 4, 4, 0x11223344);
        Assert.Equal(0x11223344u, memory.Ram.Read(below * MiB - 4, 4));
        Assert.Equal(uint.MaxValue, memory.Space.Read(below * MiB, 4));
        if (above == 0)
            Assert.Equal(uint.MaxValue, memory.Space.Read(4 * GiB, 4));
        else
        {
            memory.Space.Write(4 * GiB, 4, 0x55667788);
            Assert.Equal(0x55667788u, memory.Ram.Read(below * MiB, 4));
            memory.Space.Write(4 * GiB + above * MiB - 4, 4, 0x99AABBCC);
            Assert.Equal(0x99AABBCCu, memory.Ram.Read(size * MiB - 4, 4));
            Assert.Equal(uint.MaxValue, memory.Space.Read(4 * GiB + above * MiB, 4));
        }
    }

    /// <summary>Where QEMU 7.2 puts them. AMD I/O Virtualization Technology, section 2.1.2.</summary>
    [Theory]
    [InlineData(true, 990, 0x100_0000_0000, 0x100_C000_0000)]
    [InlineData(false, 990, 0x1_0000_0000, 0x1_C000_0000)]
    [InlineData(true, 6, 0x1_0000_0000, 0x1_C000_0000)]
    public void Memory_that_would_reach_into_HyperTransports_range_begins_at_1_TiB(bool isAmd, ulong most, ulong start,
        ulong devices)
    {
        using var memory = new PcMemory(Backend(5 * GiB), [], new MachineLock(), PcMemoryPlan.Q35,
            new MemoryConfig(5 * GiB) { MaxSize = most * GiB, Slots = 1 }, limits: new AddressLimits(48, isAmd));
        Assert.Equal((start, devices), (memory.AboveStart, memory.DeviceMemory.Base));
        memory.Space.Write(start, 4, 0x55667788);
        Assert.Equal(0x55667788u, memory.Ram.Read(2 * GiB, 4));
        Assert.True(memory.PciHole64 >= devices + (most - 5) * GiB);
    }

    [Fact]
    public void Memory_beyond_the_processors_addresses_is_refused() =>
        Assert.Contains("Address space limit 0xffffffffff < 0x1ffbfffffff phys-bits too low (40)",
            Assert.Throws<ConfigurationException>(() => new PcMemory(Backend(256 * MiB), [], new MachineLock(),
            PcMemoryPlan.Q35, new MemoryConfig(256 * MiB) { MaxSize = 990 * GiB, Slots = 1 },
            limits: new AddressLimits(40, true))).Message);

    [Theory]
    [InlineData(128 << 10)] [InlineData(256 << 10)] [InlineData(4 << 20)]
    public void The_firmware_ends_at_4_GiB_and_its_last_128_KiB_at_1_MiB(int size)
    {
        byte[] bios = new byte[size];
        new Random(size).NextBytes(bios);
        using var memory = new PcMemory(Backend(64 * MiB), bios, new MachineLock());
        byte[] high = new byte[size], low = new byte[128 << 10];
        memory.Space.Read(4 * GiB - (ulong)size, high);
        var pci = new AddressSpace("pci", memory.Pci, new MachineLock());
        pci.Read(MiB - (ulong)low.Length, low);
        Assert.Equal(bios, high);
        Assert.Equal(bios[^low.Length..], low);
        memory.Space.Write(4 * GiB - 1, 1, (byte)~bios[^1]);
        Assert.Equal(bios[^1], (byte)memory.Space.Read(4 * GiB - 1, 1));
    }

    [Fact]
    public void Without_a_screen_its_window_shows_RAM_and_the_closed_ROM_space_floats()
    {
        using var pc = new TestMachine();
        AddressSpace memory = pc.Board.Memory;
        foreach (ulong address in (ulong[])[0xA0000, 0xB8000, 0xBFFFC])
        {
            memory.Write(address, 4, address);
            Assert.Equal(address, memory.Read(address, 4));
        }
        memory.Write(0xC0000, 4, 0x55);
        Assert.Equal(uint.MaxValue, memory.Read(0xC0000, 4));
    }

    [Theory]
    [InlineData(8, 7 * 1024, 0, 0)]
    [InlineData(256, 0xFFFF, 240 * 16, 0)]
    [InlineData(8192, 0xFFFF, (3072 - 16) * 16, 5120 * 16)]
    public void CMOS_tells_the_firmware_how_much_there_is(ulong mebibytes, int extendedKiB, int above16M, int above4G)
    {
        using var pc = new TestMachine(c => c with { Memory = new MemoryConfig(mebibytes * MiB) });
        Assert.Equal(640, Cmos(pc, 0x15, 2));
        Assert.Equal(extendedKiB, Cmos(pc, 0x17, 2));
        Assert.Equal(extendedKiB, Cmos(pc, 0x30, 2));
        Assert.Equal(above16M, Cmos(pc, 0x34, 2));
        Assert.Equal(above4G, Cmos(pc, 0x5B, 3));
    }

    [Theory]
    [InlineData("cad", 0x12, 0x31)] [InlineData("d", 0x03, 0x01)] [InlineData("nc", 0x24, 0x01)]
    public void CMOS_holds_the_boot_order(string order, int firstTwo, int third)
    {
        using var pc = new TestMachine(c => c with { Boot = new BootConfig(order) });
        Assert.Equal((firstTwo, third), (Cmos(pc, 0x3D, 1), Cmos(pc, 0x38, 1)));
    }

    [Fact]
    public void Boot_once_holds_until_the_first_reset()
    {
        using var pc = new TestMachine(c => c with { Boot = new BootConfig("c", Once: "d") });
        Assert.Equal(0x03, Cmos(pc, 0x3D, 1));
        using (pc.Board.Lock.Hold()) pc.Machine.Reset();
        Assert.Equal(0x02, Cmos(pc, 0x3D, 1));
    }

    [Theory]
    [InlineData(0)] [InlineData(1000)] [InlineData(65535)] [InlineData((16 << 20) + 65536)]
    public void A_BIOS_image_of_another_size_than_64_KiB_times_n_is_refused(int size)
    {
        string file = Path.GetTempFileName();
        try
        {
            File.WriteAllBytes(file, new byte[size]);
            var error =
                Assert.Throws<ConfigurationException>(() =>
                new TestMachine(c => c with { Firmware = new FirmwareConfig(file) }));
            Assert.Contains("-bios", error.Message);
            Assert.Contains("64 KiB", error.Message);
        }
        finally { File.Delete(file); }
    }

    [Fact]
    public void A_BIOS_that_is_nowhere_is_named()
    {
        var error =
            Assert.Throws<ConfigurationException>(() =>
            new TestMachine(c => c with { Firmware = new FirmwareConfig("nowhere.bin") }));
        Assert.Contains("'nowhere.bin'", error.Message);
    }

    static int Cmos(TestMachine pc, int index, int bytes)
    {
        int value = 0;
        for (int i = 0; i < bytes; i++)
        {
            pc.Board.Ports.Write(0x70, 1, (ulong)(index + i));
            value |= (int)pc.Board.Ports.Read(0x71, 1) << (i * 8);
        }
        return value;
    }

    /// <summary>As the memory of NUMA nodes is: one after the other, through the hole.</summary>
    [Fact]
    public void RAM_of_several_pieces_is_one_after_the_other()
    {
        MemoryBackend first = Backend(MiB), second = Backend(4 * GiB), third = Backend(2 * MiB);
        using var memory = new PcMemory(new MachineRam([first, second, third]), [], new MachineLock());
        Assert.Equal((3 * GiB, GiB + 3 * MiB), (memory.Below, memory.Above));
        memory.Space.Write(4, 4, 1);
        memory.Space.Write(MiB, 4, 2);
        memory.Space.Write(4 * GiB, 4, 3);
        memory.Space.Write(4 * GiB + GiB + 3 * MiB - 4, 4, 4);
        Assert.Equal((1UL, 2UL, 3UL, 4UL), (first.Ram.Read(4, 4), second.Ram.Read(0, 4),
            second.Ram.Read(3 * GiB - MiB, 4), third.Ram.Read(2 * MiB - 4, 4)));

        memory.Load(MiB - 2, [9, 8, 7, 6]);
        Assert.Equal((0x0809UL, 0x0607UL), (first.Ram.Read(MiB - 2, 2), second.Ram.Read(0, 2)));
        memory.Clear(MiB - 1, 2);
        Assert.Equal((0x09UL, 0x0600UL), (first.Ram.Read(MiB - 2, 2), second.Ram.Read(0, 2)));
        Assert.Throws<ArgumentOutOfRangeException>(() => memory.Clear(4 * GiB + 3 * MiB - 1, 2));
    }
}
