using Qkvm.Core.Usb;

namespace Qkvm.Hw.Usb;

/// <summary>Transfer descriptors. Sections 4.3 and 6.4.4.</summary>
public sealed partial class Ohci
{
    const int LongestTransfer = 2 * Page, Page = 0x1000, Nothing = -1;

    // Dwords of a transfer descriptor; an isochronous one has eight packets' offsets behind it
    const int TdControl = 0, TdBuffer = 1, TdNext = 2, TdEnd = 3, TdWords = 4, IsochronousWords = 8, Offsets = 4;
    const uint Rounding = 1 << 18, ToggleValue = 1 << 24, ToggleIsHere = 1 << 25, ErrorCount = 3 << 26;
    const int ConditionShift = 28, DelayShift = 21, PacketConditionShift = 12;
    const uint PageMask = 0xFFFF_F000;

    // Condition codes, section 4.3.3
    const uint NoError = 0, Stalled = 4, DeviceNotResponding = 5, DataOverrun = 8, DataUnderrun = 9;

    /// <summary>The first descriptor of an endpoint that has one.</summary>
    int Execute(uint endpointAt, Span<uint> endpoint)
    {
        uint at = endpoint[EdHead] & DescriptorMask;
        Span<uint> descriptor = stackalloc uint[TdWords];
        if (!Dma.ReadWords(at, descriptor)) { Fail(); return Nothing; }
        if (TokenOf(endpoint[EdControl], descriptor[TdControl]) is not { } token
            || LengthOf(descriptor) is not { } length)
        {
            Fail();
            return Nothing;
        }
        ulong identity = ((ulong)descriptor[TdBuffer] << 32 | descriptor[TdEnd]) ^ (ulong)endpoint[EdControl] << 24
            ^ descriptor[TdControl];
        UsbFlight? flight = _flights.Find(at, identity);
        if (flight == null)
        {
            flight = _flights.Take(at, identity);
            if (flight == null) return Nothing;
            if (!Begin(flight, token, endpoint[EdControl], length, descriptor)) { Fail(); return Nothing; }
        }
        UsbPacket packet = flight.Packet;
        UsbStatus status = packet.Status;
        if (status == UsbStatus.Pending) return Nothing;
        int actual = token == UsbToken.In ? packet.Actual : length;
        bool isWritten = token != UsbToken.In || status is not (UsbStatus.Success or UsbStatus.Babble)
            || Move(descriptor[TdBuffer], descriptor[TdEnd], flight.Data[..actual], toGuest: true);
        _flights.Free(flight);
        if (!isWritten) { Fail(); return Nothing; }
        if (status == UsbStatus.Nak) return Nothing;
        Retire(endpointAt, endpoint, at, descriptor, Condition(status, actual, length, descriptor[TdControl]), actual,
            length);
        return actual;
    }

    /// <summary>The endpoint's word, or the descriptor's where that has none; null: reserved.</summary>
    static UsbToken? TokenOf(uint endpoint, uint descriptor) => (endpoint >> 11 & 3) switch
    {
        1 => UsbToken.Out,
        2 => UsbToken.In,
        _ => (descriptor >> 19 & 3) switch
        {
            0 => UsbToken.Setup,
            1 => UsbToken.Out,
            2 => UsbToken.In,
            _ => null,
        },
    };

    /// <summary>Section 4.3.1.2: from the first byte to the last, over at most two pages; null: no sense.</summary>
    static int? LengthOf(ReadOnlySpan<uint> descriptor)
    {
        uint first = descriptor[TdBuffer], last = descriptor[TdEnd];
        if (first == 0) return 0;
        int length = ((first ^ last) & PageMask) == 0 ? (int)(last - first) + 1
            : Page - (int)(first & ~PageMask) + (int)(last & ~PageMask) + 1;
        return length < 0 ? null : length;
    }

