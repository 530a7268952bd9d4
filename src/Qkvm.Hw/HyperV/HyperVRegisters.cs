using Qkvm.Core.Accel;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Core.State;
using Qkvm.Core.Time;
using Qkvm.Hw.Intc;

namespace Qkvm.Hw.HyperV;

/// <summary>The board's part of a processor that shows Hyper-V's interface: SynIC, timers, crash and reset registers.
/// Spec: TLFS 6.0b, appendix C.</summary>
public sealed class HyperVRegisters : IHyperVRegisters
{
    const int Timers = 4, CrashParameters = 5;
    const uint ResetMachine = 0x40000003, FirstTimer = 0x400000B0, LastTimer = FirstTimer + 2 * Timers - 1,
        FirstCrash = 0x40000100, CrashControl = FirstCrash + CrashParameters;

    /// <summary>CRASH_CTL: the guest has crashed, and the parameters say why.</summary>
    const ulong CrashNotify = 1UL << 63;

    readonly Action _reset, _panic;
    readonly MachineLock _lock;
    readonly SynIc _synIc;
    readonly SyntheticTimer[] _timers = new SyntheticTimer[Timers];
    readonly ulong[] _crash = new ulong[CrashParameters];

    /// <param name="reset">The guest asks for a reset of the machine.</param>
    /// <param name="panic">The guest has crashed.</param>
    public HyperVRegisters(IVCpu cpu, LocalApic apic, AddressSpace memory, IVirtualClock clock, MachineLock machineLock,
        Action reset, Action panic)
    {
        (Index, _lock, _reset, _panic) = (cpu.Index, machineLock, reset, panic);
        _synIc = new SynIc(apic, memory);
        for (int i = 0; i < Timers; i++)
            _timers[i] = new SyntheticTimer(i, _synIc, apic, clock, () => cpu.ReferenceTime);
        _synIc.SlotFreed = () =>
        {
            foreach (SyntheticTimer timer in _timers) timer.TryAgain();
        };
        Reset();
    }

    /// <summary>Of its processor.</summary>
    public int Index { get; }

    /// <summary>The last five parameters of a crash.</summary>
    public IReadOnlyList<ulong> Crash => _crash;

    public void Reset()
    {
        _synIc.Reset();
        foreach (SyntheticTimer timer in _timers) timer.Reset();
        Array.Clear(_crash);
    }

    public void Exchange(StateStream state)
    {
        _synIc.Exchange(state.Group("synic"));
        for (int i = 0; i < Timers; i++) _timers[i].Exchange(state.Group("timer", i));
        for (int i = 0; i < CrashParameters; i++) state.Group("crash", i).Field("value", ref _crash[i]);
    }

    public bool ReadMsr(uint msr, out ulong value)
    {
        using MachineLock.Scope held = _lock.Hold();
        switch (msr)
        {
            case ResetMachine: value = 0; return true;
            case >= FirstTimer and <= LastTimer:
                SyntheticTimer timer = _timers[(msr - FirstTimer) / 2];
                value = (msr & 1) == 0 ? timer.Configuration : timer.Count;
                return true;
            case >= FirstCrash and < CrashControl: value = _crash[msr - FirstCrash]; return true;
            case CrashControl: value = CrashNotify; return true;
            default: return _synIc.ReadMsr(msr, out value);
        }
    }

    public bool WriteMsr(uint msr, ulong value)
    {
        using MachineLock.Scope held = _lock.Hold();
        switch (msr)
        {
            case ResetMachine:
                if ((value & 1) != 0) _reset();
                return true;
            case >= FirstTimer and <= LastTimer:
                SyntheticTimer timer = _timers[(msr - FirstTimer) / 2];
                if ((msr & 1) == 0) timer.Configuration = value;
                else timer.Count = value;
                return true;
            case >= FirstCrash and < CrashControl: _crash[msr - FirstCrash] = value; return true;
            case CrashControl:
                if ((value & CrashNotify) != 0) _panic();
                return true;
            default: return _synIc.WriteMsr(msr, value);
        }
    }
}
