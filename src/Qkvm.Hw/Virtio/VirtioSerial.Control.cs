using System.Buffers.Binary;
using System.Numerics;
using System.Text;
using Qkvm.Core.Virtio;

namespace Qkvm.Hw.Virtio;

/// <summary>What device and driver tell each other of ports. Section 5.3.6.2.</summary>
public sealed partial class VirtioSerial
{
    // struct virtio_console_control: le32 id, le16 event, le16 value
    const int Event = 4, Value = 6, ControlLength = 8;
    const ushort DeviceReady = 0, DeviceAdd = 1, DeviceRemove = 2, PortReady = 3, ConsolePort = 4, Resize = 5,
        PortOpen = 6, PortNameEvent = 7;
    const int LongestName = 255;

    // Bits of what is owed, in the order in which it is told
    internal const byte OwesRemove = 1 << 0, OwesAdd = 1 << 1, OwesConsole = 1 << 2, OwesName = 1 << 3,
        OwesOpen = 1 << 4, OwesSize = 1 << 5;

    static ReadOnlySpan<byte> Messages =>
        [(byte)DeviceRemove, (byte)DeviceAdd, (byte)ConsolePort, (byte)PortNameEvent, (byte)PortOpen, (byte)Resize];

    /// <summary>What the driver has to hear of each port, once it gives a buffer: it is told what is so then. Hence
    /// nothing queues up where a driver gives none.</summary>
    readonly byte[] _owed;
    bool _isReady;                                                 // DEVICE_READY: it wants to hear of ports

    internal void Owe(int port, byte what)
    {
        if (!_isReady || !_isMultiport) return;
        _owed[port] |= what;
        Tell();
    }

    /// <summary>While a state is loaded nothing moves: the driver hears of it afterwards.</summary>
    internal void OweLater(int port, byte what)
    {
        _owed[port] |= what;
        Post(GoOn);
    }

    void Added(int port) => Owe(port, OwesAdd);

    void Removed(int port)
    {
        bool wasTold = (_owed[port] & OwesAdd) == 0;
        _owed[port] &= OwesRemove;
        if (wasTold) Owe(port, OwesRemove);
    }

    /// <summary>Sends what is owed, as far as the driver's buffers go.</summary>
    void Tell()
    {
        if (_queues?[ControlReceive] is not { Setup.Enabled: true } queue) return;
        bool any = false;
        for (int port = 0; port < _owed.Length; port++)
            while (_owed[port] != 0)
            {
                if (!queue.TryPop(out DescriptorChain? chain) && (!queue.EnableKicks() || !queue.TryPop(out chain)))
                {
                    if (any) queue.Signal();
                    return;
                }
                int first = BitOperations.TrailingZeroCount(_owed[port]);
                _owed[port] &= (byte)~(1 << first);
                queue.Push(chain, Write(chain, port, Messages[first]));
                any = true;
            }
        if (any) queue.Signal();
    }

    /// <summary>As much of the message as the buffer holds; returns its length.</summary>
    uint Write(DescriptorChain chain, int number, ushort what)
    {
        VirtioSerialPort? port = _ports[number];
        Span<byte> message = stackalloc byte[ControlLength + LongestName + 1];
        message.Clear();
        BinaryPrimitives.WriteInt32LittleEndian(message, number);
        BinaryPrimitives.WriteUInt16LittleEndian(message[Event..], what);
        BinaryPrimitives.WriteUInt16LittleEndian(message[Value..], (ushort)(what != PortOpen || port is { IsHostOpen:
            true } ? 1 : 0));
        int length = ControlLength;
        if (what == PortNameEvent) length += Encoding.UTF8.GetBytes(port?.PortName, message[ControlLength..^1]) + 1;
        else if (what == Resize)
        {
            (ushort columns, ushort rows) = port?.WindowSize ?? default;
            BinaryPrimitives.WriteUInt16LittleEndian(message[length..], columns);
            BinaryPrimitives.WriteUInt16LittleEndian(message[(length + 2)..], rows);
            length += 4;
        }
        length = (int)Math.Min((uint)length, chain.WritableLength);
        chain.Writable.Slice(0, length).CopyFrom(message[..length]);
        return (uint)length;
    }

    /// <summary>Takes the driver's messages; what is too short, unknown or of no port is ignored.</summary>
    void Obey(Virtqueue queue)
    {
        Span<byte> message = stackalloc byte[ControlLength];
        int budget = Virtqueue.Burst;
        do
            for (; budget > 0 && queue.TryPop(out DescriptorChain? chain); budget--)
            {
                bool isWhole = chain.ReadableLength >= ControlLength;
                if (isWhole) chain.Readable.Slice(0, ControlLength).CopyTo(message);
                queue.Push(chain, 0);
                if (isWhole && _isMultiport)
                    Obey(BinaryPrimitives.ReadUInt32LittleEndian(message),
                        BinaryPrimitives.ReadUInt16LittleEndian(message[Event..]),
                        BinaryPrimitives.ReadUInt16LittleEndian(message[Value..]));
            }
        while (queue.EnableKicks() && budget > 0);
        if (budget < Virtqueue.Burst) queue.Signal();
        if (budget == 0) GoOnSoon();
    }

    void Obey(uint number, ushort what, ushort value)
    {
        if (what == DeviceReady)
        {
            if (value == 0) return;                                // the driver could not start
            _isReady = true;
            for (int i = 0; i < _ports.Length; i++)
                if (_ports[i] != null) Owe(i, OwesAdd);
            return;
        }
        if (number >= (uint)_ports.Length || _ports[number] is not { } port) return;
        if (what == PortReady && value != 0)
            port.Ready();
        else if (what == PortOpen) port.SetGuestOpen(value != 0);
    }
}
