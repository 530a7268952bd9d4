using System.Runtime.InteropServices;
using Qkvm.Accel.Tcg.Model;
using Qkvm.Accel.Tcg.Translator;
using Qkvm.Core.Accel;
using Qkvm.Core.Memory;

namespace Qkvm.Accel.Tcg;

// SAFETY: State and _jit lie in the vCPU's own region, which is freed after its thread has ended.
/// <summary>Making, resetting and freeing a vCPU.</summary>
public sealed unsafe partial class Cpu : IDisposable
{
    readonly CodeMaps _code;
    bool _disposed;

    static int JitAt => sizeof(CpuState) + 63 & -64;

    /// <param name="cpuid">Null: a single "max".</param>
    /// <param name="codeCache">Bytes for translations and what is known of them.</param>
    /// <param name="smm">What it sees in system management mode; null: SMIs are ignored.</param>
    /// <param name="partition">Hyper-V's, of all processors; null: its own.</param>
    internal Cpu(int index, AddressSpace memory, AddressSpace ports, CodeMaps code, Cpuid? cpuid = null,
        int codeCache = DefaultCodeCache, AddressSpace? smm = null, HyperVPartition? partition = null)
    {
        cpuid ??= CpuModels.Resolve(new CpuSetup("max", [], index, 1, 1, 1));
        (Index, _memory, _smmMemory, Ports, _code, _cpuid) = (index, memory, smm, ports, code, cpuid);
        Memory = memory;
        _partition = partition ?? new HyperVPartition();
        _decodable = cpuid.DecodableFeatures();
        _physicalMask = (1UL << cpuid.PhysicalBits) - 1;
        _hasGigabytePages = cpuid.Has("pdpe1gb");
        _hasLargePages36 = cpuid.Has("pse36");
        _msrs = MsrFeaturesOf(cpuid);
        IsAmd = cpuid.Model.IsAmd;
        _vendorMsrs = VendorMsrs.Of(cpuid);
        _vendorValues = new ulong[CountOf(_vendorMsrs)];
        _baseShift = cpuid.Has("la57") ? 7 : 16;
        TscHertz = cpuid.TscHertz;
        HasSmap = cpuid.Has("smap");
        _hasKvmClock = cpuid.Has("kvmclock");
        _isKvmClockStable = cpuid.Has("kvmclock-stable-bit");
        _hasKvmEoi = cpuid.Has("kvm-pv-eoi");
        _hasKvmKick = cpuid.Has("kvm-pv-unhalt");
        HasLam = cpuid.Has("lam");
        HasLahf = cpuid.Has("lahf-lm");
        HasInvpcid = cpuid.Has("invpcid");
        HasMonitor = cpuid.Has("monitor");
        HasRdpid = cpuid.Has("rdpid");
        HasRdtscp = cpuid.Has("rdtscp");
        HasMmxExtensions = cpuid.Has("mmxext");
        MxcsrValid = cpuid.Has("misalignsse") ? 0x2FFFFu : 0xFFFF;
        HasXinuse = cpuid.Has("xgetbv1");
        HasXsavec = cpuid.Has("xsavec");
        HasSvm = cpuid.Has("svm");
        _hasNestedPaging = cpuid.Has("npt");
        _hasNextRip = cpuid.Has("nrip-save");
        _hasDecodeAssists = cpuid.Has("decodeassists");
        _hasPauseFilter = cpuid.Has("pause-filter");
        _hasPauseThreshold = cpuid.Has("pfthreshold");
        Xcr0Supported = cpuid.Xcr0Mask;
        HasAvx512 = cpuid.Has("avx512f");
        Cr4Supported = Cr4BitsOf(cpuid);
        EferSupported = EferBitsOf(cpuid);
        int data = (codeCache >> 3) * DataEighths & -(int)PageSize;
        _region = new CodeRegion(JitAt + sizeof(JitState), data, codeCache - data & -(int)PageSize);
        State = (CpuState*)_region.State;
        _jit = (JitState*)(_region.State + JitAt);
        _context = _contexts[0];
        UseContext(_context);
        code.Add(this);
        Reset();
    }

    public int Index { get; }

