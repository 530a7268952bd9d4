using System.Text;
using Qkvm.Core.Accel;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Core.State;
using Qkvm.Hw.Isa;
using Qkvm.Hw.Pci;
using Qkvm.Hw.Storage;
using Qkvm.Machines.Firmware;
using Qkvm.Testing;

namespace Qkvm.Machines.Tests;

public class MachineTests
{
    static readonly DeviceModel Card = new("test-card", BusKind.Pci, [Property.Number("size", 4, max: 8),
        Property.Bool("fast", false)],
        (values, _) => new TestCard(values.Number("size")));

    sealed class TestCard(ulong size) : PciDevice(new PciIdentity(0x1AF4, 0x1001, 0x010000), "test-card")
    {
        public ulong Size { get; } = size;
        public ulong Register { get; private set; }
        public void Set(ulong value) => Register = value;
        protected override void ResetDevice() => Register = 0;
        protected override void ExchangeDevice(StateStream state)
        {
            ulong register = Register;
            state.Field("register", ref register);
            Register = register;
        }
    }

    static DeviceConfig Device(string? id, params OptionPair[] properties) =>
        new("test-card", id, properties, $"-device test-card,id={id}");

    [Fact]
    public void Machine_runs_pauses_and_ends_as_it_is_told()
    {
        using var pc = new TestMachine(c => c with { Topology = new CpuTopology(2, Cores: 2, MaxCpus: 2) });
        Assert.Equal(RunState.PreLaunch, pc.Machine.State);
        Thread loop = pc.StartLoop();
        pc.OnLoop(() => pc.Machine.Resume());
        Assert.True(SpinWait.SpinUntil(() => pc.Accelerator.Cpus.TrueForAll(c => c.Entered >= 1),
            TimeSpan.FromSeconds(30)));
        pc.OnLoop(() => pc.Machine.Pause());
        pc.OnLoop(() => Assert.Equal(RunState.Paused, pc.Machine.State));
        pc.OnLoop(() => pc.Machine.Resume());
        pc.OnLoop(() => pc.Machine.Reset());
        pc.OnLoop(() => Assert.Equal(RunState.Running, pc.Machine.State));
        pc.Board.RequestShutdown(ShutdownCause.GuestShutdown, 3);
        loop.Join();
        Assert.Equal(3, pc.Machine.ExitCode);
        Assert.Equal([new ResumeEvent(), new StopEvent(), new ResumeEvent(),
            new ResetEvent(false, ShutdownCause.HostReset),
            new ShutdownEvent(true, ShutdownCause.GuestShutdown)], pc.Events);
    }

    [Fact]
    public void A_triple_fault_resets_the_machine()
    {
        using var pc = new TestMachine();
        Thread loop = pc.StartLoop();
        pc.OnLoop(() => pc.Machine.Resume());
        int resets = pc.Accelerator.Cpus[0].Resets;
        pc.Accelerator.Cpus[0].Leave(new VCpuExit(ExitReason.Shutdown));
        Assert.True(SpinWait.SpinUntil(() => pc.Accelerator.Cpus[0].Entered >= 2, TimeSpan.FromSeconds(30)));
        pc.OnLoop(() => pc.Machine.Quit());
        loop.Join();
        Assert.Equal(resets + 1, pc.Accelerator.Cpus[0].Resets);
    }

    [Fact]
    public void With_no_reboot_a_reset_of_the_guest_ends_the_machine()
    {
        using var pc = new TestMachine(c => c with { Actions = new(RebootAction.Shutdown) });
        Thread loop = pc.StartLoop();
        pc.OnLoop(() => pc.Machine.Resume());
        pc.Board.RequestReset();
        loop.Join();
        Assert.Equal([new ResumeEvent(), new ShutdownEvent(true, ShutdownCause.GuestReset)], pc.Events);
    }

