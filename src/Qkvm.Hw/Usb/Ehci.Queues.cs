using Qkvm.Core.Usb;

namespace Qkvm.Hw.Usb;

/// <summary>Queue heads and the transfer descriptors behind them. Sections 3.5, 3.6 and 4.10.</summary>
public sealed partial class Ehci
{
    const int LongestTransfer = 5 * 0x1000, MostDescriptors = 64;

    // Dwords of a queue head; those of a qTD lie from Overlay on
    const int Characteristics = 1, Current = 3, Overlay = 4, QueueWords = 12, DescriptorWords = 8;
    const int Next = 0, Alternate = 1, Token = 2, Buffers = 3;

    // The token
    const uint Active = 1 << 7, Halted = 1 << 6, BabbleDetected = 1 << 4, TransactionError = 1 << 3, Toggle = 1u << 31,
        OnComplete = 1 << 15, StatusBits = 0xFF, NakCount = 0x1E, ToggleFromDescriptor = 1 << 14;
    const int TotalShift = 16, PidShift = 8;
    const uint TotalMask = 0x7FFF;

    const int Nothing = -1;

    /// <summary>As many of a queue's descriptors as end at once.</summary>
    /// <returns>Bytes that were moved, or <see cref="Nothing"/>.</returns>
    int RunQueue(uint at)
    {
        Span<uint> head = stackalloc uint[QueueWords];
        int moved = Nothing;
        for (int i = 0; i < MostDescriptors; i++)
        {
            if (!Dma.ReadWords(at, head)) { Fail(); return moved; }
            if ((head[Overlay + Token] & Halted) != 0) return moved;
            if ((head[Overlay + Token] & Active) == 0 && !Fetch(at, head)) return moved;
            int bytes = Execute(at, head);
            if (bytes == Nothing) return moved;
            moved = Math.Max(moved, 0) + bytes;
            _happened = true;
        }
        return moved;
    }

    /// <summary>The next descriptor becomes the overlay; false: there is none to do (section 4.10.2).</summary>
    bool Fetch(uint at, Span<uint> head)
    {
        uint token = head[Overlay + Token], alternate = head[Overlay + Alternate], next = head[Overlay + Next];
        bool wasShort = (token >> TotalShift & TotalMask) != 0 && (alternate & Terminate) == 0;
        uint link = wasShort ? alternate : next;
        if ((link & Terminate) != 0) return false;
        Span<uint> descriptor = stackalloc uint[DescriptorWords];
        link &= LinkMask;
        if (!Dma.ReadWords(link, descriptor)) { Fail(); return false; }
        if ((descriptor[Token] & Active) == 0) return false;
        head[Current] = link;
        descriptor.CopyTo(head[Overlay..]);
        if ((head[Characteristics] & ToggleFromDescriptor) == 0)
            head[Overlay + Token] = head[Overlay + Token] & ~Toggle | token & Toggle;
        Dma.WriteWords(at + Current * 4, head[Current..]);
        return true;
    }

    /// <summary>The overlay's transfer.</summary>
    int Execute(uint at, Span<uint> head)
    {
        uint token = head[Overlay + Token];
        ulong identity = ((ulong)head[Overlay + Buffers] << 32 | token) ^ (ulong)head[Characteristics] << 16
            ^ (ulong)head[Current] << 8;
        UsbFlight? flight = _flights.Find(at, identity);
        if (flight == null)
        {
            flight = _flights.Take(at, identity);
            if (flight == null) return Nothing;
            if (!Begin(flight, head)) { Fail(); return Nothing; }
        }
        UsbPacket packet = flight.Packet;
        UsbStatus status = packet.Status;
        if (status == UsbStatus.Pending) return Nothing;
        bool isWritten = packet.Token != UsbToken.In || status is not (UsbStatus.Success or UsbStatus.Babble)
            || Move(head, flight.Data[..packet.Actual], toGuest: true);
        int actual = packet.Token == UsbToken.In ? packet.Actual : packet.Length;
        bool isShort = packet.Token == UsbToken.In && actual < packet.Length;
        _flights.Free(flight);
        if (!isWritten) { Fail(); return Nothing; }
        if (status == UsbStatus.Nak) return Nothing;
        Retire(at, head, status, actual, isShort);
        return actual;
    }

    bool Begin(UsbFlight flight, Span<uint> head)
    {
        uint token = head[Overlay + Token], characteristics = head[Characteristics];
        UsbToken pid = (token >> PidShift & 3) switch
        {
            0 => UsbToken.Out,
            1 => UsbToken.In,
            _ => UsbToken.Setup,
        };
        // what a descriptor's five pages hold, whatever it says
        int room = LongestTransfer - (int)(head[Overlay + Buffers] & 0xFFF) - (int)(token >> 12 & 7) * 0x1000;
        int length = (int)Math.Min(token >> TotalShift & TotalMask, (uint)Math.Max(room, 0));
        flight.Packet.Begin(pid, (byte)(characteristics >> 8 & 15));
        flight.Packet.Add(flight.Buffer.AsMemory(0, length));
        if (pid != UsbToken.In && !Move(head, flight.Data, toGuest: false))
        {
            _flights.Free(flight);
            return false;
        }
        if (Find((byte)(characteristics & 0x7F)) is { } device) device.Handle(flight.Packet);
        else flight.Packet.Fail(UsbStatus.NoDevice);
        return true;
    }

    /// <summary>Between the transfer and the pages of the overlay.</summary>
    bool Move(Span<uint> head, Span<byte> data, bool toGuest)
    {
        uint offset = head[Overlay + Buffers] & 0xFFF;
        for (uint page = head[Overlay + Token] >> 12 & 7; data.Length > 0 && page < 5; page++)
        {
            uint address = (head[Overlay + Buffers + (int)page] & ~0xFFFu) + offset;
            int count = (int)Math.Min(data.Length, 0x1000 - offset);
            if (!(toGuest ? Dma.Write(address, data[..count]) : Dma.Read(address, data[..count]))) return false;
            data = data[count..];
            offset = 0;
        }
        return true;
    }

    /// <summary>The end of a descriptor, in it and in the overlay (section 4.10.4).</summary>
    void Retire(uint at, Span<uint> head, UsbStatus status, int actual, bool isShort)
    {
        uint token = head[Overlay + Token];
        uint left = (token >> TotalShift & TotalMask) - (uint)actual;
        uint offset = (head[Overlay + Buffers] & 0xFFF) + (uint)actual;
        token = token & ~(StatusBits | TotalMask << TotalShift | 7u << 12) | left << TotalShift;
        token |= Math.Min((head[Overlay + Token] >> 12 & 7) + offset / 0x1000, 4) << 12;
        head[Overlay + Buffers] = head[Overlay + Buffers] & ~0xFFFu | offset & 0xFFF;
        switch (status)
        {
            case UsbStatus.Success:
                token ^= Toggle;
                if ((token & OnComplete) != 0 || isShort) _status |= INT;
                break;
            case UsbStatus.Stall:
                token |= Halted;
                _status |= ERRINT;
                break;
            case UsbStatus.Babble:
                token |= Halted | BabbleDetected;
                _status |= ERRINT;
                break;
            default:
                token = (token | Halted | TransactionError) & ~(3u << 10); // the error counter ran out
                _status |= ERRINT;
                break;
        }
        if (status != UsbStatus.Success && (token & OnComplete) != 0) _status |= INT;
        head[Overlay + Token] = token;
        Dma.WriteWords(at + (Overlay + Token) * 4, head.Slice(Overlay + Token, 2));
        Dma.Write(head[Current] + Token * 4, 4, token);
    }
}
