using System.Runtime.InteropServices;
using Qkvm.Core.Devices;
using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Core.State;
using Qkvm.Core.Usb;
using Qkvm.Core.Virtio;
using Qkvm.Hw.Audio;
using Qkvm.Hw.Display;
using Qkvm.Hw.Firmware;
using Qkvm.Hw.Scsi;
using Qkvm.Hw.Storage;
using Qkvm.Hw.Tpm;
using Qkvm.Hw.Virtio;
using Qkvm.Hw.Watchdog;
using Qkvm.Testing;

namespace Qkvm.Tests.State;

/// <summary>What all devices of the catalogue and all chips of the board promise: Reset equals new; a state that was
/// saved, loaded and saved again is the same; loading raises no edge, and leaves no field behind. A new line of the
/// catalogue is covered by itself.</summary>
public class CatalogueStateTests
{
    const long SomeTime = 345_678_901;
    const ulong MemoryBars = 0xC000_0000, BarDistance = 0x0800_0000, IoBars = 0xC000, IoDistance = 0x400;
    const ulong Ring = 0x10_0000, Buffers = 0x80_0000;

    // What a reset leaves as it is: the battery's memory, and what the monitor asked of a balloon
    static readonly string[] Kept =
        ["isa.0/mc146818rtc.cmos", "isa.0/mc146818rtc.origin", "isa.0/mc146818rtc.seen-second"];

    /// <summary>All devices but those in slots, whose state is others', and those whose state is elsewhere; each used
    /// in three ways.</summary>
    public static TheoryData<string, int> Models
    {
        get
        {
            var models = new TheoryData<string, int>();
            foreach (DeviceModel model in Catalogue.Devices.Models.Where(model => model.Bus != BusKind.None
                && model.IsMigratable))
                for (int way = 0; way < 3; way++) models.Add(model.Name, way);
            return models;
        }
    }

    [Theory, MemberData(nameof(Models))]
    public void A_device_keeps_its_state(string name, int way)
    {
        DeviceModel model = Catalogue.Devices.Models.Single(m => m.Name == name);
        var clock = new FakeClock();
        using var bare = new StateBench(clock, q35: StateBench.WantsQ35(model),
            microvm: model.Bus == BusKind.Virtio);
        using var used = new StateBench(clock, model);
        string fresh = DeviceState(used);
        Use(used, bare, way);
        used.Type("typed"u8);
        clock.Advance(SomeTime);
        used.Settle();
        if (fresh.Length > 0) Assert.NotEqual(fresh, DeviceState(used));
        Check(clock, used, () => new StateBench(clock, model));
    }

    [Theory]
    [InlineData(1, false, false)] [InlineData(2, false, false)] [InlineData(3, true, false)]
    [InlineData(4, true, false)] [InlineData(5, true, false)] [InlineData(6, false, true)] [InlineData(7, true, true)]
    [InlineData(8, true, true)]
    public void The_chips_of_the_board_keep_their_state(int seed, bool ownIrqChips, bool q35)
    {
        var clock = new FakeClock();
        using var used = new StateBench(clock, null, ownIrqChips, q35: q35);
        new RandomGuest(used.Board, seed).Run(5000);
        clock.Advance(SomeTime);
        used.Settle();
        Check(clock, used, () => new StateBench(clock, null, ownIrqChips, q35: q35));
    }

    static void Check(FakeClock clock, StateBench used, Func<StateBench> make)
    {
        StateNode state = used.Save();
        using StateBench loaded = make();
        int events = loaded.Wires.Events, posted = loaded.Accelerator.Cpus[0].Signals.Count;
        loaded.Load(used, state);
        Assert.Equal(events, loaded.Wires.Events);
        Assert.Equal(posted, loaded.Accelerator.Cpus[0].Signals.Count);
        Assert.Equal(state.ToString(), loaded.Save().ToString());
        foreach (var ((path, one), (_, other)) in used.Devices.Zip(loaded.Devices))
            Assert.Equal("",
                string.Join('\n', Differences(path, FieldWalk.Values(one), FieldWalk.Values(other))
                .Select(d => d[..Math.Min(200, d.Length)])));

        clock.Advance(SomeTime);
        used.Settle();
        loaded.Settle();
        Assert.Equal(used.Save().ToString(), loaded.Save().ToString());

        used.Board.Reset();
        using StateBench fresh = make();
        Assert.Equal(WithoutKept(fresh.Save()), WithoutKept(used.Save()));
    }