    [Fact]
    public void With_no_shutdown_soft_off_leaves_a_stopped_machine_that_does_not_resume()
    {
        using var pc = new TestMachine(c => c with { Actions = new(Shutdown: ShutdownAction.Pause) });
        Thread loop = pc.StartLoop();
        pc.OnLoop(() => pc.Machine.Resume());
        pc.Board.RequestShutdown(ShutdownCause.GuestShutdown);
        pc.OnLoop(() => Assert.Equal(RunState.Shutdown, pc.Machine.State));
        pc.OnLoop(() => { pc.Machine.Resume(); Assert.Equal(RunState.Shutdown, pc.Machine.State); });
        pc.OnLoop(() => { pc.Machine.Reset(); pc.Machine.Resume(); Assert.Equal(RunState.Running, pc.Machine.State); });
        pc.OnLoop(() => pc.Machine.Quit());
        loop.Join();
    }

    [Fact]
    public void A_processor_that_cannot_go_on_stops_the_machine_with_a_message()
    {
        using var pc = new TestMachine();
        Thread loop = pc.StartLoop();
        pc.OnLoop(() => pc.Machine.Resume());
        pc.Accelerator.Cpus[0].Leave(new VCpuExit(ExitReason.Failed, "entry failed"));
        Assert.True(SpinWait.SpinUntil(() => pc.Machine.State == RunState.InternalError, TimeSpan.FromSeconds(30)));
        Assert.Contains("entry failed", pc.Messages.ToString());
        pc.OnLoop(() => pc.Machine.Quit());
        loop.Join();
    }

    [Fact]
    public void Soft_off_through_the_guest_s_ports_ends_the_machine()
    {
        using var pc = new TestMachine();
        Thread loop = pc.StartLoop();
        pc.OnLoop(() => pc.Machine.Resume());
        pc.WriteConfig(1, 3, 0x40, 4, 0x601);
        pc.WriteConfig(1, 3, 0x80, 1, 1);
        pc.Board.Ports.Write(0x604, 2, 0x2000);
        loop.Join();
        Assert.Contains(new ShutdownEvent(true, ShutdownCause.GuestShutdown), pc.Events);
    }

    [Fact]
    public void Processors_get_the_APIC_ids_of_their_topology()
    {
        using var pc = new TestMachine(c => c with { Topology = new CpuTopology(6, Sockets: 2, Cores: 3, MaxCpus: 6) });
        Assert.Equal([0, 1, 2, 4, 5, 6], pc.Accelerator.Cpus.Select(c => c.Setup.ApicId));
        Assert.All(pc.Accelerator.Cpus, c => Assert.NotNull(c.Apic));
    }

    [Fact]
    public void Devices_are_plugged_where_addr_says_or_at_the_first_free_slot()
    {
        using var pc =
            new TestMachine(c =>
            c with { Devices =
            [Device("a"), Device("b", new OptionPair("addr", "0x10")),
            Device("c", new("addr", "5.1"), new("multifunction", "on"))] }, [Card]);
        Assert.Equal(["test-card", "test-card", "test-card"],
            new[] { 2 << 3, 16 << 3, 5 << 3 | 1 }.Select(f => pc.Board.Pci[f]?.Name));
    }

    [Theory]
    [InlineData("size", "9", "size=9")]
    [InlineData("size", "x", "'size'")]
    [InlineData("fast", "maybe", "'fast'")]
    [InlineData("slow", "on", "test-card.slow")]
    [InlineData("addr", "20", "addr=20")]
    [InlineData("addr", "1", "in use by PIIX3")]
    [InlineData("bus", "usb.0", "'usb.0'")]
    [InlineData("bus", "ide.0", "'ide.0'")]
    public void A_wrong_property_is_named_with_its_option(string name, string value, string named)
    {
        var error =
            Assert.Throws<ConfigurationException>(() =>
            new TestMachine(c => c with { Devices = [Device("a", new OptionPair(name, value))] }, [Card]));
        Assert.StartsWith("-device test-card,id=a:", error.Message);
        Assert.Contains(named, error.Message);
    }

