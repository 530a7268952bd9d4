using Qkvm.Core.Accel;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;

namespace Qkvm.Machines;

/// <summary>What sits on no bus but in slots of the board: processors and memory.</summary>
public abstract partial class Board
{
    /// <summary>Those that have left. They come back as they are: the kernel's cannot be taken away.</summary>
    readonly Dictionary<int, IVCpu> _goneCpus = [];

    ICoprocessorErrors? _coprocessor;                              // null: a board without processors

    /// <summary>The devices in slots, which no bus of the tree has.</summary>
    public QBus Slots { get; }

    /// <summary>Once the chips are wired.</summary>
    protected void MakeCpus(ICoprocessorErrors? coprocessor = null)
    {
        _coprocessor = coprocessor;
        _accelerator.Attach(Memory, Ports, Lock, Layout.Smm);
        for (int i = 0; i < Config.Topology.Cpus; i++) AddCpu(i);
    }

    /// <summary>Firmware in system management mode waits for all processors that it knows: none may come or
    /// go.</summary>
    private protected virtual bool HoldsCpus => false;

    /// <summary>Of all processors that there can be.</summary>
    internal IReadOnlyList<uint> ApicIds =>
        [.. Enumerable.Range(0, Config.Topology.MaxCpus).Select(Config.Topology.ApicId)];

    /// <summary>What the guest has last said of each slot.</summary>
    public IReadOnlyList<AcpiOst> AcpiSlots => HotPlug is not { } hotPlug ? [] :
    [
        .. Enumerable.Range(0, hotPlug.Memory == null ? 0 : Config.Memory.Slots)
            .Select(slot => Ost(AcpiSlot.Dimm, slot, hotPlug.Memory!.SaidOf(slot))),
        .. Enumerable.Range(0, Config.Topology.MaxCpus)
            .Select(index => Ost(AcpiSlot.Cpu, index, hotPlug.Cpus.SaidOf(index))),
    ];

    internal bool IsCpuPresent(int index) => Array.Exists(_cpus, cpu => cpu.Index == index);

    /// <summary>The number of processors has changed, for the next start.</summary>
    protected virtual void OnCpusChanged() => Firmware.CountCpus(_cpus.Length);

    /// <summary>The guest has let go of a processor. Under the lock.</summary>
    internal void EjectCpu(int index) => _requests.RequestStill(() =>
    {
        if (InSlot(AcpiSlot.Cpu, index) is { } node) Remove(node);
        else if (IsCpuPresent(index))
        {
            RemoveCpu(index);
            Raise(new DeviceDeletedEvent(null, $"/machine/unattached/cpu[{index}]"));
        }
    });

    /// <summary>What the guest said of a request for a processor.</summary>
    internal void TellOfCpu(int index, uint happened, uint status) =>
        Raise(new AcpiDeviceOstEvent(Ost(AcpiSlot.Cpu, index, (happened, status))));

    // As of processors

    internal void EjectDimm(int slot) => _requests.RequestStill(() =>
    {
        if (InSlot(AcpiSlot.Dimm, slot) is { } node) Remove(node);
    });

    internal void TellOfDimm(int slot, uint happened, uint status) =>
        Raise(new AcpiDeviceOstEvent(Ost(AcpiSlot.Dimm, slot, (happened, status))));

    /// <summary>Memory beside that of -m, in the order of its coming.</summary>
    public IReadOnlyList<IMemoryDevice> MemoryDevices => Places.Present;

    MemoryPlaces Places => field ??= new MemoryPlaces(Config.Memory, Layout);

    ulong IBoard.FindPlace(IMemoryDevice device, in MemoryWish wish) => TakesMemory
        ? Places.FindAddress(device.Room, wish)
        : throw wish.Error("memory devices (e.g. for memory hotplug) are not supported by the machine");

    void IBoard.AddMemory(IMemoryDevice device) => Places.Add(device);
    void IBoard.RemoveMemory(IMemoryDevice device) => Places.Remove(device);

    /// <summary>Its addresses have room for memory beside that of -m, and its tables tell of it.</summary>
    private protected virtual bool TakesMemory => false;

    internal IEnumerable<Nvdimm> Nvdimms => MemoryDevices.OfType<Nvdimm>();

    QDevice? InSlot(AcpiSlot kind, int number) => Slots.Devices.FirstOrDefault(node => kind == AcpiSlot.Cpu
        ? node.Device is CpuDevice cpu && cpu.Index == number : node.Device is Dimm dimm && dimm.Slot == number);

