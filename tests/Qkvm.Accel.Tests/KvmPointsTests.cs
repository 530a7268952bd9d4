using System.Runtime.CompilerServices;
using Qkvm.Accel.Kvm;
using Qkvm.Core.Accel;
using Qkvm.Host;

namespace Qkvm.Accel.Tests;

/// <summary>Where a debugger's points go under KVM: into debug registers, Intel SDM vol. 3, section 18.2, and into
/// memory. Needs no KVM.</summary>
public sealed class KvmPointsTests : IDisposable
{
    const ulong Always = 0x600;                                    // DR7: bit 10 is one; GE

    readonly GuestRam _ram = new("ram", 1 << 20);

    public void Dispose() => _ram.Dispose();

    static DebugPoint Point(DebugPointKind kind, ulong address, ulong length = 1) => new(kind, address, length);

    static KvmPoints Registers(params DebugPoint[] points) => new(points, static _ => null);

    /// <summary>Linear is physical.</summary>
    KvmPoints InMemory(params DebugPoint[] points) => new(points, linear => new CodeByte(_ram, linear));

    static ulong[] Filled(KvmPoints points)
    {
        var registers = new ulong[8];
        points.Fill(registers);
        return registers;
    }

    /// <summary>A request's number holds its structure's size. Linux, include/uapi/asm-generic/ioctl.h.</summary>
    [Fact]
    public void The_structures_size_is_that_of_the_request()
    {
        Assert.Equal(KvmApi.SetGuestDebug >> 16 & 0x3FFF, (uint)Unsafe.SizeOf<KvmGuestDebug>());
    }

    [Theory]
    [InlineData(DebugPointKind.Hardware, 0x1001, 1, 0x0ul)]
    [InlineData(DebugPointKind.Software, 0x1001, 1, 0x0ul)]        // where nothing can be changed
    [InlineData(DebugPointKind.Write, 0x1001, 1, 0x1ul)]
    [InlineData(DebugPointKind.Write, 0x1002, 2, 0x5ul)]
    [InlineData(DebugPointKind.Write, 0x1004, 4, 0xDul)]
    [InlineData(DebugPointKind.Write, 0x1008, 8, 0x9ul)]
    [InlineData(DebugPointKind.Access, 0x1008, 8, 0xBul)]
    public void A_register_gets_address_kind_and_length(DebugPointKind kind, ulong address, ulong length, ulong field)
    {
        KvmPoints points = Registers(Point(kind, address, length));
        Assert.True(points.IsComplete);
        Assert.Equal(KvmGuestDebug.Enable | KvmGuestDebug.HardwareBreakpoints, points.Control);
        Assert.Equal([address, 0, 0, 0, 0, 0, 0, Always | 2 | field << 16], Filled(points));
    }

    [Fact]
    public void Four_registers_stand_side_by_side_and_DR6_tells_which()
    {
        DebugPoint[] four = [Point(DebugPointKind.Hardware, 0x10), Point(DebugPointKind.Write, 0x20, 4),
            Point(DebugPointKind.Access, 0x31), Point(DebugPointKind.Hardware, 0x40)];
        KvmPoints points = Registers(four);
        Assert.Equal([0x10, 0x20, 0x31, 0x40, 0, 0, 0, Always | 0xAA | 0x03D0UL << 16], Filled(points));
        for (int i = 0; i < four.Length; i++)
            Assert.Equal(new DebugStop(four[i], four[i].Address), points.Find(1UL << i | 0xFFFF0FF0));
        Assert.Null(points.Find(0xFFFF4FF0));
        Assert.False(Registers([.. four, Point(DebugPointKind.Hardware, 0x50)]).IsComplete);
    }

    [Fact]
    public void Data_that_no_register_can_watch_alone_takes_several()
    {
        DebugPoint odd = Point(DebugPointKind.Write, 0x1003, 13);  // 1 + 4 + 8
        KvmPoints points = Registers(odd);
        ulong[] registers = Filled(points);
        Assert.Equal([0x1003, 0x1004, 0x1008], registers[..3]);
        Assert.Equal(Always | 0x2A | 0x9D1UL << 16, registers[7]);
        Assert.Equal(new DebugStop(odd, 0x1008), points.Find(4));
        Assert.False(Registers(Point(DebugPointKind.Write, 0x1000, 40)).IsComplete);
        Assert.False(Registers(Point(DebugPointKind.Write, 0, 1UL << 20)).IsComplete);
    }

    [Fact]
    public void Reading_alone_cannot_be_watched() =>
        Assert.False(Registers(Point(DebugPointKind.Read, 0x1000, 4)).IsComplete);

    [Fact]
    public void Software_points_stand_in_memory_while_the_guest_runs()
    {
        _ram.Write(0x1000, 4, 0x44332211);
        DebugPoint[] points = [.. Enumerable.Range(0x1000, 3).Select(at => Point(DebugPointKind.Software, (ulong)at))];
        KvmPoints placed = InMemory(points);
        Assert.Equal(KvmGuestDebug.Enable | KvmGuestDebug.SoftwareBreakpoints, placed.Control);
        placed.Place();
        Assert.Equal(0x44CCCCCCu, _ram.Read(0x1000, 4));
        Assert.Equal(points[1], placed.At(0x1001));
        Assert.Null(placed.At(0x1003));
        _ram.Write(0x1001, 1, 0x90);                               // the guest writes code of its own
        placed.Remove();
        Assert.Equal(0x44339011u, _ram.Read(0x1000, 4));
    }

    [Fact]
    public void Two_addresses_of_one_byte_leave_it_as_it_was()
    {
        _ram.Write(0x1000, 1, 0x55);
        DebugPoint[] points = [Point(DebugPointKind.Software, 0x1000), Point(DebugPointKind.Software, 0x9000)];
        var placed = new KvmPoints(points, _ => new CodeByte(_ram, 0x1000));
        placed.Place();
        Assert.Equal((points[0], points[1]), (placed.At(0x1000), placed.At(0x9000)));
        placed.Remove();
        Assert.Equal(0x55u, _ram.Read(0x1000, 1));
    }

    [Fact]
    public void No_points_ask_nothing_of_the_kernel() => Assert.Equal(0u, KvmPoints.None.Control);
}
