using System.Text.Json;
using Qkvm.Core.Machine;
using Qkvm.Testing;

namespace Qkvm.Tests.Control;

/// <summary>Processors and memory that come and go by device_add and device_del: QEMU 7.2's answers.</summary>
public sealed class SlotTests : IDisposable
{
    const ulong MiB = 1 << 20;
    const string Third = "qemu64-x86_64-cpu,socket-id=1,core-id=0,thread-id=0";

    readonly ControlBench _bench = new(config => config with
    {
        Topology = new CpuTopology(2, Sockets: 2, Cores: 2, MaxCpus: 4),
        Memory = new MemoryConfig(128 * MiB, 1024 * MiB, Slots: 2),
    });

    public void Dispose() => _bench.Dispose();

    void Out(ulong port, int size, ulong value) =>
        _bench.OnLoop(() => _bench.Machine.Board.Ports.Write(port, size, value));

    ulong In(ulong port, int size)
    {
        ulong value = 0;
        _bench.OnLoop(() => value = _bench.Machine.Board.Ports.Read(port, size));
        return value;
    }

    // As the guest's methods do

    void EjectCpu(int cpu)
    {
        Out(0xAF00, 4, (ulong)cpu);
        Out(0xAF04, 1, 8);
        _bench.OnLoop(() => { });                                  // it goes on the main loop, after that
    }

    void EjectMemory(int slot)
    {
        Out(0xA00, 4, (ulong)slot);
        Out(0xA14, 1, 8);
        _bench.OnLoop(() => { });
    }

    [Theory]
    [InlineData("qemu64-x86_64-cpu,socket-id=0,core-id=1,thread-id=0", "CPU[1] with APIC ID 1 exists")]
    [InlineData("qemu64-x86_64-cpu,socket-id=2,core-id=0,thread-id=0",
        "Invalid CPU socket-id: 2 must be in range 0:1")]
    [InlineData("qemu64-x86_64-cpu,socket-id=1,core-id=2,thread-id=0", "Invalid CPU core-id: 2 must be in range 0:1")]
    [InlineData("qemu64-x86_64-cpu,socket-id=1,core-id=1,thread-id=1",
        "Invalid CPU thread-id: 1 must be in range 0:0")]
    [InlineData("qemu64-x86_64-cpu,socket-id=1,core-id=1,thread-id=0,die-id=1",
        "Invalid CPU die-id: 1 must be in range 0:0")]
    [InlineData("qemu64-x86_64-cpu,socket-id=1,core-id=1", "CPU thread-id is not set")]
    [InlineData("qemu64-x86_64-cpu,socket-id=1", "CPU core-id is not set")]
    [InlineData("qemu64-x86_64-cpu", "CPU socket-id is not set")]
    [InlineData("max-x86_64-cpu,socket-id=1,core-id=1,thread-id=0",
        "Invalid CPU type, expected cpu type: 'qemu64-x86_64-cpu'")]
    public void What_names_no_free_place_of_a_processor_is_refused(string device, string message) =>
        Assert.Contains(message, _bench.Human($"device_add {device}"));

    [Fact]
    public void A_processor_comes_goes_and_comes_back()
    {
        Assert.Equal("", _bench.Human($"device_add {Third},id=third"));
        Assert.Equal([0, 1, 2], _bench.Machine.Cpus.Select(cpu => cpu.Index));
        Assert.Equal(1ul | 2, Status(2));
        Out(0x70, 1, 0x5F);
        Assert.Equal(2ul, In(0x71, 1));                            // for the next start: beside the first
        Assert.Equal("/machine/peripheral/third", QomPath(2));
        Assert.Contains("CPU[2] with APIC ID 2 exists", _bench.Human($"device_add {Third}"));
        Assert.Equal("", _bench.Human("device_del third"));
        Assert.Equal("/machine/peripheral/third", QomPath(2));     // the guest is asked
        EjectCpu(2);
        Assert.Equal([0, 1], _bench.Machine.Cpus.Select(cpu => cpu.Index));
        Assert.Null(QomPath(2));
        int made = _bench.Cpus.Count;
        Assert.Equal("", _bench.Human($"device_add {Third},id=third"));
        Assert.Equal((3, made), (_bench.Machine.Cpus.Count, _bench.Cpus.Count));       // the one that left
    }

    [Fact]
    public void A_processor_that_comes_runs_with_the_others_and_is_in_its_power_on_state()
    {
        Assert.Equal("", _bench.Human("cont"));
        Assert.Equal("", _bench.Human($"device_add {Third},id=third"));
        FakeCpu third = _bench.Cpus[2];
        Assert.True(SpinWait.SpinUntil(() => third.Entered > 0, TimeSpan.FromMinutes(1)), "it does not run");
        Assert.Equal(1, third.Resets);
        Assert.Equal("", _bench.Human("device_del third"));
        EjectCpu(2);
        int entered = third.Entered;
        Assert.Equal("", _bench.Human("stop"));
        Assert.Equal("", _bench.Human("cont"));
        Assert.Equal(entered, third.Entered);
    }

    [Fact]
    public void The_guest_may_let_go_of_a_processor_that_was_there_from_the_start_but_not_of_the_first()
    {
        EjectCpu(1);
        EjectCpu(0);
        Assert.Equal([0], _bench.Machine.Cpus.Select(cpu => cpu.Index));
        Assert.Equal("", _bench.Human("device_add qemu64-x86_64-cpu,id=second,socket-id=0,core-id=1,thread-id=0"));
        Assert.Equal([0, 1], _bench.Machine.Cpus.Select(cpu => cpu.Index));
    }

