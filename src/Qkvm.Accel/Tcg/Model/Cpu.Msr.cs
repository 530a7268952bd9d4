namespace Qkvm.Accel.Tcg;

// SAFETY: State and _jit lie in the vCPU's own region, which is freed after its thread has ended.
/// <summary>Model-specific registers. Intel SDM vol. 4, chapter 2; AMD APM vol. 2, appendix A. Unknown ones raise
/// #GP.</summary>
/// <remarks>Deviations: MTRRs, machine checks and what else <see cref="Model.VendorMsrs"/> lists are storage without
/// effect.</remarks>
public sealed unsafe partial class Cpu
{
    static class Msr
    {
        public const uint McAddress = 0, McType = 1, Tsc = 0x10, ApicBase = 0x1B, CoreThreadCount = 0x35,
            FeatureControl = 0x3A, TscAdjust = 0x3B, MicrocodeRevision = 0x8B, MtrrCap = 0xFE, SysenterCs = 0x174,
            SysenterEsp = 0x175, SysenterEip = 0x176, McgCap = 0x179, McgStatus = 0x17A, McgControl = 0x17B,
            MiscEnable = 0x1A0, DebugControl = 0x1D9, LastBranchFrom = 0x1DB, LastInterruptTo = 0x1DE,
            MtrrPhysical = 0x200, Pat = 0x277, MtrrDefault = 0x2FF, McBank = 0x400, TscDeadline = 0x6E0, Pkrs = 0x6E1,
            X2Apic = 0x800, X2ApicEnd = 0x8FF, Xss = 0xDA0, Efer = 0xC0000080, Star = 0xC0000081, LStar = 0xC0000082,
            CStar = 0xC0000083, FMask = 0xC0000084, FsBase = 0xC0000100, GsBase = 0xC0000101,
            KernelGsBase = 0xC0000102, TscAux = 0xC0000103;
    }

    const int MtrrCount = 8, McBanks = 10, McRegistersPerBank = 4;
    const ulong FixedMtrrs = 0x100, WriteCombining = 0x400, McControlPresent = 0x100;
    const ulong FeatureControlLock = 1;

    // IA32_MISC_ENABLE: counters by CPUID are not there (7), nor branch traces and PEBS (11 and 12); these three are
    // read only.
    const ulong MiscEnableFastStrings = 1, MiscEnableNoBranchTraces = 3 << 11, MiscEnableMonitor = 1 << 18,
        MiscEnableFixed = 0x1880;
    const ulong ResetPat = 0x0007040600070406;

    static readonly uint[] FixedMtrrNumbers =
        [0x250, 0x258, 0x259, 0x268, 0x269, 0x26A, 0x26B, 0x26C, 0x26D, 0x26E, 0x26F];

    readonly ulong[] _mtrrPhysical = new ulong[MtrrCount * 2];
    readonly ulong[] _mtrrFixed = new ulong[FixedMtrrNumbers.Length];
    readonly ulong[] _mcBanks = new ulong[McBanks * McRegistersPerBank];
    ulong _mtrrDefault, _featureControl, _mcgStatus, _mcgControl, _debugControl, _tscDeadline;

