using Qkvm.Accel.Tcg.Translator;

namespace Qkvm.Accel.Tcg;

// SAFETY: a record's address is compared alone.
/// <summary>A vCPU that waits for another in a loop of PAUSE.</summary>
public sealed unsafe partial class Cpu
{
    const int YieldsBeforeNap = 8, YieldsBetweenNaps = 2;

    /// <summary>Milliseconds.</summary>
    const int LongestNap = 16;

    ExitRecord* _yieldedAt;
    int _yields;

    bool Yield(ExitRecord* record, ulong rip)
    {
        _jit->PausesLeft = JitState.PausesPerYield;
        if (_attention != 0)
        {
            UnpackState(rip);
            return false;
        }
        LetOthersRun(record);
        Enter(record->Host, _engine!.Common.EnterWithVectors);
        return true;
    }

    /// <summary>Gives the host's processor away. Where vCPUs are more than those, what all wait for may be a thread
    /// that has none, and the scheduler lets each of the waiting have its turn before: they sleep, the longer the more
    /// they are.</summary>
    void LetOthersRun(ExitRecord* record)
    {
        if (record != _yieldedAt) _yields = 0;
        _yieldedAt = record;
        int each = _code.CpuCount / Environment.ProcessorCount;
        if (_code.CpuCount <= Environment.ProcessorCount || ++_yields < YieldsBeforeNap)
        {
            Thread.Yield();
            return;
        }
        _yields = YieldsBeforeNap - YieldsBetweenNaps;
        _sleeping = true;
        StoresNothing();
        if (_attention == 0) _wake.Wait(Math.Clamp(each / 8, 1, LongestNap));
        StoresAgain();
        _sleeping = false;
    }
}
