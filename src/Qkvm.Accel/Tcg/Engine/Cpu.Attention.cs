using System.Diagnostics;
using Qkvm.Core.Accel;
using Qkvm.Host;

namespace Qkvm.Accel.Tcg;

// SAFETY: State and _jit lie in the vCPU's own region, which is freed after its thread has ended.
/// <summary>What calls a vCPU out of its inner loop: other threads, its local APIC, its own state.</summary>
public sealed unsafe partial class Cpu
{
    // Bits of _attention.
    const int CallKick = 1, CallInterrupt = 2, CallSignal = 4, CallNotice = 8, CallStep = 16, CallHalt = 32,
        CallShutdown = 64, CallDebug = 128;

    /// <summary>Bits of those calls; translated code looks at it too.</summary>
    ref int _attention => ref _jit->Attention;
    readonly WakeEvent _wake = new();
    readonly Lock _callLock = new();

    public ILocalApic? Apic { get; set; }

    /// <summary>Set by -d; null costs nothing.</summary>
    public ICpuTrace? Trace { get; set; }

    public ICodeTrace? CodeTrace { get; set; }

    /// <summary>For logs: of the code segment.</summary>
    public ulong Rip => State->Rip;

    /// <summary>"CPU 0 IP=0010:ffffffff81000000 SP=… CR2=…", for logs.</summary>
    public string Where =>
        $"CPU {Index} IP={State->Cs.Selector:x4}:{State->Rip:x16} SP={State->Ss.Selector:x4}:{Rsp:x16} " +
        $"CR2={State->Cr2:x16}";

    public bool IsHalted => Volatile.Read(ref State->Halted) != 0 || Volatile.Read(ref State->WaitForSipi) != 0;

    /// <summary>From any thread: leave Run once.</summary>
    public void Kick() => Call(CallKick);

    /// <summary>From any thread: the local APIC may have an interrupt.</summary>
    public void InterruptPending() => Call(CallInterrupt);

    public void Signal(CpuSignal signal, byte vector)
    {
        switch (signal)
        {
            case CpuSignal.Init: Volatile.Write(ref State->InitPending, 1); break;
            case CpuSignal.StartUp:
                Volatile.Write(ref State->SipiVector, vector);
                Volatile.Write(ref State->SipiPending, 1);
                break;
            case CpuSignal.Nmi: AddNmi(); break;
            case CpuSignal.Smi when _smmMemory == null: return;
            case CpuSignal.Smi: Volatile.Write(ref State->SmiPending, 1); break;
        }
        Call(CallSignal);
    }

    /// <summary>One waits while another is handled (Intel SDM vol. 3, section 6.7.1). Else two may: a processor would
    /// have taken the first between two instructions, sooner than we look.</summary>
    void AddNmi()
    {
        byte waiting;
        do waiting = Volatile.Read(ref State->NmiPending);
        while (waiting < (State->NmiBlocked != 0 ? 1 : 2) && Interlocked.CompareExchange(ref State->NmiPending,
            (byte)(waiting + 1), waiting) != waiting);
    }

    /// <summary>From any thread; a gate that stays as it is costs nothing.</summary>
    public void SetA20(bool open)
    {
        if (_isA20Closed != open) return;
        _isA20Closed = !open;
        Call(CallSignal);
    }

    volatile bool _isA20Closed;

    /// <summary>Three faults on top of each other: Run ends with Shutdown.</summary>
    public void TripleFault() => Interlocked.Or(ref _attention, CallShutdown);

    void Call(int reason)
    {
        Interlocked.Or(ref _attention, reason);
        if (_sleeping) _wake.Set();
    }

    volatile bool _sleeping;

    /// <summary>Answers all calls; a result ends Run. May run one instruction, and may fault.</summary>
    VCpuExit? Attend()
    {
        while (true)
        {
            int calls = Interlocked.Exchange(ref _attention, 0);
            if ((calls & CallNotice) != 0) TakeNotices();
            if ((calls & CallShutdown) != 0) return new VCpuExit(ExitReason.Shutdown);
            if ((calls & CallDebug) != 0)
            {
                Interlocked.Or(ref _attention, calls & ~(CallDebug | CallNotice));
                return TakeStop();
            }
            if ((calls & CallKick) != 0)
            {
                if ((calls & ~CallKick) != 0) Interlocked.Or(ref _attention, calls & ~(CallKick | CallNotice));
                return new VCpuExit(ExitReason.Kicked);
            }
            bool masks = _isA20Closed && State->Smm == 0;
            if (masks != (State->A20Masked != 0))
            {
                State->A20Masked = (byte)(masks ? 1 : 0);
                Trace?.Changed(this, "A20", 1UL - State->A20Masked);
                ModeChanged();                                      // which empties the TLB
            }
            if (State->InitPending != 0 && State->Smm == 0 && !_holdsInterrupts && !CanTakeSmi) TakeInit();
            if (State->WaitForSipi != 0)
            {
                if (State->SipiPending == 0) { Sleep(); continue; }
                TakeSipi();
            }
            State->SipiPending = 0;                                 // only a processor that waits for it obeys
            if (_eoiElided) SettleEoi();
            if (_dataBreakpointHit && State->InterruptShadow != CpuState.StackShadow)
            {
                _dataBreakpointHit = false;
                throw Fault(Vector.Debug);
            }
            if (State->InterruptShadow == 0 && (Steps != VCpuSteps.OneUndisturbed || State->Halted != 0)
                && (TakeSmi() || TakeInterrupt() || TakeVirtualInterrupt())
                && Steps != VCpuSteps.None) return StopAfterStep();
            if (State->Halted != 0 && (EndsWait || TakeKick())) EndHalt();
            if (State->Halted != 0) { Sleep(); continue; }
            if (!NeedsStep) return null;
            if (Steps != VCpuSteps.None)
            {
                Step();
                if ((_attention & (CallDebug | CallShutdown)) != 0) continue;
                return StopAfterStep();
            }
            if (!IsAtStop) Step();
            return null;
        }
    }

