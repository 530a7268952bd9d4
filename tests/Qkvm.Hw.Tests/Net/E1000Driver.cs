using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Net;

/// <summary>A driver's registers and rings of an e1000, by the data sheet's offsets restated here.</summary>
sealed class E1000Driver
{
    public const ulong Bar = 0xC000_0000, Ports = 0xC000, TransmitRing = 0x10_0000, ReceiveRing = 0x11_0000,
        Buffers = 0x20_0000;
    public const int RingSize = 16, BufferSize = 2048;

    readonly AddressSpace _memory, _ports;
    int _tail, _buffers;

    public E1000Driver(PciBench bench, PciDevice card, int slot = 4, int portBar = 1)
    {
        (_memory, _ports) = (bench.Memory.Space, bench.Memory.Ports);
        bench.Plug(card, slot);
        bench.Bus.WriteConfig(card.DevFn, 0x10, 4, (uint)Bar);
        bench.Bus.WriteConfig(card.DevFn, 0x10 + 4 * portBar, 4, (uint)Ports);
    }

    public uint this[int register]
    {
        get => (uint)_memory.Read(Bar + (ulong)register, 4);
        set => _memory.Write(Bar + (ulong)register, 4, value);
    }

    public uint Port(int offset) => (uint)_ports.Read(Ports + (ulong)offset, 4);
    public void Port(int offset, uint value) => _ports.Write(Ports + (ulong)offset, 4, value);

    /// <summary>Rings of 16 descriptors; 15 buffers of 2048 bytes to receive; broadcasts pass, no FCS.</summary>
    public void Start(uint receiveControl = 0x0400_8002)
    {
        this[0x3800] = (uint)TransmitRing;
        this[0x3808] = RingSize * 16;
        this[0x0400] = 0x0A;                                       // EN, PSP
        this[0x2800] = (uint)ReceiveRing;
        this[0x2808] = RingSize * 16;
        for (int i = 0; i < RingSize; i++)
            _memory.Write(ReceiveRing + (ulong)i * 16, 8, Buffers + (ulong)i * BufferSize);
        this[0x2818] = RingSize - 1;
        this[0x0100] = receiveControl;
    }

    /// <summary>Puts a descriptor into the ring; it is not the card's before <see cref="Kick"/>.</summary>
    public int Add(ulong first, ulong second)
    {
        ulong at = TransmitRing + (ulong)_tail * 16;
        _memory.Write(at, 8, first);
        _memory.Write(at + 8, 8, second);
        int index = _tail;
        _tail = (_tail + 1) % RingSize;
        return index;
    }

    /// <summary>After a reset of the card.</summary>
    public void Forget() => _tail = 0;

    public void Kick() => this[0x3818] = (uint)_tail;

    /// <summary>A buffer with these bytes.</summary>
    public ulong Buffer(ReadOnlySpan<byte> bytes)
    {
        ulong at = 0x30_0000 + (ulong)_buffers++ % 8 * 0x1_1000;
        _memory.Write(at, bytes);
        return at;
    }

    public void SendLegacy(byte[] frame, byte command = 0x0B)
    {
        Add(Buffer(frame), (uint)frame.Length | (ulong)command << 24);
        Kick();
    }

    /// <summary>A data descriptor, EOP IFCS RS DEXT.</summary>
    public void AddData(byte[] frame, byte options, bool cut = false) =>
        Add(Buffer(frame), (uint)frame.Length | 1UL << 20 | (cut ? 0x2FUL : 0x2B) << 24 | (ulong)options << 40);

    public ulong TransmitStatus(int index) => _memory.Read(TransmitRing + (ulong)index * 16 + 8, 8) >> 32;

    /// <summary>Length, status, errors and special of a receive descriptor.</summary>
    public (int Length, byte Status, byte Errors, ushort Special) Received(int index)
    {
        ulong word = _memory.Read(ReceiveRing + (ulong)index * 16 + 8, 8);
        return ((ushort)word, (byte)(word >> 32), (byte)(word >> 40), (ushort)(word >> 48));
    }

    public byte[] ReceivedBytes(int index)
    {
        var bytes = new byte[Received(index).Length];
        _memory.Read(Buffers + (ulong)index * BufferSize, bytes);
        return bytes;
    }
}
