using Qkvm.Core.Accel;
using Qkvm.Core.Irq;
using Qkvm.Core.Machine;
using Qkvm.Core.Logging;
using Qkvm.Core.Memory;
using Qkvm.Core.State;
using Qkvm.Core.Time;
using Qkvm.Hw.Intc;
using Qkvm.Machines.Firmware;

namespace Qkvm.Machines.Pc;

/// <summary>The PC's interrupt controllers: our own 8259 pair, IOAPIC and local APICs, or the kernel's. Each of ISA's
/// sixteen interrupts reaches both the 8259 and the IOAPIC, IRQ 0 at the IOAPIC's pin 2.</summary>
sealed class PcInterrupts
{
    public const int Inputs = IoApic.Inputs;

    const int IsaIrqs = 16, Timer = 0, Cascade = 2, TimerPin = 2;
    const ulong MasterPort = 0x20, SlavePort = 0xA0, EdgeLevelPort = 0x4D0;
    const ulong ApicWindowSize = 0x10_0000, IoApicSize = 0x1000;

    readonly IKernelIrqChip? _kernel;
    readonly GsiRouter _router;
    readonly I8259Pair? _pic;
    readonly IoApic? _ioApic;
    readonly ApicBus? _bus;
    readonly List<LocalApic> _localApics = [];

    public PcInterrupts(IKernelIrqChip? kernel, AddressSpace memory, AddressSpace ports)
    {
        _kernel = kernel;
        _router = new GsiRouter(Inputs, Drive);
        TimerTicks = new TickFeedback(IsTimerWaiting);
        if (kernel != null)
        {
            Msi = new KernelMsi(kernel);
            return;
        }
        _pic = new I8259Pair(new IrqLine("intr", level => _bus!.SetIntr(level)));
        _bus = new ApicBus(_pic.Acknowledge);
        _ioApic = new IoApic(_bus);
        _bus.Taken += TimerTicks.Take;
        Msi = _bus;
        MemoryRegion master = MemoryRegion.Io("pic", 2, _pic.Master, AccessSizes.Bytes);
        MemoryRegion slave = MemoryRegion.Io("pic", 2, _pic.Slave, AccessSizes.Bytes);
        (master.Traces, slave.Traces) = (RegionTraces.PicMaster, RegionTraces.PicSlave);
        ports.Map(MasterPort, master);
        ports.Map(SlavePort, slave);
        ports.Map(EdgeLevelPort, MemoryRegion.Io("elcr", 2, _pic.EdgeLevelControl, AccessSizes.Bytes));
        memory.Map(AcpiTables.IoApicAddress, MemoryRegion.Io("ioapic", IoApicSize, _ioApic, AccessSizes.Dwords), 1);
        memory.Map(AcpiTables.LocalApicAddress,
            MemoryRegion.Io("apic-msi", ApicWindowSize, _bus, AccessSizes.UpToDword), 1);
    }

    public IMsiTarget Msi { get; }

    /// <summary>About IRQ 0. The kernel's controllers do not tell.</summary>
    public TickFeedback TimerTicks { get; }
    public I8259Pair? Pic => _pic;
    public IoApic? IoApic => _ioApic;
    public IReadOnlyList<IInterruptController> Controllers => _pic == null ? [] : [_ioApic!, _pic];
    public IReadOnlyList<LocalApic> LocalApics => _localApics;

    public IrqLine NewWire(int gsi) => _router.NewWire(gsi);
    public void RemoveWire(int gsi, IrqLine wire) => _router.Remove(gsi, wire);

    /// <summary>Gives a vCPU its local APIC, unless the kernel did.</summary>
    public void Attach(IVCpu cpu, uint apicId, IVirtualClock clock, MachineLock machineLock)
    {
        if (_bus == null) return;
        var local = new LocalApic(cpu, (int)apicId, cpu.Index == 0, _bus, clock, machineLock);
        Insert(local);
        cpu.Apic = local;
    }

    /// <summary>A vCPU leaves, and may come back.</summary>
    public void Detach(IVCpu cpu)
    {
        if (_localApics.Find(local => local.Index == cpu.Index) is not { } leaving) return;
        leaving.Disconnect();
        _localApics.Remove(leaving);
    }

    /// <summary>A vCPU that left is back.</summary>
    public void Reattach(IVCpu cpu)
    {
        if (cpu.Apic is not LocalApic local) return;
        local.Reconnect();
        Insert(local);
    }

    /// <summary>LINT1 of all processors.</summary>
    public void SetNmi(bool level) => _bus?.SetNmi(level);

    public void Reset()
    {
        _kernel?.Reset();
        _pic?.Reset();
        _ioApic?.Reset();
        foreach (LocalApic local in _localApics) local.Reset();
    }

    /// <summary>After all devices: their wires are back by then.</summary>
    public void Exchange(StateStream state)
    {
        _kernel?.Exchange(state.Group("kernel"));
        _pic?.Exchange(state.Group("i8259"));
        _ioApic?.Exchange(state.Group("ioapic"));
        foreach (LocalApic local in _localApics) local.Exchange(state.Group("apic", local.Index));
        if (state.IsLoading) _router.Restore();
    }

    /// <summary>In the order of the processors.</summary>
    void Insert(LocalApic local) =>
        _localApics.Insert(_localApics.TakeWhile(other => other.Index < local.Index).Count(), local);

    bool IsTimerWaiting() =>
        _bus != null && (_pic!.Master.IsWaiting(Timer) && _bus.TakesIntr || _ioApic!.IsWaiting(TimerPin));

    void Drive(int gsi, bool level)
    {
        if (_kernel != null) { _kernel.SetGsi(gsi, level); return; }
        if (gsi < IsaIrqs && gsi != Cascade) _pic!.SetIrq(gsi, level);
        if (gsi is Timer or TimerPin) _ioApic!.SetIrq(TimerPin, _router.Level(Timer) || _router.Level(TimerPin));
        else _ioApic!.SetIrq(gsi, level);
    }

    sealed class KernelMsi(IKernelIrqChip kernel) : IMsiTarget
    {
        public void Send(ulong address, uint data) => kernel.SendMsi(address, data);

        public bool TryPost(ulong address, uint data)
        {
            kernel.SendMsi(address, data);
            return true;
        }
    }
}