    bool NeedsStep => State->InterruptShadow != 0
        || (State->RflagsSystem & (Tcg.Rflags.Tf | Tcg.Rflags.Rf)) != 0 || _breaksOnCode || Steps != VCpuSteps.None;

    void TakeInit()
    {
        if (TryLeaveFor(SvmExit.Init)) return;
        State->InitPending = 0;
        ResetRegisters(isInit: true);
        State->WaitForSipi = 1;
        ModeChanged();
    }

    /// <summary>Intel SDM vol. 3, section 8.4.4: real mode at vector &lt;&lt; 12.</summary>
    void TakeSipi()
    {
        (State->SipiPending, State->WaitForSipi) = (0, 0);
        EndHalt();
        State->Cs.Selector = (ushort)(State->SipiVector << 8);
        State->Cs.Base = (ulong)State->SipiVector << 12;
        State->Rip = 0;
        ModeChanged();
    }

    /// <summary>NMI first, then the local APIC's. False: there was none.</summary>
    bool TakeInterrupt()
    {
        if (_holdsInterrupts) return false;
        if (State->NmiPending != 0 && State->NmiBlocked == 0)
        {
            if (TryLeaveFor(SvmExit.Nmi)) return true;
            State->NmiBlocked = 1;
            while (Volatile.Read(ref State->NmiPending) is byte waiting && Interlocked.CompareExchange(
                ref State->NmiPending, (byte)(waiting - 1), waiting) != waiting) { }
            DeliverExternal(Vector.Nmi);
            return true;
        }
        if (Apic is not { HasInterrupt: true } apic || !LetsInterrupts(State->RflagsSystem)) return false;
        if (TryLeaveFor(SvmExit.Interrupt)) return true;
        if (_eoiElided) SettleEoi();
        int vector = apic.Acknowledge();
        if (vector < 0) return false;
        OfferEoi(apic);
        DeliverExternal(vector);
        return true;
    }

    void DeliverExternal(int vector)
    {
        EndHalt();
        Trace?.Interrupt(this, vector);
        Deliver(vector, null, software: false, external: true);
        _leave = 0;
        ModeChanged();
    }

    /// <summary>Until anybody calls. Calls that come soon after one another are waited for awake, since waking a thread
    /// takes as long as many of them do; a vCPU with little to do sleeps at once.</summary>
    void Sleep()
    {
        if (!_hasWarned) WarnOfHalt();
        _yieldedAt = null;
        long start = Stopwatch.GetTimestamp(), end = start + _awake;
        while (_awake != 0 && Stopwatch.GetTimestamp() < end)
        {
            if (_attention != 0 || HasWakeReason) return;
            Thread.SpinWait(8);
        }
        _sleeping = true;
        StoresNothing();
        if (_waitsForStore) Nap();
        else if (_attention == 0 && !HasWakeReason) _wake.Wait();
        StoresAgain();
        _sleeping = false;
        bool wasShort = Stopwatch.GetTimestamp() - start < s_longestAwake;
        _awake = wasShort ? Math.Min(Math.Max(2 * _awake, s_longestAwake / 8), s_longestAwake) : 0;
    }

    /// <summary>Hears once of firmware that halts for ever.</summary>
    public Action<string>? Warn { get; init; }

    bool _hasWarned;                                               // not migrated: a message, not state

    /// <summary>HLT of the boot processor in the BIOS's part of memory with IF clear: only an NMI would end it.
    /// Firmware leaves the others there until INIT.</summary>
    void WarnOfHalt()
    {
        const ulong first = 0xC0000, last = 0xFFFFF, rom = 0xFF000000;
        ulong linear = LinearOf(State->Rip);
        if (Index != 0 || State->Halted == 0 || _waitsForStore || _isFrozen
            || (State->RflagsSystem & Tcg.Rflags.If) != 0
            || linear is not (>= first and <= last or >= rom and <= uint.MaxValue) || Warn == null) return;
        _hasWarned = true;
        Warn($"the firmware halted CPU {Index} at {State->Cs.Selector:x4}:{State->Rip:x} with interrupts off: it " +
            "waits for ever");
    }

    static readonly long s_longestAwake = Stopwatch.Frequency / 10_000;

    /// <summary>How long the next halt is waited awake, in ticks of the host's clock.</summary>
    long _awake;

    bool HasWakeReason => State->InitPending != 0 && State->Smm == 0 && !_holdsInterrupts || CanTakeSmi
        || State->WaitForSipi != 0 && State->SipiPending != 0 || State->WaitForSipi == 0
        && (_kicked || State->NmiPending != 0 && State->NmiBlocked == 0 && !_holdsInterrupts || HasVirtualInterrupt
            || Apic is { HasInterrupt: true } && LetsInterrupts(State->RflagsSystem));
}

/// <summary>What -d int, mmu, pcall and cpu_reset want to hear.</summary>
public interface ICpuTrace
{
    void Exception(Cpu cpu, int vector, uint? errorCode);
    void Interrupt(Cpu cpu, int vector);
    void Reset(Cpu cpu);

    /// <summary>Of what addresses mean: CR0, CR3, A20.</summary>
    void Changed(Cpu cpu, string what, ulong value);

    /// <summary>A far call in protected mode, before anything is checked.</summary>
    void FarCall(Cpu cpu, ushort selector, ulong offset, int size);
}
