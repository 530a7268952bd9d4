using Qkvm.Accel.Tcg.Model;
using Qkvm.Core.Accel;
using Qkvm.Host;

namespace Qkvm.Accel.Tcg;

// SAFETY: State and _jit lie in the vCPU's own region, which is freed after its thread has ended.
/// <summary>Hyper-V's registers, for -cpu …,hv-…: those of the processor. The board has the rest. Spec: Hypervisor Top
/// Level Functional Specification (TLFS) 6.0b, appendix C.</summary>
public sealed unsafe partial class Cpu
{
    internal static class HyperVMsr
    {
        public const uint First = 0x40000000, GuestOsId = 0x40000000, Hypercall = 0x40000001, VpIndex = 0x40000002,
            Reset = 0x40000003, VpRuntime = 0x40000010, TimeReferenceCount = 0x40000020, ReferenceTsc = 0x40000021,
            TscFrequency = 0x40000022, ApicFrequency = 0x40000023, Eoi = 0x40000070, Icr = 0x40000071,
            Tpr = 0x40000072, VpAssistPage = 0x40000073, SynIcFirst = 0x40000080, SynIcLast = 0x4000009F,
            TimerFirst = 0x400000B0, TimerLast = 0x400000B7, CrashFirst = 0x40000100, CrashLast = 0x40000105,
            ReenlightenmentControl = 0x40000106, TscEmulationControl = 0x40000107, TscEmulationStatus = 0x40000108,
            Last = 0x400001FF;
    }

    const ulong HyperVEnable = 1, HypercallLock = 2;

    readonly HyperVPartition _partition;
    ulong _vpAssistPage;

    /// <summary>The board's part of the registers.</summary>
    public IHyperVRegisters? HyperV { get; set; }

    /// <summary>In 100 ns since power-on, the same on all processors.</summary>
    public ulong ReferenceTime => _partition.ReferenceTime;

    HyperV Enlightenments => _cpuid.HyperV;

    /// <summary>The feature that a register goes with, or null: there is no such register.</summary>
    static HyperVFeatures? FeatureOf(uint msr) => msr switch
    {
        HyperVMsr.GuestOsId or HyperVMsr.Hypercall => HyperVFeatures.None,
        HyperVMsr.VpIndex => HyperVFeatures.VpIndex,
        HyperVMsr.Reset => HyperVFeatures.Reset,
        HyperVMsr.VpRuntime => HyperVFeatures.Runtime,
        HyperVMsr.TimeReferenceCount or HyperVMsr.ReferenceTsc => HyperVFeatures.Time,
        HyperVMsr.TscFrequency or HyperVMsr.ApicFrequency => HyperVFeatures.Frequencies,
        >= HyperVMsr.Eoi and <= HyperVMsr.VpAssistPage => HyperVFeatures.VApic,
        >= HyperVMsr.SynIcFirst and <= HyperVMsr.SynIcLast => HyperVFeatures.SynIc,
        >= HyperVMsr.TimerFirst and <= HyperVMsr.TimerLast => HyperVFeatures.STimer,
        >= HyperVMsr.CrashFirst and <= HyperVMsr.CrashLast => HyperVFeatures.Crash,
        >= HyperVMsr.ReenlightenmentControl and <= HyperVMsr.TscEmulationStatus => HyperVFeatures.Reenlightenment,
        _ => null,
    };

    bool HasHyperVMsr(uint msr) => Enlightenments.IsOn && FeatureOf(msr) is { } feature
        && (feature == HyperVFeatures.None || Enlightenments.Has(feature));

    bool TryReadHyperVMsr(uint msr, out ulong value)
    {
        value = 0;
        switch (msr)
        {
            case HyperVMsr.GuestOsId: value = _partition.GuestOsId; break;
            case HyperVMsr.Hypercall: value = _partition.Hypercall; break;
            case HyperVMsr.VpIndex: value = (ulong)Index; break;
            case HyperVMsr.VpRuntime: value = ThreadTime.Nanoseconds / 100; break;
            case HyperVMsr.TimeReferenceCount: value = ReferenceTime; break;
            case HyperVMsr.ReferenceTsc: value = _partition.ReferenceTsc; break;
            case HyperVMsr.TscFrequency: value = TscHertz; break;
            case HyperVMsr.ApicFrequency: value = Tcg.Model.Cpuid.TimerHertz; break;
            case HyperVMsr.Eoi: return false;                      // write only
            case HyperVMsr.Icr: value = ReadApic(ApicIcrHigh) << 32 | ReadApic(ApicIcr); break;
            case HyperVMsr.Tpr: value = ReadApic(ApicTpr); break;
            case HyperVMsr.VpAssistPage: value = _vpAssistPage; break;
            case HyperVMsr.ReenlightenmentControl: value = _partition.ReenlightenmentControl; break;
            case HyperVMsr.TscEmulationControl: value = _partition.TscEmulationControl; break;
            case HyperVMsr.TscEmulationStatus: break;
            default: return HyperV != null && HyperV.ReadMsr(msr, out value);
        }
        return true;
    }

