using Qkvm.Core.Accel;

namespace Qkvm.Accel.Tcg;

// SAFETY: State and _jit lie in the vCPU's own region, which is freed after its thread has ended.
/// <summary>KVM's paravirtual interface, for -cpu …,kvm=on: clock, kicks, interrupts without EOI. Linux,
/// Documentation/virt/kvm/x86: cpuid.rst, msr.rst, hypercalls.rst.</summary>
public sealed unsafe partial class Cpu
{
    static class KvmMsr
    {
        public const uint OldWallClock = 0x11, OldSystemTime = 0x12, WallClock = 0x4B564D00, SystemTime = 0x4B564D01,
            Eoi = 0x4B564D04;
    }

    const ulong KvmEnabled = 1;

    ulong _kvmWallClock, _kvmSystemTime, _kvmEoi;

    /// <summary>Another vCPU has asked to end a HLT, this one or the next.</summary>
    volatile bool _kicked;

    /// <summary>The guest may do without the EOI of the interrupt it serves; whether it has is in its memory.</summary>
    bool _eoiElided;

    bool TryReadKvmMsr(uint msr, out ulong value)
    {
        switch (msr)
        {
            case KvmMsr.OldWallClock or KvmMsr.WallClock when _hasKvmClock: value = _kvmWallClock; return true;
            case KvmMsr.OldSystemTime or KvmMsr.SystemTime when _hasKvmClock: value = _kvmSystemTime; return true;
            case KvmMsr.Eoi when _hasKvmEoi: value = _kvmEoi; return true;
            default: value = 0; return false;
        }
    }

    bool TryWriteKvmMsr(uint msr, ulong value)
    {
        const ulong reservedOfEoi = 2, wallClockAlignment = 3;
        switch (msr)
        {
            case KvmMsr.OldWallClock or KvmMsr.WallClock when _hasKvmClock:
                if ((value & wallClockAlignment) != 0) return false;
                _kvmWallClock = value;
                WriteWallClock(value);
                return true;
            case KvmMsr.OldSystemTime or KvmMsr.SystemTime when _hasKvmClock:
                _kvmSystemTime = value;
                UpdateKvmClock();
                return true;
            case KvmMsr.Eoi when _hasKvmEoi:
                if ((value & reservedOfEoi) != 0) return false;
                if (_eoiElided) SettleEoi();
                _kvmEoi = value;
                return true;
            default: return false;
        }
    }

    void ResetKvm() => (_kvmWallClock, _kvmSystemTime, _kvmEoi, _eoiElided, _kicked) = (0, 0, 0, false, false);

    // Clock

    /// <summary>struct pvclock_vcpu_time_info, if the guest has said where. Time = system_time + (TSC - tsc_timestamp)
    /// scaled, and both run off the same clock here, so that one update holds until the guest moves its TSC.</summary>
    void UpdateKvmClock()
    {
        const byte stable = 1;
        if (!_hasKvmClock || (_kvmSystemTime & KvmEnabled) == 0) return;
        ulong at = _kvmSystemTime & ~KvmEnabled, now = HostNanoseconds();
        ulong tsc = HostTsc(now) + State->TscOffset;
        (uint multiplier, sbyte shift) = KvmScale(TscHertz);
        uint version = (uint)Memory.Read(at, 4) | 1;                // odd while the rest is being written
        Memory.Write(at, 4, version);
        Memory.Write(at + 8, 8, tsc);
        Memory.Write(at + 16, 8, now);
        Memory.Write(at + 24, 4, multiplier);
        Memory.Write(at + 28, 1, (byte)shift);
        Memory.Write(at + 29, 1, _isKvmClockStable ? stable : 0u);
        Memory.Write(at, 4, version + 1);
    }

