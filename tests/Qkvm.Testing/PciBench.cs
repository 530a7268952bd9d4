using Qkvm.Core.Irq;
using Qkvm.Core.Pci;
using Qkvm.Host;

namespace Qkvm.Testing;

/// <summary>A PCI bus with memory, ports, a main loop and ears for interrupts.</summary>
public sealed class PciBench : IMsiTarget, IDisposable
{
    /// <param name="file">What its memory is mapped over; null for memory of this process alone.</param>
    public PciBench(MemoryFile? file = null)
    {
        Memory = new TestMemory(file);
        Bus = new PciBus("pci.0", Memory.Root, Memory.PortRoot, Memory.Space, this, static (_, pin) => pin,
            [level => Inta = level, static _ => { }, static _ => { }, static _ => { }]);
    }

    public TestMemory Memory { get; }
    public PciBus Bus { get; }
    public Pump Pump { get; } = new();

    /// <summary>Where data moves outside the machine lock: the pump, too.</summary>
    public PumpLoop Loop => field ??= new PumpLoop(Pump);
    public FakeClock Clock { get; } = new();

    /// <summary>The level of INTA#.</summary>
    public bool Inta { get; private set; }

    /// <summary>Messages in the order they came.</summary>
    public List<(ulong Address, uint Data)> Messages { get; } = [];

    public void Send(ulong address, uint data) => Messages.Add((address, data));

    public bool TryPost(ulong address, uint data)
    {
        Send(address, data);
        return true;
    }

    /// <summary>Plugs a function, resets it, and switches on decoding and bus mastering.</summary>
    public T Plug<T>(T device, int slot) where T : PciDevice
    {
        Bus.Plug(device, slot << 3);
        device.Reset();
        Enable(device);
        return device;
    }

    public void Enable(PciDevice device) =>
        Bus.WriteConfig(device.DevFn, PciConfig.Command, 2,
            PciConfig.IoSpace | PciConfig.MemorySpace | PciConfig.BusMaster);

    public void Dispose() => Memory.Dispose();
}