    bool TryWriteHyperVMsr(uint msr, ulong value)
    {
        switch (msr)
        {
            case HyperVMsr.GuestOsId:
                _partition.GuestOsId = value;
                if (value == 0) _partition.Hypercall &= ~HyperVEnable;
                break;
            case HyperVMsr.Hypercall: WriteHypercallPage(value); break;
            case HyperVMsr.ReferenceTsc:
                _partition.ReferenceTsc = value;
                UpdateReferencePage();
                break;
            case HyperVMsr.Eoi: WriteApic(ApicEoi, 0); break;
            case HyperVMsr.Icr:
                WriteApic(ApicIcrHigh, value >> 32);
                WriteApic(ApicIcr, (uint)value);
                break;
            case HyperVMsr.Tpr: WriteApic(ApicTpr, value & byte.MaxValue); break;
            case HyperVMsr.VpAssistPage:
                if (_eoiElided) SettleEoi();
                _vpAssistPage = value;
                // Its first word is as KVM's: bit 0 says that no EOI is needed.
                _kvmEoi = (value & HyperVEnable) != 0 ? value & ~PageMask | KvmEnabled : 0;
                if (_kvmEoi != 0) for (ulong i = 0; i < PageSize; i += 8) Memory.Write(value & ~PageMask | i, 8, 0);
                break;
            case HyperVMsr.ReenlightenmentControl: _partition.ReenlightenmentControl = value; break;
            case HyperVMsr.TscEmulationControl: _partition.TscEmulationControl = value; break;
            case HyperVMsr.TscEmulationStatus: return value == 0;
            case HyperVMsr.VpIndex or HyperVMsr.VpRuntime or HyperVMsr.TimeReferenceCount or HyperVMsr.TscFrequency
                or HyperVMsr.ApicFrequency: return false;          // read only
            default: return HyperV != null && HyperV.WriteMsr(msr, value);
        }
        return true;
    }

    void ResetHyperV()
    {
        _vpAssistPage = 0;
        if (Index == 0) _partition.Reset();
    }

    /// <summary>Section 3.13: the guest says where the hypercall page lies, and finds the instruction of this maker's
    /// processors there.</summary>
    void WriteHypercallPage(ulong value)
    {
        const ulong vmcall = 0xC3_C1010F, vmmcall = 0xC3_D9010F;   // and a near return
        if ((_partition.Hypercall & HypercallLock) != 0) return;
        if (_partition.GuestOsId == 0) value &= ~HyperVEnable;
        _partition.Hypercall = value;
        if ((value & HyperVEnable) != 0) Memory.Write(value & ~PageMask, 4, IsAmd ? vmmcall : vmcall);
    }

    /// <summary>HV_REFERENCE_TSC_PAGE, section 12.7.3: time = (TSC * scale >> 64) + offset, if all processors' counters
    /// agree; a sequence of 0 sends the guest to the register.</summary>
    void UpdateReferencePage()
    {
        const ulong ticksPerSecond = 10_000_000;
        ulong value = _partition.ReferenceTsc;
        if (!Enlightenments.Has(HyperVFeatures.Time) || (value & HyperVEnable) == 0) return;
        ulong at = value & ~PageMask;
        uint sequence = (uint)Memory.Read(at, 4) + 1;
        Memory.Write(at, 4, 0);
        if (TscHertz <= ticksPerSecond || !_code.HaveSameTsc) return;
        ulong scale = (ulong)(((UInt128)ticksPerSecond << 64) / TscHertz);
        ulong now = HostNanoseconds();                             // both clocks at one moment
        ulong offset = _partition.ReferenceTimeAt(now) - (ulong)((UInt128)(HostTsc(now) + TscOffset) * scale >> 64);
        Memory.Write(at + 8, 8, scale);
        Memory.Write(at + 16, 8, offset);
        Memory.Write(at, 4, sequence is 0 or uint.MaxValue ? 1 : sequence);
    }

    // Registers of the local APIC, by number: without a way over its page

    const int ApicTpr = 0x08, ApicEoi = 0x0B, ApicIcr = 0x30, ApicIcrHigh = 0x31;

    bool IsX2Apic => (Apic!.BaseMsr & 1 << 10) != 0;

    ulong ReadApic(int register)
    {
        if (_eoiElided) SettleEoi();
        if (Apic == null) return 0;
        if (!IsX2Apic) return Apic.ReadMmio((uint)register << 4);
        // there ICR is one register
        if (!Apic.ReadMsr(Msr.X2Apic + (uint)(register == ApicIcrHigh ? ApicIcr : register), out ulong value)) return 0;
        return register == ApicIcrHigh ? value >> 32 : (uint)value;
    }

    ulong _icrHigh;                                                // not migrated: within one WRMSR

    void WriteApic(int register, ulong value)
    {
        if (_eoiElided) SettleEoi();
        if (Apic == null) return;
        if (!IsX2Apic) Apic.WriteMmio((uint)register << 4, (uint)value);
        else if (register == ApicIcrHigh) _icrHigh = value << 32;
        else Apic.WriteMsr(Msr.X2Apic + (uint)register, register == ApicIcr ? _icrHigh | value : value);
    }
}
