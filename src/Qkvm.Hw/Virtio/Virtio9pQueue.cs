using System.Diagnostics;
using Qkvm.Core.Virtio;
using Qkvm.Host;
using Qkvm.Hw.NineP;

namespace Qkvm.Hw.Virtio;

/// <summary>The queue of 9P's messages. The loop answers them, one after the other, or the processor that rings while
/// that takes no time; what may wait for the disk goes to the thread pool, a few at a time, and is answered whenever it
/// is done.</summary>
sealed class Virtio9pQueue : LoopQueue
{
    const int MostSlow = 8;

    // A message that a processor has answered: what is too long, and for how long the loop has them all then.
    static readonly TimeSpan s_long = TimeSpan.FromMilliseconds(10), s_pause = TimeSpan.FromSeconds(1);

    readonly Virtio9p _device;
    readonly Action _settle;
    readonly Stack<Exchange> _free = new();                        // within the gate, as the next
    readonly List<Exchange> _inFlight = [];
    readonly Queue<Exchange> _waiting = new();
    int _slow;
    bool _serves;                                                  // not migrated: a thread is at a message
    long _slowSince = long.MinValue;                               // not migrated: what this host has learned
    bool _letsGo;                                                  // not migrated: only while it stops

    public Virtio9pQueue(Virtio9p device, IoLoop loop) : base(loop, device, 0, servesRinger: device.Server.IsNear) =>
        (_device, _settle) = (device, Settle);

    protected override bool Process(Virtqueue queue, int most)
    {
        if (_serves) return false;                                 // another thread is at it, and looks again
        int left = most;
        for (; left > 0 && Queue == queue && queue.TryPop(out DescriptorChain? chain); left--)
        {
            Exchange exchange = _free.Count > 0 ? _free.Pop() : new Exchange(this);
            if (!exchange.Take(chain.Readable, chain.Writable) || chain.WritableLength < NinePRequest.HeaderLength)
            {
                _free.Push(exchange);
                queue.Unpop(chain);
                _device.Control.FailOnLoop("a 9P message without its header, or without room for an answer");
                return true;
            }
            (exchange.Ring, exchange.Chain, exchange.Awaited) = (queue, chain, 0);
            Began();
            _inFlight.Add(exchange);
            if (exchange.IsFlush && Delay(exchange)) continue;
            Serve(exchange);
        }
        return left < most;
    }

    protected override bool MayServeHere => !_serves
        && (_slowSince == long.MinValue || Stopwatch.GetElapsedTime(_slowSince) > s_pause);

    /// <summary>Others may have the gate meanwhile: a file system takes its time.</summary>
    void Serve(Exchange exchange)
    {
        long since = Stopwatch.GetTimestamp();
        _serves = true;
        Gate.Exit();
        try { _device.Server.Begin(exchange); }
        finally
        {
            Gate.Enter();
            _serves = false;
        }
        if (Stopwatch.GetElapsedTime(since) > s_long) _slowSince = since;
        if (!exchange.IsSlow) Finished(exchange);
        else if (exchange.Until is { } until) until.GetAwaiter().UnsafeOnCompleted(exchange.GoOn);
        else Enqueue(exchange);
    }

    void Enqueue(Exchange exchange)
    {
        if (_slow < MostSlow) Start(exchange);
        else _waiting.Enqueue(exchange);
    }

    protected override void Started()
    {
        if (_letsGo) _device.Server.HoldAgain();
        _letsGo = false;
    }

    protected override void Stopping()
    {
        if (!_letsGo) _device.Server.LetGo();
        _letsGo = true;
    }

    void Start(Exchange exchange)
    {
        _slow++;
        ThreadPool.UnsafeQueueUserWorkItem(exchange, preferLocal: false);
    }

    /// <summary>flush(5): it is answered after the message that it is about; false where that was answered.</summary>
    bool Delay(Exchange flush)
    {
        foreach (Exchange other in _inFlight)
        {
            if (other == flush || other.Tag != flush.Flushed) continue;
            (other.Flushes ??= []).Add(flush);
            flush.Awaited++;
        }
        return flush.Awaited > 0;
    }

    /// <summary>Within the gate.</summary>
    void Finished(Exchange exchange)
    {
        _inFlight.Remove(exchange);
        (Virtqueue ring, DescriptorChain chain) = (exchange.Ring!, exchange.Chain!);
        if (exchange.IsLost) _device.Control.FailOnLoop("a 9P answer has no room");
        else chain.Writable.Slice(0, exchange.Reply.Length).CopyFrom(exchange.Reply);
        uint written = (uint)(exchange.Reply.Length + exchange.Data);
        exchange.Release();
        List<Exchange>? flushes = exchange.Flushes;
        (exchange.Ring, exchange.Chain, exchange.Flushes) = (null, null, null);
        _free.Push(exchange);
        Ended(ring, chain, written);
        if (flushes == null) return;
        foreach (Exchange flush in flushes)
        {
            if (--flush.Awaited > 0) continue;
            _device.Server.Begin(flush);
            Finished(flush);
        }
    }

    void FinishedSlow(Exchange exchange)
    {
        lock (Gate)
        {
            _slow--;
            Finished(exchange);
            if (_waiting.TryDequeue(out Exchange? next)) Start(next);
        }
        Loop.Post(_settle);                                        // which wakes it
    }

    /// <summary>A message and the chain that it came by.</summary>
    sealed class Exchange(Virtio9pQueue home) : NinePRequest, IThreadPoolWorkItem
    {
        public Virtqueue? Ring { get; set; }
        public DescriptorChain? Chain { get; set; }

        /// <summary>Answered after this one.</summary>
        public List<Exchange>? Flushes { get; set; }

        /// <summary>How many it waits for.</summary>
        public int Awaited { get; set; }

        /// <summary>From any thread: its time has come.</summary>
        public void GoOn()
        {
            lock (home.Gate) home.Enqueue(this);
        }

        public void Execute()
        {
            home._device.Server.Finish(this);
            home.FinishedSlow(this);
        }
    }
}