    static uint Condition(UsbStatus status, int actual, int length, uint control) => status switch
    {
        UsbStatus.Success => actual == length || (control & Rounding) != 0 ? NoError : DataUnderrun,
        UsbStatus.Stall => Stalled,
        UsbStatus.Babble => DataOverrun,
        _ => DeviceNotResponding,
    };

    bool Begin(UsbFlight flight, UsbToken token, uint endpoint, int length, ReadOnlySpan<uint> descriptor)
    {
        UsbPacket packet = flight.Packet;
        packet.Begin(token, (byte)(endpoint >> 7 & 15));
        packet.Add(flight.Buffer.AsMemory(0, length));
        if (token != UsbToken.In && !Move(descriptor[TdBuffer], descriptor[TdEnd], flight.Data, toGuest: false))
        {
            _flights.Free(flight);
            return false;
        }
        if (Find((byte)(endpoint & 0x7F)) is { } device) device.Handle(packet);
        else packet.Fail(UsbStatus.NoDevice);
        return true;
    }

    /// <summary>Between a transfer and its pages: that of the first byte, then that of the last.</summary>
    bool Move(uint first, uint last, Span<byte> data, bool toGuest)
    {
        int here = Math.Min(data.Length, Page - (int)(first & ~PageMask));
        return MoveTo(first, data[..here], toGuest) && MoveTo(last & PageMask, data[here..], toGuest);
    }

    bool MoveTo(uint at, Span<byte> data, bool toGuest) => toGuest ? Dma.Write(at, data) : Dma.Read(at, data);

    /// <summary>To the done queue, and from the endpoint's; an error halts that.</summary>
    void Retire(uint endpointAt, Span<uint> endpoint, uint at, Span<uint> descriptor, uint condition, int actual,
        int length)
    {
        uint control = descriptor[TdControl] & ~(15u << ConditionShift | ErrorCount) | condition << ConditionShift;
        bool toggle = (control & ToggleIsHere) != 0 ? (control & ToggleValue) != 0
            : (endpoint[EdHead] & ToggleCarry) != 0;
        if (condition is NoError or DataUnderrun) toggle ^= (Packets(endpoint[EdControl], actual, length) & 1) != 0;
        if (condition != NoError) control |= ErrorCount;           // the three attempts have failed
        control = control & ~ToggleValue | ToggleIsHere | (toggle ? ToggleValue : 0);
        uint buffer = descriptor[TdBuffer], reached = (buffer & ~PageMask) + (uint)actual;
        uint next = reached < Page ? buffer + (uint)actual : (descriptor[TdEnd] & PageMask) | reached & ~PageMask;
        uint head = descriptor[TdNext] & DescriptorMask;
        (descriptor[TdControl], descriptor[TdBuffer], descriptor[TdNext]) =
            (control, actual == length ? 0 : next, _doneHead);
        endpoint[EdHead] = head | (toggle ? ToggleCarry : 0) | (condition == NoError ? 0 : Halted);
        if (!Dma.WriteWords(at, descriptor) || !Dma.Write(endpointAt + EdHead * 4, 4, endpoint[EdHead])) Fail();
        Finish(at, control, condition);
    }

    void Finish(uint at, uint control, uint condition)
    {
        byte delay = condition == NoError ? (byte)(control >> DelayShift & 7) : NoDelay;
        (_doneHead, _doneDelay) = (at, Math.Min(_doneDelay, delay));
        _happened = true;
    }

    /// <summary>Of the endpoint's size, and a short one that ends them.</summary>
    static int Packets(uint endpoint, int actual, int length)
    {
        int size = Math.Max((int)(endpoint >> 16 & 0x7FF), 1);
        return actual == length ? Math.Max((actual + size - 1) / size, 1) : actual / size + 1;
    }