    /// <summary>From ticks to nanoseconds: ticks shifted left, times the multiplier, over 2 to the 32.</summary>
    internal static (uint Multiplier, sbyte Shift) KvmScale(ulong hertz)
    {
        // The shifted rate lies above 1 GHz, so that the multiplier fits into 32 bits, and not above 2 GHz.
        UInt128 rate = hertz;
        sbyte shift = 0;
        for (; rate <= Nanoseconds; shift++) rate <<= 1;
        for (; rate > 2 * Nanoseconds; shift--) rate >>= 1;
        UInt128 multiplier = ((UInt128)Nanoseconds << 32) / rate;
        if (shift < 0) multiplier = ((UInt128)Nanoseconds << 32 << -shift) / hertz;
        return ((uint)multiplier, shift);
    }

    /// <summary>struct pvclock_wall_clock: the wall clock when the other one was 0.</summary>
    void WriteWallClock(ulong at)
    {
        const ulong ticksPerSecond = 10_000_000, nanosecondsPerTick = 100;
        ulong ticks = (ulong)(DateTime.UtcNow - DateTime.UnixEpoch).Ticks,
            since = HostNanoseconds() / nanosecondsPerTick, zero = ticks - since;
        uint version = (uint)Memory.Read(at, 4) | 1;
        Memory.Write(at, 4, version);
        Memory.Write(at + 4, 4, (uint)(zero / ticksPerSecond));
        Memory.Write(at + 8, 4, (uint)(zero % ticksPerSecond * nanosecondsPerTick));
        Memory.Write(at, 4, version + 1);
    }

    // Interrupts without EOI

    /// <summary>An interrupt has just been taken: if nothing will wait for its end, the guest is told that it need not
    /// say so.</summary>
    void OfferEoi(ILocalApic apic)
    {
        if ((_kvmEoi & KvmEnabled) == 0 || !apic.TryElideEoi()) return;
        _eoiElided = true;
        Memory.Write(_kvmEoi & ~KvmEnabled, 4, Memory.Read(_kvmEoi & ~KvmEnabled, 4) | KvmEnabled);
    }

    /// <summary>Before anybody looks at the local APIC: has the guest ended the interrupt? If not, it must do so in
    /// full now.</summary>
    void SettleEoi()
    {
        ulong at = _kvmEoi & ~KvmEnabled;
        uint word = (uint)Memory.Read(at, 4);
        bool isEnded = (word & KvmEnabled) == 0;
        if (!isEnded && !Apic!.HasWaiting) return;
        if (!isEnded) Memory.Write(at, 4, word & ~(uint)KvmEnabled);
        _eoiElided = false;
        Apic!.SettleEoi(isEnded);
    }

    // Hypercalls

    /// <summary>VMCALL and VMMCALL: number in RAX, arguments in RBX, RCX, RDX, RSI; outside 64-bit mode 32 bits of
    /// each.</summary>
    internal void Hypercall()
    {
        const ulong pollInterrupts = 1, kickCpu = 5;
        const long notPermitted = -1, noSuchCall = -1000;
        if (Enlightenments.IsOn && _partition.GuestOsId != 0)
        {
            CallHyperV();
            return;
        }
        if (!_cpuid.HasKvm) throw Ud();
        ulong mask = Is64Bit ? ulong.MaxValue : uint.MaxValue;
        long result = noSuchCall;
        if (Cpl != 0) result = notPermitted;
        else if ((Rax & mask) == pollInterrupts) result = 0;
        else if ((Rax & mask) == kickCpu && _hasKvmKick)
        {
            _code.Find((int)(Rcx & mask))?.EndHaltSoon();
            result = 0;
        }
        Rax = (ulong)result & mask;
    }

    /// <summary>From another vCPU's thread.</summary>
    void EndHaltSoon()
    {
        _kicked = true;
        Call(CallSignal);
    }

    bool TakeKick()
    {
        if (!_kicked) return false;
        _kicked = false;
        return true;
    }

    readonly bool _hasKvmClock, _isKvmClockStable, _hasKvmEoi, _hasKvmKick;
}
