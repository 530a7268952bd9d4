using Qkvm.Core.Accel;
using Qkvm.Core.Irq;
using Qkvm.Core.Machine;
using Qkvm.Core.Logging;
using Qkvm.Core.Memory;
using Qkvm.Core.State;
using Qkvm.Core.Time;
using Qkvm.Hw.HyperV;
using Qkvm.Hw.Intc;
using Qkvm.Machines.Firmware;

namespace Qkvm.Machines.Pc;

/// <summary>Which interrupt controllers a board has.</summary>
/// <param name="IoApics">Each has the next 24 global system interrupts.</param>
/// <param name="HasPic">The 8259 pair.</param>
public sealed record InterruptPlan(int IoApics = 1, bool HasPic = true);

/// <summary>The PC's interrupt controllers: our own 8259 pair, IOAPIC and local APICs, or the kernel's. Each of ISA's
/// sixteen interrupts reaches both the 8259 and the IOAPIC, IRQ 0 at the IOAPIC's pin 2.</summary>
sealed class PcInterrupts
{
    const int IsaIrqs = 16, Timer = 0, Cascade = 2, TimerPin = 2;
    const ulong MasterPort = 0x20, SlavePort = 0xA0, EdgeLevelPort = 0x4D0;
    const ulong ApicWindowSize = 0x10_0000, IoApicSize = 0x1000;
    static readonly string[] IoApicNames = ["ioapic", "ioapic2"];  // in saved states

    readonly IKernelIrqChip? _kernel;
    readonly GsiRouter _router;
    readonly I8259Pair? _pic;
    readonly IoApic[] _ioApics = [];
    readonly ApicBus? _bus;
    readonly List<LocalApic> _localApics = [];
    readonly List<HyperVRegisters> _hyperV = [];
    readonly AddressSpace _memory;

    public PcInterrupts(IAccelerator accelerator, AddressSpace memory, AddressSpace ports, InterruptPlan plan)
    {
        (_kernel, _memory) = (accelerator.IrqChip, memory);
        _router = new GsiRouter(Math.Max(1, plan.IoApics) * IoApic.Inputs, Drive);
        TimerTicks = new TickFeedback(IsTimerWaiting);
        if (_kernel != null)
        {
            Msi = new KernelMsi(_kernel);
            return;
        }
        _bus = new ApicBus(plan.HasPic ? () => _pic!.Acknowledge() : null);
        if (accelerator.Apics is { } apics) _bus.Use(apics);
        if (plan.HasPic) _pic = NewPic(ports);
        _ioApics = new IoApic[plan.IoApics];
        for (int i = 0; i < _ioApics.Length; i++)
            memory.Map(AcpiTables.IoApicAddress + AcpiTables.IoApicStep * (ulong)i, MemoryRegion.Io("ioapic",
                IoApicSize, _ioApics[i] = new IoApic(_bus), AccessSizes.Dwords), 1);
        _bus.Taken += TimerTicks.Take;
        Msi = _bus;
        memory.Map(AcpiTables.LocalApicAddress,
            MemoryRegion.Io("apic-msi", ApicWindowSize, _bus, AccessSizes.UpToDword), 1);
    }

    public IMsiTarget Msi { get; }

    /// <summary>About IRQ 0. The kernel's controllers do not tell.</summary>
    public TickFeedback TimerTicks { get; }

    /// <summary>The kernel's local APICs: its processors do not tell whether they sleep.</summary>
    public bool AreInKernel => _bus == null || _bus.HasKernelApics;

    public I8259Pair? Pic => _pic;
    public IoApic? IoApic => _ioApics.FirstOrDefault();
    public IReadOnlyList<IInterruptController> Controllers => [.. _ioApics, .. _pic == null ? [] : new[] { _pic }];
    public IReadOnlyList<LocalApic> LocalApics => _localApics;

    public IrqLine NewWire(int gsi) => _router.NewWire(gsi);
    public void RemoveWire(int gsi, IrqLine wire) => _router.Remove(gsi, wire);

    /// <summary>Gives a vCPU its local APIC, unless the kernel did.</summary>
    /// <param name="reset">Hyper-V's guests ask for a reset so.</param>
    /// <param name="panic">And tell that they have crashed.</param>
    public void Attach(IVCpu cpu, uint apicId, IVirtualClock clock, MachineLock machineLock, Action reset, Action panic)
    {
        if (_bus == null || AreInKernel) return;
        var local = new LocalApic(cpu, (int)apicId, cpu.Index == 0, _bus, clock, machineLock);
        Insert(local);
        cpu.Apic = local;
        if (!cpu.HasHyperV) return;
        var registers = new HyperVRegisters(cpu, local, _memory, clock, machineLock, reset, panic);
        _hyperV.Add(registers);
        cpu.HyperV = registers;
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
        foreach (IoApic chip in _ioApics) chip.Reset();
        foreach (LocalApic local in _localApics) local.Reset();
        foreach (HyperVRegisters registers in _hyperV) registers.Reset();
    }

    /// <summary>After all devices: their wires are back by then.</summary>
    public void Exchange(StateStream state)
    {
        _kernel?.Exchange(state.Group("kernel"));
        _pic?.Exchange(state.Group("i8259"));
        for (int i = 0; i < _ioApics.Length; i++) _ioApics[i].Exchange(state.Group(IoApicNames[i]));
        foreach (LocalApic local in _localApics) local.Exchange(state.Group("apic", local.Index));
        foreach (HyperVRegisters registers in _hyperV)
            if (_localApics.Exists(local => local.Index == registers.Index))
                registers.Exchange(state.Group("hyper-v", registers.Index));
        if (state.IsLoading) _router.Restore();
    }

    /// <summary>In the order of the processors.</summary>
    void Insert(LocalApic local) =>
        _localApics.Insert(_localApics.TakeWhile(other => other.Index < local.Index).Count(), local);

    I8259Pair NewPic(AddressSpace ports)
    {
        var pic = new I8259Pair(new IrqLine("intr", level => _bus!.SetIntr(level)));
        MemoryRegion master = MemoryRegion.Io("pic", 2, pic.Master, AccessSizes.Bytes);
        MemoryRegion slave = MemoryRegion.Io("pic", 2, pic.Slave, AccessSizes.Bytes);
        (master.Traces, slave.Traces) = (RegionTraces.PicMaster, RegionTraces.PicSlave);
        ports.Map(MasterPort, master);
        ports.Map(SlavePort, slave);
        ports.Map(EdgeLevelPort, MemoryRegion.Io("elcr", 2, pic.EdgeLevelControl, AccessSizes.Bytes));
        return pic;
    }

    bool IsTimerWaiting() => _bus is { HasKernelApics: false }
        && (_pic != null && _pic.Master.IsWaiting(Timer) && _bus.TakesIntr
        || _ioApics.Length > 0 && _ioApics[0].IsWaiting(TimerPin));

    void Drive(int gsi, bool level)
    {
        if (_kernel != null) { _kernel.SetGsi(gsi, level); return; }
        if (gsi < IsaIrqs && gsi != Cascade) _pic?.SetIrq(gsi, level);
        if (gsi is Timer or TimerPin) SetPin(TimerPin, _router.Level(Timer) || _router.Level(TimerPin));
        else SetPin(gsi, level);
    }

    void SetPin(int gsi, bool level)
    {
        int chip = gsi / IoApic.Inputs;
        if (chip < _ioApics.Length) _ioApics[chip].SetIrq(gsi % IoApic.Inputs, level);
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
