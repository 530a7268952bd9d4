using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Host;

namespace Qkvm.Testing;

/// <summary>Guest memory for tests: RAM from 0, a ROM and a register bank above it, and nothing else.</summary>
public sealed class TestMemory : IDisposable
{
    public const ulong RamSize = 4 << 20, RomAddress = 0x1000_0000, IoAddress = 0x2000_0000, HoleAddress = 0x3000_0000,
        WindowSize = 0x10000;

    readonly GuestRam _rom = new("rom", WindowSize);

    /// <param name="file">What the RAM is mapped over; null for memory of this process alone.</param>
    public TestMemory(MemoryFile? file = null)
    {
        file?.SetLength(RamSize);
        Ram = new GuestRam("ram", RamSize, file);
        Lock = new MachineLock();
        Root = MemoryRegion.Container("memory", 1UL << 40);
        Root.Map(0, MemoryRegion.OfRam("ram", Ram, 0, RamSize));
        Root.Map(RomAddress, MemoryRegion.Rom("rom", _rom, 0, WindowSize));
        Root.Map(IoAddress, MemoryRegion.Io("io", WindowSize, Registers, AccessSizes.UpToQword));
        Space = new AddressSpace("memory", Root, Lock);
        PortRoot = MemoryRegion.Container("ports", 0x10000);
        Ports = new AddressSpace("ports", PortRoot, Lock);
    }

    public MachineLock Lock { get; }
    public GuestRam Ram { get; }
    public MemoryRegion Root { get; }
    public AddressSpace Space { get; }
    public MemoryRegion PortRoot { get; }
    public AddressSpace Ports { get; }

    /// <summary>Counts accesses: a bus master must never cause one.</summary>
    public CountingBank Registers { get; } = new();

    public byte[] Bytes(ulong address, int count)
    {
        var bytes = new byte[count];
        Space.Read(address, bytes);
        return bytes;
    }

    public void Dispose()
    {
        Ram.Dispose();
        _rom.Dispose();
    }

    public sealed class CountingBank : IRegisterBank
    {
        public int Accesses { get; private set; }
        public ulong Read(ulong offset, int size) { Accesses++; return 0; }
        public void Write(ulong offset, int size, ulong value) => Accesses++;
    }
}
