using System.Buffers.Binary;
using Qkvm.Core.Accel;
using Qkvm.Core.State;

namespace Qkvm.Accel.Tcg;

// SAFETY: State and _jit lie in the vCPU's own region, which is freed after its thread has ended.
/// <summary>All registers as one record, for saved states, debuggers and `info registers`.</summary>
public sealed unsafe partial class Cpu
{
    /// <summary>Registers that are storage of their own; the rest of the record has places by name.</summary>
    static readonly uint[] s_stored =
    [
        Msr.SysenterCs, Msr.SysenterEsp, Msr.SysenterEip, Msr.Pat, Msr.MiscEnable, Msr.DebugControl, Msr.MtrrDefault,
            Msr.FeatureControl,
        Msr.McgStatus, Msr.McgControl, Msr.TscAdjust, Msr.TscDeadline, Msr.Pkrs, Msr.Xss, Msr.Star, Msr.LStar,
            Msr.CStar, Msr.FMask,
        Msr.KernelGsBase, Msr.TscAux, KvmWallClockMsr, KvmSystemTimeMsr, KvmEoiMsr,
    ];

    /// <summary>The partition's are the same in each processor's record.</summary>
    static readonly uint[] s_storedOfHyperV =
    [
        HyperVMsr.GuestOsId, HyperVMsr.Hypercall, HyperVMsr.ReferenceTsc, HyperVMsr.ReenlightenmentControl,
        HyperVMsr.TscEmulationControl, HyperVMsr.VpAssistPage,
    ];

    const uint KvmWallClockMsr = 0x4B564D00, KvmSystemTimeMsr = 0x4B564D01, KvmEoiMsr = 0x4B564D04;

    public CpuRegisters ReadRegisters()
    {
        CpuState* s = State;
        var r = new CpuRegisters
        {
            Rip = s->Rip, Rflags = AllFlags, Cr0 = s->Cr0, Cr2 = s->Cr2, Cr3 = s->Cr3, Cr4 = s->Cr4, Cr8 = _cr8,
                Xcr0 = s->Xcr0, Efer = s->Efer,
            ApicBase = Apic?.BaseMsr ?? 0, Tsc = ReadTsc(), Pkru = s->Pkru, Cpl = s->Cpl,
            IsHalted = !_waitsForStore && s->Halted != 0,          // MWAIT may end at any time
            WaitsForSipi = s->WaitForSipi != 0, NmiBlocked = s->NmiBlocked != 0, NmiPending = s->NmiPending != 0,
            A20Masked = s->A20Masked != 0 || s->Smm != 0 && _isA20Closed, InSmm = s->Smm != 0,
            BlocksNmiAfterSmm = s->BlocksNmiAfterSmm != 0,
            SmBase = s->SmBase, InterruptShadow = s->InterruptShadow,
            Gdtr = new DescriptorTable { Base = s->GdtrBase, Limit = s->GdtrLimit },
            Idtr = new DescriptorTable { Base = s->IdtrBase, Limit = s->IdtrLimit },
            Xsave = new ReadOnlySpan<byte>(s->Xsave.Bytes, sizeof(XsaveArea)).ToArray(),
        };
        for (int i = 0; i < 16; i++) r.General[i] = s->Gpr[i];
        for (int i = 0; i < r.Segments.Length; i++)
        {
            ref Segment from = ref s->Segment(i);
            r.Segments[i] = new SegmentRegister { Selector = from.Selector, Base = from.Base, Limit = from.Limit,
                Access = from.Access };
        }
        for (int i = 0; i < r.Debug.Length; i++) r.Debug[i] = s->Dr[i];
        foreach (uint msr in s_stored) r.Msrs[msr] = Stored(msr);
        if (Enlightenments.IsOn)
        {
            foreach (uint msr in s_storedOfHyperV) r.Msrs[msr] = Stored(msr);
            r.Msrs[HyperVMsr.TimeReferenceCount] = ReferenceTime;
        }
        return r;
    }

