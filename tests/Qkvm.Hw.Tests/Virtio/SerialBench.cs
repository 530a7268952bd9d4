using System.Buffers.Binary;
using Qkvm.Core.Devices;
using Qkvm.Core.Virtio;
using Qkvm.Hw.Virtio;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Virtio;

/// <summary>A virtio-serial device with four ports, its bus, and a guest's driver of it, by Virtio 1.2, section
/// 5.3.</summary>
sealed class SerialBench : IDisposable
{
    public const int ControlReceive = 2, ControlTransmit = 3;
    public const ushort Ready = 0, Add = 1, Remove = 2, PortReady = 3, Console = 4, Resize = 5, Open = 6, Name = 7;
    public const ulong Data = 0x20000, Multiport = 2;
    const ulong Messages = 0x40000, Replies = 0x50000, ReplyLength = 64;

    readonly FakeBoard _board;
    int _replies;

    public SerialBench(int ports = 4)
    {
        Device = new VirtioSerial("serial", Pci.Clock, ports, hasEmergencyWrite: true) { Post = Pci.Pump.Post };
        Guest = new VirtioGuest(Pci, Device, new VirtioPciOptions(0x078000, 0));
        _board = new FakeBoard(new DeviceBench(Pci.Clock));
    }

    public PciBench Pci { get; } = new();
    public VirtioSerial Device { get; }
    public VirtioGuest Guest { get; }

    /// <summary>What the guest did to ports.</summary>
    public List<bool> Opened { get; } = [];

    public bool NeedsReset => (Guest.Status & VirtioStatus.NeedsReset) != 0;

    public void Dispose() => Pci.Dispose();

    /// <returns>The site, whose end is the port's.</returns>
    public DeviceSite Plug(out VirtioSerialPort port, FakeChar? backend, bool isConsole = false, string? name = null,
        int? number = null)
    {
        DeviceModel model = isConsole ? VirtioSerialModels.Console : VirtioSerialModels.SerialPort;
        DeviceSite site = _board.Site;
        port = new VirtioSerialPort("port", isConsole, name, backend, Opened.Add);
        ((IBusWires)Device).Plug(port, number is { } nr ? FakeBoard.Defaults(model, ("nr", $"{nr}"))
            : FakeBoard.Defaults(model), site);
        return site;
    }

    public VirtioSerialPort Plug(FakeChar? backend, bool isConsole = false, string? name = null, int? number = null)
    {
        Plug(out VirtioSerialPort port, backend, isConsole, name, number);
        return port;
    }

    /// <summary>A driver that has given buffers for messages and said that it is ready.</summary>
    public void Start(int buffers = 16)
    {
        Guest.Start();
        GiveBuffers(buffers);
        Say(0, Ready, 1);
    }

    public void GiveBuffers(int count)
    {
        for (int i = 0; i < count; i++)
            Guest.Request(ControlReceive, (Replies + ReplyLength * (ulong)(_replies++ % 32), -(int)ReplyLength));
    }

    public void Say(uint port, ushort what, ushort value)
    {
        Pci.Memory.Space.Write(Messages, 4, port);
        Pci.Memory.Space.Write(Messages + 4, 2, what);
        Pci.Memory.Space.Write(Messages + 6, 2, value);
        Guest.Request(ControlTransmit, (Messages, 8));
    }

    /// <summary>A driver opens a port as Linux does.</summary>
    public void OpenPort(uint port)
    {
        Say(port, PortReady, 1);
        Say(port, Open, 1);
        Heard();
    }

    /// <summary>The messages that came since the last call: "1:Open=1", "2:Name=1 'agent'".</summary>
    public List<string> Heard()
    {
        var heard = new List<string>();
        while (Guest.Queues[ControlReceive].TakeUsed() is { } used)
        {
            byte[] message = Pci.Memory.Bytes(Replies + ReplyLength * (used.Id % 32), (int)used.Written);
            uint port = BinaryPrimitives.ReadUInt32LittleEndian(message);
            ushort what = BinaryPrimitives.ReadUInt16LittleEndian(message.AsSpan(4)), value =
                BinaryPrimitives.ReadUInt16LittleEndian(message.AsSpan(6));
            string[] names = ["Ready", "Add", "Remove", "PortReady", "Console", "Resize", "Open", "Name"];
            string more = what == Name ? $" '{string.Concat(message[8..^1].Select(b => (char)b))}'"
                : what == Resize ? $" {BinaryPrimitives.ReadUInt16LittleEndian(message.AsSpan(8))}x"
                    + $"{BinaryPrimitives.ReadUInt16LittleEndian(message.AsSpan(10))}" : "";
            heard.Add($"{port}:{names[what]}={value}{more}");
        }
        return heard;
    }

    /// <summary>The guest writes text to a port's transmit queue, as one buffer.</summary>
    public void Write(int port, string text, ulong at = Data)
    {
        Put(at, text);
        Guest.Request(TransmitQueue(port), (at, text.Length));
    }

    public void Put(ulong at, string text)
    {
        for (int i = 0; i < text.Length; i++) Pci.Memory.Space.Write(at + (ulong)i, 1, text[i]);
    }

    public string Text(ulong at, uint count) => string.Concat(Pci.Memory.Bytes(at, (int)count).Select(b => (char)b));

    public static int ReceiveQueue(int port) => port == 0 ? 0 : 2 * port + 2;
    public static int TransmitQueue(int port) => ReceiveQueue(port) + 1;
}
