using Qkvm.Core.Irq;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Hw.Pci;

namespace Qkvm.Machines.Tests.Pc;

static class TestBus
{
    public static PciBus Make(Action<bool>[] inputs, AddressSpace? ports = null)
    {
        var memory = new AddressSpace("memory", MemoryRegion.Container("memory", 1UL << 40), new MachineLock());
        return new PciBus("pci.0", memory.Root, (ports ?? Ports()).Root, memory, new NoMsi(), Piix3.RouteSlot, inputs);
    }

    public static AddressSpace Ports() => new("ports", MemoryRegion.Container("ports", 0x10000), new MachineLock());

    sealed class NoMsi : IMsiTarget
    {
        public void Send(ulong address, uint data) { }
    }
}