    [Fact]
    public void An_unknown_model_and_a_second_use_of_an_id_are_refused()
    {
        Assert.Contains("'test-card' is not a valid device model name",
            Assert.Throws<ConfigurationException>(() => new TestMachine(c => c with { Devices = [Device("a")] }))
                .Message);
        Assert.Contains("'a'", Assert.Throws<ConfigurationException>(
            () => new TestMachine(c => c with { Devices = [Device("a"), Device("a")] }, [Card])).Message);
    }

    [Fact]
    public void Boot_indices_make_the_boot_order()
    {
        using var pc = new TestMachine(c => c with
        {
            Boot = new BootConfig(Strict: true),
            Devices =
                [Device("a", new OptionPair("bootindex", "2")),
                Device("b", new("bootindex", "1"), new("addr", "7.2"), new("multifunction", "on"))],
        }, [Card]);
        Assert.Equal("/pci@i0cf8/scsi@7,2/disk@0,0\n/pci@i0cf8/scsi@2/disk@0,0\nHALT\0",
            Encoding.ASCII.GetString(pc.Board.FirmwareConfiguration.Files["bootorder"].Span));
    }

    /// <summary>As QEMU 7.2 writes it for the same machine.</summary>
    [Fact]
    public void A_boot_path_leads_through_bridges()
    {
        using var pc = new TestMachine(c => c with
        {
            Devices =
            [
                new DeviceConfig("pci-bridge", "br", [new("chassis_nr", "1"), new("addr", "5")], "-device"),
                new DeviceConfig("pci-bridge", null, [new("chassis_nr", "2"), new("bus", "br"), new("addr", "3")],
                    "-device"),
                Device("a", new("bus", "pci.1"), new("addr", "1e.1"), new("multifunction", "on"),
                    new("bootindex", "0")),
                Device("b", new("bus", "br"), new("bootindex", "1")),
            ],
        }, [Card, RedHatPciBridge.Model]);
        Assert.Equal("/pci@i0cf8/pci-bridge@5/pci-bridge@3/scsi@1e,1/disk@0,0\n"
            + "/pci@i0cf8/pci-bridge@5/scsi@0/disk@0,0\0",
            Encoding.ASCII.GetString(pc.Board.FirmwareConfiguration.Files["bootorder"].Span));
        pc.WriteConfig(5, 0, 0x18, 4, 0x020100);                   // as firmware numbers them
        var inner = (PciBridge)pc.Board.Pci.Find(1)![3 << 3]!;
        pc.Board.Pci.Find(1)!.WriteConfig(3 << 3, 0x18, 4, 0x020201);
        pc.Board.Ports.Write(0xCF8, 4, 0x8002_F100);
        Assert.Same(inner.Secondary, pc.Board.Pci.Find(2));
        Assert.Equal(inner.Secondary[0x1E << 3 | 1]!.Config.Get32(0), (uint)pc.Board.Ports.Read(0xCFC, 4));
    }

    /// <summary>As QEMU 7.2 writes it for the same machine: roots count by their numbers.</summary>
    [Fact]
    public void A_boot_path_begins_at_the_root_of_an_expander()
    {
        using var pc = new TestMachine(c => c with
        {
            Devices =
            [
                new DeviceConfig("pxb", "far", [new("bus_nr", "200"), new("addr", "5")], "-device"),
                new DeviceConfig("pxb", "near", [new("bus_nr", "128"), new("addr", "6")], "-device"),
                Device("a", new("bus", "far"), new("addr", "3"), new("bootindex", "0")),
                Device("b", new("bus", "near"), new("addr", "4"), new("bootindex", "1")),
                Device("c"),
            ],
        }, [Card, PciExpander.Model]);
        Assert.Equal("/pci@i0cf8,2/pci-bridge@0/scsi@3/disk@0,0\n/pci@i0cf8,1/pci-bridge@0/scsi@4/disk@0,0\0",
            Encoding.ASCII.GetString(pc.Board.FirmwareConfiguration.Files["bootorder"].Span));
        Assert.Equal(2UL, BitConverter.ToUInt64(pc.Board.FirmwareConfiguration.Files["etc/extra-pci-roots"].Span));
        Assert.NotNull(pc.Board.Pci[2 << 3]);                      // one that names no bus is on the first
    }

