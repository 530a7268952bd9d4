using Qkvm.Core.Machine;

namespace Qkvm.Core.Devices;

/// <summary>Memory beside that of -m, whatever device it belongs to.</summary>
public interface IMemoryDevice
{
    /// <summary>QMP's name of the kind: "dimm", "nvdimm", "virtio-mem", "virtio-pmem".</summary>
    string Kind { get; }

    /// <summary>The device's, or null.</summary>
    string? Id { get; }

    /// <summary>Of the guest.</summary>
    ulong Address { get; }

    /// <summary>Bytes that the guest may use now.</summary>
    ulong Size { get; }

    /// <summary>Bytes of addresses that it takes.</summary>
    ulong Room => Size;

    /// <summary>Of NUMA; memory that is none has node 0.</summary>
    int Node => 0;

    /// <summary>What device_del says, where it cannot go; null: it can.</summary>
    string? WhyKept => null;

    /// <summary>As QEMU says it of those on buses.</summary>
    const string OnBus = "virtio based memory devices cannot be unplugged.";

    /// <summary>What has the memory, and the id of that object.</summary>
    MemoryBackend Memory { get; }
    string Backend { get; }
}

/// <summary>Memory in a slot of the board.</summary>
public interface IDimm : IMemoryDevice, IDevice
{
    int Slot { get; }

    /// <summary>It came while the machine ran.</summary>
    bool IsHotPlugged { get; }
}

/// <summary>Memory that grows and shrinks while the guest has it.</summary>
public interface IGrowingMemory : IMemoryDevice
{
    ulong RequestedSize { get; }
    ulong BlockSize { get; }

    /// <summary>The machine starts afresh: the guest has none of it.</summary>
    void UnplugAll();
}

/// <summary>Where memory wants to be.</summary>
/// <param name="Address">0: wherever there is room.</param>
/// <param name="Alignment">Of address and size, a power of two.</param>
/// <param name="Error">Names the option that asks.</param>
public readonly record struct MemoryWish(ulong Address, ulong Alignment, Func<string, ConfigurationException> Error)
{
    /// <summary>What a processor's large pages have.</summary>
    public const ulong LargePage = 2 << 20;

    /// <summary>As memory of slots wants it.</summary>
    public static MemoryWish Of(MemoryBackend memory, ulong address, Func<string, ConfigurationException> error) =>
        new(address, AlignmentOf(memory), error);

    /// <summary>Of addresses and sizes: a page of the file, or what large pages have.</summary>
    public static ulong AlignmentOf(MemoryBackend memory) =>
        memory.Ram.File is { } file ? Math.Max(file.PageSize, file.Alignment) : LargePage;
}