    /// <summary>Power-on state; all but the boot processor wait for INIT and SIPI.</summary>
    public void Reset()
    {
        _jit->X87Loaded = 0;
        *State = default;
        State->SmBase = CpuRegisters.DefaultSmBase;
        ResetRegisters(isInit: false);
        UseMemory();
        FindVectorsInUse();
        State->WaitForSipi = (byte)(Index == 0 ? 0 : 1);
        Interlocked.And(ref _attention, CallNotice);
        ModeChanged();
        FlushTlb(global: true);
        Trace?.Reset(this);
    }

    public void Dispose()
    {
        if (_disposed) return;
        _disposed = true;
        if (Lockstep)
            Console.Error.WriteLine($"lockstep: CPU {Index}: {Compared} instructions compared, {Differences} differ");
        _code.Remove(this);
        Qkvm.Host.Libc.munmap(_arena, ArenaSize);
        NativeMemory.Free(_buckets);
        NativeMemory.Free(_slots);
        NativeMemory.Free(_transients);
        NativeMemory.Free(_none);
        foreach (TlbContext context in _contexts) context.Dispose();
        DisposeOtherWorld();
        NativeMemory.Free(_translations);
        NativeMemory.Free(_lower);
        NativeMemory.Free(_tagPages);
        NativeMemory.Free(_upper);
        _engine?.Dispose();
        _region.Dispose();
        foreach (nint page in _codePages.Values) NativeMemory.Free((void*)page);
        _wake.Dispose();
    }

    /// <summary>Intel SDM vol. 3, table 9-1; an INIT leaves MSRs, vector registers, x87 and CR0.CD and NW as they
    /// were.</summary>
    void ResetRegisters(bool isInit)
    {
        const ushort Data = Segment.Present | Segment.System | Segment.Writable | Segment.Accessed;
        CpuState* state = State;
        for (int i = 0; i < 16; i++) state->Gpr[i] = 0;
        Rdx = ProcessorSignature;
        state->Rip = 0xFFF0;
        state->RflagsSystem = 2;
        (state->FlagsResult, state->FlagsCarries, state->FlagsPatch) = (1, 0, 0);
        ArithmeticFlags = 0;
        for (int i = 0; i < Seg.Count; i++) state->Segment(i) = new Segment { Limit = 0xFFFF, Access = Data };
        state->Cs = new Segment { Selector = 0xF000, Base = 0xFFFF0000, Limit = 0xFFFF, Access = Data | Segment.Code };
        state->Ldtr = new Segment { Limit = 0xFFFF, Access = 0x82 };
        state->Tr = new Segment { Limit = 0xFFFF, Access = 0x8B };
        (state->GdtrBase, state->IdtrBase, state->GdtrLimit, state->IdtrLimit) = (0, 0, 0xFFFF, 0xFFFF);
        const ulong Caches = Tcg.Cr0.Cd | Tcg.Cr0.Nw;
        state->Cr0 = Tcg.Cr0.Et | (isInit ? state->Cr0 & Caches : Caches);
        (state->Cr2, state->Cr3, state->Cr4, state->Efer) = (0, 0, 0, 0);
        (state->Pkru, state->Pkrs) = isInit ? (state->Pkru, state->Pkrs) : (0, 0);
        for (int i = 0; i < 4; i++) state->Dr[i] = 0;
        (state->Dr[6], state->Dr[7]) = (0xFFFF0FF0, 0x400);
        (_cr8, _dataBreakpointHit, _waitsForStore, _isFrozen) = (0, false, false, false);
        EndError();
        _monitored = null;
        (state->Cpl, state->InterruptShadow, state->Halted, state->NmiBlocked, state->NmiPending) = (0, 0, 0, 0, 0);
        ResetSvm(isInit);
        if (isInit) return;
        state->Xcr0 = 1;
        // FCW 0040h; FTW 5555h is all zeros, i.e. tags valid
        state->Xsave.Bytes[XsaveArea.Fcw] = 0x40;
        state->Xsave.Bytes[XsaveArea.Ftw] = 0xFF;
        *(uint*)(state->Xsave.Bytes + XsaveArea.Mxcsr) = 0x1F80;
        ResetMsrs();
    }
}
