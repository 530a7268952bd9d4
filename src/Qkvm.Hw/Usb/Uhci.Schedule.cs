using Qkvm.Core.Usb;

namespace Qkvm.Hw.Usb;

/// <summary>Frame lists, queue heads and transfer descriptors. Sections 3.1 to 3.4.</summary>
public sealed partial class Uhci
{
    const int LongestPacket = 1280, FrameEntries = 1024, MostLinks = 1024, FramesUnseen = 160;
    const int NoData = 0x7FF;                                      // MaxLen and ActLen of zero bytes
    const uint Terminate = 1, IsQueue = 2, DepthFirst = 4, LinkMask = ~15u;

    // Control and status of a TD, section 3.2.2
    const uint ActualLength = 0x7FF, TimeoutError = 1 << 18, NakReceived = 1 << 19, Babble = 1 << 20,
        BufferError = 1 << 21,
        Stalled = 1 << 22, Active = 1 << 23, OnComplete = 1 << 24, Isochronous = 1 << 25, ShortDetect = 1 << 29,
        Errors = TimeoutError | Babble | BufferError | Stalled;

    enum Outcome { Next, Stay, Stop }

    bool _moved, _happened;                                        // not migrated: of the frame that runs

    bool RunFrame()
    {
        _transfers.Sweep(FramesUnseen);
        return Walk();
    }

    bool LookAgain() => Walk();

    /// <summary>Follows a frame's links: at most so many, so many bytes, and no further once a circle moves
    /// nothing. Whether something happened.</summary>
    bool Walk()
    {
        uint entry = _base + (uint)(_frames.Number & (FrameEntries - 1)) * 4;
        uint link = (uint)Dma.Read(entry, 4), queue = 0;
        uint mark = Terminate;                                     // a link that was followed since bytes moved last
        int untilMark = 1, distance = 1, left = _bandwidth;
        _happened = false;
        for (int links = 0; links < MostLinks && left > 0 && (link & Terminate) == 0; links++)
        {
            if (link == mark) break;
            if (--untilMark == 0) (mark, distance, untilMark) = (link, distance * 2, distance * 2);
            uint at = link & LinkMask;
            if ((link & IsQueue) != 0)
            {
                uint element = (uint)Dma.Read(at + 4, 4);
                queue = at;
                link = (element & Terminate) != 0 ? (uint)Dma.Read(at, 4) : element;
                continue;
            }
            _moved = false;
            Outcome outcome = Execute(at, out uint next, ref left);
            if (outcome == Outcome.Stop) return true;
            if (_moved) (mark, distance, untilMark) = (Terminate, 1, 1);
            if (queue == 0)
            {
                link = next;
                continue;
            }
            if (outcome == Outcome.Next)
            {
                Dma.Write(queue + 4, 4, next);
                if ((next & DepthFirst) != 0 && (next & Terminate) == 0)
                {
                    link = next;
                    continue;
                }
            }
            link = (uint)Dma.Read(queue, 4);
            queue = 0;
        }
        Apply();
        return _happened;
    }

    /// <summary>One transfer descriptor.</summary>
    /// <param name="left">Bytes of this frame.</param>
    Outcome Execute(uint at, out uint next, ref int left)
    {
        Span<byte> bytes = stackalloc byte[16];
        if (!Dma.Read(at, bytes))
        {
            next = Terminate;
            return Fail(HSE);
        }
        next = Dword(bytes, 0);
        uint control = Dword(bytes, 1), token = Dword(bytes, 2), buffer = Dword(bytes, 3);
        if ((control & Active) == 0)
        {
            if ((control & OnComplete) != 0) Complete();           // section 3.2.2: even then
            return Outcome.Stay;
        }
        var pid = (UsbToken)(byte)token;
        int length = (int)(token >> 21) + 1 & NoData;
        if (pid is not (UsbToken.In or UsbToken.Out or UsbToken.Setup) || length > LongestPacket) return Fail(HCPE);
        ulong identity = (ulong)buffer << 32 | token;
        UsbFlight? transfer = _transfers.Find(at, identity);
        if (transfer == null)
        {
            transfer = _transfers.Take(at, identity);
            if (transfer == null) return Outcome.Stay;
            if (!Begin(transfer, pid, token, length, buffer)) return Fail(HSE);
        }
        UsbStatus status = transfer.Packet.Status;
        if (status == UsbStatus.Pending) return Outcome.Stay;
        left -= length;
        bool isWritten = status is not (UsbStatus.Success or UsbStatus.Babble) || pid != UsbToken.In
            || Dma.Write(buffer, transfer.Data[..transfer.Packet.Actual]);
        int actual = pid == UsbToken.In ? transfer.Packet.Actual : length;
        _transfers.Free(transfer);
        return isWritten ? Retire(at, control, status, pid == UsbToken.In && actual < length, actual) : Fail(HSE);
    }

    bool Begin(UsbFlight transfer, UsbToken pid, uint token, int length, uint buffer)
    {
        UsbPacket packet = transfer.Packet;
        packet.Begin(pid, (byte)(token >> 15 & 15));
        packet.Add(transfer.Buffer.AsMemory(0, length));
        if (pid != UsbToken.In && length > 0 && !Dma.Read(buffer, transfer.Data))
        {
            _transfers.Free(transfer);
            return false;
        }
        if (Find((byte)(token >> 8 & 0x7F)) is { } device) device.Handle(packet);
        else packet.Fail(UsbStatus.NoDevice);
        return true;
    }

    /// <summary>Writes a descriptor back.</summary>
    Outcome Retire(uint at, uint control, UsbStatus status, bool isShort, int actual)
    {
        control &= ~(Errors | NakReceived);
        if (status == UsbStatus.Nak)
        {
            Dma.Write(at + 4, 4, control | NakReceived);
            return Outcome.Stay;
        }
        _moved = _happened = true;
        control &= ~Active;
        if (status == UsbStatus.Success)
        {
            control = control & ~ActualLength | (uint)(actual - 1) & ActualLength;
            Dma.Write(at + 4, 4, control);
            if ((control & OnComplete) != 0) Complete();
            if (!isShort || (control & (ShortDetect | Isochronous)) != ShortDetect) return Outcome.Next;
            _wasShort = true;
            _status |= USBINT;
            return Outcome.Stay;
        }
        control |= status switch
        {
            UsbStatus.Stall => Stalled,
            UsbStatus.Babble => Stalled | Babble,
            _ => (control & Isochronous) != 0 ? TimeoutError : Stalled | TimeoutError,
        };
        Dma.Write(at + 4, 4, control);
        if ((control & OnComplete) != 0) Complete();
        _status |= ERROR;
        return (control & Isochronous) != 0 ? Outcome.Next : Outcome.Stay;
    }

    void Complete()
    {
        _completed = _happened = true;
        _status |= USBINT;
    }

    /// <summary>The schedule makes no sense: the controller stops.</summary>
    Outcome Fail(ushort why)
    {
        _status |= why;
        _command &= unchecked((ushort)~RS);
        Halt();
        Apply();
        return Outcome.Stop;
    }

    static uint Dword(ReadOnlySpan<byte> bytes, int index) =>
        System.Buffers.Binary.BinaryPrimitives.ReadUInt32LittleEndian(bytes[(index * 4)..]);
}
