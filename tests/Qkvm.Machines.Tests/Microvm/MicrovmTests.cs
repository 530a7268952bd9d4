using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Hw.Virtio;
using Qkvm.Machines.Isa;
using Qkvm.Machines.Microvm;
using Qkvm.Testing;

namespace Qkvm.Machines.Tests.Microvm;

/// <summary>What a microvm consists of; the places are QEMU's, by its info qtree and info mtree.</summary>
public sealed class MicrovmTests : IDisposable
{
    readonly string _kernel = Path.GetTempFileName(), _bios = Path.GetTempFileName();
    readonly MachineEnvironment _environment = new();
    readonly FakeAccelerator _accelerator = new();
    Machine? _machine;

    public MicrovmTests()
    {
        File.WriteAllBytes(_kernel, KernelOf());
        byte[] bios = new byte[64 << 10];
        bios[0xFFF0] = 0xEA;
        File.WriteAllBytes(_bios, bios);
    }

    public void Dispose()
    {
        _machine?.Dispose();
        _environment.Dispose();
        File.Delete(_kernel);
        File.Delete(_bios);
    }

    /// <summary>A 32-bit bzImage that unpacks itself: its header, and 64 bytes of code.</summary>
    static byte[] KernelOf()
    {
        byte[] kernel = new byte[0x440];
        kernel[0x1F1] = 1;
        "HdrS"u8.CopyTo(kernel.AsSpan(0x202));
        (kernel[0x206], kernel[0x207], kernel[0x211], kernel[0x201]) = (6, 2, 1, 0x66);
        kernel[0x239] = 8;                                         // 2 KiB of command line
        kernel[0x230] = 1;
        kernel.AsSpan(0x400).Fill(0xF4);
        return kernel;
    }

    Machine Make(string options = "", int devices = 0, bool direct = true, MachineModel? model = null,
        params GlobalConfig[] globals)
    {
        DeviceModel rng = VirtioRng.Models.Single(m => m.Bus == BusKind.Virtio);
        var config = new MachineConfig
        {
            StartPaused = true,
            Firmware = new FirmwareConfig(direct ? null : _bios),
            Kernel = direct ? new KernelConfig(_kernel, null, "console=ttyS0") : null,
            MachineOptions = Options.Parse($"microvm{options}", "-M", "type"),
            Devices = [.. Enumerable.Range(0, devices).Select(_ => new DeviceConfig(rng.Name, null, [], "-device"))],
            Globals = globals,
        };
        config.MachineOptions.Text("type");
        return _machine = new Machine(_environment, config, _accelerator,
            new Catalogue<DeviceModel>("valid device model name", [rng]), new MachineBackends(), TextWriter.Null,
            model: model ?? MicrovmMachine.Model);
    }

    Board Board => (Board)_machine!.Board;
    VirtioMmio[] Transports => [.. Board.Tree.AllDevices.Select(d => d.Device).OfType<VirtioMmio>()];
    uint Read(ulong address) => (uint)Board.Memory.Read(address, 4);
    string CommandLine => System.Text.Encoding.ASCII.GetString(Board.Ram.Span(0x20000, 256)).TrimEnd('\0');

    [Theory]
    [InlineData("", 24)]
    [InlineData(",ioapic2=off", 8)]
    [InlineData(",acpi=off", 8)]
    public void Transports_lie_side_by_side_and_the_highest_is_taken_first(string options, int count)
    {
        Make(options, devices: 2);
        Assert.Equal(count, Transports.Length);
        for (int i = 0; i < count; i++)
        {
            ulong at = 0xFEB0_0000 + 512 * (ulong)i;
            Assert.Equal(0x74726976u, Read(at));
            Assert.Equal(1u, Read(at + 4));
            Assert.Equal(i >= count - 2 ? 4u : 0u, Read(at + 8));
        }
        Assert.Equal($"virtio-mmio-bus.{count - 1}", Transports[0].Bus.Name);
        Assert.Single(Transports[0].Bus.Devices);
    }

