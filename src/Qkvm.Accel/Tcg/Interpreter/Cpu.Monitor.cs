namespace Qkvm.Accel.Tcg;

// SAFETY: State and _jit lie in the vCPU's own region, which is freed after its thread has ended.
/// <summary>MONITOR and MWAIT. Intel SDM vol. 3, section 9.10.</summary>
/// <remarks>No store is noticed as such: the line is compared with what it was, at growing intervals. MWAIT may end for
/// any reason, so a line that changed and changed back is no error; what matters is that a waiting vCPU costs next to
/// nothing.</remarks>
public sealed unsafe partial class Cpu
{
    const int LineSize = 64;

    /// <summary>The line in host memory; null: nothing is armed.</summary>
    byte* _monitored;
    readonly byte[] _line = new byte[LineSize];

    internal bool IsMonitoring => _monitored != null;

    /// <summary>Halted by MWAIT; interrupts end it though IF is clear.</summary>
    bool _waitsForStore, _wakesMasked;
    int _naps;

    /// <summary>Faults as a load of a byte would.</summary>
    internal void ArmMonitor(int segment, ulong offset)
    {
        ulong linear = Linear(segment, offset, 1, write: false);
        TlbEntry* entry = Fill(linear, false, CurrentSet, segment);
        _monitored = entry->Host == null ? null : entry->Host + (linear & PageMask & ~(ulong)(LineSize - 1));
        if (_monitored != null) new ReadOnlySpan<byte>(_monitored, LineSize).CopyTo(_line);
    }

    internal void WaitForStore(bool wakesMasked)
    {
        if (_monitored == null || HasLineChanged) return;
        (_waitsForStore, _wakesMasked, _naps) = (true, wakesMasked, 0);
        State->Halted = 1;
    }

    bool HasLineChanged => !new ReadOnlySpan<byte>(_monitored, LineSize).SequenceEqual(_line);

    /// <summary>MWAIT's reasons to go on, beyond those of HLT.</summary>
    bool EndsWait => _waitsForStore && (HasLineChanged || _wakesMasked && Apic is { HasInterrupt: true });

    void EndHalt()
    {
        State->Halted = 0;
        _waitsForStore = _isFrozen = false;
        _monitored = null;
    }

    /// <summary>Spins for some microseconds, then sleeps, later for longer.</summary>
    void Nap()
    {
        const int spins = 200, shortNaps = 32, shortNap = 1, longNap = 4;
        if (_naps == 0)
            for (int i = 0; i < spins && _attention == 0 && !HasLineChanged; i++) Thread.SpinWait(10);
        if (_attention != 0 || HasWakeReason || HasLineChanged) return;
        _wake.Wait(_naps++ < shortNaps ? shortNap : longNap);
    }
}