    /// <summary>An address, a configuration, remote wake-up, and the first half of a control transfer.</summary>
    static void Configure(UsbDevice device)
    {
        byte[][] setups = [[0, 5, 7, 0, 0, 0, 0, 0], [0, 9, 1, 0, 0, 0, 0, 0], [0, 3, 1, 0, 0, 0, 0, 0],
            [0x80, 6, 0, 1, 0, 0, 18, 0]];
        var packet = new UsbPacket(_ => { });
        foreach (byte[] setup in setups)
        {
            packet.Begin(UsbToken.Setup, 0);
            packet.Add(setup);
            device.Handle(packet);
            packet.Begin(UsbToken.In, 0);
            packet.Add(new byte[8]);
            UsbStatus status = device.Handle(packet);
            bool asksForWakeUp = setup[1] == 3;                    // which a disk refuses
            if (!asksForWakeUp) Assert.Equal(UsbStatus.Success, status);
        }
    }

    /// <summary>Brings a device into a state unlike a new one's.</summary>
    static void Use(StateBench bench, StateBench bare, int way)
    {
        var guest = new RandomGuest(bench.Board, way);
        if (bench.Device is PciDevice function)
        {
            Map(function);
            guest.Run(function, 2000);
            Map(function);
            if (function is VirtioPci virtio) Negotiate(bench, virtio, way);
        }
        else if (bench.Device is UsbDevice usb) Configure(usb);
        else if (bench.Device is VirtioSerialPort port) Open(bench, port, way);
        else if (bench.Device is HdaCodec) Command(bench, way);
        else if (bench.Device is FloppyDrive) Seek(bench);
        else if (bench.Device is ScsiDevice scsi) scsi.Unit.Begin([0xFF, 0, 0, 0, 0, 0], 0);    // it knows no such
        else if (bench.Device is Ramfb) WriteFile(bench, "etc/ramfb", 7);
        else if (bench.Device is VmCoreInfo) WriteFile(bench, "etc/vmcoreinfo", 9);
        else if (bench.Device is VirtioBusDevice plugged) NegotiateInMemory(bench, plugged.Device.Control, way);
        else
        {
            if (bench.Device is TpmTis) BeginCommand(bench.Board.Memory);
            guest.RunNew(bench.Board.Ports, bare.Board.Ports.View, 2000);
            guest.RunNew(bench.Board.Memory, bare.Board.Memory.View, 2000);
            if (bench.Device is Ib700) bench.Board.Ports.Write(0x443, 1, 0);
            else if (bench.Device is IsaIde) bench.Board.Ports.Write(0x3EE, 1, 2); // nIEN, which chance need not find
            else guest.Run(5000);                                  // a drive has no registers of its own
        }
    }

    /// <summary>Format, stream and amplifier of the DAC, by the controller that the codec hangs on; and the stream
    /// runs.</summary>
    static void Command(StateBench bench, int way)
    {
        const ulong control = 0x08, command = 0x60, status = 0x68, stream = 0x100;
        HdaController controller = bench.Devices.Select(d => d.Device).OfType<HdaController>().First();
        Map(controller);
        AddressSpace memory = bench.Board.Memory;
        memory.Write(MemoryBars + control, 4, 1);
        foreach (uint verb in new uint[] { 0x0022_4011, 0x0027_0610, 0x0023_B020 + (uint)way })
        {
            memory.Write(MemoryBars + command, 4, verb);
            memory.Write(MemoryBars + status, 2, 1);
        }
        memory.Write(MemoryBars + stream + 2, 1, 0x10);
        if (way > 0) memory.Write(MemoryBars + stream, 1, 2);
    }

