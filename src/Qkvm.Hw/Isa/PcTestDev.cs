using System.Buffers.Binary;
using Qkvm.Core.Devices;
using Qkvm.Core.Irq;
using Qkvm.Core.Memory;
using Qkvm.Core.State;

namespace Qkvm.Hw.Isa;

/// <summary>pc-testdev: what kvm-unit-tests drive: a port that echoes, memory behind register accesses, and interrupt
/// lines.</summary>
/// <remarks>Deviations: the port that flushes a guest page's host mapping does nothing.</remarks>
public sealed class PcTestDev : IDevice
{
    const ulong EchoPort = 0xE0, FlushPort = 0xE4, ByteEchoPort = 0xE8, IrqPorts = 0x2000, MemoryBase = 0xFF000000;
    const int MemorySize = 0x10000, EchoSize = 4, Irqs = 24;

    public static readonly DeviceModel Model = new("pc-testdev", BusKind.Isa, [], static (_, site) =>
        new PcTestDev(site));

    readonly byte[] _echo = new byte[EchoSize];
    readonly byte[] _memory = new byte[MemorySize];
    readonly IrqLine[] _irqs = new IrqLine[Irqs];

    public PcTestDev(DeviceSite site)
    {
        for (int i = 0; i < Irqs; i++) _irqs[i] = site.Irq(i);
        var echo = new Bytes(_echo);
        site.MapPorts(EchoPort, MemoryRegion.Io("pc-testdev-ioport", EchoSize, echo, AccessSizes.UpToDword));
        site.MapPorts(FlushPort, MemoryRegion.Io("pc-testdev-flush-page", EchoSize, new Bytes([]),
            AccessSizes.UpToDword));
        site.MapPorts(ByteEchoPort, MemoryRegion.Io("pc-testdev-ioport-byte", EchoSize, echo, AccessSizes.Bytes));
        site.MapPorts(IrqPorts, MemoryRegion.Io("pc-testdev-irq-line", Irqs, new Lines(_irqs), AccessSizes.Bytes));
        site.MapMemory(MemoryBase, MemoryRegion.Io("pc-testdev-iomem", MemorySize, new Bytes(_memory),
            AccessSizes.UpToQword), 1);
    }

    public string Name => Model.Name;

    public void Reset()
    {
        Array.Clear(_echo);
        Array.Clear(_memory);
        foreach (IrqLine irq in _irqs) irq.Set(false);
    }

    public void Exchange(StateStream state)
    {
        state.Block("echo", _echo);
        state.Block("memory", _memory);
        for (int i = 0; i < Irqs; i++)
        {
            bool level = _irqs[i].Level;
            state.Group("irq", i).Field("level", ref level);
            if (state.IsLoading) _irqs[i].Restore(level);
        }
    }

    /// <summary>Reads what was written; what lies beyond reads as zeros.</summary>
    sealed class Bytes(byte[] store) : IRegisterBank
    {
        public ulong Read(ulong offset, int size)
        {
            Span<byte> value = stackalloc byte[8];
            value.Clear();
            int count = Math.Clamp(store.Length - (int)offset, 0, size);
            store.AsSpan((int)offset * Math.Sign(count), count).CopyTo(value);
            return BinaryPrimitives.ReadUInt64LittleEndian(value);
        }

        public void Write(ulong offset, int size, ulong value)
        {
            for (int i = 0; i < size && (int)offset + i < store.Length; i++)
                store[(int)offset + i] = (byte)(value >> (i * 8));
        }
    }

    sealed class Lines(IrqLine[] irqs) : IRegisterBank
    {
        public ulong Read(ulong offset, int size) => 0;
        public void Write(ulong offset, int size, ulong value) => irqs[offset].Set(value != 0);
    }
}