    /// <exception cref="InvalidStateException">This processor cannot be in such a state; it is as it was.</exception>
    public void WriteRegisters(CpuRegisters r)
    {
        Validate(r);
        CpuState* s = State;
        for (int i = 0; i < 16; i++) s->Gpr[i] = r.General[i];
        (s->Rip, AllFlags) = (r.Rip, r.Rflags);
        for (int i = 0; i < r.Segments.Length; i++)
        {
            ref SegmentRegister from = ref r.Segments[i];
            s->Segment(i) = new Segment { Selector = from.Selector, Base = from.Base, Limit = from.Limit,
                Access = from.Access };
        }
        (s->GdtrBase, s->GdtrLimit, s->IdtrBase, s->IdtrLimit) = (r.Gdtr.Base, r.Gdtr.Limit, r.Idtr.Base, r.Idtr.Limit);
        (s->Cr0, s->Cr2, s->Cr3, s->Cr4, _cr8, s->Xcr0, s->Efer) =
            (r.Cr0, r.Cr2, r.Cr3, r.Cr4, (byte)r.Cr8, r.Xcr0, r.Efer);
        for (int i = 0; i < r.Debug.Length; i++) s->Dr[i] = r.Debug[i];
        foreach (uint msr in s_stored)
            if (r.Msrs.TryGetValue(msr, out ulong value)) Stored(msr) = value;
        if (Enlightenments.IsOn)
        {
            foreach (uint msr in s_storedOfHyperV)
                if (r.Msrs.TryGetValue(msr, out ulong value)) Stored(msr) = value;
            if (r.Msrs.TryGetValue(HyperVMsr.TimeReferenceCount, out ulong time)) _partition.ReferenceTime = time;
        }
        s->TscOffset = r.Tsc - HostTsc();
        (s->Pkru, s->Cpl, s->InterruptShadow) = (r.Pkru, r.Cpl, r.InterruptShadow);
        (s->Halted, s->WaitForSipi, s->NmiBlocked, s->NmiPending) =
            (Byte(r.IsHalted), Byte(r.WaitsForSipi), Byte(r.NmiBlocked), Byte(r.NmiPending));
        (s->Smm, s->BlocksNmiAfterSmm, s->SmBase) = (Byte(r.InSmm), Byte(r.BlocksNmiAfterSmm), r.SmBase);
        s->A20Masked = Byte(r.A20Masked && !r.InSmm);
        (_isA20Closed, _waitsForStore) = (r.A20Masked, false);
        r.Xsave.CopyTo(new Span<byte>(s->Xsave.Bytes, sizeof(XsaveArea)));
        FindVectorsInUse();
        UseMemory();
        ModeChanged();
        Call(CallSignal);                                          // what is pending was signalled to another

        static byte Byte(bool value) => value ? (byte)1 : (byte)0;
    }

    ref ulong Stored(uint msr)
    {
        CpuState* s = State;
        switch (msr)
        {
            case Msr.SysenterCs: return ref s->SysenterCs;
            case Msr.SysenterEsp: return ref s->SysenterEsp;
            case Msr.SysenterEip: return ref s->SysenterEip;
            case Msr.Pat: return ref s->Pat;
            case Msr.MiscEnable: return ref s->MiscEnable;
            case Msr.DebugControl: return ref _debugControl;
            case Msr.MtrrDefault: return ref _mtrrDefault;
            case Msr.FeatureControl: return ref _featureControl;
            case Msr.McgStatus: return ref _mcgStatus;
            case Msr.McgControl: return ref _mcgControl;
            case Msr.TscAdjust: return ref s->TscAdjust;
            case Msr.TscDeadline: return ref _tscDeadline;
            case Msr.Pkrs: return ref s->Pkrs;
            case Msr.Xss: return ref s->Xss;
            case Msr.Star: return ref s->Star;
            case Msr.LStar: return ref s->LStar;
            case Msr.CStar: return ref s->CStar;
            case Msr.FMask: return ref s->FMask;
            case Msr.KernelGsBase: return ref s->KernelGsBase;
            case Msr.TscAux: return ref s->TscAux;
            case KvmWallClockMsr: return ref _kvmWallClock;
            case KvmSystemTimeMsr: return ref _kvmSystemTime;
            case KvmEoiMsr: return ref _kvmEoi;
            case HyperVMsr.GuestOsId: return ref _partition.GuestOsId;
            case HyperVMsr.Hypercall: return ref _partition.Hypercall;
            case HyperVMsr.ReferenceTsc: return ref _partition.ReferenceTsc;
            case HyperVMsr.ReenlightenmentControl: return ref _partition.ReenlightenmentControl;
            case HyperVMsr.TscEmulationControl: return ref _partition.TscEmulationControl;
            case HyperVMsr.VpAssistPage: return ref _vpAssistPage;
            default: throw new ArgumentOutOfRangeException(nameof(msr), $"{msr:x} is not stored");
        }
    }

    /// <summary>What the interpreter relies on; the rest faults as it would on any processor.</summary>
    void Validate(CpuRegisters r)
    {
        if (r.Xsave.Length != sizeof(XsaveArea))
            throw new InvalidStateException($"xsave: {r.Xsave.Length} bytes instead of {sizeof(XsaveArea)}");
        uint mxcsr = BinaryPrimitives.ReadUInt32LittleEndian(r.Xsave.AsSpan(XsaveArea.Mxcsr));
        if (r.Cpl is < 0 or > 3) throw new InvalidStateException($"cpl: {r.Cpl} is no privilege level");
        if (r.Cr8 > 15) throw new InvalidStateException($"cr8: {r.Cr8:x} is no priority");
        if ((r.Xcr0 & ~(Xcr0Supported | 1)) != 0)
            throw new InvalidStateException($"xcr0: this processor lacks {r.Xcr0:x}");
        if ((r.Cr4 & ~Cr4Supported) != 0) throw new InvalidStateException($"cr4: this processor lacks {r.Cr4:x}");
        if ((r.Efer & ~(EferSupported | Efer.Lma)) != 0)
            throw new InvalidStateException($"efer: this processor lacks {r.Efer:x}");
        if (r.Msrs.TryGetValue(Msr.Xss, out ulong xss) && xss != 0)
            throw new InvalidStateException($"msr.{Msr.Xss:x}: this processor lacks {xss:x}");
        if (r.InSmm && _smmMemory == null) throw new InvalidStateException("smm: this machine has no such mode");
        if ((mxcsr & ~MxcsrValid) != 0) throw new InvalidStateException($"mxcsr: {mxcsr:x} has reserved bits");
    }
}
