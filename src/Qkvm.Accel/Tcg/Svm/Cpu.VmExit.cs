using System.Buffers.Binary;

namespace Qkvm.Accel.Tcg;

// SAFETY: State and _jit lie in the vCPU's own region, which is freed after its thread has ended.
/// <summary>#VMEXIT. Spec: AMD64 APM vol. 2, section 15.6.</summary>
public sealed unsafe partial class Cpu
{
    /// <summary>No vector: a fault that ends the guest.</summary>
    const int LeavesGuest = 0x101;

    const int MostFetched = 15;

    /// <summary>What is being delivered: EXITINTINFO, should the guest be left meanwhile. Section 15.7.2.</summary>
    SvmEvent _vectoring;

    /// <summary>Of the instruction that runs alone: shadow that it began in.</summary>
    byte _shadowBefore;                                            // not migrated: lives within one instruction

    /// <summary>CR2 as it was before the page fault that is being raised: one that is intercepted does not change
    /// it.</summary>
    ulong _cr2Before;                                              // likewise

    ulong _exitCode, _exitInfo1, _exitInfo2;                       // likewise

    /// <summary>For where an instruction has been begun: to be thrown.</summary>
    GuestFault Exit(ulong code, ulong info1, ulong info2)
    {
        (_exitCode, _exitInfo1, _exitInfo2) = (code, info1, info2);
        return _fault.With(LeavesGuest, null);
    }

    GuestFault PageFault(ulong linear, uint error)
    {
        if (error == IsNestedFault)
            return Exit(SvmExit.NestedPageFault, _nestedError,
                (_nestedError & SvmExit.FinalAddress) != 0 ? _nestedAddress | linear & PageMask : _nestedAddress);
        _cr2Before = State->Cr2;
        State->Cr2 = linear;
        return Fault(Vector.PageFault, error);
    }

    /// <summary>The host wants to see this exception. If so, the guest has been left.</summary>
    bool TryLeaveForException(int vector, uint? error)
    {
        if (!IsGuest || vector >= 32 || !_control.Intercepts(SvmExit.Exception + (uint)vector)) return false;
        ulong info2 = 0;
        if (vector == Vector.PageFault) (info2, State->Cr2) = (State->Cr2, _cr2Before);
        else if (vector == Vector.Debug) WriteDr7(State->Dr[7] & ~Dr7GeneralDetect);
        LeaveGuest(SvmExit.Exception + (uint)vector, error ?? 0, info2);
        return true;
    }

    /// <summary>Back to the host, behind its VMRUN. RIP is the guest's, at an instruction or behind it.</summary>
    /// <param name="nextRip">Behind the instruction that was intercepted; 0 where there is none.</param>
    internal void LeaveGuest(ulong code, ulong info1 = 0, ulong info2 = 0, ulong nextRip = 0)
    {
        Span<byte> area = stackalloc byte[Vmcb.Size];
        Memory.Read(_vmcb, area);
        var vmcb = new Vmcb(area);
        StoreX87();
        SaveWorld(vmcb, State->Rip);
        vmcb[Vmcb.Cr2] = State->Cr2;
        if (_control.NestedPaging) vmcb[Vmcb.Pat] = State->Pat;
        WriteBack(_vmcb, area, Vmcb.StateStart, Vmcb.Fs);
        WriteBack(_vmcb, area, Vmcb.Gdtr, Vmcb.Ldtr);
        WriteBack(_vmcb, area, Vmcb.Idtr, Vmcb.Tr);
        WriteBack(_vmcb, area, Vmcb.Cpl, Vmcb.Star);
        WriteBack(_vmcb, area, Vmcb.Cr2, Vmcb.Pat + sizeof(ulong));
        vmcb[Vmcb.VirtualInterrupt] = _control.Interrupt;
        bool isShadowed = (State->InterruptShadow | _shadowBefore) != 0;
        vmcb[Vmcb.InterruptShadow] =
            vmcb[Vmcb.InterruptShadow] & ~Vmcb.IsShadowed | (isShadowed ? Vmcb.IsShadowed : 0);
        bool isData = code == SvmExit.NestedPageFault || code == SvmExit.Exception + Vector.PageFault;
        TellFetched(vmcb, isData && (info1 & ErrorFetch) == 0);
        vmcb[Vmcb.ExitIntInfo] = _vectoring.Value;
        TellExit(vmcb, code, info1, info2, _hasNextRip ? nextRip : 0);
        LoadHost();
    }

