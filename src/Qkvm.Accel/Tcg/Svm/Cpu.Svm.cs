using Qkvm.Core.State;
using Flag = Qkvm.Accel.Tcg.Rflags;

namespace Qkvm.Accel.Tcg;

// SAFETY: State and _jit lie in the vCPU's own region, which is freed after its thread has ended.
/// <summary>AMD's virtualization: what it adds to a processor's state, its registers, and who takes interrupts while a
/// guest runs. Spec: AMD64 APM vol. 2, chapter 15.</summary>
/// <remarks>"Guest" is here who runs between VMRUN and the exit, "host" who executed VMRUN. Deviations: an SMI that is
/// not intercepted waits for the exit; an exit right behind a translated STI tells of no interrupt shadow; VMRUN's
/// checks of EVENTINJ do not look at the mode; INT 3 of two bytes is told as INT3 is; VM_CR's R_INIT and DIS_A20M are
/// storage.</remarks>
public sealed unsafe partial class Cpu
{
    const uint VmCrMsr = 0xC0010114, VmHsavePaMsr = 0xC0010117;
    const ulong VmCrWritable = 0x1F, VmCrLock = 8, VmCrDisable = 0x10;

    internal bool HasSvm { get; }
    readonly bool _hasNestedPaging, _hasNextRip, _hasDecodeAssists;

    readonly SvmControl _control = new();
    ulong _vmCr, _hostSave, _vmcb;

    /// <summary>GIF clear: nothing interrupts. Set but between an exit and STGI, and between CLGI and VMRUN.</summary>
    bool _holdsInterrupts;

    /// <summary>Between VMRUN and the exit.</summary>
    internal bool IsGuest { get; private set; }

    /// <summary>The host's IF when it executed VMRUN.</summary>
    bool _hostInterrupts;

    bool TryReadSvmMsr(uint msr, out ulong value)
    {
        value = msr == VmCrMsr ? _vmCr : _hostSave;
        return HasSvm && msr is VmCrMsr or VmHsavePaMsr;
    }

    /// <summary>Null: not one of these; false raises #GP. Sections 15.30.1 and 15.30.4.</summary>
    bool? TryWriteSvmMsr(uint msr, ulong value)
    {
        if (!HasSvm) return null;
        switch (msr)
        {
            case VmCrMsr:
                if ((value & ~VmCrWritable) != 0) return false;
                // Locked, LOCK and SVMDIS stay; and SVM is not disabled while it is in use.
                ulong kept = (_vmCr & VmCrLock) != 0 ? VmCrLock | VmCrDisable : 0;
                if (kept == 0 && (value & VmCrDisable) != 0 && (State->Efer & Efer.Svme) != 0) return false;
                _vmCr = value & ~kept | _vmCr & kept;
                return true;
            case VmHsavePaMsr:
                if ((value & PageMask) != 0 || (value & ~_physicalMask) != 0) return false;
                _hostSave = value;
                return true;
            default: return null;
        }
    }

    /// <summary>Bits of EFER that may be set now.</summary>
    ulong EferWritable => (_vmCr & VmCrDisable) != 0 ? EferSupported & ~Efer.Svme : EferSupported;

    void ResetSvm(bool isInit)
    {
        (_holdsInterrupts, _hostInterrupts) = (false, false);
        if (IsGuest) EndGuest();
        if (!isInit) (_vmCr, _hostSave, _vmcb) = (0, 0, 0);
    }

    /// <summary>RDTSC: a guest's has an offset.</summary>
    internal ulong SeenTsc => IsGuest ? ReadTsc() + _control.TscOffset : ReadTsc();

    // Interrupts

    /// <summary>Physical interrupts are let in, as far as flags say.</summary>
    bool LetsInterrupts(ulong flags) =>
        !_holdsInterrupts && (IsGuest && _control.MasksInterrupts ? _hostInterrupts : (flags & Flag.If) != 0);

    /// <summary>IF is clear, and something waits for it to be set.</summary>
    bool WaitsForFlag()
    {
        if (!IsGuest) return Apic is { HasInterrupt: true } || State->NmiPending != 0;
        return _control.HasInterrupt || !_control.MasksInterrupts && Apic is { HasInterrupt: true };
    }

    bool HasVirtualInterrupt =>
        IsGuest && (State->RflagsSystem & Flag.If) != 0 && _control.HasInterrupt;

    /// <summary>An interrupt or INIT that the host wants to see itself ends the guest. It stays pending.</summary>
    bool TryLeaveFor(uint exit)
    {
        if (!IsGuest || !_control.Intercepts(exit)) return false;
        LeaveGuest(exit);
        _leave = 0;
        return true;
    }

    /// <summary>The guest's own, after all physical ones. Section 15.21.4.</summary>
    bool TakeVirtualInterrupt()
    {
        if (!HasVirtualInterrupt) return false;
        if (TryLeaveFor(SvmExit.VirtualInterrupt)) return true;
        DeliverExternal(_control.TakeInterrupt());
        return true;
    }

    void ExchangeSvm(StateStream state)
    {
        if (!HasSvm) return;
        bool isGuest = IsGuest;
        state.Field("vm-cr", ref _vmCr);
        state.Field("host-save", ref _hostSave);
        state.Field("vmcb", ref _vmcb);
        state.Field("holds-interrupts", ref _holdsInterrupts);
        state.Field("host-interrupts", ref _hostInterrupts);
        state.Field("guest", ref isGuest);
        state.Field("nested-cr0", ref _nestedCr0);
        state.Field("nested-cr4", ref _nestedCr4);
        state.Field("nested-efer", ref _nestedEfer);
        _control.Exchange(state.Section("control"));
        if (!state.IsLoading) return;
        _vmCr &= VmCrWritable;
        _hostSave &= _physicalMask & ~PageMask;
        _vmcb &= _physicalMask & ~PageMask;
        _vectoring = default;
        if (isGuest != IsGuest) SwitchWorld();
    }
}
