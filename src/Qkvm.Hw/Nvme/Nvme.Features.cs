namespace Qkvm.Hw.Nvme;

/// <summary>Features and asynchronous events. NVMe 1.4, sections 5.2 and 5.21.</summary>
public sealed partial class Nvme
{
    const byte Arbitration = 1, PowerManagement = 2, TemperatureThreshold = 4, ErrorRecovery = 5,
        VolatileWriteCache = 6, NumberOfQueues = 7, InterruptCoalescing = 8, VectorConfiguration = 9,
        WriteAtomicity = 10, AsyncEvents = 11;

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
}
