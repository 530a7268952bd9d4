using Qkvm.Core.Audio;
using Qkvm.Core.Block;
using Qkvm.Core.Char;
using Qkvm.Core.Devices;
using Qkvm.Core.Display;
using Qkvm.Core.Input;
using Qkvm.Core.Irq;
using Qkvm.Core.Memory;
using Qkvm.Core.Net;
using Qkvm.Core.Pci;
using Qkvm.Core.Time;
using Qkvm.Core.Files;
using Qkvm.Core.Tpm;
using Qkvm.Host;

namespace Qkvm.Core.Machine;

/// <summary>What pc, q35 and microvm offer their devices.</summary>
public interface IBoard
{
    MachineLock Lock { get; }
    AddressSpace Memory { get; }
    AddressSpace Ports { get; }

    /// <summary>Bytes of RAM, as -m says.</summary>
    ulong MemorySize { get; }

    /// <summary>Nodes of memory and processors; 0 where all is one piece.</summary>
    int NumaNodes => 0;

    /// <summary>Finds addresses for memory beside that of -m; <see cref="DeviceSite.PlaceMemory"/> puts it
    /// there.</summary>
    /// <exception cref="ConfigurationException">There is no room, or not where it is wanted.</exception>
    ulong FindPlace(IMemoryDevice device, in MemoryWish wish) =>
        throw wish.Error("memory devices (e.g. for memory hotplug) are not supported by the machine");

    /// <summary>It has the addresses, or gives them back.</summary>
    void AddMemory(IMemoryDevice device) { }
    void RemoveMemory(IMemoryDevice device) { }

    IVirtualClock Clock { get; }

    /// <summary>A wire of its own to a global system interrupt (ISA IRQs are 0 to 15); wires to one number are
    /// OR-ed.</summary>
    IrqLine Irq(int gsi);

    /// <summary>Takes such a wire away; it is low.</summary>
    void RemoveIrq(int gsi, IrqLine wire);

    /// <summary>Those outside the processors; none where the kernel has them.</summary>
    IReadOnlyList<IInterruptController> InterruptControllers => [];

    /// <summary>Null of a machine without.</summary>
    IIsaDma? IsaDma => null;

    IMsiTarget Msi { get; }

    /// <summary>The root PCI bus (pci.0 or pcie.0); null of a machine without.</summary>
    PciBus? Pci { get; }

    /// <summary>Its PCI bus can have an IOMMU, which the firmware's tables then tell of.</summary>
    bool TakesIommu => false;

    /// <summary>The firmware's tables tell of a generation id.</summary>
    bool TakesGenerationId => false;

    /// <summary>The bus of this id ("pci.0", "ide.0"), or null.</summary>
    QBus? FindBus(string id);

    /// <summary>From any thread: runs on the main loop under the lock.</summary>
    void Post(Action work);

    EventLoop Loop { get; }

    /// <summary>Where data moves outside the machine lock.</summary>
    IoLoop DataLoop { get; }

    /// <summary>A thread for what may wait for the host longer than a disk's requests may; null: there is none but the
    /// data loop's.</summary>
    IoThread? NewThread(string name);

    /// <summary>From any thread: all processors wait for an interrupt. False where nobody knows, as under
    /// KVM.</summary>
    bool IsGuestAsleep();

    void RequestShutdown(ShutdownCause cause, int exitCode = 0);
    void RequestReset(ShutdownCause cause = ShutdownCause.GuestReset);

    /// <summary>Stops the vCPUs, as `stop` does, with a reason for `info status` ("paused", "io-error",
    /// "guest-panicked").</summary>
    void RequestPause(string reason);

    /// <summary>The guest has let go of a device: it goes, as device_del asked. From any thread.</summary>
    void Eject(IDevice device);

    /// <summary>A watchdog has run out: what -action watchdog= says happens.</summary>
    void RequestWatchdog();

    /// <summary>Tells QMP and whoever else listens. Under the lock.</summary>
    void Raise(MachineEvent happened);

    /// <summary>Registers an option ROM or another file for the firmware: "genroms/linuxboot.bin", "bootorder"
    /// …</summary>
    void AddFirmwareFile(string name, ReadOnlyMemory<byte> contents);

    /// <summary>A file that the guest writes, in place.</summary>
    void AddWritableFirmwareFile(string name, Memory<byte> contents);

    /// <summary>The firmware file of this name ("vgabios-stdvga.bin"): from -L, or embedded. Null if there is
    /// none.</summary>
    byte[]? FindFirmware(string name);

    // Backends by the names that options give them; a missing or already used one throws ConfigurationException.
    BlockBackend TakeDrive(string id, string owner);
    ICharBackend TakeChardev(string id, string owner);
    NetBackend TakeNetdev(string id, string owner);
    ITpm TakeTpm(string id, string owner);

    /// <summary>A descriptor of the host, by its number or a name that a monitor gave it.</summary>
    int TakeDescriptor(string text, string owner);

    /// <summary>The folder of that id, which any number of devices may share.</summary>
    SharedFolder FindFolder(string id, string owner);

    /// <param name="id">Null: whichever there is.</param>
    AudioHost FindAudio(string? id, string owner);
    void ReleaseDrive(string id);
    void ReleaseChardev(string id);
    void ReleaseNetdev(string id);
    void ReleaseTpm(string id);

    /// <summary>What -object made, which any number may use.</summary>
    /// <param name="what">As messages call it: "source of entropy".</param>
    T FindObject<T>(string id, string what, string owner) where T : class;
    void ReleaseObject(string id);

    InputRouter Input { get; }

    /// <summary>Makes a display known to VNC and screendump; the first is the primary.</summary>
    void AddDisplay(IDisplaySource display);
    void RemoveDisplay(IDisplaySource display);
}