    [Theory]
    [InlineData("0", "128", "Bus 0 is already in use")]
    [InlineData("7", "128", "Bus 7 is already in use")]
    [InlineData("8", "3", "Illegal numa node 3")]
    public void An_expander_that_cannot_be_is_refused(string number, string node, string message) =>
        Assert.Contains(message, Assert.Throws<ConfigurationException>(() => new TestMachine(c => c with
        {
            Devices =
            [
                new DeviceConfig("pxb", "a", [new("bus_nr", "7")], "-device"),
                new DeviceConfig("pxb", "b", [new("bus_nr", number), new("numa_node", node)], "-device"),
            ],
        }, [PciExpander.Model])).Message);

    /// <summary>Names and paths as QEMU 7.2 has them for the same machine.</summary>
    [Fact]
    public void A_SATA_controller_brings_six_buses()
    {
        using var pc = new TestMachine(c => c with
        {
            Devices =
            [
                new DeviceConfig("ahci", "a", [new("addr", "4")], "-device"),
                new DeviceConfig("ich9-ahci", null, [new("addr", "5")], "-device"),
                new DeviceConfig("ide-cd", null, [new("bus", "a.5"), new("bootindex", "2")], "-device"),
                new DeviceConfig("ide-cd", null, [new("bus", "ide.3"), new("bootindex", "1")], "-device"),
            ],
        }, [Ahci.Model, IdeModels.CdRom]);
        Assert.Equal("/pci@i0cf8/pci8086,2922@5/drive@1/disk@0\n/pci@i0cf8/pci8086,2922@4/drive@5/disk@0\0",
            Encoding.ASCII.GetString(pc.Board.FirmwareConfiguration.Files["bootorder"].Span));
        Assert.Equal([4, 16], (int[])[Place("a.0"), Place("ide.2")]);   // two for each bus before them

        int Place(string bus) => ((IIdeBus)pc.Board.Tree.Find(bus)!.Wires!).FirstPlace;
    }

    [Theory]
    [InlineData("a.0", "1", "unit=1")]
    [InlineData("a.1", null, "has a drive already")]
    [InlineData("a.6", null, "Bus 'a.6' not found")]
    public void A_port_of_a_SATA_controller_has_room_for_one_drive(string bus, string? unit, string named)
    {
        OptionPair[] place = [new("bus", bus), .. unit == null ? (OptionPair[])[] : [new("unit", unit)]];
        var error = Assert.Throws<ConfigurationException>(() => new TestMachine(c => c with
        {
            Devices =
            [
                new DeviceConfig("ahci", "a", [], "-device"),
                new DeviceConfig("ide-cd", null, [new("bus", "a.1")], "-device"),
                new DeviceConfig("ide-cd", null, place, "-device ide-cd"),
            ],
        }, [Ahci.Model, IdeModels.CdRom]));
        Assert.Contains(named, error.Message);
    }

    [Fact]
    public void Globals_give_defaults_that_the_device_overrides()
    {
        using var pc = new TestMachine(c => c with
        {
            Globals = [new GlobalConfig("test-card", "size", "7")],
            Devices = [Device("a"), Device("b", new OptionPair("size", "3"))],
        }, [Card]);
        Assert.Equal([7ul, 3ul], new[] { 2, 3 }.Select(slot => ((TestCard)pc.Board.Pci[slot << 3]!).Size));
    }

