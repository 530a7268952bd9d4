using Qkvm.Core.Logging;
using Qkvm.Core.Machine;
using Qkvm.Core.Time;
using Qkvm.Host;

namespace Qkvm.Machines;

/// <summary>What exists before the machine: its lock, main loop and clock. Backends are opened with them, then the
/// machine is built over them.</summary>
public sealed class MachineEnvironment : IDisposable
{
    public MachineEnvironment()
    {
        Loop = new EventLoop(Lock.Run);
        Clock = new VirtualClock(Loop.Wake);
        Loop.Timers = Clock.RunExpired;
    }

    public MachineLock Lock { get; } = new();
    public EventLoop Loop { get; }
    public VirtualClock Clock { get; }
    public EventBus Events { get; } = new();

    /// <summary>What -d and -trace ask for; null: nothing can be asked.</summary>
    public MachineLog? Log { get; set; }

    /// <summary>Moves the data of devices that name no -object iothread.</summary>
    public IoThread DataThread { get; } = new("data");

    public void Dispose()
    {
        DataThread.Dispose();
        Loop.Dispose();
    }
}