    /// <summary>False raises #GP.</summary>
    public bool ReadMsr(uint msr, out ulong value)
    {
        value = 0;
        if (!HasMsr(msr)) return false;
        CpuState* state = State;
        switch (msr)
        {
            case Msr.McAddress or Msr.McType: break;
            case Msr.Tsc: value = SeenTsc; break;
            case Msr.ApicBase: value = Apic?.BaseMsr ?? 0xFEE00000; break;
            case Msr.CoreThreadCount: value = _cpuid.CoreThreadCount; break;
            case Msr.FeatureControl: value = _featureControl; break;
            case Msr.TscAdjust: value = state->TscAdjust; break;
            case Msr.MicrocodeRevision: value = _cpuid.MicrocodeRevision ?? (IsAmd ? 0x01000065 : 1UL << 32);
            break;
            case Msr.MtrrCap: value = MtrrCount | FixedMtrrs | WriteCombining; break;
            case Msr.SysenterCs: value = state->SysenterCs; break;
            case Msr.SysenterEsp: value = state->SysenterEsp; break;
            case Msr.SysenterEip: value = state->SysenterEip; break;
            case Msr.McgCap: value = McBanks | McControlPresent; break;
            case Msr.McgStatus: value = _mcgStatus; break;
            case Msr.McgControl: value = _mcgControl; break;
            case Msr.MiscEnable: value = state->MiscEnable; break;
            case Msr.DebugControl: value = _debugControl; break;
            case >= Msr.LastBranchFrom and <= Msr.LastInterruptTo when IsAmd: break;
            case Msr.Pat: value = state->Pat; break;
            case Msr.MtrrDefault: value = _mtrrDefault; break;
            case >= Msr.MtrrPhysical and < Msr.MtrrPhysical + MtrrCount * 2: value =
                _mtrrPhysical[msr - Msr.MtrrPhysical]; break;
            case >= Msr.McBank and < Msr.McBank + McBanks * McRegistersPerBank: value = _mcBanks[msr - Msr.McBank];
            break;
            case Msr.Pkrs: value = state->Pkrs; break;
            case Msr.TscDeadline: value = Apic?.TscDeadline ?? _tscDeadline; break;
            case >= Msr.X2Apic and <= Msr.X2ApicEnd:
                if (_eoiElided) SettleEoi();
                return Apic is { } apic && apic.ReadMsr(msr, out value);
            case Msr.Xss: value = state->Xss; break;
            case Msr.Efer: value = state->Efer; break;
            case Msr.Star: value = state->Star; break;
            case Msr.LStar: value = state->LStar; break;
            case Msr.CStar: value = state->CStar; break;
            case Msr.FMask: value = state->FMask; break;
            case Msr.FsBase: value = state->Fs.Base; break;
            case Msr.GsBase: value = state->Gs.Base; break;
            case Msr.KernelGsBase: value = state->KernelGsBase; break;
            case Msr.TscAux: value = state->TscAux; break;
            default:
                if (Array.IndexOf(FixedMtrrNumbers, msr) is var range and >= 0) value = _mtrrFixed[range];
                else if (HasHyperVMsr(msr)) return TryReadHyperVMsr(msr, out value);
                else if (_cpuid.HasKvm && TryReadKvmMsr(msr, out value)) return true;
                else return ReadVendorMsr(msr, out value);
                break;
        }
        return true;
    }

