using System.Buffers.Binary;
using Qkvm.Core.Memory;
using Flag = Qkvm.Accel.Tcg.Rflags;

namespace Qkvm.Accel.Tcg;

// SAFETY: State and _jit lie in the vCPU's own region, which is freed after its thread has ended.
/// <summary>System management mode: entry by an SMI, the way back by RSM. AMD64 APM vol. 2, chapter 10; Intel SDM vol.
/// 3, chapter 31.</summary>
/// <remarks>What a processor sees of memory changes with the mode, so all that is known of addresses is forgotten both
/// times; translated code is known by where it lies in the host, and stays. Deviation: an SMI waits for the end of an
/// interrupt shadow.</remarks>
public sealed unsafe partial class Cpu
{
    const ulong SmmEntry = 0x8000;
    const ulong RestoredFlags = Flag.Arithmetic | Flag.Tf | Flag.If | Flag.Df | Flag.Iopl | Flag.Nt | Flag.Rf | Flag.Vm
        | Flag.Ac | Flag.Vif | Flag.Vip | Flag.Id;

    readonly AddressSpace _memory;
    readonly AddressSpace? _smmMemory;

    /// <summary>Pending ones wait while another is handled, and while the processor waits for SIPI (SDM, section
    /// 31.3.1).</summary>
    bool CanTakeSmi => State->SmiPending != 0 && State->Smm == 0 && State->WaitForSipi == 0
        && State->InterruptShadow == 0 && !_holdsInterrupts && (!IsGuest || _control.Intercepts(SvmExit.Smi));

    /// <summary>Memory as the mode shows it; nothing is known of addresses any more.</summary>
    void UseMemory()
    {
        Memory = State->Smm != 0 ? _smmMemory! : _memory;
        Array.Clear(_ranges);
        FlushTlb(global: true);
    }

    /// <summary>Between two instructions. False: there is none.</summary>
    bool TakeSmi()
    {
        if (!CanTakeSmi) return false;
        if (TryLeaveFor(SvmExit.Smi)) return true;
        // Who waits at MWAIT goes on behind it; one that x87 froze finds that out anew.
        bool halts = State->Halted != 0 && !_waitsForStore && !_isFrozen;
        (State->SmiPending, State->Smm) = (0, 1);
        (State->BlocksNmiAfterSmm, State->NmiBlocked) = (State->NmiBlocked, 1);
        State->A20Masked = 0;                                      // RSM masks again, if the gate is closed
        EndHalt();
        UseMemory();
        SaveState(halts);
        EnterSmm();
        return true;
    }

    void SaveState(bool halts)
    {
        Span<byte> area = stackalloc byte[SmmStateMap.Size];
        area.Clear();
        Map(new SmmStateMap(area, loads: false));
        area[SmmStateMap.HaltRestart] = (byte)(halts ? 1 : 0);
        BinaryPrimitives.WriteUInt32LittleEndian(area[SmmStateMap.Revision..], SmmStateMap.RevisionId);
        Memory.Write(State->SmBase + SmmStateMap.Start, area);
    }

    /// <summary>APM table 10-4: as real-address mode with segments of 4 GiB; what is not named here stays.</summary>
    void EnterSmm()
    {
        const ushort data = 0x8000 | Segment.Present | Segment.System | Segment.Writable | Segment.Accessed;
        AllFlags = 2;
        State->Rip = SmmEntry;
        for (int i = 0; i < Seg.Count; i++) State->Segment(i) = new Segment { Limit = uint.MaxValue, Access = data };
        State->Cs.Selector = (ushort)(State->SmBase >> 4);
        State->Cs.Base = State->SmBase;
        (State->Cpl, State->Efer, State->Cr4) = (0, 0, 0);
        State->Cr0 &= ~(Tcg.Cr0.Pe | Tcg.Cr0.Em | Tcg.Cr0.Ts | Tcg.Cr0.Pg);
        WriteDr7(Dr7Fixed);
        ModeChanged();
    }

    /// <summary>RSM. A state that no processor can be in is a shutdown (SDM, section 31.3.3).</summary>
    internal void LeaveSmm()
    {
        Span<byte> area = stackalloc byte[SmmStateMap.Size];
        Memory.Read(State->SmBase + SmmStateMap.Start, area);
        if (!IsValid(area))
        {
            TripleFault();
            RunAgain();
            return;
        }
        Map(new SmmStateMap(area, loads: true));
        Settle();
        State->Halted = (byte)(area[SmmStateMap.HaltRestart] & 1);
        (State->Smm, State->NmiBlocked, State->BlocksNmiAfterSmm) = (0, State->BlocksNmiAfterSmm, 0);
        _monitored = null;
        UseMemory();
        Redirect(State->Rip);
        RunAgain();
        Call(CallSignal);                                          // what was held back; the A20 gate
    }

