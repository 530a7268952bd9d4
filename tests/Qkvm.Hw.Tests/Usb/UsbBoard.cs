using System.Buffers.Binary;
using Qkvm.Core.Devices;
using Qkvm.Core.Input;
using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Core.State;
using Qkvm.Core.Usb;
using Qkvm.Hw.Usb;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Usb;

/// <summary>A board with one controller and devices on its bus, and a driver's way to its registers.</summary>
sealed class UsbBoard : IDisposable
{
    public const ulong Io = 0xC000, Mmio = 0xFE00_0000;
    public const long Millisecond = 1_000_000;

    readonly DeviceBench _bench;
    readonly FakeBoard _board;
    int _slot = 3;

    public UsbBoard(DeviceModel controller, params DeviceModel[] devices)
    {
        _bench = new DeviceBench(Pci.Clock);
        _board = new FakeBoard(_bench) { Bus = Pci.Bus, Memory = Pci.Memory.Space, Ports = Pci.Memory.Ports };
        (Controller, Site) = Make(controller);
        Bus = (UsbBus)Site.Buses[0].Wires!;
        _board.Buses.AddRange(Site.Buses);
        foreach (DeviceModel device in devices) Plug(device);
        Controller.Reset();
        Place();
    }

    /// <summary>As firmware does after a reset.</summary>
    public void Place()
    {
        Pci.Bus.WriteConfig(Controller.DevFn, 0x20, 4, (uint)Io);
        if (Controller is not Uhci) Pci.Bus.WriteConfig(Controller.DevFn, 0x10, 4, (uint)Mmio);
        Pci.Enable(Controller);
    }

    public PciBench Pci { get; } = new();
    public FakeBoard Board => _board;
    public FakeClock Clock => Pci.Clock;
    public AddressSpace Memory => Pci.Memory.Space;
    public AddressSpace Ports => Pci.Memory.Ports;
    public PciDevice Controller { get; }
    public bool Interrupt => Controller.IntX.Level;
    public DeviceSite Site { get; }
    public UsbBus Bus { get; }
    public List<DeviceSite> Sites { get; } = [];
    public UsbKeyboard Keyboard => (UsbKeyboard)Bus.Devices[0].Device;

    public (PciDevice, DeviceSite) Make(DeviceModel model, params (string, string)[] given)
    {
        DeviceSite site = _board.Site;
        var made = (PciDevice)model.Create(FakeBoard.Defaults(model, given), site);
        Pci.Bus.Plug(made, _slot++ << 3);
        return (made, site);
    }

    public UsbDevice Plug(DeviceModel model, params (string, string)[] given) =>
        Plug(FakeBoard.Defaults(model, given), model);

    UsbDevice Plug(Properties properties, DeviceModel model)
    {
        var site = new DeviceSite(_board, "-device", Site.Buses[0]);
        var device = (UsbDevice)model.Create(properties, site);
        Bus.Plug(device, properties, site);
        Sites.Add(site);
        return device;
    }

    public UsbDevice Attach(UsbDevice device, int port = 0)
    {
        Bus.Ports[port].Attach(device);
        return device;
    }

    /// <summary>So many milliseconds, one after the other.</summary>
    public void Run(int milliseconds) => Clock.Advance(milliseconds * Millisecond);

    public void Words(ulong address, params uint[] words)
    {
        for (int i = 0; i < words.Length; i++) Memory.Write(address + (ulong)i * 4, 4, words[i]);
    }

    public uint Word(ulong address) => (uint)Memory.Read(address, 4);
    public byte[] Bytes(ulong address, int count) => Pci.Memory.Bytes(address, count);

    public string State() => StateNode.Save(Controller.Exchange).ToString();

    /// <summary>A keyboard's transfer that waits here is finished by another board with the state and the memory of
    /// this one.</summary>
    /// <param name="buffer">Where the transfer's data goes.</param>
    public void GoesOnElsewhere(DeviceModel controller, ulong buffer)
    {
        using var other = new UsbBoard(controller, UsbKeyboard.Model);
        other.Memory.Write(0, Bytes(0, 0x5_0000));
        StateNode.Save(Controller.Exchange).Load(other.Controller.Exchange);
        UsbKeyboard keyboard = other.Keyboard;
        StateNode.Save(Keyboard.Exchange).Load(keyboard.Exchange);
        Assert.Equal(State(), other.State());
        other.Clock.AdvanceTo(Clock.Nanoseconds);
        keyboard.Key(KeyCode.B, true);
        other.Run(1);
        Assert.Equal([0, 0, 5, 0, 0, 0, 0, 0], other.Bytes(buffer, 8));
    }

    public void Dispose() => Pci.Dispose();

    public static byte[] Setup(byte type, byte request, int value, int index, int length) =>
        UsbBench.Setup(type, request, value, index, length);
}
