using Qkvm.Core.Net;
using static Qkvm.Hw.Net.E1000Registers;

namespace Qkvm.Hw.Net;

/// <summary>Receive descriptors: legacy, extended, and those of several buffers. Section 7.1.</summary>
public sealed partial class E1000e
{
    const uint Extended = 1 << 15;                                 // RFCTL.EXSTEN
    const int Buffers = 4, SplitSize = 32;
    const uint Done = 1, EndOfPacket = 2, IgnoreChecksum = 4, VlanPacket = 8;

    bool HasSeveral => (Registers[RCTL] >> DescriptorType & 3) == 1;

    E1000Ring Receiving =>
        new(Registers, RDBAL, HasSeveral ? SplitSize : E1000Ring.DescriptorSize);

    private protected override bool IsReceiveEnabled => (Registers[RCTL] & ReceiveEnable) != 0;

    private protected override int Available => Receiving.Available;

    private protected override bool HasRoom(int frames, int longest, out int missing)
    {
        E1000Ring ring = Receiving;
        int needed = frames * Needed(longest + Fcs);
        missing = needed < ring.Size ? needed : 0;
        return needed <= ring.Available;
    }

    private protected override bool Deliver(Span<byte> frame, ushort? tag, in NetHeader header)
    {
        E1000Ring ring = Receiving;
        int left = frame.Length + Fcs;
        if (ring.Available < Needed(left)) return false;
        ulong status = ReceiveStatus.Of(Registers[RXCSUM], frame, header);
        // IXSM, TCPCS, IPCS of the legacy status and its errors; here the latter are the word's highest byte
        uint known = (uint)(status >> 32 & 0xFF) | (uint)(status >> 40 & 0xFF) << 24;
        int at = 0;
        while (left > 0)
        {
            ulong address = ring.Address;
            int count = HasSeveral ? Math.Min(left, SplitRoom) : Math.Min(left, BufferLength);
            ReadOnlySpan<byte> part = frame[Math.Min(at, frame.Length)..Math.Min(at + count, frame.Length)];
            left -= count;
            at += count;
            uint last = left > 0 ? Done : Done | EndOfPacket | known | (tag != null ? VlanPacket : 0);
            if (HasSeveral) WriteSeveral(address, part, count, last, tag ?? 0);
            else WriteOne(address, part, count, last, status, tag ?? 0);
            ring.Advance();
        }
        int threshold = ring.Size >> 1 + (int)(Registers[RCTL] >> MinimumThreshold & 3);
        Raise(RXT0 | RXQ0 | (ring.Available <= threshold ? RXDMT0 : 0));
        return true;
    }

    int Fcs => (Registers[RCTL] & StripCrc) != 0 ? 0 : 4;

    /// <summary>RCTL.BSIZE, BSEX and FLXBUF.</summary>
    int BufferLength
    {
        get
        {
            const int Flexible = 27;
            uint control = Registers[RCTL];
            if ((control >> Flexible & 15) is > 0 and var units) return (int)units * 1024;
            int length = 2048 >> (int)(control >> BufferSize & 3);
            return (control & SizeExtension) != 0 && length < 2048 ? length * 16 : length;
        }
    }

    /// <summary>PSRCTL: 128 bytes a unit of the first buffer, 1 KiB of the others.</summary>
    int SplitLength(int buffer) => buffer == 0 ? (int)(Registers[PSRCTL] & 0x7F) * 128
        : (int)(Registers[PSRCTL] >> (8 * buffer) & 0x3F) * 1024;

    /// <summary>Of all buffers; one without any takes 128 bytes.</summary>
    int SplitRoom
    {
        get
        {
            int room = 0;
            for (int i = 0; i < Buffers; i++) room += SplitLength(i);
            return Math.Max(room, 128);
        }
    }

    int Needed(int length)
    {
        int each = HasSeveral ? SplitRoom : BufferLength;
        return (length + each - 1) / each;
    }

    void WriteOne(ulong address, ReadOnlySpan<byte> part, int count, uint status, ulong legacy, ushort tag)
    {
        ulong target = Dma.Read(address, 8);
        Dma.Write(target, part);
        if (part.Length < count) Dma.Write(target + (ulong)part.Length, stackalloc byte[count - part.Length]);
        if ((Registers[RFCTL] & Extended) != 0)
        {
            Dma.Write(address, 8, 0);
            Dma.Write(address + 8, 8, status | (ulong)(uint)count << 32 | (ulong)tag << 48);
            return;
        }
        ulong errors = status >> 24 << 40;
        Dma.Write(address + 8, 8, (uint)count | legacy & 0xFFFF_0000 | (ulong)(status & 0xFF) << 32 | errors
            | (ulong)tag << 48);
    }

    void WriteSeveral(ulong address, ReadOnlySpan<byte> part, int count, uint status, ushort tag)
    {
        Span<ushort> lengths = stackalloc ushort[Buffers];
        for (int i = 0; i < Buffers; i++)
        {
            int length = Math.Min(count, SplitLength(i));
            lengths[i] = (ushort)length;
            ReadOnlySpan<byte> bytes = part[..Math.Min(length, part.Length)];
            Dma.Write(Dma.Read(address + (ulong)i * 8, 8), bytes);
            part = part[bytes.Length..];
            count -= length;
        }
        Dma.Write(address + 16, 8, (ulong)lengths[1] << 16 | (ulong)lengths[2] << 32 | (ulong)lengths[3] << 48);
        Dma.Write(address, 8, 0);
        Dma.Write(address + 8, 8, status | (ulong)lengths[0] << 32 | (ulong)tag << 48);
    }
}