    /// <summary>By the board's controller: out of reset, SEEK to track 5.</summary>
    static void Seek(StateBench bench)
    {
        const ulong output = 0x3F2, fifo = 0x3F5;
        bench.Board.Ports.Write(output, 1, 0x1C);
        foreach (byte value in (byte[])[0x0F, 0, 5]) bench.Board.Ports.Write(fifo, 1, value);
    }

    /// <summary>As by fw_cfg's DMA.</summary>
    static void WriteFile(StateBench bench, string name, int at)
    {
        Assert.True(MemoryMarshal.TryGetArray(bench.Board.FirmwareConfiguration.Files[name],
            out ArraySegment<byte> file));
        file[at] = 0x20;
    }

    /// <summary>A TPM hears nobody who has not asked for its use, which chance would not find. TIS 1.3, section
    /// 5.6.</summary>
    static void BeginCommand(AddressSpace memory)
    {
        const ulong access = 0xFED4_0000, status = access + 0x18, fifo = access + 0x24;
        memory.Write(access, 1, 0x02);                             // requestUse
        memory.Write(status, 1, 0x40);                             // commandReady
        memory.Write(fifo, 2, 0x0180);
    }

    /// <summary>A driver opens the port. Virtio 1.2, section 5.3.6.2.</summary>
    static void Open(StateBench bench, VirtioSerialPort port, int way)
    {
        const int portOpen = 6;
        VirtioPci function = bench.Board.Pci!.AllDevices.OfType<VirtioPci>().Single();
        Map(function);
        bench.Board.Memory.Write(Buffers, 4, (uint)port.Number);
        bench.Board.Memory.Write(Buffers + 4, 4, portOpen | 1 << 16);
        Negotiate(bench, function, way);
    }

    static void Map(PciDevice function)
    {
        for (int i = 0; i < 6; i++)
        {
            if (function.BarRegions[i] is not { } region) continue;
            int register = PciConfig.Bar0 + i * 4;
            bool isIo = (function.Config.Get32(register) & 1) != 0;
            ulong address = isIo ? IoBars + (ulong)i * IoDistance : MemoryBars + (ulong)i * BarDistance;
            Assert.True(region.Size <= (isIo ? IoDistance : BarDistance), $"{region.Name}: BAR {i} has " +
                $"{region.Size} bytes");
            function.Bus.WriteConfig(function.DevFn, register, 4, (uint)address);
        }
        function.Bus.WriteConfig(function.DevFn, PciConfig.Command, 2,
            PciConfig.IoSpace | PciConfig.MemorySpace | PciConfig.BusMaster);
        if (function is not (PciBridge or PciExpanderBridge))
            Assert.Contains(function.BarRegions, r => r?.Parent != null);
    }

