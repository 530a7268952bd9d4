using Qkvm.Core.Accel;
using Qkvm.Backends.Objects;
using Qkvm.Core.Block;
using Qkvm.Core.Char;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Core.Net;
using Qkvm.Core.State;
using Qkvm.Host;
using Qkvm.Hw.Audio;
using Qkvm.Hw.Char;
using Qkvm.Hw.Display;
using Qkvm.Hw.Iommu;
using Qkvm.Hw.Pci;
using Qkvm.Hw.Storage;
using Qkvm.Hw.Usb;
using Qkvm.Hw.Virtio;
using Qkvm.Hw.Virtio.Gpu;
using Qkvm.Machines;
using Qkvm.Machines.Microvm;
using Qkvm.Machines.Pc;
using Qkvm.Machines.Q35;
using Qkvm.Testing;

namespace Qkvm.Tests.State;

/// <summary>A PC whose vCPUs execute nothing, with one device of the catalogue and a back end for each that it asks
/// for.</summary>
sealed class StateBench : IMachineRequests, IDisposable
{
    const long DiskSize = 1 << 20;
    const ulong MemorySize = 4 << 20;

    readonly MachineLock _lock = new();
    readonly EventLoop _loop;
    readonly Pump _pump = new();

    /// <param name="ownIrqChips">The board's own interrupt controllers; else <see cref="Wires"/> listens in their
    /// place.</param>
    /// <param name="everything">All devices of the catalogue that find room together.</param>
    /// <param name="q35">The machine; also where the device wants that.</param>
    /// <param name="microvm">The machine; also where the device wants a transport in memory.</param>
    public StateBench(FakeClock clock, DeviceModel? model = null, bool ownIrqChips = false, bool everything = false,
        bool q35 = false, bool microvm = false)
    {
        microvm |= model?.Bus == BusKind.Virtio;
        q35 |= model != null && WantsQ35(model);
        Clock = clock;
        _loop = new EventLoop(_lock.Run);
        DeviceModel[] models = everything ? [.. Catalogue.Devices.Models.Except(s_alike).Where(m => m.IsMigratable)
            .Where(m => m.Bus == BusKind.Isa
            || !m.Name.EndsWith("transitional", StringComparison.Ordinal) && (microvm ? m.Bus == BusKind.Virtio
                : m.Bus != BusKind.None && m.Bus != BusKind.Virtio && (q35 ? m != PciExpander.Model : !WantsQ35(m))))]
            : model == null ? [] : model.Bus == HdaCodec.Duplex.Bus ? [model, HdaController.Ich6] : [model];
        // they need DMA, which a microvm has not
        if (microvm) models = [.. models.Where(m => m != Sb16.Model && m != I82078.Model)];
        Accelerator = new FakeAccelerator { IrqChip = ownIrqChips ? null : Wires };
        var config = new MachineConfig
        {
            Memory = new MemoryConfig(16 << 20, models.Any(m => m.Find("memdev") != null) ? 1UL << 30 : 0),
            Rtc = new RtcConfig(RtcBase.Date, new DateTime(2024, 2, 29)),
            Devices =
                [.. everything && !microvm ? (DeviceConfig[])[Bridge] : [],
                .. models.Any(m => m.Bus == BusKind.Usb) ? UsbControllers() : [],
                .. model?.Bus == BusKind.VirtioSerial ? (DeviceConfig[])[Ports] : [],
                .. models.Any(m => m.Bus == BusKind.Scsi) ? (DeviceConfig[])[ScsiHost] : [],
                .. models.Any(m => m.Bus == BusKind.Nvme) ? (DeviceConfig[])[NvmeHost] : [],
                .. models.Select((m, i) =>
                new DeviceConfig(m.Name, $"device{i}", [.. Wanted(m, i), .. Place(m, everything)], $"-device {m.Name}"))
                // first what others hang on, and what wants the root bus
                .OrderBy(m => m.Driver == HdaController.Ich6.Name
                    || m.Driver.StartsWith("pxb", StringComparison.Ordinal) ? 0 : 1)],
        };
        var parts = new BoardParts(config, Accelerator, Backends, Catalogue.Devices, clock, _loop, _lock,
            () => new PumpLoop(_pump), this);
        var memory = new MemoryBackend(new GuestRam("pc.ram", config.Memory.Size));
        Board = microvm ? new MicrovmBoard(parts, memory, Plan) : q35 ? new Q35Board(parts, memory)
            : new PcBoard(parts, memory);
        Board.Reset();
    }

