using System.Buffers.Binary;
using Qkvm.Core.Net;

namespace Qkvm.Backends.Net.User;

/// <summary>What goes to the guest. On the loop.</summary>
sealed partial class TcpConnection
{
    const int MaxSegmented = 65535 - 40 - TcpHeader.MinLength;     // what one packet's length field can say

    /// <summary>Bytes that may be under way; few after a loss. RFC 5681, section 3.1.</summary>
    int _burst = int.MaxValue;
    bool _probes;                                                  // one byte into a closed window

    bool IsV4 => Key.Guest.Address.IsV4;

    NetOffloads Segmenting => IsV4 ? NetOffloads.Tso4 : NetOffloads.Tso6;

    void Output()
    {
        switch (State)
        {
            case TcpState.SynSent or TcpState.SynReceived:
                if (_sendNext == _initialSequence) OutputSyn();
                return;
            case TcpState.Established: OutputData(); break;
        }
        if (State is not (TcpState.Established or TcpState.TimeWait)) return;
        int grown = (int)(_receiveNext + (uint)Window - _receiveEdge);
        if (!_ackNeeded && grown < Math.Min(2 * _segment, _window / 2)) return;
        if (Emit(TcpFlags.Ack, 0, 0)) _ackNeeded = false;
        else _stack.Tcp.Queue(this);
    }

    /// <summary>Bytes that the host's side can still take.</summary>
    int Window => _guestEnded ? 0 : Math.Max(_window - _toHost.Count, (int)(_receiveEdge - _receiveNext));

    void OutputSyn()
    {
        TcpFlags flags = TcpFlags.Syn | TcpFlags.Ack;
        if (State == TcpState.SynSent)
        {
            flags = TcpFlags.Syn;
            if (_retransmitAt == 0) StartTimer();                  // also while the guest's address is not known
            if (!_stack.Neighbours.TryFind(Key.Guest.Address, out MacAddress mac)) return;
            Mac = mac;
        }
        if (!Emit(flags, 0, 0)) { _stack.Tcp.Queue(this); return; }
        _sendNext = _sendMax = _initialSequence + 1;
        _ackNeeded = false;
        if (_retransmitAt == 0) StartTimer();
    }

    void OutputData()
    {
        if (_endAcknowledged) return;
        bool isSegmented = (_stack.Wire.Offloads & Segmenting) != 0;
        while (true)
        {
            int sent = InFlight - (_endSent && _sendNext == EndSequence + 1 ? 1 : 0), unsent = _toGuest.Count - sent;
            long room = Math.Min(_sendWindow, _burst) - sent;
            int count = (int)Math.Min(unsent, Math.Min(room, isSegmented ? MaxSegmented : _segment));
            if (_probes && count <= 0 && unsent > 0) count = 1;
            // Silly window avoidance, RFC 9293, section 3.8.6.2.1: small pieces wait for those under way.
            if (count > 0 && count < _segment && count < unsent && sent > 0) count = 0;
            bool ends = _hostEnded && count == unsent && _sendNext != EndSequence + 1;
            if (count <= 0 && !ends) break;
            count = Math.Max(count, 0);
            TcpFlags flags = TcpFlags.Ack | (ends ? TcpFlags.Fin : 0) | (count == unsent ? TcpFlags.Psh : 0);
            if (!Emit(flags, sent, count)) { _stack.Tcp.Queue(this); return; }
            _probes = false;
            _ackNeeded = false;
            _endSent |= ends;
            _sendNext += (uint)count + (ends ? 1u : 0);
            if ((int)(_sendNext - _sendMax) > 0) _sendMax = _sendNext;
            if (_retransmitAt == 0) StartTimer();
        }
        if (_retransmitAt == 0 && _toGuest.Count > 0 && InFlight == 0) StartTimer(); // a closed window: probe it
    }

    /// <summary>The sequence number of our end, once there will be no more data.</summary>
    uint EndSequence => _sendUnacknowledged + (uint)_toGuest.Count;

    /// <summary>Everything that is not acknowledged goes again, few at a time.</summary>
    void Rewind()
    {
        _sendNext = _sendUnacknowledged;
        _burst = 2 * _segment;
        _repeats = 0;
    }

