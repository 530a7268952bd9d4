using Qkvm.Core.Accel;
using Qkvm.Core.Acpi;
using Qkvm.Core.Audio;
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
using Qkvm.Core.Files;
using Qkvm.Core.Tpm;
using Qkvm.Host;
using Qkvm.Machines.Firmware;
using Qkvm.Machines.Pc;

namespace Qkvm.Machines;

/// <summary>What every board has: memory and ports, interrupt controllers, vCPUs, the tree of devices, what devices
/// take of the host, and what the firmware reads.</summary>
/// <remarks>A board's own class wires its chips in its constructor: chips first, then <see cref="MakeCpus"/>,
/// <see cref="MakeDevices"/>, and what the firmware is told of them.</remarks>
public abstract partial class Board : IBoard, IDisposable
{
    const ulong PortSpace = 0x10000;

    readonly MachineBackends _backends;
    readonly IMachineRequests _requests;
    readonly Func<IoLoop> _dataLoop;
    readonly Func<string, IoThread>? _newThread;
    readonly IAccelerator _accelerator;
    readonly DeviceFactory _factory;
    readonly List<IDevice> _devices = [];                          // in the order of reset
    readonly List<IDisplaySource> _displays = [];
    IVCpu[] _cpus = [];                                            // replaced whole: other threads look
    bool _wasReset;

    /// <param name="memory">Disposed of with the board.</param>
    /// <param name="interrupts">The PC's, unless another is given.</param>
    protected Board(BoardParts parts, PcMemory memory, InterruptPlan? interrupts = null)
    {
        (Config, _accelerator, _backends, Catalogue<DeviceModel> catalogue, Clock, Loop, Lock, _dataLoop, _requests) =
            parts;
        _newThread = parts.NewThread;
        Slots = new QBus("slots", BusKind.None, new SlotWires(this));
        Input = new InputRouter(Clock);
        Layout = memory;
        if (memory.Smm is { } smm) smm.Log = parts.Log;
        Ports = new AddressSpace("I/O", MemoryRegion.Container("io", PortSpace), Lock) { Log = parts.Log };
        Memory.Log = parts.Log;
        Interrupts = new PcInterrupts(_accelerator, Memory, Ports, interrupts ?? new InterruptPlan());
        FirmwareConfiguration = Own("fw_cfg_io", Tree, new FwCfg(Memory, Ports));
        Describe(FirmwareConfiguration, "FWCF", FwCfg.Describe);
        Firmware = new PcFirmware(Config, Layout, FirmwareConfiguration, _accelerator.IsKernel,
            _requests.Warn);
        _factory = new DeviceFactory(this, Tree, Slots, catalogue, Config.Globals);
        SystemFlash.Place(this, parts.Flash);
    }

    // What a board's own class sees

    internal MachineConfig Config { get; }
    internal PcMemory Layout { get; }
    internal PcInterrupts Interrupts { get; }
    internal PcFirmware Firmware { get; }
    internal BootOrder BootOrder { get; } = new();

    /// <summary>Also while the chips are made, before there are processors: open.</summary>
    internal void GateA20(bool open) => _accelerator.SetA20(open);

    /// <summary>A system management interrupt.</summary>
    /// <param name="toAll">Else to the processor that asks for it, or to the first.</param>
    internal void SendSmi(bool toAll)
    {
        if (toAll) foreach (IVCpu cpu in _cpus) cpu.Signal(CpuSignal.Smi);
        else (Array.Find(_cpus, cpu => cpu.Index == VCpuRunner.Current) ?? _cpus[0]).Signal(CpuSignal.Smi);
    }

    /// <summary>Takes a chip of the board into the list of devices and the tree.</summary>
    /// <param name="buses">That it brings.</param>
    internal T Own<T>(string driver, QBus bus, T device, params ReadOnlySpan<QBus> buses) where T : IDevice
    {
        var node = new QDevice(driver, null, device, []);
        foreach (QBus own in buses) node.Add(own);
        Own(bus, node);
        return device;
    }

    internal void Own(QBus bus, QDevice chip)
    {
        _devices.Add(chip.Device!);
        bus.Add(chip);
    }

    /// <summary>Takes a bus without a chip into the tree.</summary>
    /// <param name="acpiId">What ACPI calls what has it.</param>
    internal void HoldBus(string driver, QBus bus, string acpiId)
    {
        var node = new QDevice(driver, null, null, []);
        node.Describe("ISA", () => [Aml.Name("_HID", Aml.EisaId(acpiId))]);
        node.Add(bus);
        Tree.Add(node);
    }

    /// <summary>Tells ACPI of a chip, or of one part of it, below what has its bus.</summary>
    internal void Describe(IDevice chip, string name, Func<Aml[]> terms) =>
        Tree.AllDevices.First(node => node.Device == chip).Describe(name, terms);


    /// <summary>After each reset.</summary>
    /// <param name="isFirst">The machine is being switched on.</param>
    protected abstract void OnReset(bool isFirst);

    /// <summary>The processors have been reset, and have not run yet: where they do not start by firmware.</summary>
    public virtual void StartCpus() { }

    // What devices see

    public MachineLock Lock { get; }
    public AddressSpace Memory => Layout.Space;
    public AddressSpace Ports { get; }
    public ulong MemorySize => Config.Memory.Size;
    public int NumaNodes => Config.Numa.Nodes.Count;
    public IVirtualClock Clock { get; }
    public EventLoop Loop { get; }
    public IoLoop DataLoop => _dataLoop();
    public IoThread? NewThread(string name) => _newThread?.Invoke(name);
    public IMsiTarget Msi => Interrupts.Msi;
    public IReadOnlyList<IInterruptController> InterruptControllers => Interrupts.Controllers;
    public abstract PciBus? Pci { get; }
    public virtual bool TakesIommu => false;
    public virtual bool TakesGenerationId => false;
    public InputRouter Input { get; }