    /// <summary>A bus has 32 slots: on a board with everything these stay away, whose like is there.</summary>
    static readonly DeviceModel[] s_alike = [.. Uhci.Models, .. Ehci.Models, Xhci.Nec, PciSerial.Double,
        PciSerial.Quadruple, .. Catalogue.Devices.Models.Where(m => m.Name is "nvme" or "virtio-scsi-pci"),
        HdaController.Ich9, StdVga.Secondary, VirtioGpuModels.Vga, Ioh3420.Model,
        .. VirtioInputModels.All.Where(m => !m.Name.StartsWith("virtio-keyboard", StringComparison.Ordinal))];

    /// <summary>On a board with everything these lie behind a bridge: a bus has 32 slots.</summary>
    static readonly string[] s_behind = ["bochs-display", "rtl8139", "ES1370", "AC97", "pci-testdev",
        "virtio-9p-pci"];

    static DeviceConfig Bridge => new("pci-bridge", "behind", [new("chassis_nr", "9")], "-device");

    /// <summary>A device that pc has no place for.</summary>
    public static bool WantsQ35(DeviceModel model) => model.Bus == BusKind.PciExpress || model == IntelIommu.Model;

    /// <summary>What has a bus of SCSI units, and of namespaces.</summary>
    static DeviceConfig ScsiHost => new("virtio-scsi-pci", "units", [], "-device");
    static DeviceConfig NvmeHost => new("nvme", "spaces", [new("serial", "1")], "-device");

    /// <summary>What has the bus of serial ports.</summary>
    static DeviceConfig Ports => new(VirtioSerialModels.Devices[0].Name, "ports", [], "-device");

    static MicrovmPlan Plan => new()
    {
        IoApics = 2,
        HasPic = true,
        HasPit = true,
        HasRtc = true,
        HasPcie = false,
        HasSerial = true,
        HasOptionRoms = true,
        NamesDevices = false,
        IsLegacy = false,
    };

    public FakeClock Clock { get; }
    public MachineBackends Backends { get; } = new();
    public RecordingIrqChip Wires { get; } = new();
    public FakeAccelerator Accelerator { get; }
    public Board Board { get; }

    /// <summary>The device under test, or null.</summary>
    public IDevice? Device => All(Board.Tree).FirstOrDefault(d => d.Id == "device0")?.Device;

    /// <summary>Chips and devices, by their place in the tree.</summary>
    public IEnumerable<(string Path, IDevice Device)> Devices =>
        All(Board.Tree).Select((d, i) => ($"{i}:{d.Driver}", d.Device!)).Where(d => d.Item2 != null);

    /// <summary>Waits for the disks, as pausing does.</summary>
    public void Settle()
    {
        using (_lock.Hold())
            do _pump.RunPosted();
            while (Backends.Drives.Values.Any(disk => disk.InFlight > 0));
        _pump.RunPosted();
    }

    public StateNode Save()
    {
        using (_lock.Hold()) return StateNode.Save(Board.Exchange);
    }

    /// <summary>State and memory of another bench.</summary>
    public void Load(StateBench other, StateNode state)
    {
        foreach (var (mine, theirs) in Board.RamBlocks.Zip(other.Board.RamBlocks))
            theirs.Span(0, (int)theirs.Size).CopyTo(mine.Span(0, (int)mine.Size));
        using (_lock.Hold()) state.Load(Board.Exchange);
    }

    /// <summary>Each character device gets as much as it takes.</summary>
    public void Type(ReadOnlySpan<byte> text)
    {
        using (_lock.Hold())
            foreach (ICharBackend backend in Backends.Chardevs.Values)
                if (((FakeChar)backend).Frontend is { } frontend)
                    frontend.Receive(text[..Math.Min(frontend.Room, text.Length)]);
    }

    /// <summary>For USB devices of any speed.</summary>
    static IEnumerable<DeviceConfig> UsbControllers() => Uhci.Models[2..5].Select((model, i) =>
        new DeviceConfig(model.Name,
            $"companion{i}", [new("masterbus", "host.0"), new("firstport", $"{i * 2}")], "-device"))
        .Prepend(new DeviceConfig(Ehci.Ich9.Name, "host", [], "-device"));

