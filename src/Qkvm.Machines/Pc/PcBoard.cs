using Qkvm.Core.Accel;
using Qkvm.Core.Block;
using Qkvm.Core.Char;
using Qkvm.Core.Devices;
using Qkvm.Core.Display;
using Qkvm.Core.Input;
using Qkvm.Core.Irq;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Core.Net;
using Qkvm.Core.Pci;
using Qkvm.Core.State;
using Qkvm.Core.Time;
using Qkvm.Host;
using Qkvm.Hw.Pci;
using Qkvm.Machines.Firmware;

namespace Qkvm.Machines.Pc;

/// <summary>The i440FX PC: wires its chips, makes the configured devices, describes all to the firmware.</summary>
public sealed partial class PcBoard : IBoard, IDisposable
{
    const ulong PortSpace = 0x10000;
    const int IsaSlot = 1, IdeFunction = 1, PmFunction = 3;

    readonly MachineConfig _config;
    readonly MachineBackends _backends;
    readonly IMachineRequests _requests;
    readonly Func<IoLoop> _dataLoop;
    readonly PcMemory _memory;
    readonly PcInterrupts _interrupts;
    readonly FwCfg _fwCfg;
    readonly DeviceFactory _factory;
    readonly BootOrder _bootOrder = new();
    readonly List<IDevice> _devices = [];                          // in the order of reset
    readonly List<IVCpu> _cpus = [];
    readonly List<IDisplaySource> _displays = [];
    readonly IAccelerator _accelerator;
    bool _wasReset;

    /// <param name="memory">Its RAM; disposed of with the board.</param>
    public PcBoard(BoardParts parts, MemoryBackend memory)
    {
        (_config, _accelerator, _backends, Catalogue<DeviceModel> catalogue, Clock, Loop, Lock, _dataLoop, _requests) =
            parts;
        Input = new InputRouter(Clock);
        _memory = new PcMemory(memory, FirmwareImages.FindBios(_config.Firmware), Lock);
        Ports = new AddressSpace("I/O", MemoryRegion.Container("io", PortSpace), Lock);
        using (Memory.Batch())
        using (Ports.Batch())
        {
            _interrupts = new PcInterrupts(_accelerator.IrqChip, Memory, Ports);
            Pci = MakePciBus();
            _fwCfg = Own("fw_cfg_io", Tree, new FwCfg(Memory, Ports));
            MakeIsaChips();
        }
        _accelerator.Attach(Memory, Ports, Lock);
        MakeCpus(_accelerator);

        var firmware = new PcFirmware(_config, _memory, _fwCfg, _requests.Warn);
        firmware.AddNumbers(_accelerator.IrqChip != null);
        _factory = new DeviceFactory(this, catalogue, _config.Globals);
        MakeDevices();
        firmware.AddTables(_serials, _parallels, PanicPort());
        firmware.AddKernel(_bootOrder);
        firmware.AddBootOrder(_bootOrder);
        firmware.AddUserFiles();
        DescribeInCmos();
    }

    // What devices see

    public MachineLock Lock { get; }
    public AddressSpace Memory => _memory.Space;
    public AddressSpace Ports { get; }
    public ulong MemorySize => _config.Memory.Size;
    public IVirtualClock Clock { get; }
    public EventLoop Loop { get; }
    public IoLoop DataLoop => _dataLoop();
    public IMsiTarget Msi => _interrupts.Msi;
    public PciBus Pci { get; }
    public InputRouter Input { get; }

    public IrqLine Irq(int gsi) => _interrupts.NewWire(gsi);
    public void RemoveIrq(int gsi, IrqLine wire) => _interrupts.RemoveWire(gsi, wire);

    public bool IsGuestAsleep()
    {
        if (_interrupts.Pic == null) return false;                 // the kernel's processors do not tell
        for (int i = 0; i < _cpus.Count; i++)
            if (!_cpus[i].IsHalted) return false;
        return true;
    }