    [Theory]
    [InlineData("pc-testdev", "isa.0")]
    [InlineData("test-card", "pci.0")]
    public void A_device_sits_on_the_bus_that_it_names(string driver, string bus)
    {
        using var pc = new TestMachine(c => c with
        {
            Devices = [new DeviceConfig(driver, "d", [new("bus", bus)], "-device")],
        }, [Card, PcTestDev.Model]);
        Assert.Equal(bus, pc.Board.Tree.FindDevice("d")?.Bus?.Name);
    }

    [Theory]
    [InlineData("pc-testdev", "pci.0", "Device 'pc-testdev' can't go on bus 'pci.0'")]
    [InlineData("pc-testdev", "ide.1", "Device 'pc-testdev' can't go on bus 'ide.1'")]
    [InlineData("test-card", "isa.0", "Device 'test-card' can't go on bus 'isa.0'")]
    [InlineData("test-card", "pci.1", "Bus 'pci.1' not found")]
    public void A_bus_of_another_kind_is_refused(string driver, string bus, string message)
    {
        var error = Assert.Throws<ConfigurationException>(() => new TestMachine(c => c with
        {
            Devices = [new DeviceConfig(driver, "d", [new("bus", bus)], "-device")],
        }, [Card, PcTestDev.Model]));
        Assert.Contains(message, error.Message);
    }

    [Fact]
    public void A_device_comes_and_goes_while_the_machine_exists()
    {
        using var pc = new TestMachine(null, [Card]);
        using (pc.Board.Lock.Hold())
        {
            pc.Machine.AddDevice(Device("hot"));
            Assert.Equal("test-card", pc.Board.Pci[2 << 3]?.Name);
            pc.Machine.RemoveDevice("hot");
            Assert.NotNull(pc.Board.Pci[2 << 3]);                  // the guest is asked
            pc.Machine.Reset();
            Assert.Null(pc.Board.Pci[2 << 3]);
            Assert.Throws<CommandException>(() => pc.Machine.RemoveDevice("hot"));
        }
    }

    [Fact]
    public void Saved_and_loaded_state_is_the_same_state()
    {
        using var first = new TestMachine(c => c with { Devices = [Device("a"), Device("b")] }, [Card]);
        using var second = new TestMachine(c => c with { Devices = [Device("a"), Device("b")] }, [Card]);
        ((TestCard)first.Board.Pci[2 << 3]!).Set(11);
        ((TestCard)first.Board.Pci[3 << 3]!).Set(12);
        first.WriteConfig(0, 0, 0x59, 1, 0x30);
        first.WriteConfig(1, 0, 0x60, 1, 10);
        first.Board.Ports.Write(0x43, 1, 0x34);
        first.Board.Ports.Write(0x21, 1, 0xFB);
        StateNode saved = Locked(first, () => StateNode.Save(first.Machine.Exchange));
        StateNode again = Locked(second, () =>
        {
            saved.Load(second.Machine.Exchange);
            return StateNode.Save(second.Machine.Exchange);
        });
        Assert.Equal(saved.ToString(), again.ToString());
        Assert.Equal((11ul, 12ul),
            (((TestCard)second.Board.Pci[2 << 3]!).Register, ((TestCard)second.Board.Pci[3 << 3]!).Register));
        Assert.True(second.Board.Memory.TryGetRam(0xF0000, write: true, out _, out _, out _));
    }

    [Fact]
    public void Reset_equals_new()
    {
        using var pc = new TestMachine(c => c with { Rtc = new RtcConfig(RtcBase.Date, new DateTime(2024, 2, 29)) });
        StateNode before = Locked(pc, () => StateNode.Save(s => pc.Board.Exchange(s)));
        pc.WriteConfig(0, 0, 0x5A, 1, 0x33);
        pc.WriteConfig(1, 0, 0x60, 1, 10);
        pc.WriteConfig(1, 1, 0x20, 4, 0xC000);
        pc.Board.Ports.Write(0x510, 2, 0x19);
        pc.Board.Ports.Write(0x20, 1, 0x11);
        pc.Board.Ports.Write(0xB2, 1, 0xF1);
        Locked(pc, () => { pc.Machine.Reset(); return 0; });
        Assert.Equal(before.ToString(), Locked(pc, () => StateNode.Save(s => pc.Board.Exchange(s))).ToString());
    }