    /// <summary>The registers that are kept there.</summary>
    void Map(SmmStateMap map)
    {
        CpuState* s = State;
        for (int i = 0; i < Seg.Count; i++)
            map.Segment(SmmStateMap.Es + i * SmmStateMap.SegmentSize, ref s->Segment(i));
        map.Table(SmmStateMap.Gdtr, ref s->GdtrBase, ref s->GdtrLimit);
        map.Segment(SmmStateMap.Ldtr, ref s->Ldtr);
        map.Table(SmmStateMap.Idtr, ref s->IdtrBase, ref s->IdtrLimit);
        map.Segment(SmmStateMap.Tr, ref s->Tr);
        map.Field(SmmStateMap.Efer, ref s->Efer);
        map.Field(SmmStateMap.SmBase, ref s->SmBase);
        map.Field(SmmStateMap.Cr4, ref s->Cr4);
        map.Field(SmmStateMap.Cr3, ref s->Cr3);
        map.Field(SmmStateMap.Cr0, ref s->Cr0);
        map.Field(SmmStateMap.Dr7, ref s->Dr[7]);
        map.Field(SmmStateMap.Dr6, ref s->Dr[6]);
        ulong flags = AllFlags;
        map.Field(SmmStateMap.Rflags, ref flags);
        AllFlags = flags & RestoredFlags;
        map.Field(SmmStateMap.Rip, ref s->Rip);
        for (int i = 0; i < 16; i++) map.Field(SmmStateMap.Rax - i * sizeof(ulong), ref s->Gpr[i]);
    }

    /// <summary>What MOV to a control register would refuse.</summary>
    bool IsValid(Span<byte> area)
    {
        var map = new SmmStateMap(area, loads: true);
        ulong cr0 = 0, cr3 = 0, cr4 = 0, efer = 0;
        map.Field(SmmStateMap.Cr0, ref cr0);
        map.Field(SmmStateMap.Cr3, ref cr3);
        map.Field(SmmStateMap.Cr4, ref cr4);
        map.Field(SmmStateMap.Efer, ref efer);
        bool paging = (cr0 & Tcg.Cr0.Pg) != 0, isLong = paging && (efer & Tcg.Efer.Lme) != 0;
        if (cr0 >> 32 != 0 || paging && (cr0 & Tcg.Cr0.Pe) == 0
            || (cr0 & (Tcg.Cr0.Nw | Tcg.Cr0.Cd)) == Tcg.Cr0.Nw) return false;
        if ((cr4 & ~Cr4Supported) != 0 || (efer & ~(EferSupported | Tcg.Efer.Lma)) != 0) return false;
        if (!isLong) return (cr4 & Cr4.Pcide) == 0 && (efer & Tcg.Efer.Lma) == 0;
        ulong lam = HasLam ? Tcg.Cr3.LamU48 | Tcg.Cr3.LamU57 : 0;
        return (cr4 & Cr4.Pae) != 0 && (cr3 & ~(_physicalMask | lam)) == 0;
    }

    /// <summary>What follows from the registers that were loaded.</summary>
    void Settle()
    {
        CpuState* s = State;
        s->Cr0 = s->Cr0 & Cr0Writable | Tcg.Cr0.Et;
        bool isLong = (s->Cr0 & Tcg.Cr0.Pg) != 0 && (s->Efer & Tcg.Efer.Lme) != 0;
        s->Efer = isLong ? s->Efer | Tcg.Efer.Lma : s->Efer & ~Tcg.Efer.Lma;
        if (isLong || (s->Cr0 & Tcg.Cr0.Pe) == 0) s->RflagsSystem &= ~Flag.Vm;
        s->Dr[6] = s->Dr[6] & Dr6Writable | Dr6Fixed;
        s->Dr[7] = s->Dr[7] & Dr7Writable | Dr7Fixed;
        BreakpointsChanged();
        // The stack's privilege is the processor's; a null one in 64-bit mode tells by its selector.
        s->Cpl = (s->Cr0 & Tcg.Cr0.Pe) == 0 ? 0 : (s->RflagsSystem & Flag.Vm) != 0 ? 3
            : s->Ss.Access == 0 ? s->Ss.Selector & 3 : s->Ss.Access >> 5 & 3;
    }
}
