using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Host;
using Qkvm.Machines.Firmware;
using Qkvm.Machines.Pc;

namespace Qkvm.Machines.Tests.Firmware;

/// <summary>What tables say of nodes: byte by byte what QEMU 7.2's do for the same machine, behind the
/// header.</summary>
public class NumaTablesTests
{
    const ulong MiB = 1 << 20, GiB = 1 << 30;
    const int HeaderSize = 36;

    static readonly NumaConfig Small = new()
    {
        Nodes = [new(64 * MiB), new(64 * MiB, Initiator: 0)],
        CpuNodes = [0, 0],
    };

    /// <summary>-m 128,slots=2,maxmem=5G, two nodes of 64 MiB.</summary>
    const string WithRoom =
        "010000000000000000000000001000000100000000000000000000000010000101000000000000000000000001280000"
        + "00000000000000000000000000000a000000000000000000010000000000000000000000012800000000000000001000"
        + "000000000000f00300000000000000000100000000000000000000000128010000000000000000040000000000000004"
        + "000000000000000001000000000000000000000001280000000000000000000000000000000000000000000000000000"
        + "00000000000000000000000001280100000000000000000001000000000000b801000000000000000300000000000000"
        + "00000000";

    /// <summary>-m 5G of a Q35, nodes of 1 and 4 GiB: the second is on both sides of the hole.</summary>
    const string AroundHole =
        "010000000000000000000000001000000100000000000000000000000010000101000000000000000000000001280000"
        + "00000000000000000000000000000a000000000000000000010000000000000000000000012800000000000000001000"
        + "000000000000f03f00000000000000000100000000000000000000000128010000000000000000400000000000000040"
        + "000000000000000001000000000000000000000001280100000000000000000001000000000000c00000000000000000"
        + "010000000000000000000000";

    const string Attributes =
        "000000000000000028000000010000000000000000000000000000000000000000000000000000000000000000000000"
        + "280000000100000000000000010000000000000000000000000000000000000000000000010000003000000000000000"
        + "010000000200000000000000102700000000000000000000000000000100000001000000010000003000000000010000"
        + "010000000200000000000000e80300000000000000000000000000000100000003000000010000003000000000030000"
        + "010000000200000000000000020000000000000000000000000000000100000005000000010000003000000002020000"
        + "010000000200000000000000e80300000000000000000000000000000100000000000500020000002000000000000000"
        + "000000000028000000000000122240000000000002000000200000000000000000000000005000000000000022110800"
        + "00000000";

    static string Table(string signature, NumaConfig numa, MemoryConfig memory)
    {
        using var pc = new PcMemory(new MemoryBackend(new GuestRam("pc.ram", memory.Size)), [], new MachineLock(),
            PcMemoryPlan.Q35, memory);
        byte[] tables = AcpiTables.Build(new AcpiPlatform
        {
            ApicIds = [0, 1],
            IsCpuPresent = _ => true,
            Chipset = new AcpiChipset(AcpiChipset.DefaultPmBase, 2, 3, 0x620, 16, 15),
            Tree = new QBus("main-system-bus", BusKind.System),
            Memory = pc,
            Numa = numa,
        }).Tables;
        int at = tables.AsSpan().IndexOf(System.Text.Encoding.ASCII.GetBytes(signature));
        return at < 0 ? "" : Convert.ToHexStringLower(tables,
            at + HeaderSize, BitConverter.ToInt32(tables, at + sizeof(int)) - HeaderSize);
    }

    [Fact]
    public void Memory_and_room_for_more_are_of_nodes() =>
        Assert.Equal(WithRoom, Table("SRAT", Small, new MemoryConfig(128 * MiB, 5 * GiB, Slots: 2)));

    [Fact]
    public void A_node_is_on_both_sides_of_the_hole_below_4_GiB() => Assert.Equal(AroundHole,
        Table("SRAT", Small with { Nodes = [new(1 * GiB), new(4 * GiB)] }, new MemoryConfig(5 * GiB)));

    [Fact]
    public void Distances_stand_in_rows() => Assert.Equal("02000000000000000a151e0a",
        Table("SLIT", Small with { Distances = [[10, 21], [30, 10]] }, new MemoryConfig(128 * MiB)));

    [Fact]
    public void Speeds_and_caches_are_told_where_users_say_so()
    {
        NumaConfig numa = Small with
        {
            HasAttributes = true,
            Speeds =
            [
                new(MemoryHierarchy.Memory, MemorySpeedKind.AccessLatency, [(0, 0, 10)]),
                new(MemoryHierarchy.Memory, MemorySpeedKind.ReadLatency, [(0, 0, 3)]),
                new(MemoryHierarchy.Memory, MemorySpeedKind.AccessBandwidth, [(0, 0, 10 * MiB)]),
                new(MemoryHierarchy.SecondLevel, MemorySpeedKind.WriteLatency, [(0, 1, 5)]),
            ],
            Caches =
            [
                new(0, 1, 10 << 10, CacheAssociativity.Complex, CacheWritePolicy.WriteThrough, 64),
                new(0, 2, 20 << 10, CacheAssociativity.Direct, CacheWritePolicy.WriteBack, 8),
            ],
        };
        Assert.Equal(Attributes, Table("HMAT", numa, new MemoryConfig(128 * MiB)));
        Assert.Equal("", Table("HMAT", numa with { HasAttributes = false }, new MemoryConfig(128 * MiB)));
    }

    [Fact]
    public void Memory_in_one_piece_is_not_told_of() => Assert.Equal("", Table("SRAT", new NumaConfig(),
        new MemoryConfig(128 * MiB)));
}
