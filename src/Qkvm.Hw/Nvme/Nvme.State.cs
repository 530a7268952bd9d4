using Qkvm.Core.State;

namespace Qkvm.Hw.Nvme;

/// <summary>What is saved: registers, queues, and what waits in them.</summary>
public sealed partial class Nvme
{
    protected override void ExchangeDevice(StateStream state)
    {
        if (_inFlight > 0) throw new InvalidStateException($"{Name}: requests are in flight");
        state.Field("intms", ref _mask);
        state.Field("cc", ref _configuration);
        state.Field("csts", ref _status);
        state.Field("aqa", ref _adminSizes);
        state.Field("asq", ref _adminSubmission);
        state.Field("acq", ref _adminCompletion);
        state.Field("event-configuration", ref _eventConfiguration);
        state.Field("hottest", ref _hottest);
        state.Field("coldest", ref _coldest);
        state.Field("masked-events", ref _maskedEvents);
        if ((_configuration >> 7 & 0xF) > MostPageShift) throw state.Refuse("cc", "pages that are too large");
        Exchange(state, "event-requests", _eventRequests, _options.EventRequests + 1, static v => v,
            static v => (ushort)v);
        Exchange(state, "events", _events, MostEvents, static v => v, static v => v);
        var changed = new Queue<int>(_changed);
        Exchange(state, "changed", changed, MostChanged, static v => (uint)v, static v => (int)v);
        _changed.Clear();
        _changed.AddRange(changed);
        if (state.IsLoading)
        {
            Array.Clear(_submission);
            Array.Clear(_completion);
            Array.Clear(_pinned);
            _line.Clear();
        }
        for (int i = 0; i < _completion.Length; i++) ExchangeCompletion(state.Group("cq", i), i);
        for (int i = 0; i < _submission.Length; i++) ExchangeSubmission(state.Group("sq", i), i);
        for (int i = 0; i < _completion.Length; i++)
            if (_completion[i] is { } queue) ExchangeWaiting(state.Group("waiting", i), queue);
        if (!state.IsLoading) return;
        if ((_status & Ready) != 0 && _submission[0] == null) throw state.Refuse("csts", "ready without admin queues");
        foreach (NvmeSubmissionQueue? queue in _submission)
            if (queue != null) LineUp(queue);
        _post(Serve);                                              // not now: what is being loaded must not move
    }

    static void Exchange<T>(StateStream state, string name, Queue<T> queue, int most, Func<T, uint> save,
        Func<uint, T> load)
    {
        byte[] bytes = [.. queue.SelectMany(item => BitConverter.GetBytes(save(item)))];
        state.Blob(name, ref bytes, most * 4);
        if (!state.IsLoading) return;
        queue.Clear();
        for (int at = 0; at + 4 <= bytes.Length; at += 4) queue.Enqueue(load(BitConverter.ToUInt32(bytes, at)));
    }

    void ExchangeCompletion(StateStream state, int id)
    {
        NvmeCompletionQueue? queue = _completion[id];
        (int size, ulong address, int vector, bool interrupts, int head, int tail, bool phase) = queue == null ? default
            : (queue.Size, queue.Address, queue.Vector, queue.Interrupts, queue.Head, queue.Tail, queue.Phase);
        state.Field("size", ref size, 0, Page);
        if (size == 0) return;
        state.Field("address", ref address);
        state.Field("vector", ref vector, 0, ushort.MaxValue);
        state.Field("interrupts", ref interrupts);
        state.Field("head", ref head, 0, size - 1);
        state.Field("tail", ref tail, 0, size - 1);
        state.Field("phase", ref phase);
        if (!state.IsLoading) return;
        _completion[id] = new NvmeCompletionQueue(id, address, size, vector, interrupts)
            { Head = head, Tail = tail, Phase = phase };
        Track(_completion[id]!, wasEmpty: true);
    }

    void ExchangeSubmission(StateStream state, int id)
    {
        NvmeSubmissionQueue? queue = _submission[id];
        (int size, ulong address, int completion, int head, int tail) = queue == null ? default
            : (queue.Size, queue.Address, queue.Completion.Id, queue.Head, queue.Tail);
        state.Field("size", ref size, 0, Page);
        if (size == 0) return;
        state.Field("address", ref address);
        state.Field("completion", ref completion, 0, _completion.Length - 1);
        state.Field("head", ref head, 0, size - 1);
        state.Field("tail", ref tail, 0, size - 1);
        if (!state.IsLoading) return;
        if (_completion[completion] is not { } found) throw state.Refuse("completion", $"queue {completion} is none");
        found.Users++;
        _submission[id] = new NvmeSubmissionQueue(id, address, size, found) { Head = head, Tail = tail };
    }

    /// <summary>Completions that wait for a driver that has not looked.</summary>
    void ExchangeWaiting(StateStream state, NvmeCompletionQueue queue)
    {
        const int words = 3;
        byte[] bytes = [.. queue.Waiting.SelectMany(w => (uint[])[(uint)w.Source.Id | (uint)w.Command << 16, w.Status,
            w.Result]).SelectMany(BitConverter.GetBytes)];
        state.Blob("entries", ref bytes, MostEntries * words * 4 * 16);
        if (!state.IsLoading) return;
        for (int at = 0; at + words * 4 <= bytes.Length; at += words * 4)
        {
            uint source = BitConverter.ToUInt32(bytes, at);
            if ((source & 0xFFFF) >= _submission.Length || _submission[source & 0xFFFF] is not { } from)
                throw state.Refuse("entries", $"queue {source & 0xFFFF} is none");
            from.Taken++;
            queue.Waiting.Enqueue(new(from, (ushort)(source >> 16), (ushort)BitConverter.ToUInt32(bytes, at + 4),
                BitConverter.ToUInt32(bytes, at + 8)));
        }
    }
}
