using Qkvm.Core.State;

namespace Qkvm.Hw.Nvme;

/// <summary>Features and asynchronous events. NVMe 1.4, sections 5.2 and 5.21.</summary>
public sealed partial class Nvme
{
    const byte Arbitration = 1, PowerManagement = 2, TemperatureThreshold = 4, ErrorRecovery = 5, VolatileWriteCache = 6,
        NumberOfQueues = 7, InterruptCoalescing = 8, VectorConfiguration = 9, WriteAtomicity = 10, AsyncEvents = 11;

    // Events, figure 143: types, and what a notice says
    const byte ErrorEvent = 0, Notice = 2, NamespaceAttribute = 0;
    const uint NamespaceChanges = 1 << 8;                          // OAES, and the feature's bit

    const uint NoBurstLimit = 7, VectorsAlone = 1 << 16;
    const int MostChanged = 256, MostEvents = 64;

    readonly Queue<ushort> _eventRequests = new();                 // commands that wait for events
    readonly Queue<uint> _events = new();                          // events that wait for commands
    readonly List<int> _changed = [];                              // namespaces, for their log page
    uint _maskedEvents;                                            // types that wait for their log page to be read
    uint _eventConfiguration, _hottest, _coldest;

    void ResetFeatures() => (_eventConfiguration, _hottest, _coldest) = (NamespaceChanges, Warning, 0);

    void ResetEvents()
    {
        _eventRequests.Clear();
        _events.Clear();
        _changed.Clear();
        _maskedEvents = 0;
    }

    ushort GetFeature(NvmeCommand command, out uint result)
    {
        result = 0;
        uint selected = command[10] >> 8 & 7, last = (uint)_options.IoQueues - 1;
        if (selected != 0) return NvmeStatus.InvalidField;         // ONCS has no Save and Select
        switch ((byte)command[10])
        {
            case Arbitration: result = NoBurstLimit; break;
            case PowerManagement or InterruptCoalescing or WriteAtomicity: break;
            case TemperatureThreshold: result = ThresholdOf(command[11]); break;
            case ErrorRecovery:
                if (Find(command.Namespace) == null) return NvmeStatus.InvalidNamespace;
                break;
            case VolatileWriteCache:
                for (int id = 0; FindFrom(id) is { } found; id = found.Id) result |= found.Backend.WriteCache ? 1u : 0;
                break;
            case NumberOfQueues: result = last << 16 | last; break;
            case VectorConfiguration:
                if ((command[11] & 0xFFFF) >= _options.Vectors) return NvmeStatus.InvalidField;
                result = command[11] & 0xFFFF | ((command[11] & 0xFFFF) == 0 ? VectorsAlone : 0);
                break;
            case AsyncEvents: result = _eventConfiguration; break;
            default: return NvmeStatus.InvalidField;
        }
        return NvmeStatus.Success;
    }

    ushort SetFeature(NvmeCommand command, out uint result)
    {
        const uint save = 1u << 31;
        uint last = (uint)_options.IoQueues - 1, value = command[11];
        result = 0;
        if ((command[10] & save) != 0) return NvmeStatus.InvalidField;
        switch ((byte)command[10])
        {
            case TemperatureThreshold:
                if ((value >> 20 & 3) == 0) _hottest = value & 0xFFFF;
                else if ((value >> 20 & 3) == 1) _coldest = value & 0xFFFF;
                else return NvmeStatus.InvalidField;
                break;
            case VolatileWriteCache:
                for (int id = 0; FindFrom(id) is { } found; id = found.Id) found.Backend.WriteCache = (value & 1) != 0;
                break;
            case NumberOfQueues:
                if ((value & 0xFFFF) == 0xFFFF || value >> 16 == 0xFFFF) return NvmeStatus.InvalidField;
                result = last << 16 | last;
                break;
            case AsyncEvents: _eventConfiguration = value; break;
            case Arbitration or PowerManagement or ErrorRecovery or InterruptCoalescing or VectorConfiguration
                or WriteAtomicity: return NvmeStatus.NotChangeable;
            default: return NvmeStatus.InvalidField;
        }
        return NvmeStatus.Success;
    }

    /// <summary>THSEL and TMPSEL: of the composite temperature alone.</summary>
    uint ThresholdOf(uint which) => (which >> 16 & 0xF) != 0 ? 0 : (which >> 20 & 3) == 1 ? _coldest : _hottest;

    ushort RequestEvent(NvmeCommand command, out bool isLater)
    {
        isLater = false;
        if (_eventRequests.Count > _options.EventRequests) return NvmeStatus.TooManyEventRequests;
        isLater = true;
        _submission[0]!.Taken--;                                   // it may wait for ever
        _eventRequests.Enqueue(command.Id);
        SendEvents();
        return NvmeStatus.Success;
    }

    /// <summary>Something has happened that the driver may want to hear of.</summary>
    void Tell(byte type, byte information, byte page)
    {
        if (!IsRunning || _events.Count >= MostEvents) return;
        uint what = (uint)(page << 16 | information << 8 | type);
        if (!_events.Contains(what)) _events.Enqueue(what);
        SendEvents();
    }

    /// <summary>After an event of a type no more of that come until its log page is read.</summary>
    void SendEvents()
    {
        for (int left = _events.Count; left > 0 && _eventRequests.Count > 0; left--)
        {
            uint what = _events.Dequeue(), type = what & 7;
            if ((_maskedEvents >> (int)type & 1) != 0)
            {
                _events.Enqueue(what);
                continue;
            }
            _maskedEvents |= 1u << (int)type;
            _submission[0]!.Taken++;
            Complete(_submission[0]!, _eventRequests.Dequeue(), NvmeStatus.Success, what);
        }
    }

    void Acknowledge(byte page) => _maskedEvents &=
        page switch { ErrorLog => ~(1u << ErrorEvent), ChangedNamespacesLog => ~(1u << Notice), _ => ~0u };

    void NamespaceChanged(NvmeNamespace changed)
    {
        if (!_changed.Contains(changed.Id) && _changed.Count < MostChanged) _changed.Add(changed.Id);
        if ((_eventConfiguration & NamespaceChanges) != 0) Tell(Notice, NamespaceAttribute, ChangedNamespacesLog);
    }

    // State

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
        Exchange(state, "event-requests", _eventRequests, _options.EventRequests + 1, static v => v, static v => (ushort)v);
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
        _post(Serve);                                              // not now: a state that is being loaded must not move
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
        queue = new NvmeCompletionQueue(id, address, size, vector, interrupts) { Head = head, Tail = tail, Phase = phase };
        Track(_completion[id] = queue, wasEmpty: true);
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
