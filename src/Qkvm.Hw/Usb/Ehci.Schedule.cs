using Qkvm.Core.Usb;

namespace Qkvm.Hw.Usb;

/// <summary>The two schedules: which structures are looked at. Sections 3.1 to 3.3, 4.6 and 4.8.</summary>
public sealed partial class Ehci
{
    const int MostLinks = 1024, FramesUnseen = 128, MostBytes = 512 << 10, Microframes = 8;
    const uint Terminate = 1, LinkMask = ~31u;
    const int TypeIsochronous = 0, TypeQueue = 1;

    // iTD, section 3.3: 8 transactions from dword 1 on, 7 buffers from dword 9 on
    const int IsochronousDwords = 16;
    const uint IsochronousActive = 1u << 31, IsochronousError = 1 << 28, IsochronousBabble = 1 << 29,
        IsochronousComplete = 1 << 15;
    const int LongestIsochronous = 3072;

    bool _happened;                                                // not migrated: of the pass that runs

    bool RunFrame()
    {
        int size = FrameListLength;
        if (_frames.Number % size == 0) _status |= FLR;
        _happened = false;
        if ((_command & PSE) != 0) WalkPeriodic((uint)(_frames.Number % size));
        if ((_command & ASE) != 0) WalkAsync();
        _flights.Sweep(FramesUnseen);
        Apply();
        return _happened;
    }

    bool LookAgain()
    {
        _happened = false;
        if ((_command & PSE) != 0) WalkPeriodic((uint)(_frames.Number % FrameListLength));
        if ((_command & ASE) != 0) WalkAsync();
        Apply();
        return _happened;
    }

    int FrameListLength => 1024 >> (int)Math.Min((_command & FrameListSize) >> 2, 2);

    /// <summary>One frame's structures: no more than there can be without a circle.</summary>
    void WalkPeriodic(uint entry)
    {
        const int mostStructures = 256;
        uint link = (uint)Dma.Read(_periodicBase + entry * 4, 4);
        for (int i = 0; i < mostStructures && (link & Terminate) == 0 && _frames.IsRunning; i++)
        {
            uint at = link & LinkMask;
            switch (link >> 1 & 3)
            {
                case TypeIsochronous: RunIsochronous(at); break;
                case TypeQueue: RunQueue(at); break;
                // siTDs and FSTNs are of split transactions
            }
            link = (uint)Dma.Read(at, 4);
        }
    }

    /// <summary>The circle of queue heads, until one round has moved nothing.</summary>
    void WalkAsync()
    {
        uint at = _asyncAddress, mark = Terminate;
        int untilMark = 1, distance = 1, left = MostBytes;
        for (int links = 0; links < MostLinks && left > 0 && _frames.IsRunning; links++)
        {
            if (at == mark) return;
            if (--untilMark == 0) (mark, distance, untilMark) = (at, distance * 2, distance * 2);
            int moved = RunQueue(at);
            left -= Math.Max(moved, 0);
            if (moved >= 0) (mark, distance, untilMark) = (Terminate, 1, 1);
            uint link = (uint)Dma.Read(at, 4);
            if ((link & Terminate) != 0 || (link >> 1 & 3) != TypeQueue) return;
            at = link & LinkMask;
        }
    }

    /// <summary>Its transactions of all eight microframes.</summary>
    void RunIsochronous(uint at)
    {
        Span<uint> words = stackalloc uint[IsochronousDwords];
        if (!Dma.ReadWords(at, words)) { Fail(); return; }
        byte address = (byte)(words[9] & 0x7F), endpoint = (byte)(words[9] >> 8 & 15);
        UsbToken token = (words[10] & 1 << 11) != 0 ? UsbToken.In : UsbToken.Out;
        for (int i = 0; i < Microframes; i++)
        {
            uint transaction = words[1 + i];
            if ((transaction & IsochronousActive) == 0) continue;
            _happened = true;
            int length = (int)Math.Min(transaction >> 16 & 0xFFF, LongestIsochronous);
            int page = (int)(transaction >> 12 & 7);
            transaction &= ~IsochronousActive;
            uint offset = transaction & 0xFFF, second = page < 6 ? words[10 + page] & ~0xFFFu : 0;
            if (page > 6 || (page == 6 && offset + length > 0x1000)) transaction |= IsochronousError;
            else transaction = Isochronous(transaction, address, endpoint, token, length,
                (words[9 + page] & ~0xFFFu) | offset, second);
            if ((transaction & IsochronousComplete) != 0) _status |= INT;
            Dma.Write(at + 4 + (uint)i * 4, 4, transaction);
        }
    }

    uint Isochronous(uint transaction, byte address, byte endpoint, UsbToken token, int length, uint first, uint second)
    {
        if (_flights.Take(first, ulong.MaxValue) is not { } flight) return transaction;
        UsbPacket packet = flight.Packet;
        packet.Begin(token, endpoint);
        packet.Add(flight.Buffer.AsMemory(0, length));
        int here = (int)Math.Min(length, 0x1000 - (first & 0xFFF));
        bool isFine = token == UsbToken.In || (Dma.Read(first, flight.Data[..here])
            && (here == length || Dma.Read(second, flight.Data[here..])));
        UsbStatus status = isFine && Find(address) is { } device ? device.Handle(packet) : UsbStatus.NoDevice;
        int actual = status == UsbStatus.Success ? packet.Actual : 0;
        if (token == UsbToken.In && actual > 0)
        {
            here = Math.Min(here, actual);
            Dma.Write(first, flight.Data[..here]);
            if (here < actual) Dma.Write(second, flight.Data[here..actual]);
        }
        _flights.Free(flight);                                     // what is pending comes too late
        if (token == UsbToken.In) transaction = transaction & ~(0xFFFu << 16) | (uint)actual << 16;
        return status switch
        {
            UsbStatus.Success or UsbStatus.Nak or UsbStatus.Pending => transaction,
            UsbStatus.Babble => transaction | IsochronousBabble,
            _ => transaction | IsochronousError,
        };
    }

    /// <summary>Memory that is none: the controller stops (section 4.15.2.4).</summary>
    void Fail()
    {
        _status |= HSE;
        _command &= ~RS;
        _frames.Stop();
        _flights.CancelAll();
        _happened = true;
        Apply();
    }
}