    /// <summary>The packet of this frame; descriptors that are late go by without one (section 4.3.2.3).</summary>
    void RunIsochronous(uint endpointAt, Span<uint> endpoint)
    {
        Span<uint> descriptor = stackalloc uint[IsochronousWords];
        for (int i = 0; i < MostDescriptors && HasWork(endpoint); i++)
        {
            uint at = endpoint[EdHead] & DescriptorMask;
            if (!Dma.ReadWords(at, descriptor)) { Fail(); return; }
            uint control = descriptor[TdControl], last = control >> 24 & 7;
            int frame = (short)(_frames.Number - (ushort)control);
            if (frame < 0) return;
            uint condition = frame > last ? DataOverrun : NoError;
            if (condition == NoError && !Packet(endpoint[EdControl], descriptor, frame, (int)last)) { Fail(); return; }
            if (frame < last)
            {
                Dma.WriteWords(at + Offsets * 4, descriptor[Offsets..]);
                return;
            }
            endpoint[EdHead] = descriptor[TdNext] & DescriptorMask | endpoint[EdHead] & ToggleCarry;
            descriptor[TdControl] = control & ~(15u << ConditionShift) | condition << ConditionShift;
            descriptor[TdNext] = _doneHead;
            if (!Dma.WriteWords(at, descriptor) || !Dma.Write(endpointAt + EdHead * 4, 4, endpoint[EdHead]))
            {
                Fail();
                return;
            }
            Finish(at, control, condition);
            if (condition == NoError) return;
        }
    }

    /// <summary>Carries out packet <paramref name="index"/> and writes its status word; false: its bytes are no
    /// memory.</summary>
    bool Packet(uint endpoint, Span<uint> descriptor, int index, int last)
    {
        const uint notAccessed = 7;                                // the upper bits of an offset until then
        const int pageBit = 0x1000;
        int shift = (index & 1) * 16;
        uint offset = descriptor[Offsets + index / 2] >> shift & 0xFFFF;
        if (offset >> 13 != notAccessed) return true;              // looked at again in the same frame
        int start = (int)(offset & 0x1FFF);
        int end = index == last ? (int)(descriptor[TdEnd] & ~PageMask)
                + (((descriptor[TdEnd] ^ descriptor[TdBuffer]) & PageMask) != 0 ? pageBit : 0) + 1
            : (int)(descriptor[Offsets + (index + 1) / 2] >> ((index + 1) & 1) * 16 & 0x1FFF);
        int length = end - start;
        if (length is < 0 or > LongestTransfer || _flights.Take(descriptor[TdBuffer], ulong.MaxValue) is not { } flight)
            return length is >= 0 and <= LongestTransfer;
        UsbToken token = (endpoint >> 11 & 3) == 1 ? UsbToken.Out : UsbToken.In;
        uint first = start < pageBit ? descriptor[TdBuffer] & PageMask | (uint)start
            : descriptor[TdEnd] & PageMask | (uint)start & ~PageMask;
        UsbPacket packet = flight.Packet;
        packet.Begin(token, (byte)(endpoint >> 7 & 15));
        packet.Add(flight.Buffer.AsMemory(0, length));
        bool isMemory = token == UsbToken.In || Move(first, descriptor[TdEnd], flight.Data, toGuest: false);
        UsbStatus status = isMemory && Find((byte)(endpoint & 0x7F)) is { } device ? device.Handle(packet)
            : UsbStatus.NoDevice;
        int actual = status == UsbStatus.Success ? packet.Actual : 0;
        if (token == UsbToken.In) isMemory = Move(first, descriptor[TdEnd], flight.Data[..actual], toGuest: true);
        _flights.Free(flight);                                     // what is pending comes too late
        bool isShort = token == UsbToken.In && actual < length;
        uint condition = status switch
        {
            UsbStatus.Success or UsbStatus.Nak or UsbStatus.Pending => isShort ? DataUnderrun : NoError,
            UsbStatus.Stall => Stalled,
            UsbStatus.Babble => DataOverrun,
            _ => DeviceNotResponding,
        };
        uint word = condition << PacketConditionShift | (token == UsbToken.In ? (uint)actual : 0);
        ref uint words = ref descriptor[Offsets + index / 2];
        words = words & ~(0xFFFFu << shift) | word << shift;
        _happened = true;
        return isMemory;
    }
}
