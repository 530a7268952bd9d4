using System.Runtime.InteropServices;
using Qkvm.Core.State;
using Qkvm.Host;

namespace Qkvm.Accel.Kvm;

/// <summary>struct kvm_clock_data.</summary>
[StructLayout(LayoutKind.Sequential)]
unsafe struct KvmClockData
{
    public ulong Clock;
    public uint Flags, Pad;
    public ulong RealTime, HostTsc;
    public fixed uint Rest[4];
}

// SAFETY: the structure lies on the stack for the time of the call.
/// <summary>The time that the kernel tells guests by kvmclock: it stands while the machine does, and belongs to its
/// state. KVM_GET_CLOCK and KVM_SET_CLOCK of Documentation/virt/kvm/api.rst.</summary>
sealed unsafe class KvmClock(int machine)
{
    ulong _stopped;
    bool _stands;

    public void Stop()
    {
        if (!_stands) _stopped = Read();
        _stands = true;
    }

    public void Start()
    {
        if (_stands) Write(_stopped);
        _stands = false;
    }

    public void Exchange(StateStream state)
    {
        ulong now = _stands ? _stopped : Read();
        state.Field("nanoseconds", ref now);
        if (!state.IsLoading) return;
        _stopped = now;
        if (!_stands) Write(now);
    }

    ulong Read()
    {
        KvmClockData data = default;
        KvmApi.Call(machine, KvmApi.GetClock, &data, "cannot read the guest's clock");
        return data.Clock;
    }

    void Write(ulong nanoseconds)
    {
        var data = new KvmClockData { Clock = nanoseconds };
        KvmApi.Call(machine, KvmApi.SetClock, &data, "cannot set the guest's clock");
    }
}
