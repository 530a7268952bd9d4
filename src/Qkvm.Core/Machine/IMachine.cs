using Qkvm.Core.Accel;
using Qkvm.Core.Devices;
using Qkvm.Core.Display;
using Qkvm.Core.State;
using Qkvm.Host;

namespace Qkvm.Core.Machine;

/// <summary>How a debugger lets a machine go on.</summary>
/// <param name="Runs">These vCPUs run; the others stand.</param>
/// <param name="Steps">Of these, those that make one step; null: none.</param>
/// <param name="Undisturbed">The step takes no interrupts.</param>
/// <param name="StopsClock">The guest's time stands still for a step.</param>
public sealed record DebugRun(Func<IVCpu, bool> Runs, Func<IVCpu, bool>? Steps = null, bool Undisturbed = true,
    bool StopsClock = true);

/// <summary>A machine as monitors, debuggers and migration handle it. All members: main loop, under the machine
/// lock.</summary>
/// <remarks>Pausing lets go of the lock until the last vCPU has stopped: call it at the top of a command, never from
/// register code, which has <see cref="IBoard.RequestPause"/> and its sisters.</remarks>
public interface IMachine
{
    MachineConfig Config { get; }
    GuestActions Actions { get; set; }

    /// <summary>Migration's capability "events": each step of one is told.</summary>
    bool TellsMigration { get; set; }

    /// <summary>How one would be done.</summary>
    MigrationParameters Migration { get; set; }
    IBoard Board { get; }
    IAccelerator Accelerator { get; }
    IReadOnlyList<IVCpu> Cpus { get; }

    /// <summary>The host's number of the thread that runs this vCPU.</summary>
    int ThreadOf(IVCpu cpu);
    RunState State { get; }

    EventBus Events { get; }

    /// <summary>A vCPU came to one of <see cref="DebugPoints"/> or finished a step; the machine is in
    /// <see cref="RunState.Debug"/>. Perhaps before <see cref="Resume(DebugRun)"/> returns.</summary>
    event Action<IVCpu, DebugStop>? DebugStopped;

    /// <summary>Where the machine stops. Set while it does not run, to a list that does not change.</summary>
    IReadOnlyList<DebugPoint> DebugPoints { get; set; }

    /// <summary>Whether <see cref="DebugPoints"/> may be these.</summary>
    bool CanStopAt(IReadOnlyList<DebugPoint> points);

    /// <summary>Goes on as a debugger says, until the next stop; as <see cref="Resume()"/> otherwise.</summary>
    void Resume(DebugRun run);

    /// <summary>Returns with all vCPUs and the clock stopped. Requests to disks may still complete:
    /// <see cref="WhenDisksAreIdle"/>.</summary>
    void Pause(RunState state = RunState.Paused);

    /// <summary>Keeps the vCPUs still for the time of a look at them. Nobody is told, and the clock goes on.</summary>
    void WhileStill(Action look);

    /// <summary>Goes on; does nothing to a machine that runs or was shut down.</summary>
    void Resume();

    /// <summary>system_reset: as soon as the disks are idle, which is mostly at once; a running machine goes on
    /// running.</summary>
    void Reset(ShutdownCause cause = ShutdownCause.HostReset);

    /// <summary>system_powerdown: presses the power button.</summary>
    void PowerDown();

    /// <summary>The guest can go to sleep, and be woken.</summary>
    bool CanSleep => false;

    /// <summary>system_wakeup; throws CommandException where nobody sleeps.</summary>
    void WakeUp() => throw new CommandException("wake-up from suspend is not supported by this guest");

    /// <summary>Ends the program once the loop is left.</summary>
    void Quit(ShutdownCause cause = ShutdownCause.HostQuit, int exitCode = 0);

    /// <summary>boot_set: -boot's letters, for the next start. Throws CommandException where nobody asks.</summary>
    void SetBootOrder(string letters);

    /// <summary>NMI to all vCPUs (the `nmi` command).</summary>
    void InjectNmi();

    /// <summary>The devices as `info qtree` shows them: the main system bus.</summary>
    QBus Tree { get; }

    /// <summary>Devices in slots of the board, which the tree has not: processors. Null: no machine of such.</summary>
    QBus? Slots => null;

    /// <summary>What the guest has last said of each slot that ACPI knows.</summary>
    IReadOnlyList<AcpiOst> AcpiSlots => [];

    /// <summary>device_add; throws ConfigurationException.</summary>
    void AddDevice(DeviceConfig device);

    /// <summary>device_del; throws CommandException for an unknown id or a device that cannot go.</summary>
    void RemoveDevice(string id);

    /// <summary>Screens, the primary first.</summary>
    IReadOnlyList<IDisplaySource> Displays => [];

    /// <summary>The RAM that migration and snapshots carry beside the state.</summary>
    IReadOnlyList<GuestRam> RamBlocks => [];

    /// <summary>Runs the action as soon as no request to a disk is in flight: now, or later on the main loop. A disk
    /// that never answers
    /// holds up nothing else.</summary>
    void WhenDisksAreIdle(Action action);

    /// <summary>Saves or loads everything but RAM, of a paused machine whose disks are idle: clock, board, devices,
    /// vCPUs.</summary>
    void Exchange(StateStream state);
}
