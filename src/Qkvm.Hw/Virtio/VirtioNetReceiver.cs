using System.Buffers.Binary;
using Qkvm.Core.Net;
using Qkvm.Core.Virtio;
using Qkvm.Host;

namespace Qkvm.Hw.Virtio;

/// <summary>A receive queue: frames from the backend go into the driver's buffers, several for one where that was
/// negotiated. Virtio 1.2, sections 5.1.6.3 and 5.1.6.4.</summary>
/// <remarks>While the driver has given too few buffers the backend keeps its frames, and this queue waits for a kick:
/// else there are none. Without MQ the queue of the second pair is the control queue (5.1.2), which only says so
/// here.</remarks>
sealed class VirtioNetReceiver(VirtioNet card, IoLoop loop, int index)
    : LoopQueue(loop, card, index, servesRinger: false), INetPort
{
    readonly List<DescriptorChain> _taken = [];                    // not migrated: empty outside Receive
    volatile INetQueue? _wire;                                     // not migrated: where the card opened it
    int _awaited;                                                  // not migrated: buffers that the backend waits for
    bool _came;                                                    // not migrated: frames, since Process looked

    /// <summary>The backend's end; null: none is open. Under the machine lock.</summary>
    public INetQueue? Wire { get => _wire; set => _wire = value; }

    public bool Receive(in NetHeader header, ReadOnlySpan<byte> frame)
    {
        if (card.Steering is not { } steering) return Take(header, default, frame);
        FlowHash flow = steering.HashOf(frame);
        VirtioNetReceiver target = steering.Steers ? card.ReceiverOf(steering.QueueOf(flow)) : this;
        return target.Take(header, flow, frame);
    }

    bool Take(in NetHeader header, FlowHash flow, ReadOnlySpan<byte> frame)
    {
        bool isTaken;
        lock (Gate) isTaken = TryReceive(header, flow, frame);
        Settle();
        return isTaken;
    }

    protected override void Started()
    {
        if (_awaited > 0) _awaited = 1;
    }

    protected override bool Process(Virtqueue queue, int most)
    {
        if (card.IsControl(Index))
        {
            if (queue.Available > 0) card.ServeControlLater();
            return false;
        }
        if (_awaited > 0 && queue.Available >= _awaited)
        {
            _awaited = 0;
            if (card.Steering is { Steers: true }) card.ResumeAll();   // it may be anyone's frame
            else _wire?.Resume();
        }
        bool came = _came;
        _came = false;
        return came;
    }

    protected override bool EnableKicks(Virtqueue queue)
    {
        if (card.IsControl(Index))
        {
            queue.EnableKicks();
            return false;                                          // commands are not served here
        }
        if (_awaited == 0) return false;
        queue.EnableKicks(_awaited - 1);
        return queue.Available >= _awaited;
    }

    /// <summary>False: the backend keeps the frame.</summary>
    bool TryReceive(in NetHeader header, FlowHash flow, ReadOnlySpan<byte> frame)
    {
        if (Queue is not { } queue || card.IsControl(Index))       // until there is a driver
        {
            _awaited = 1;
            return false;
        }
        NetOffloads allowed = card.Receiving;
        if (frame.Length < VirtioNet.EthernetHeader || !card.IsLinkUp || !card.Filter.Passes(frame)
            || header.LeftUndone is not { } undone || (undone & ~allowed) != 0) return true;
        int waiting = queue.Available;
        if (TakeBuffers(queue, card.HeaderLength + frame.Length))
        {
            Deliver(queue, allowed == NetOffloads.None ? default : header, flow, frame);
            Returned();
            return _came = true;
        }
        // One buffer that is too short alone, or all that the queue holds, will never do.
        if (card.Control.IsBroken || waiting > 0 && !card.IsMergeable || waiting >= queue.Setup.Size) return true;
        _awaited = waiting + 1;
        return false;
    }

    /// <summary>Pops chains until the bytes fit: one, or with mergeable buffers several. None if they do not.</summary>
    bool TakeBuffers(Virtqueue queue, int needed)
    {
        long room = 0;
        while (room < needed && (_taken.Count == 0 || card.IsMergeable) && queue.TryPop(out DescriptorChain? chain))
        {
            _taken.Add(chain);
            if (_taken.Count == 1 && chain.WritableLength < card.HeaderLength)
            {
                card.Control.FailOnLoop("a receive buffer shorter than the header");
                break;
            }
            room += chain.WritableLength;
        }
        if (room >= needed) return true;
        for (int i = _taken.Count - 1; i >= 0; i--) queue.Unpop(_taken[i]);
        _taken.Clear();
        return false;
    }

    void Deliver(Virtqueue queue, in NetHeader header, FlowHash flow, ReadOnlySpan<byte> frame)
    {
        const int NumBuffers = NetHeader.Length, HashValue = VirtioNet.FullHeader, HashReport = HashValue + 4;
        Span<byte> raw = stackalloc byte[VirtioNet.HashHeader];
        raw.Clear();
        header.Write(raw);
        BinaryPrimitives.WriteUInt16LittleEndian(raw[NumBuffers..], (ushort)_taken.Count);
        BinaryPrimitives.WriteUInt32LittleEndian(raw[HashValue..], flow.Value);
        BinaryPrimitives.WriteUInt16LittleEndian(raw[HashReport..], flow.Report);
        raw = raw[..card.HeaderLength];
        for (int i = 0; i < _taken.Count; i++)
        {
            DescriptorChain chain = _taken[i];
            int at = 0;
            if (i == 0)
            {
                chain.Writable.Slice(0, raw.Length).CopyFrom(raw);
                at = raw.Length;
            }
            int count = (int)Math.Min(chain.WritableLength - at, frame.Length);
            chain.Writable.Slice(at, count).CopyFrom(frame[..count]);
            frame = frame[count..];
            queue.Fill(chain, (uint)(at + count));
        }
        _taken.Clear();
        queue.Flush();
    }
}