    /// <summary>Section 15.8.4, guest instruction bytes: those behind RIP, as far as they can be read.</summary>
    void TellFetched(in Vmcb vmcb, bool isWanted)
    {
        Span<byte> bytes = vmcb.Bytes.Slice(Vmcb.Fetched, MostFetched);
        bytes.Clear();
        int count = 0;
        ulong linear = LinearOf(State->Rip);
        while (isWanted && _hasDecodeAssists && count < MostFetched)
        {
            int part = (int)Math.Min((ulong)(MostFetched - count), PageSize - (linear & PageMask));
            if (!TryTranslate(linear, out ulong physical)) break;
            byte* host = HostOf(physical, out _, out _);
            if (host == null) break;
            new ReadOnlySpan<byte>(host, part).CopyTo(bytes[count..]);
            count += part;
            linear = Wrap(linear + (ulong)part);
        }
        vmcb.Bytes[Vmcb.FetchedCount] = (byte)count;
    }

    /// <summary>To the control area, as the host finds it.</summary>
    void TellExit(in Vmcb vmcb, ulong code, ulong info1, ulong info2, ulong nextRip)
    {
        const ulong isValid = 1UL << 31;
        Span<byte> bytes = vmcb.Bytes;
        BinaryPrimitives.WriteUInt64LittleEndian(bytes[Vmcb.ExitCode..], code);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes[Vmcb.ExitInfo1..], info1);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes[Vmcb.ExitInfo2..], info2);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes[Vmcb.EventInjection..],
            vmcb[Vmcb.EventInjection] & ~isValid);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes[Vmcb.NextRip..], nextRip);
        WriteBack(_vmcb, bytes, Vmcb.ExitStart, Vmcb.ExitEnd);
    }

    void LoadHost()
    {
        Span<byte> area = stackalloc byte[Vmcb.Size];
        Memory.Read(_hostSave, area);
        var host = new Vmcb(area);
        LoadWorld(host, isGuest: false);
        _holdsInterrupts = true;
        EndGuest();
        Redirect(State->Rip);
        RunAgain();
        // Section 15.6, last step: what the host itself has written there may be no state at all.
        if (!IsValidHost(host)) TripleFault();
    }

    void EndGuest()
    {
        (State->InterruptShadow, _shadowBefore, _vectoring) = (0, 0, default);
        (_hasEnteredHandler, _dataBreakpointHit) = (true, false);
        EndHalt();
        SwitchWorld();
    }

    bool IsValidHost(in Vmcb host)
    {
        ulong cr0 = host[Vmcb.Cr0], cr3 = host[Vmcb.Cr3], cr4 = host[Vmcb.Cr4], efer = host[Vmcb.Efer];
        bool isLong = (cr0 & Tcg.Cr0.Pg) != 0 && (efer & Tcg.Efer.Lme) != 0;
        if (cr0 >> 32 != 0 || (cr0 & (Tcg.Cr0.Nw | Tcg.Cr0.Cd)) == Tcg.Cr0.Nw) return false;
        if ((cr4 & ~Cr4Supported) != 0 || (efer & ~(EferSupported | Tcg.Efer.Lma)) != 0) return false;
        ulong lam = HasLam ? Tcg.Cr3.LamU48 | Tcg.Cr3.LamU57 : 0;
        return isLong ? (cr4 & Cr4.Pae) != 0 && (cr3 & ~(_physicalMask | lam)) == 0 : (cr4 & Cr4.Pcide) == 0;
    }
}