    /// <summary>False raises #GP.</summary>
    public bool WriteMsr(uint msr, ulong value)
    {
        if (!HasMsr(msr)) return false;
        CpuState* state = State;
        switch (msr)
        {
            case Msr.Tsc: SetTsc(value); break;
            case Msr.ApicBase:
                const ulong x2Apic = 1 << 10;
                if ((value & x2Apic) != 0 && (_msrs & MsrFeatures.X2Apic) == 0) return false;
                if ((value & ~_physicalMask) != 0) return false;
                if (Apic is not { } owner || !owner.WriteBaseMsr(value)) return false;
                FlushTlb(global: true);                             // the register page may have moved
                break;
            case Msr.FeatureControl:
                if ((_featureControl & FeatureControlLock) != 0) return false;
                _featureControl = value;
                break;
            case Msr.TscAdjust:
                state->TscOffset += value - state->TscAdjust;
                state->TscAdjust = value;
                TscChanged();
                break;
            case Msr.MicrocodeRevision: break;
            case Msr.SysenterCs: state->SysenterCs = (uint)value; break;
            case Msr.SysenterEsp: return SetEntry(ref state->SysenterEsp, value);
            case Msr.SysenterEip: return SetEntry(ref state->SysenterEip, value);
            case Msr.McgStatus: _mcgStatus = value; break;
            case Msr.McgControl:
                if (value is not (0 or ulong.MaxValue)) return false;
                _mcgControl = value;
                break;
            case Msr.MiscEnable: state->MiscEnable = value & ~MiscEnableFixed | state->MiscEnable & MiscEnableFixed;
            break;
            case Msr.DebugControl:
                if ((value & ~DebugControlKnown) != 0) return false;
                _debugControl = value & (DebugControlLbr | DebugControlBtf);
                break;
            case Msr.Pat:
                if (!IsPat(value)) return false;
                state->Pat = value;
                break;
            case Msr.MtrrDefault:
                if ((value & ~0xCFFUL) != 0 || !IsMemoryType((byte)value, pat: false)) return false;
                _mtrrDefault = value;
                break;
            case >= Msr.MtrrPhysical and < Msr.MtrrPhysical + MtrrCount * 2:
                if (!IsMtrr(msr - Msr.MtrrPhysical, value)) return false;
                _mtrrPhysical[msr - Msr.MtrrPhysical] = value;
                break;
            case >= Msr.McBank and < Msr.McBank + McBanks * McRegistersPerBank:
                return WriteMcBank(msr - Msr.McBank, value);
            case Msr.Pkrs:
                if (value >> 32 != 0) return false;
                if (state->Pkrs == value) break;
                state->Pkrs = value;
                FlushTlb(global: true);                             // translations have the rights built in
                break;
            case Msr.TscDeadline:
                if (Apic is { } timer) timer.TscDeadline = value;
                else _tscDeadline = value;
                break;
            case >= Msr.X2Apic and <= Msr.X2ApicEnd: return Apic is { } apic && apic.WriteMsr(msr, value);
            case Msr.Xss: return value == 0;
            case Msr.Efer: SetEfer(value); break;
            case Msr.Star: state->Star = value; break;
            case Msr.LStar: return SetAddress(ref state->LStar, value);
            case Msr.CStar: return SetAddress(ref state->CStar, value);
            case Msr.FMask:
                if (value >> 32 != 0) return false;
                state->FMask = value;
                break;
            case Msr.FsBase: return SetAddress(ref state->Fs.Base, value);
            case Msr.GsBase: return SetAddress(ref state->Gs.Base, value);
            case Msr.KernelGsBase: return SetAddress(ref state->KernelGsBase, value);
            case Msr.TscAux:
                if (value >> 32 != 0) return false;
                state->TscAux = value;
                break;
            default:
                if (Array.IndexOf(FixedMtrrNumbers, msr) is var range and >= 0)
                {
                    for (int i = 0; i < 64; i += 8) if (!IsMemoryType((byte)(value >> i), pat: false)) return false;
                    _mtrrFixed[range] = value;
                }
                else if (HasHyperVMsr(msr)) return TryWriteHyperVMsr(msr, value);
                else if (_cpuid.HasKvm && TryWriteKvmMsr(msr, value)) return true;
                else return WriteVendorMsr(msr, value);
                break;
        }
        return true;
    }

    /// <summary>Features that registers go with.</summary>
    [Flags]
    enum MsrFeatures
    {
        None = 0, MachineChecks = 1, Tsc = 2, Apic = 4, TscAdjust = 8, Sysenter = 0x10, Mtrr = 0x20, McBanks = 0x40,
            Pat = 0x80, TscDeadline = 0x100,
        Pks = 0x200, Xsaves = 0x400, Efer = 0x800, Syscall = 0x1000, Long = 0x2000, TscAux = 0x4000, X2Apic = 0x8000,
        Intel = 0x10000, P6 = 0x20000,
    }

    readonly MsrFeatures _msrs;

    static MsrFeatures MsrFeaturesOf(Model.Cpuid cpuid)
    {
        var all = MsrFeatures.None;
        foreach ((string names, MsrFeatures feature) in s_msrFeatures)
            if (names.Split(' ').Any(cpuid.Has)) all |= feature;
        if (cpuid.Model.Vendor == Tcg.Model.CpuModel.Intel) all |= MsrFeatures.Intel;
        if (cpuid.Model.Family >= 6) all |= MsrFeatures.P6;
        return all;
    }

    /// <summary>Any of the names is enough.</summary>
    static readonly (string, MsrFeatures)[] s_msrFeatures =
    [
        ("mce mca", MsrFeatures.MachineChecks), ("tsc", MsrFeatures.Tsc), ("apic", MsrFeatures.Apic),
            ("tsc-adjust", MsrFeatures.TscAdjust), ("sep", MsrFeatures.Sysenter),
        ("mtrr", MsrFeatures.Mtrr), ("mca", MsrFeatures.McBanks), ("pat", MsrFeatures.Pat),
            ("tsc-deadline", MsrFeatures.TscDeadline), ("pks", MsrFeatures.Pks),
        ("xsaves", MsrFeatures.Xsaves), ("syscall nx lm", MsrFeatures.Efer), ("syscall", MsrFeatures.Syscall),
            ("lm", MsrFeatures.Long), ("rdtscp rdpid", MsrFeatures.TscAux),
        ("x2apic", MsrFeatures.X2Apic),
    ];

