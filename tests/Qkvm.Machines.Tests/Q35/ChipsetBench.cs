using Qkvm.Core.Irq;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Hw.Pci;
using Qkvm.Machines.Tests.Pc;
using Qkvm.Testing;

namespace Qkvm.Machines.Tests.Q35;

/// <summary>The hub and the LPC bridge on their bus, and ears for what they do.</summary>
sealed class ChipsetBench : IMsiTarget
{
    public const int LpcDevFn = 31 << 3;

    readonly MemoryRegion _root = MemoryRegion.Container("system", 1UL << 40);
    readonly MemoryRegion _pci = MemoryRegion.Container("pci", 1UL << 40);
    readonly MemoryRegion _ram = MemoryRegion.Container("ram", 1 << 20);

    public ChipsetBench(bool forbidsReboot = false, Action? smi = null)
    {
        Tco = new Ich9Tco(Clock, () => Expired++);
        Pm = new Ich9Pm(Clock, Ports, _ => SoftOffs++, Tco, smi);
        Lpc = new Ich9Lpc(gsi => new IrqLine($"gsi{gsi}", level => Edges.Add((gsi, level))), Pm, () => Resets++,
            forbidsReboot);
        Memory = new AddressSpace("memory", _root, new MachineLock());
        _root.Map(0, _pci, -1);
        Bus = new PciBus("pcie.0", _pci, Ports.Root, Memory, this, Lpc.RouteSlot,
            [.. Enumerable.Range(0, Ich9Lpc.Inputs).Select<int, Action<bool>>(i => level => Lpc.SetInput(i, level))]);
        Mch = new Mch(Memory, _ram, _pci, Bus);
        Bus.Plug(Mch, 0);
        Bus.Plug(Lpc, LpcDevFn);
        Mch.Reset();
        Lpc.Reset();
        Edges.Clear();
    }

    public AddressSpace Memory { get; }
    public AddressSpace Ports { get; } = TestBus.Ports();
    public FakeClock Clock { get; } = new();
    public Ich9Tco Tco { get; }
    public Ich9Pm Pm { get; }
    public Ich9Lpc Lpc { get; }
    public Mch Mch { get; }
    public PciBus Bus { get; }

    /// <summary>Of global system interrupts.</summary>
    public List<(int Gsi, bool Level)> Edges { get; } = [];
    public int SoftOffs { get; private set; }
    public int Resets { get; private set; }
    public int Expired { get; private set; }

    void IMsiTarget.Send(ulong address, uint data) { }
}
