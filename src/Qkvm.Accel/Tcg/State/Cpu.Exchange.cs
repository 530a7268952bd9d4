using Qkvm.Core.Accel;
using Qkvm.Core.State;

namespace Qkvm.Accel.Tcg;

// SAFETY: State and _jit lie in the vCPU's own region, which is freed after its thread has ended.
/// <summary>Saving and loading: the registers that every accelerator has, and what this one keeps beside
/// them.</summary>
public sealed unsafe partial class Cpu
{
    public void Exchange(StateStream state)
    {
        CpuRegisters registers = ReadRegisters();
        registers.Exchange(state.Section("registers"));
        ExchangeOwn(state.Section("tcg"));
        if (state.IsLoading) WriteRegisters(registers);
    }

    void ExchangeOwn(StateStream state)
    {
        CpuState* s = State;
        state.Field("init-pending", ref s->InitPending);
        state.Field("sipi-pending", ref s->SipiPending);
        state.Field("sipi-vector", ref s->SipiVector);
        state.Field("smi-pending", ref s->SmiPending);
        if (_smmMemory == null) s->SmiPending = 0;
        state.Field("data-breakpoint-hit", ref _dataBreakpointHit);
        state.Field("x87-error", ref _tellsError);
        state.Field("kvm-eoi-elided", ref _eoiElided);
        ExchangeArray(state, "mtrr-physical", _mtrrPhysical);
        ExchangeArray(state, "mtrr-fixed", _mtrrFixed);
        ExchangeArray(state, "mc", _mcBanks);
        ExchangeArray(state, "vendor", _vendorValues);
        ExchangeSvm(state);
    }

    static void ExchangeArray(StateStream state, string name, ulong[] values)
    {
        for (int i = 0; i < values.Length; i++) state.Field($"{name}-{i}", ref values[i]);
    }
}