    public IrqLine Irq(int gsi) => Interrupts.NewWire(gsi);
    public void RemoveIrq(int gsi, IrqLine wire) => Interrupts.RemoveWire(gsi, wire);

    public bool IsGuestAsleep()
    {
        if (Interrupts.AreInKernel) return false;                  // the kernel's processors do not tell
        foreach (IVCpu cpu in _cpus)
            if (!cpu.IsHalted) return false;
        return true;
    }

    public IIsaDma? IsaDma { get; internal set; }
    public QBus? FindBus(string id) => Tree.Find(id);
    public void Post(Action work) => Loop.Post(work);
    public void RequestShutdown(ShutdownCause cause, int exitCode = 0) => _requests.RequestShutdown(cause, exitCode);
    public void RequestReset(ShutdownCause cause = ShutdownCause.GuestReset) => _requests.RequestReset(cause);
    public void RequestPause(string reason) => _requests.RequestPause(reason);
    public void RequestWatchdog() => _requests.RequestWatchdog();
    public void Raise(MachineEvent happened) => _requests.Raise(happened);
    public void AddFirmwareFile(string name, ReadOnlyMemory<byte> contents) =>
        FirmwareConfiguration.AddFile(name, contents);
    public void AddWritableFirmwareFile(string name, Memory<byte> contents) =>
        FirmwareConfiguration.AddWritableFile(name, contents, static () => true);
    public byte[]? FindFirmware(string name) => FirmwareImages.Find(Config.Firmware, name);
    public BlockBackend TakeDrive(string id, string owner) => _backends.TakeDrive(id, owner);
    public ICharBackend TakeChardev(string id, string owner) => _backends.TakeChardev(id, owner);
    public NetBackend TakeNetdev(string id, string owner) => _backends.TakeNetdev(id, owner);
    public SharedFolder FindFolder(string id, string owner) => _backends.FindFolder(id, owner);
    public ITpm TakeTpm(string id, string owner) => _backends.TakeTpm(id, owner);
    public int TakeDescriptor(string text, string owner) => _backends.Descriptors.Take(text, owner);
    public AudioHost FindAudio(string? id, string owner) => _backends.FindAudio(id, owner);
    public void ReleaseDrive(string id) => _backends.ReleaseDrive(id);
    public void ReleaseChardev(string id) => _backends.ReleaseChardev(id);
    public void ReleaseNetdev(string id) => _backends.ReleaseNetdev(id);
    public void ReleaseTpm(string id) => _backends.ReleaseTpm(id);
    public T FindObject<T>(string id, string what, string owner) where T : class =>
        _backends.FindObject<T>(id, what, owner);
    public void ReleaseObject(string id) => _backends.ReleaseObject(id);
    public void AddDisplay(IDisplaySource display) => _displays.Add(display);
    public void RemoveDisplay(IDisplaySource display) => _displays.Remove(display);

    // What the machine sees

    public IReadOnlyList<IVCpu> Cpus => _cpus;
    public IReadOnlyList<IDisplaySource> Displays => _displays;
    public IReadOnlyList<GuestRam> RamBlocks =>
        [.. Layout.Pieces.Concat(MemoryDevices.Select(device => device.Memory)).Select(memory => memory.Ram),
            .. (Pci?.AllDevices ?? []).SelectMany(d => d.BarRegions)
                .Where(r => r is { Kind: RegionKind.Ram }).Select(r => r!.Ram!)];
    public GuestRam Ram => Layout.Ram;
    public FwCfg FirmwareConfiguration { get; }
    public QBus Tree { get; } = new("main-system-bus", BusKind.System);

    /// <summary>Of the tree and in slots.</summary>
    IEnumerable<QDevice> AllDevices => Tree.AllDevices.Concat(Slots.AllDevices);

    /// <summary>-boot's letters, for the next start.</summary>
    /// <exception cref="CommandException">This board asks nobody.</exception>
    public virtual void SetBootOrder(string letters) =>
        throw new CommandException("no function defined to set boot device list for this architecture");

    /// <summary>All chips and devices; the vCPUs are the machine's.</summary>
    public void Reset()
    {
        using (Memory.Batch())
        using (Ports.Batch())
        {
            RemoveLeaving();
            foreach (IGrowingMemory growing in MemoryDevices.OfType<IGrowingMemory>()) growing.UnplugAll();
            foreach (IDevice device in _devices) device.Reset();
            Interrupts.Reset();
        }
        Input.Reset();
        OnReset(isFirst: !_wasReset);
        _wasReset = true;
    }

    /// <summary>A section for each device of the tree, named by its place there.</summary>
    public void Exchange(StateStream state)
    {
        IReadOnlyDictionary<IDevice, string> places = DevicePlaces.Of(Tree, Slots);
        using (Memory.Batch())
        using (Ports.Batch())
        {
            foreach (IDevice device in _devices) device.Exchange(state.Section(places[device], device.StateVersion));
            Interrupts.Exchange(state.Section("interrupts"));
        }
    }

    /// <summary>Devices give back what they took, the last that was made first. Under the machine lock.</summary>
    public void Dispose()
    {
        foreach (QDevice device in AllDevices.Reverse().ToArray()) device.Site?.Dispose();
        Layout.Dispose();
    }
}