    /// <summary>A modern driver's way to DRIVER_OK, with a request in each queue that suits some devices, and breaks
    /// others. Virtio 1.2, sections 3.1.1 and 4.1.4.3.</summary>
    static void Negotiate(StateBench bench, VirtioPci function, int way)
    {
        const int FeatureSelect = 8, Feature = 12, Status = 20, Select = 22, Size = 24, Vector = 26, Enable = 28,
            Address = 32, Notify = 0x3000;
        AddressSpace memory = bench.Board.Memory;
        // virtio-vga has the structures behind the registers of VGA
        ulong bar = function.BarRegions[2] is { } beside ? beside.Address + 0x4000 : function.BarRegions[4]!.Address;
        Put(Status, 1, 0);
        Put(Status, 1, VirtioStatus.Acknowledge | VirtioStatus.Driver);
        for (uint half = 0; half < 2; half++)
        {
            Put(FeatureSelect, 4, half);
            Put(Feature, 4, (uint)(function.Control.OfferedFeatures >> (int)(32 * half)));
        }
        Put(Status, 1, VirtioStatus.Acknowledge | VirtioStatus.Driver | VirtioStatus.FeaturesOk);
        int queues = function.Control.Queues.Count;
        for (int i = 0; i < queues; i++)
        {
            var queue = new GuestQueue(memory, Ring + (ulong)i * 0x8000, 8);
            Put(Select, 2, (uint)i);
            Put(Size, 2, 8);
            Put(Vector, 2, 0);
            Put(Address, 4, (uint)queue.Descriptors);
            Put(Address + 8, 4, (uint)queue.Available);
            Put(Address + 16, 4, (uint)queue.Used);
            Put(Enable, 2, 1);
        }
        Put(Status, 1, VirtioStatus.Acknowledge | VirtioStatus.Driver | VirtioStatus.FeaturesOk
            | VirtioStatus.DriverOk);
        Assert.True(function.Control.IsStarted);
        for (int i = 0; i < queues; i++)
        {
            Request(memory, i, way);
            Put(Notify + i * 4, 2, (uint)i);
        }

        void Put(int register, int size, uint value) => memory.Write(bar + (ulong)register, size, value);
    }

    /// <summary>The same in the transport that is taken first. Virtio 1.2, section 4.2.</summary>
    static void NegotiateInMemory(StateBench bench, VirtioControl control, int way)
    {
        const ulong last = 0xFEB0_2E00;
        AddressSpace memory = bench.Board.Memory;
        Put(0x70, VirtioStatus.Acknowledge | VirtioStatus.Driver);
        for (uint half = 0; half < 2; half++)
        {
            Put(0x24, half);
            Put(0x20, (uint)(control.OfferedFeatures >> (int)(32 * half)));
        }
        Put(0x70, VirtioStatus.Acknowledge | VirtioStatus.Driver | VirtioStatus.FeaturesOk);
        for (int i = 0; i < control.Queues.Count; i++)
        {
            var queue = new GuestQueue(memory, Ring + (ulong)i * 0x8000, 8);
            Put(0x30, (uint)i);
            Put(0x38, 8);
            Put(0x80, (uint)queue.Descriptors);
            Put(0x90, (uint)queue.Available);
            Put(0xA0, (uint)queue.Used);
            Put(0x44, 1);
        }
        Put(0x70, VirtioStatus.Acknowledge | VirtioStatus.Driver | VirtioStatus.FeaturesOk | VirtioStatus.DriverOk);
        Assert.True(control.IsStarted);
        for (int i = 0; i < control.Queues.Count; i++)
        {
            Request(memory, i, way);
            Put(0x50, (uint)i);
        }

        void Put(ulong register, uint value) => memory.Write(last + register, 4, value);
    }

    static void Request(AddressSpace memory, int index, int way)
    {
        var queue = new GuestQueue(memory, Ring + (ulong)index * 0x8000, 8);
        (ulong, int) readable = (Buffers, 64), writable = (Buffers + 0x1000, -1024);
        for (int request = 0; request < 2; request++)
            if (way == 0 || way == 2 && index > 1) queue.Add(readable, writable);
            else queue.Add(index % 2 == 0 ? writable : readable);
    }

    static string DeviceState(StateBench bench) => StateNode.Save(bench.Device!.Exchange).ToString();

    static string WithoutKept(StateNode state) => string.Join('\n', state.ToString().Split('\n')
        .Where(line => !Kept.Any(name => line.StartsWith(name + " ", StringComparison.Ordinal))));

    static IEnumerable<string> Differences(string device, SortedDictionary<string, string> one,
        SortedDictionary<string, string> other) =>
        from path in one.Keys.Union(other.Keys)
        let values = (one.GetValueOrDefault(path), other.GetValueOrDefault(path))
        where values.Item1 != values.Item2
        select $"{device}{path}: {values.Item1} was loaded as {values.Item2}";
}