    public QBus? FindBus(string id) => Tree.Find(id);
    public void Post(Action work) => Loop.Post(work);
    public void RequestShutdown(ShutdownCause cause, int exitCode = 0) => _requests.RequestShutdown(cause, exitCode);
    public void RequestReset(ShutdownCause cause = ShutdownCause.GuestReset) => _requests.RequestReset(cause);
    public void RequestPause(string reason) => _requests.RequestPause(reason);
    public void Raise(MachineEvent happened) => _requests.Raise(happened);
    public void AddFirmwareFile(string name, ReadOnlyMemory<byte> contents) => _fwCfg.AddFile(name, contents);
    public byte[]? FindFirmware(string name) => FirmwareImages.Find(_config.Firmware, name);
    public BlockBackend TakeDrive(string id, string owner) => _backends.TakeDrive(id, owner);
    public ICharBackend TakeChardev(string id, string owner) => _backends.TakeChardev(id, owner);
    public INetBackend TakeNetdev(string id, string owner) => _backends.TakeNetdev(id, owner);
    public void ReleaseDrive(string id) => _backends.ReleaseDrive(id);
    public void ReleaseChardev(string id) => _backends.ReleaseChardev(id);
    public void ReleaseNetdev(string id) => _backends.ReleaseNetdev(id);
    public T FindObject<T>(string id, string what, string owner) where T : class =>
        _backends.FindObject<T>(id, what, owner);
    public void ReleaseObject(string id) => _backends.ReleaseObject(id);
    public void AddDisplay(IDisplaySource display) => _displays.Add(display);
    public void RemoveDisplay(IDisplaySource display) => _displays.Remove(display);

    // What the machine sees

    public IReadOnlyList<IVCpu> Cpus => _cpus;
    public IReadOnlyList<IDisplaySource> Displays => _displays;
    public IReadOnlyList<GuestRam> RamBlocks =>
        [_memory.Ram, .. Pci.Devices.SelectMany(d => d.BarRegions).Where(r => r is { Kind: RegionKind.Ram })
            .Select(r => r!.Ram!)];
    public GuestRam Ram => _memory.Ram;
    public FwCfg FirmwareConfiguration => _fwCfg;
    public QBus Tree { get; } = new("main-system-bus", BusKind.System);

    /// <summary>Nothing happens on a machine without ACPI.</summary>
    public void PressPowerButton() => _powerManagement?.Acpi.PressPowerButton();

    /// <summary>All chips and devices; the vCPUs are the machine's.</summary>
    public void Reset()
    {
        using (Memory.Batch())
        using (Ports.Batch())
        {
            foreach (IDevice device in _devices) device.Reset();
            _interrupts.Reset();
        }
        Input.Reset();
        if (_wasReset && _config.Boot.Once != null) PcCmos.SetBootOrder(_rtc, _config.Boot.Order);
        _wasReset = true;
    }

    /// <summary>A section for each device of the tree, named by its place there.</summary>
    public void Exchange(StateStream state)
    {
        IReadOnlyDictionary<IDevice, string> places = DevicePlaces.Of(Tree);
        using (Memory.Batch())
        using (Ports.Batch())
        {
            foreach (IDevice device in _devices) device.Exchange(state.Section(places[device], device.StateVersion));
            _interrupts.Exchange(state.Section("interrupts"));
        }
    }

    public void Dispose() => _memory.Dispose();

    PciBus MakePciBus()
    {
        return new PciBus("pci.0", _memory.Pci, Ports.Root, Memory, Msi, Piix3.RouteSlot,
            [.. Enumerable.Range(0, Piix3.Inputs).Select<int,
                Action<bool>>(i => active => _isaBridge!.SetInput(i, active))]);
    }

    void MakeCpus(IAccelerator accelerator)
    {
        CpuTopology topology = _config.Topology;
        for (int i = 0; i < topology.Cpus; i++)
        {
            uint apicId = topology.ApicId(i);
            IVCpu cpu = accelerator.CreateVCpu(i, new CpuSetup(_config.Cpu.Model, _config.Cpu.Features, (int)apicId,
                topology.Sockets, topology.Dies * topology.Cores,
                    topology.Threads) { Properties = _config.Cpu.Properties });
            _interrupts.Attach(cpu, apicId, Clock, Lock);
            cpu.CoprocessorErrors = _coprocessor;
            _cpus.Add(cpu);
        }
    }

    /// <summary>Takes a chip of the board into the list of devices and the tree.</summary>
    T Own<T>(string driver, QBus bus, T device) where T : IDevice
    {
        _devices.Add(device);
        bus.Devices.Add(new QDevice(driver, null, device, []));
        return device;
    }
}
