using Qkvm.Core.Accel;
using Qkvm.Host;

namespace Qkvm.Accel.Kvm;

// SAFETY: structures lie on the stack for the time of the call.
/// <summary>A debugger's points and steps: KVM_SET_GUEST_DEBUG and KVM_EXIT_DEBUG.</summary>
/// <remarks>Deviations: a step is the trap flag of the processor, so that PUSHF stores it, and that a fault or an
/// interrupt which comes in place of the instruction (the kernel before 5.12 does not hold interrupts off) is carried
/// out whole, as is a system call; while points are in debug registers, the guest's own have no effect.</remarks>
sealed unsafe partial class KvmVCpu
{
    const uint BreakpointException = 3;                            // the other is 1, #DB
    const ulong SingleStepped = 1 << 14, GuestBits = 0xE00F;       // DR6.BS; B0 to B3, BD, BS and BT

    KvmPoints _points = KvmPoints.None;                            // not migrated: the debugger's
    CodeByte? _passing;                                            // not migrated: whose own instruction runs alone
    uint _control;                                                 // not migrated: what the kernel was told last

    /// <summary>KVM_GUESTDBG_BLOCKIRQ, Linux 5.12.</summary>
    public bool CanBlockInterrupts { get; init; }

    public VCpuSteps Steps { get; set; }

    public void StopAt(KvmPoints points) => _points = points;

    void BeginDebug()
    {
        uint control = _points.Control;
        if (Steps != VCpuSteps.None) control |= KvmGuestDebug.Enable | KvmGuestDebug.SingleStep;
        // One that waits for an interrupt is to have it.
        if (Steps == VCpuSteps.OneUndisturbed && CanBlockInterrupts
            && Get<uint>(KvmApi.GetMpState) != KvmRegisters.Halted)
            control |= KvmGuestDebug.BlockInterrupts;
        if (control != 0 || _control != 0) SetDebug(control);
    }

    void SetDebug(uint control)
    {
        var debug = new KvmGuestDebug { Control = control };
        _points.Fill(new Span<ulong>(debug.Registers, 8));
        KvmApi.Call(_fd, KvmApi.SetGuestDebug, &debug, "cannot debug a vCPU");
        _control = control;
    }

    /// <summary>Null: it was the guest's own, and the vCPU goes on.</summary>
    VCpuExit? TakeDebugExit()
    {
        ulong at = _run->DebugAddress;
        if (_run->DebugException == BreakpointException)
        {
            if (_points.At(at) is { } point) return Stop(new DebugStop(point));
            if (CodeByte.Find(_memory, this, at) is { } place && _points.Has(place)) Pass(place);
            else GiveToGuest(KvmGuestDebug.InjectBreakpoint);
            return null;
        }
        if (_points.Find(_run->DebugDr6) is { } hit) return Stop(hit);
        bool hasPassed = EndPassing();
        if ((_run->DebugDr6 & SingleStepped) != 0 && Steps != VCpuSteps.None) return Stop(default);
        if (hasPassed) return null;
        TellInDr6(_run->DebugDr6);
        GiveToGuest(KvmGuestDebug.InjectDebug);
        return null;
    }

    static VCpuExit Stop(DebugStop stop) => new(ExitReason.Debug, Stop: stop);

    /// <summary>INT3 is there for another address of the same memory: the guest's own instruction is run, and other
    /// vCPUs that come by meanwhile do not stop.</summary>
    void Pass(CodeByte place)
    {
        EndPassing();
        _points.Remove(place);
        _passing = place;
        SetDebug(_control | KvmGuestDebug.SingleStep);
    }

    bool EndPassing()
    {
        if (_passing is not { } place) return false;
        _passing = null;
        _points.Place(place);
        BeginDebug();
        return true;
    }

    void GiveToGuest(uint exception)
    {
        uint control = _control;
        SetDebug(control | exception);
        _control = control;
    }

    void TellInDr6(ulong dr6)
    {
        const int size = 128, index = 4;                           // struct kvm_debugregs: db[4], dr6, dr7
        ulong* registers = stackalloc ulong[size / sizeof(ulong)];
        KvmApi.Call(_fd, KvmApi.GetDebugRegs, registers, "cannot read a vCPU's registers");
        registers[index] |= dr6 & GuestBits;
        KvmApi.Call(_fd, KvmApi.SetDebugRegs, registers, "cannot write a vCPU's registers");
    }
}
