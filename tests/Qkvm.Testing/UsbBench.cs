using Qkvm.Core.Usb;

namespace Qkvm.Testing;

/// <summary>A host that does at once what a test says, with one port, and a log of what it hears.</summary>
public sealed class UsbBench : IUsbHost
{
    const int PacketSize0 = 8;
    public const int Stalled = -1;

    public UsbBench(UsbSpeeds speeds = UsbSpeeds.Full)
    {
        Port = new UsbPort(this, 0, speeds, "1");
        Packet = new UsbPacket(packet => Completed.Add(packet.Status));
    }

    public UsbPort Port { get; }
    public UsbDevice Device => Port.Device!;
    public UsbPacket Packet { get; }
    public List<UsbStatus> Completed { get; } = [];
    public List<byte> Wakes { get; } = [];
    public List<string> Events { get; } = [];

    public void Attached(UsbPort port) => Events.Add("attached");
    public void Detached(UsbPort port) => Events.Add("detached");
    public void Wake(UsbPort port, UsbDevice device, byte endpoint) => Wakes.Add(endpoint);

    /// <summary>One packet; what was received stands in the data.</summary>
    public UsbStatus Send(UsbToken token, byte endpoint, byte[] data)
    {
        Packet.Begin(token, endpoint);
        Packet.Add(data);
        return Device.Handle(Packet);
    }

    /// <summary>An interrupt or bulk packet of the device: its bytes, or null where it sends none.</summary>
    public byte[]? Receive(byte endpoint, int room = 64)
    {
        var data = new byte[room];
        return Send(UsbToken.In, endpoint, data) == UsbStatus.Success ? data[..Packet.Actual] : null;
    }

    /// <summary>A control transfer to the host: the answer, or null for a stall.</summary>
    public byte[]? Ask(byte type, byte request, int value = 0, int index = 0, int length = 255)
    {
        if (Send(UsbToken.Setup, 0, Setup(type, request, value, index, length)) != UsbStatus.Success) return null;
        var answer = new List<byte>();
        while (true)
        {
            if (Receive(0, Math.Min(PacketSize0, length - answer.Count)) is not { } part) return null;
            answer.AddRange(part);
            if (part.Length < PacketSize0 || answer.Count == length) break;
        }
        return Send(UsbToken.Out, 0, []) == UsbStatus.Success ? [.. answer] : null;
    }

    /// <summary>A control transfer to the device: whether it obeyed.</summary>
    public bool Tell(byte type, byte request, int value = 0, int index = 0, params byte[] data)
    {
        Send(UsbToken.Setup, 0, Setup(type, request, value, index, data.Length));
        foreach (byte[] part in data.Chunk(PacketSize0))
            if (Send(UsbToken.Out, 0, part) != UsbStatus.Success) return false;
        return Receive(0, 0) != null;
    }

    public byte[]? Descriptor(byte type, byte index = 0, byte recipient = 0) =>
        Ask((byte)(0x80 | recipient), 6, type << 8 | index);

    public static byte[] Setup(byte type, byte request, int value, int index, int length) =>
        [type, request, (byte)value, (byte)(value >> 8), (byte)index, (byte)(index >> 8), (byte)length,
            (byte)(length >> 8)];
}
