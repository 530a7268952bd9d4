using Qkvm.Core.Accel;

namespace Qkvm.Accel.Tcg;

// SAFETY: State lies in the vCPU's own region, which is freed after its thread has ended; host pages are keys alone.
/// <summary>A debugger's breakpoints, watchpoints and steps. The guest sees nothing of them.</summary>
/// <remarks>Where code is to stop, translations end before that instruction and none begins there, so that the run
/// loop comes by; all other code is as fast as ever. That is known by host page, whatever address it is mapped at,
/// and the loop compares the linear address. Watched pages have no TLB tags, as those of the guest's own.</remarks>
public sealed unsafe partial class Cpu
{
    /// <summary>What was asked for last, and what holds: they differ until the vCPU runs.</summary>
    IReadOnlyList<DebugPoint> _wantedStops = [], _stops = [];

    HashSet<ulong>? _codeStops;                                    // linear addresses; null: none
    DebugPoint[]? _dataStops;
    readonly Dictionary<nuint, HashSet<int>> _stopPages = [];      // host pages, and offsets in them
    DebugStop? _hit;

    /// <summary>How the next Run goes on. While it does not run.</summary>
    public VCpuSteps Steps { get; set; }

    /// <summary>While it does not run. Setting none and then the same again costs nothing.</summary>
    internal void StopAt(IReadOnlyList<DebugPoint> points) => _wantedStops = points;

    void BeginSteps()
    {
        if (!ReferenceEquals(_wantedStops, _stops) && !_wantedStops.SequenceEqual(_stops)) SetStops(_wantedStops);
        if ((_attention & CallDebug) == 0) _hit = null;            // a reset came between
        if (Steps != VCpuSteps.None) Interlocked.Or(ref _attention, CallStep);
    }

    internal bool StepsAtOnce => !IsHalted && State->InitPending == 0;

    void SetStops(IReadOnlyList<DebugPoint> points)
    {
        _stops = points;
        HashSet<ulong> code = [.. points.Where(p => p.IsCode).Select(p => p.Address)];
        DebugPoint[] data = [.. points.Where(p => !p.IsCode)];
        (_codeStops, _dataStops) = (code.Count == 0 ? null : code, data.Length == 0 ? null : data);
        _watchesData = _guestWatches || _dataStops != null;
        // Host pages are found again when their translations are, as after this none is known.
        foreach (nuint page in _stopPages.Keys) DropTranslations(page, 0, PageSize);
        _stopPages.Clear();
        FlushTlb(global: true);
    }

    /// <summary>The debugger stops before the next instruction.</summary>
    bool IsAtStop => _codeStops != null && _codeStops.Contains(LinearOf(State->Rip));

    VCpuExit StopAtPoint()
    {
        ulong at = LinearOf(State->Rip);
        return new VCpuExit(ExitReason.Debug, Stop: new DebugStop(_stops.First(p => p.IsCode && p.Address == at)));
    }

    static VCpuExit StopAfterStep() => new(ExitReason.Debug);

    /// <summary>A fault was delivered in place of the instruction.</summary>
    void EndStep()
    {
        _hit ??= new DebugStop(null);
        Interlocked.Or(ref _attention, CallDebug);
    }

    VCpuExit TakeStop()
    {
        DebugStop stop = _hit ?? default;
        _hit = null;
        return new VCpuExit(ExitReason.Debug, Stop: stop);
    }

    bool HasDataStop(ulong linear)
    {
        if (_dataStops == null) return false;
        foreach (DebugPoint point in _dataStops)
            if (point.IsInPage(linear & ~PageMask)) return true;
        return false;
    }

    /// <summary>The first hit of an instruction is told, after the instruction.</summary>
    void CheckDataStops(ulong linear, int size, bool write)
    {
        foreach (DebugPoint point in _dataStops!)
        {
            if (!point.IsHitBy(linear, (ulong)size, write)) continue;
            _hit ??= new DebugStop(point, Math.Max(linear, point.Address));
            _leave |= LeaveBlock;
            Interlocked.Or(ref _attention, CallDebug);
            return;
        }
    }

    /// <summary>A linear page with stops leads to this host page: its translations are void if they were made
    /// without.</summary>
    void NoteStops(ulong page, byte* host)
    {
        HashSet<int>? known = null;
        foreach (ulong at in _codeStops!)
        {
            if ((at & ~PageMask) != page) continue;
            if (known == null && !_stopPages.TryGetValue((nuint)host, out known))
                _stopPages.Add((nuint)host, known = []);
            if (known.Add((int)(at & PageMask))) DropTranslations((nuint)host, 0, PageSize);
        }
    }

    HashSet<int>? StopsIn(byte* page) =>
        _stopPages.Count == 0 ? null : _stopPages.GetValueOrDefault((nuint)page);
}