    /// <summary>One frame with bytes from a place in <see cref="_toGuest"/> on.</summary>
    /// <returns>False: the card takes nothing now.</returns>
    bool Emit(TcpFlags flags, int offset, int count)
    {
        bool hasOptions = (flags & TcpFlags.Syn) != 0;
        Span<byte> header = stackalloc byte[ByteRing.Headroom];
        int length = WriteHeaders(header, flags, hasOptions, count);
        header = header[..length];
        int window = Window;
        int shift = _scales && !hasOptions ? WindowScale : 0;
        int shown = Math.Min(window >> shift, ushort.MaxValue);
        int tcp = FrameWriter.HeadersLength(IsV4);
        BinaryPrimitives.WriteUInt16BigEndian(header[(tcp + 14)..], (ushort)shown);
        if (!EmitFrame(header, tcp, offset, count)) return false;
        uint edge = _receiveNext + (uint)(shown << shift);
        if ((int)(edge - _receiveEdge) > 0) _receiveEdge = edge;   // what was promised stays
        return true;
    }

    bool EmitFrame(Span<byte> header, int tcp, int offset, int count)
    {
        Span<byte> frame = _stack.Scratch.AsSpan(0, header.Length + count);
        Span<byte> kept = stackalloc byte[ByteRing.Headroom];
        Span<byte> inPlace = count == 0 ? default : _toGuest.PeekBehind(offset, count, header.Length);
        bool isInPlace = count > 0 && inPlace.Length == frame.Length;
        if (isInPlace)
        {
            frame = inPlace;                                       // the bytes in front are others' and come back
            kept = kept[..header.Length];
            frame[..header.Length].CopyTo(kept);
        }
        else if (count > 0) _toGuest.CopyTo(offset, frame[header.Length..]);
        header.CopyTo(frame);
        bool isTaken = _stack.Wire.TrySend(FinishChecksum(frame, tcp, count), frame);
        if (isInPlace) kept.CopyTo(frame);
        return isTaken;
    }

    NetHeader FinishChecksum(Span<byte> frame, int tcp, int count)
    {
        const int field = 16;
        Span<byte> segment = frame[tcp..];
        var checksum = new Checksum();
        checksum.AddPseudoHeader(Key.Remote.Address, Key.Guest.Address, IpProtocol.Tcp, segment.Length);
        bool isLeft = (_stack.Wire.Offloads & NetOffloads.Checksum) != 0;
        if (!isLeft) checksum.Add(segment);
        BinaryPrimitives.WriteUInt16BigEndian(segment[field..], isLeft ? checksum.Partial : checksum.Value);
        if (!isLeft) return default;
        Segmentation cut = count <= _segment ? Segmentation.None : IsV4 ? Segmentation.Tcp4 : Segmentation.Tcp6;
        return new NetHeader(NeedsChecksum: true, Segmentation: cut,
            HeaderLength: (ushort)(cut == Segmentation.None ? 0 : frame.Length - count),
            SegmentSize: (ushort)(cut == Segmentation.None ? 0 : _segment),
            ChecksumStart: (ushort)tcp, ChecksumOffset: field);
    }

    /// <summary>All but window and checksum; returns the length.</summary>
    int WriteHeaders(Span<byte> frame, TcpFlags flags, bool hasOptions, int count)
    {
        int options = !hasOptions ? 0 : _scales || State == TcpState.SynSent ? 8 : 4;
        int size = TcpHeader.MinLength + options;
        FrameWriter.Ethernet(frame, Mac, _stack.MacFor(IsV4), IsV4 ? EtherType.Ip4 : EtherType.Ip6);
        int at = FrameWriter.Ip(frame, Key.Remote.Address, Key.Guest.Address, IpProtocol.Tcp, size + count);
        uint sequence = hasOptions ? _initialSequence : _sendNext;
        if (State == TcpState.TimeWait) sequence = _sendMax;
        if (_keepsAlive && count == 0) sequence = _sendUnacknowledged - 1;
        _keepsAlive = false;
        TcpTable.WriteHeader(frame[at..], Key, sequence, _receiveNext, flags, size);
        if (!hasOptions) return at + size;
        Span<byte> option = frame[(at + TcpHeader.MinLength)..];
        const uint maximumSegmentSize = 0x0204_0000, noOperationAndScale = 0x0103_0300;
        int largest = UserStack.Mtu - FrameWriter.IpLength(IsV4) - TcpHeader.MinLength;
        BinaryPrimitives.WriteUInt32BigEndian(option, maximumSegmentSize | (uint)largest);
        if (options > 4) BinaryPrimitives.WriteUInt32BigEndian(option[4..], noOperationAndScale | WindowScale);
        return at + size;
    }
}