    AcpiOst Ost(AcpiSlot kind, int number, (uint Event, uint Status) said) =>
        new(InSlot(kind, number)?.Id, $"{number}", kind, (int)said.Event, (int)said.Status);

    void Plug(Dimm dimm, DeviceSite site)
    {
        if (dimm is Nvdimm && Config.Nvdimm == null)
            throw dimm.Error("nvdimm is not enabled: missing 'nvdimm' in '-M'; give -machine nvdimm=on");
        if (dimm is Nvdimm && _wasReset)
            throw dimm.Error("an nvdimm does not come while the machine runs; give it at the start: -device nvdimm");
        if (HotPlug == null)
            throw dimm.Error("memory hotplug is not enabled: missing acpi device or acpi disabled");
        dimm.Slot = Places.FindSlot(dimm.WantedSlot, dimm.Error);
        dimm.IsHotPlugged = _wasReset;
        site.PlaceMemory(dimm, dimm.Region, MemoryWish.Of(dimm.Memory, dimm.WantedAddress, dimm.Error),
            at => dimm.Address = at);
        dimm.Memory.Prepare(dimm.Error);
        if (dimm is Nvdimm) return;                                // its own table tells of it
        HotPlug.Memory!.Insert(dimm.Slot, dimm.Address, dimm.Size, (uint)dimm.Node, isNews: _wasReset);
        site.OnLeave(() => HotPlug.Memory.Removed(dimm.Slot));
    }

    void Plug(CpuDevice cpu, Properties properties, DeviceSite site)
    {
        if (_coprocessor == null || _wasReset && HotPlug == null)
            throw properties.Error($"Device '{cpu.Name}' can not be hotplugged on this machine");
        if (_wasReset && HoldsCpus)
            throw properties.Error("cpu hotplug SMI was not enabled by firmware; give smm=off and a firmware that "
                + "does without");
        cpu.Place(Config);
        if (IsCpuPresent(cpu.Index)) throw cpu.Taken(Config.Topology.ApicId(cpu.Index));
        AddCpu(cpu.Index);
        site.OnLeave(() => RemoveCpu(cpu.Index));
    }

    void AddCpu(int index)
    {
        CpuTopology topology = Config.Topology;
        uint apicId = topology.ApicId(index);
        if (_goneCpus.Remove(index, out IVCpu? cpu)) Interrupts.Reattach(cpu);
        else
        {
            cpu = _accelerator.CreateVCpu(index, new CpuSetup(Config.Cpu.Model, Config.Cpu.Features, (int)apicId,
                topology.Sockets, topology.Cores, topology.Threads)
                { Dies = topology.Dies, Properties = Config.Cpu.Properties });
            Interrupts.Attach(cpu, apicId, Clock, Lock, () => RequestReset(),
                () => RequestShutdown(ShutdownCause.GuestPanic));
            cpu.CoprocessorErrors = _coprocessor;
        }
        _cpus = [.. _cpus.Append(cpu).OrderBy(one => one.Index)];
        _requests.AddCpu(cpu);
        HotPlug?.Cpus.Insert(index, isNews: _wasReset);
        OnCpusChanged();
    }

    void RemoveCpu(int index)
    {
        IVCpu leaving = _cpus.First(cpu => cpu.Index == index);
        _cpus = [.. _cpus.Where(cpu => cpu != leaving)];
        _requests.RemoveCpu(leaving);
        Interrupts.Detach(leaving);
        leaving.Reset();
        _goneCpus[index] = leaving;
        HotPlug?.Cpus.Removed(index);
        OnCpusChanged();
    }

    /// <summary>The board's side of the slots.</summary>
    sealed class SlotWires(Board board) : IBusWires
    {
        public bool IsFull => false;

        public void Plug(IDevice device, Properties properties, DeviceSite site)
        {
            if (device is Dimm dimm) board.Plug(dimm, site);
            else board.Plug((CpuDevice)device, properties, site);
        }

        public bool RequestUnplug(IDevice device)
        {
            if (board.HotPlug is not { } hotPlug)
                throw new CommandException($"acpi: device unplug request for not supported device type: {device.Name}");
            if (device is Dimm dimm)
            {
                hotPlug.Memory!.RequestRemoval(dimm.Slot);
                return true;
            }
            int index = ((CpuDevice)device).Index;
            if (index == 0) throw new CommandException("Boot CPU is unpluggable");
            if (board.HoldsCpus) throw new CommandException("cpu hot-unplug SMI was not enabled by firmware");
            hotPlug.Cpus.RequestRemoval(index);
            return true;
        }

        public string PathOf(IDevice device) => "";
    }
}