    [Fact]
    public void Users_may_want_transports_of_virtio_1()
    {
        Make(globals: new GlobalConfig("virtio-mmio", "force-legacy", "off"));
        Assert.Equal(2u, Read(0xFEB0_0004));
    }

    [Fact]
    public void There_is_no_room_for_more_devices_than_transports() =>
        Assert.Contains("room", Assert.Throws<ConfigurationException>(() => Make(",ioapic2=off", devices: 9)).Message,
            StringComparison.Ordinal);

    [Theory]
    [InlineData("", "console=ttyS0")]
    [InlineData(",acpi=off", "console=ttyS0 virtio_mmio.device=512@0xfeb00e00:12 virtio_mmio.device=512@0xfeb00c00:11")]
    [InlineData(",acpi=off,auto-kernel-cmdline=off", "console=ttyS0")]
    public void Without_ACPI_the_kernels_command_line_names_devices(string options, string expected)
    {
        Make(options, devices: 2);
        Assert.Equal(expected, CommandLine);
    }

    [Fact]
    public void The_kernel_starts_without_firmware_at_each_reset()
    {
        Make();
        FakeCpu cpu = _accelerator.Cpus[0];
        for (int i = 0; i < 2; i++)
        {
            Assert.Equal(0x10_0000u, cpu.Registers.Rip);
            Assert.Equal(0x7000u, cpu.Registers.General[6]);
            Assert.Equal(0xF4F4F4F4u, Read(0x10_0000));
            Board.Ram.Span(0x10_0000, 64).Clear();
            cpu.Registers.Rip = 0;
            Board.Reset();
            Board.StartCpus();
        }
    }

    [Fact]
    public void Firmware_is_over_RAM_and_fresh_after_a_reset()
    {
        Make(direct: false);
        Assert.Equal(0xEAu, Read(0xFFFF_FFF0) & 0xFF);
        Assert.Equal(0xEAu, Read(0xF_FFF0) & 0xFF);
        Board.Memory.Write(0xF_FFF0, 1, 0x90);
        Assert.Equal(0x90u, Read(0xF_FFF0) & 0xFF);
        Board.Reset();
        Assert.Equal(0xEAu, Read(0xF_FFF0) & 0xFF);
        Assert.Equal(0u, Read(0xE_0000));                          // 64 KiB of firmware, RAM below
    }

    [Theory]
    [InlineData("", "isa-pit isa-pcspk mc146818rtc")]
    [InlineData(",pit=off", "mc146818rtc")]
    [InlineData(",rtc=off", "isa-pit isa-pcspk")]
    public void It_has_the_timekeepers_that_users_want(string options, string drivers)
    {
        Make(options);
        Assert.Equal(drivers, string.Join(' ', Board.Tree.Find("isa.0")!.Devices.Select(d => d.Driver)));
    }

    [Fact]
    public void The_8259_can_be_left_out()
    {
        Make(",pic=off");
        Assert.Equal(ulong.MaxValue & 0xFF, Board.Ports.Read(0x21, 1));
        Board.Irq(4).Set(true);                                    // goes to the I/O APIC alone
    }

    [Fact]
    public void PCI_Express_has_its_configuration_space_in_memory()
    {
        Make(",pcie=on");
        Assert.Equal(0x00081B36u, Read(0xE000_0000));
        Assert.Equal("pcie.0", Board.Pci!.Id);
    }

    [Fact]
    public void An_ISA_PC_has_no_PCI_no_IO_APIC_and_two_IDE_buses()
    {
        Make(direct: false, model: IsaPcMachine.Model with { });
        Assert.Null(Board.Pci);
        Assert.Equal(["ide.0", "ide.1"], Board.Tree.All.Select(bus => bus.Name).Where(name => name.StartsWith("ide",
            StringComparison.Ordinal)));
        Assert.Equal(0xEAu, Read(0xF_FFF0) & 0xFF);
        Assert.Equal(uint.MaxValue, Read(0xFEC0_0000));
        Assert.Equal(0u, Read(0xC_0000));                          // RAM, for option ROMs
    }
}