    [Fact]
    public void The_firmware_finds_its_files_and_numbers()
    {
        using var pc = new TestMachine(c => c with
        {
            Memory = new MemoryConfig(4UL << 30),
            Topology = new CpuTopology(2, Cores: 4, MaxCpus: 4),
            FwCfg = [new FwCfgConfig("opt/test", null, "hello")],
        });
        FwCfg fwCfg = pc.Board.FirmwareConfiguration;
        foreach (string name in (string[])["etc/acpi/rsdp", "etc/acpi/tables", "etc/table-loader", "etc/e820",
            "etc/smbios/smbios-anchor", "etc/smbios/smbios-tables", "etc/system-states", "etc/boot-fail-wait"])
            Assert.Contains(name, fwCfg.Files.Keys);
        Assert.Equal("hello", Encoding.ASCII.GetString(fwCfg.Files["opt/test"].Span));
        Assert.Equal((4L << 30, 2, 4),
            (BitConverter.ToInt64(fwCfg.Item(FwCfgKey.RamSize).Span),
            BitConverter.ToInt16(fwCfg.Item(FwCfgKey.CpuCount).Span),
            BitConverter.ToInt16(fwCfg.Item(FwCfgKey.MaxCpus).Span)));
        byte[] map = fwCfg.Files["etc/e820"].ToArray();
        Assert.Equal(40, map.Length);
        Assert.Equal((0UL, 3UL << 30, 1u),
            (BitConverter.ToUInt64(map, 0), BitConverter.ToUInt64(map, 8), BitConverter.ToUInt32(map, 16)));
        Assert.Equal((4UL << 30, 1UL << 30), (BitConverter.ToUInt64(map, 20), BitConverter.ToUInt64(map, 28)));
    }

    [Fact]
    public void The_build_embeds_the_firmware()
    {
        Assert.Equal(256 << 10, FirmwareImages.FindBios(new FirmwareConfig()).Length);
        foreach (string name in (string[])["vgabios-stdvga.bin", "linuxboot.bin", "multiboot.bin"])
        {
            byte[] rom = FirmwareImages.Find(new FirmwareConfig(), name)!;
            Assert.Equal((0x55, 0xAA), (rom[0], rom[1]));
        }
        Assert.Null(FirmwareImages.Find(new FirmwareConfig(), "no-such.bin"));
    }

    [Fact]
    public void A_timer_interrupt_reaches_both_the_8259_and_pin_2_of_the_IOAPIC()
    {
        using var pc = new TestMachine();
        pc.Board.Ports.Write(0x43, 1, 0x30);                       // the timer's own output low: mode 0, no count yet
        pc.Board.Memory.Write(0xFEC0_0000, 4, 0x10 + 2 * 2);
        pc.Board.Memory.Write(0xFEC0_0010, 4, 0x0000_8030);        // level triggered, vector 30h
        pc.Board.Ports.Write(0x43, 1, 0x30);                       // mode 0: OUT of the PIT, high after power-on, falls
        using (pc.Board.Lock.Hold()) pc.Board.Irq(0).Set(true);
        pc.Board.Ports.Write(0x20, 1, 0x0A);                       // OCW3: read IRR
        Assert.Equal(1u, pc.Board.Ports.Read(0x20, 1) & 1);
        pc.Board.Memory.Write(0xFEC0_0000, 4, 0x10 + 2 * 2);
        Assert.Equal(0x4000u, pc.Board.Memory.Read(0xFEC0_0010, 4) & 0x4000); // remote IRR
    }

    static T Locked<T>(TestMachine pc, Func<T> work)
    {
        using (pc.Board.Lock.Hold()) return work();
    }
}
