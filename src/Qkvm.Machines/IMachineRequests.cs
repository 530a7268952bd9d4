using Qkvm.Core.Accel;
using Qkvm.Core.Machine;

namespace Qkvm.Machines;

/// <summary>What a board passes on to the machine's run control; from any thread, never waiting.</summary>
public interface IMachineRequests
{
    void RequestShutdown(ShutdownCause cause, int exitCode);
    void RequestReset(ShutdownCause cause);
    void RequestPause(string reason);
    void RequestWatchdog();

    void RequestSleep();
    void RequestWakeUp(WakeCause cause);

    /// <summary>Runs on the main loop, under the lock, while no vCPU runs.</summary>
    void RequestStill(Action work);

    /// <summary>One more vCPU, in its power-on state from now on. Under the lock, while no vCPU runs.</summary>
    void AddCpu(IVCpu cpu);

    /// <summary>As <see cref="AddCpu"/>.</summary>
    void RemoveCpu(IVCpu cpu);

    /// <summary>Under the lock.</summary>
    void Raise(MachineEvent happened);

    /// <summary>A line for the user: something is not as asked for, and the machine goes on without it.</summary>
    void Warn(string line);
}