    /// <summary>False: CPUID does not show the feature that the register belongs to.</summary>
    bool HasMsr(uint msr)
    {
        MsrFeatures needed = msr switch
        {
            Msr.McAddress or Msr.McType => MsrFeatures.MachineChecks,
            Msr.Tsc => MsrFeatures.Tsc,
            Msr.ApicBase => MsrFeatures.Apic,
            Msr.TscAdjust => MsrFeatures.TscAdjust,
            Msr.CoreThreadCount or Msr.FeatureControl or Msr.MiscEnable => MsrFeatures.Intel | MsrFeatures.P6,
            Msr.MicrocodeRevision or Msr.DebugControl => MsrFeatures.P6,
            >= Msr.SysenterCs and <= Msr.SysenterEip => MsrFeatures.Sysenter,
            Msr.MtrrCap or Msr.MtrrDefault or >= Msr.MtrrPhysical and < Msr.MtrrPhysical + MtrrCount
                * 2 or >= FirstFixedMtrr and <= LastFixedMtrr => MsrFeatures.Mtrr,
            >= Msr.McgCap and <= Msr.McgControl or >= Msr.McBank and < Msr.McBank + McBanks * McRegistersPerBank =>
                MsrFeatures.McBanks,
            Msr.Pat => MsrFeatures.Pat,
            Msr.TscDeadline => MsrFeatures.TscDeadline,
            Msr.Pkrs => MsrFeatures.Pks,
            Msr.Xss => MsrFeatures.Xsaves,
            Msr.Efer => MsrFeatures.Efer,
            Msr.Star => MsrFeatures.Syscall,
            >= Msr.LStar and <= Msr.FMask or >= Msr.FsBase and <= Msr.KernelGsBase => MsrFeatures.Long,
            Msr.TscAux => MsrFeatures.TscAux,
            _ => MsrFeatures.None,
        };
        return (_msrs & needed) == needed;
    }

    const uint FirstFixedMtrr = 0x250, LastFixedMtrr = 0x26F;

    /// <summary>UC, WC, WT, WP, WB; the PAT has UC- too.</summary>
    static bool IsMemoryType(byte type, bool pat) => type is 0 or 1 or 4 or 5 or 6 || pat && type == 7;

    static bool IsPat(ulong value)
    {
        for (int i = 0; i < 64; i += 8) if (!IsMemoryType((byte)(value >> i), pat: true)) return false;
        return true;
    }

    bool IsMtrr(uint register, ulong value)
    {
        bool isMask = (register & 1) != 0;
        if ((value & ~_physicalMask) != 0) return false;
        return isMask ? (value & 0x7FF) == 0 : (value & 0xF00) == 0 && IsMemoryType((byte)value, pat: false);
    }

    bool SetAddress(ref ulong register, ulong value)
    {
        if (!IsCanonicalBase(value)) return false;
        register = value;
        return true;
    }

    /// <summary>SYSENTER's: AMD's have 32 bits, as the instruction does not exist in its long mode. APM vol. 2, section
    /// 6.1.2.</summary>
    bool SetEntry(ref ulong register, ulong value) => SetAddress(ref register, IsAmd ? (uint)value : value);

    void ResetMsrs()
    {
        Array.Clear(_mtrrPhysical);
        Array.Clear(_mtrrFixed);
        Array.Clear(_mcBanks);
        ResetVendorMsrs();
        (_mtrrDefault, _featureControl, _mcgStatus, _mcgControl, _debugControl, _tscDeadline) =
            (0, 0, 0, ulong.MaxValue, 0, 0);
        for (int bank = 0; bank < McBanks; bank++) _mcBanks[bank * McRegistersPerBank] = ulong.MaxValue;
        State->Pat = ResetPat;
        State->MiscEnable = MiscEnableFastStrings | MiscEnableNoBranchTraces | (HasMonitor ? MiscEnableMonitor : 0);
        ResetKvm();
        ResetHyperV();
        ResetTsc();
    }
}