    [Theory]
    [InlineData("pc-dimm", "'memdev' property must be set")]
    [InlineData("pc-dimm,memdev=nope", "there is no object 'nope'")]
    [InlineData("pc-dimm,memdev=first", "can't use already busy memdev: first")]
    [InlineData("pc-dimm,memdev=big",
        "not enough space, currently 0x4000000 in use of total space for memory devices 0x38000000")]
    [InlineData("pc-dimm,memdev=odd", "backend memory size must be multiple of 0x200000")]
    [InlineData("pc-dimm,memdev=more,slot=0", "slot 0 is busy")]
    [InlineData("pc-dimm,memdev=more,slot=7", "invalid slot number 7, valid range is [0-1]")]
    [InlineData("pc-dimm,memdev=more,addr=0x100000000", "address range conflicts with memory device id='dimm0'")]
    [InlineData("pc-dimm,memdev=more,addr=0x1000", "address must be aligned to 0x200000 bytes")]
    [InlineData("pc-dimm,memdev=more,addr=0x1000000000", "can't add memory device [0x1000000000:0x2000000], usable "
        + "range for memory devices [0x100000000:0xb8000000]")]
    [InlineData("pc-dimm,memdev=more,node=3",
        "'DIMM property node has value 3' which exceeds the number of numa nodes: 1")]
    public void Memory_that_fits_nowhere_is_refused_and_stays_free(string device, string message)
    {
        AddMemory("first", "64M");
        AddMemory("big", "4G");
        AddMemory("odd", "4100K");
        AddMemory("more", "32M");
        Assert.Equal("", _bench.Human("device_add pc-dimm,memdev=first,id=dimm0"));
        Assert.Contains(message, _bench.Human($"device_add {device}"));
        Assert.Equal("", _bench.Human("device_add pc-dimm,memdev=more"));
    }

    [Fact]
    public void Memory_comes_and_goes()
    {
        AddMemory("first", "64M");
        AddMemory("second", "32M");
        AddMemory("third", "32M");
        Assert.Equal("", _bench.Human("device_add pc-dimm,memdev=first,id=dimm0"));
        Assert.Equal("", _bench.Human("device_add pc-dimm,memdev=second,id=dimm1"));
        Assert.Contains("no free slots available", _bench.Human("device_add pc-dimm,memdev=third"));
        Assert.Equal("""
            Memory device [dimm]: "dimm0"
              addr: 0x100000000
              slot: 0
              node: 0
              size: 67108864
              memdev: /objects/first
              hotplugged: true
              hotpluggable: true
            Memory device [dimm]: "dimm1"
              addr: 0x104000000
              slot: 1
              node: 0
              size: 33554432
              memdev: /objects/second
              hotplugged: true
              hotpluggable: true

            """, _bench.Human("info memory-devices"), ignoreLineEndingDifferences: true);
        Assert.Equal("base memory: 134217728\nplugged memory: 100663296\n", _bench.Human("info memory_size_summary"));
        WriteRead(0x1_0400_0000, 0x11223344, 0x11223344);
        Assert.Contains("object 'second' is in use, can not be deleted", _bench.Human("object_del second"));
        Assert.Equal("", _bench.Human("device_del dimm1"));
        Out(0xA00, 4, 1);
        Assert.Equal(1ul | 2 | 4, In(0xA14, 1));
        EjectMemory(1);
        WriteRead(0x1_0400_0000, 0, uint.MaxValue);
        Assert.Equal("", _bench.Human("object_del second"));
        Assert.Equal("", _bench.Human("device_add pc-dimm,memdev=third"));
        WriteRead(0x1_0400_0000, 5, 5);
    }

    [Fact]
    public void What_the_guest_says_of_slots_is_told()
    {
        var told = new List<AcpiOst>();
        _bench.OnLoop(() => _bench.Machine.Events.Raised += happened =>
        {
            if (happened is AcpiDeviceOstEvent { Info: var info }) told.Add(info);
        });
        AddMemory("first", "64M");
        Assert.Equal("", _bench.Human("device_add pc-dimm,memdev=first,id=dimm0"));
        Out(0xA00, 4, 0);
        Out(0xA04, 4, 3);
        Out(0xA08, 4, 0x80);
        Assert.Equal([new AcpiOst("dimm0", "0", AcpiSlot.Dimm, 3, 0x80)], told);
        Assert.Equal("""{"device":"dimm0","slot":"0","slot-type":"DIMM","source":3,"status":128}""",
            _bench.Query("query-acpi-ospm-status").EnumerateArray().First().GetRawText());
    }

    void AddMemory(string id, string size) =>
        Assert.Equal("", _bench.Human($"object_add memory-backend-ram,id={id},size={size}"));

    void WriteRead(ulong at, uint value, uint read) => _bench.OnLoop(() =>
    {
        _bench.Machine.Board.Memory.Write(at, 4, value);
        Assert.Equal(read, _bench.Machine.Board.Memory.Read(at, 4));
    });

    ulong Status(int cpu)
    {
        Out(0xAF00, 4, (ulong)cpu);
        return In(0xAF04, 1);
    }

    string? QomPath(int cpu)
    {
        JsonElement found = _bench.Query("query-hotpluggable-cpus").EnumerateArray().Reverse().ElementAt(cpu);
        return found.TryGetProperty("qom-path", out JsonElement path) ? path.GetString() : null;
    }
}
