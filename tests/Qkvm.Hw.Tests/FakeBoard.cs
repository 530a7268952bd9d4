using Qkvm.Core.Audio;
using Qkvm.Core.Block;
using Qkvm.Core.Char;
using Qkvm.Core.Devices;
using Qkvm.Core.Display;
using Qkvm.Core.Input;
using Qkvm.Core.Irq;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Core.Net;
using Qkvm.Core.Pci;
using Qkvm.Core.Time;
using Qkvm.Core.Tpm;
using Qkvm.Host;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests;

/// <summary>Enough of a machine for ISA devices: spaces, clock, wires, one character backend, and a log of
/// requests.</summary>
public sealed class FakeBoard(DeviceBench bench) : IBoard
{
    public static Properties Defaults(DeviceModel model, params (string Name, string Value)[] given) =>
        new(model, Options.Of($"-device {model.Name}", given.Select(g => new OptionPair(g.Name, g.Value))));

    static readonly MachineLock s_lock = new();

    public List<string> Requests { get; } = [];
    public Dictionary<int, IrqLine> Irqs { get; } = [];
    public FakeChar Chardev { get; } = new();
    public MachineLock Lock => s_lock;
    public AddressSpace Memory { get; init; } = new("memory", MemoryRegion.Container("memory", 1UL << 40), s_lock);
    public ulong MemorySize => 1 << 20;
    public AddressSpace Ports { get; init; } = new("I/O", MemoryRegion.Container("io", 1 << 16), s_lock);
    public IVirtualClock Clock => bench.Clock;
    public InputRouter Input { get; } = new();
    public IMsiTarget Msi => throw new NotSupportedException();
    public PciBus? Bus { get; init; }
    public PciBus? Pci => Bus;
    public EventLoop Loop => throw new NotSupportedException();

    public IoLoop? Data { get; init; }
    public IoLoop DataLoop => Data ?? throw new NotSupportedException();
    public bool IsGuestAsleep() => false;

    public IrqLine Irq(int gsi) => Irqs[gsi] = bench.Wire($"gsi{gsi}");
    public void RemoveIrq(int gsi, IrqLine wire) => Irqs.Remove(gsi);
    public List<QBus> Buses { get; } = [];
    public QBus? FindBus(string id) => Buses.Find(bus => bus.Name == id);
    public void Post(Action work) => work();
    public void RequestShutdown(ShutdownCause cause, int exitCode = 0) => Requests.Add($"{cause} {exitCode}");
    public void RequestReset(ShutdownCause cause = ShutdownCause.GuestReset) => Requests.Add("reset");
    public void RequestPause(string reason) => Requests.Add(reason);
    public void Eject(IDevice device) => Requests.Add($"eject {device.Name}");
    public void RequestWatchdog() => Requests.Add("watchdog");
    public void Raise(MachineEvent happened) => Requests.Add(happened.ToString());
    public Dictionary<string, int> FirmwareFiles { get; } = [];
    public void AddFirmwareFile(string name, ReadOnlyMemory<byte> contents) => FirmwareFiles[name] = contents.Length;
    public Dictionary<string, Memory<byte>> WritableFiles { get; } = [];
    public void AddWritableFirmwareFile(string name, Memory<byte> contents) => WritableFiles[name] = contents;
    public byte[]? FindFirmware(string name) => null;
    public Dictionary<string, BlockBackend> Drives { get; } = [];
    public BlockBackend TakeDrive(string id, string owner) => Drives[id];
    public ICharBackend TakeChardev(string id, string owner) => Chardev;
    public NetBackend TakeNetdev(string id, string owner) => throw new NotSupportedException();
    public ITpm? Tpm { get; init; }
    public Qkvm.Core.Files.SharedFolder FindFolder(string id, string owner) => throw new NotSupportedException();
    public IoThread? NewThread(string name) => null;
    public ITpm TakeTpm(string id, string owner) => Tpm ?? throw new NotSupportedException();
    public void ReleaseTpm(string id) { }
    public int TakeDescriptor(string text, string owner) => int.Parse(text);
    public IIsaDma? IsaDma { get; init; }
    public AudioHost Audio { get; init; } = AudioModel.Silent();
    public AudioHost FindAudio(string? id, string owner) => Audio;
    public T FindObject<T>(string id, string what, string owner) where T : class => throw new NotSupportedException();
    public void ReleaseObject(string id) { }
    public void ReleaseDrive(string id) { }
    public void ReleaseChardev(string id) { }
    public void ReleaseNetdev(string id) { }
    public List<IDisplaySource> Displays { get; init; } = [];
    public void AddDisplay(IDisplaySource display) => Displays.Add(display);
    public void RemoveDisplay(IDisplaySource display) { }

    /// <summary>A place for one more device.</summary>
    public DeviceSite Site =>
        new(this, "-device", Bus == null ? null : new QBus(Bus.Id, BusKind.Pci, Bus));
}