    public void RequestShutdown(ShutdownCause cause, int exitCode) { }
    public void RequestReset(ShutdownCause cause) { }
    public void RequestPause(string reason) { }
    public void AddCpu(Core.Accel.IVCpu cpu) { }
    public void RemoveCpu(Core.Accel.IVCpu cpu) { }
    public void RequestStill(Action work) { }
    public void RequestSleep() { }
    public void RequestWakeUp(WakeCause cause) { }
    public void RequestWatchdog() { }
    public void Raise(MachineEvent happened) { }
    public void Warn(string line) { }

    public void Dispose()
    {
        Board.Dispose();
        _loop.Dispose();
    }

    /// <summary>A back end of its own for each property that names one.</summary>
    IEnumerable<OptionPair> Wanted(DeviceModel model, int index)
    {
        foreach (Property property in model.Properties)
        {
            string id = $"{property.Name}{index}";
            switch (property.Kind)
            {
                case PropertyKind.Drive:
                    var disk = new BlockBackend(id, _pump.Post);
                    disk.Insert(new MemoryDisk(DiskSize));
                    Backends.Drives[id] = disk;
                    break;
                case PropertyKind.Chardev: Backends.Chardevs[id] = new FakeChar(); break;
                case PropertyKind.Netdev: Backends.Netdevs[id] = new FakeNet(); break;
                case PropertyKind.Tpmdev: Backends.Tpms[id] = new FakeTpm { FailsAtOnce = true }; break;
                case PropertyKind.Object when property.Name == "memdev":
                    var file = MemoryFile.Create(id, isShared: true);
                    file.SetLength(MemorySize);
                    Backends.Objects[id] = new MemoryBackend(new GuestRam(id, MemorySize, file));
                    break;
                case PropertyKind.Object when property.Name != "iothread": Backends.Objects[id] = new RngBuiltin();
                break;
                case PropertyKind.Text when property.Name == "fsdev": Backends.Folders[id] = new SlowFolder(); break;
                case PropertyKind.Text when property.Name == "mount_tag": break;
                case PropertyKind.Text when model.Name == "nvme" && property.Name == "serial": id = "2"; break;
                case PropertyKind.Number when property.Name is "chassis_nr" or "bus_nr":
                    id = "1";
                    break;
                // some stand for all: each takes part in each of many thousand states
                case PropertyKind.Number when property.Name is "max_ports" or "slots" or "intrs": id = "2"; break;
                // beside the channels of the board
                case PropertyKind.Number when model == IsaIde.Model && property.Name == "iobase": id = "0x1E8"; break;
                case PropertyKind.Number when model == IsaIde.Model && property.Name == "iobase2": id = "0x3EE"; break;
                default: continue;
            }
            yield return new OptionPair(property.Name, id);
        }
    }

    static IEnumerable<OptionPair> Place(DeviceModel model, bool everything) =>
        everything && s_behind.Contains(model.Name) ? [new("bus", "behind")] : [];

    static IEnumerable<QDevice> All(QBus bus) => bus.Devices.SelectMany(d => d.Buses.SelectMany(All).Prepend(d));

    /// <summary>Frames come whenever there is room, but no flood: those that a card drops end too.</summary>
    sealed class FakeNet() : NetBackend("net")
    {
        public override string Description => "fake";
        public override INetQueue Open(int index, INetPort port, IoLoop loop) => new Frames(port, loop);

        sealed class Frames : INetQueue
        {
            const int MostAtOnce = 64;

            readonly Action _offer;
            int _left;
            volatile bool _isClosed;

            public Frames(INetPort port, IoLoop loop)
            {
                _offer = () =>
                {
                    if (!_isClosed && port.Receive(default, new byte[60]) && --_left > 0) loop.Post(_offer!);
                };
                Resume = () =>
                {
                    _left = MostAtOnce;
                    loop.Post(_offer);
                };
                Resume();
            }

            Action Resume { get; }
            public void Accept(NetOffloads offloads) { }
            public void Send(in NetHeader header, in ScatterList frame) { }
            void INetQueue.Resume() => Resume();
            public void Dispose() => _isClosed = true;
        }
    }
}
