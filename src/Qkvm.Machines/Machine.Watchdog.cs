using Qkvm.Core.Machine;

namespace Qkvm.Machines;

/// <summary>What happens when a watchdog runs out.</summary>
public sealed partial class Machine
{
    public void RequestWatchdog() => _loop.Post(() =>
    {
        Events.Raise(new WatchdogEvent(Actions.Watchdog));
        switch (Actions.Watchdog)
        {
            case WatchdogAction.Reset: RequestReset(ShutdownCause.GuestReset); break;
            case WatchdogAction.Shutdown: PowerDown(); break;
            case WatchdogAction.Poweroff: Quit(ShutdownCause.GuestShutdown, 0); break;
            case WatchdogAction.Pause: Pause(RunState.Watchdog); break;
            case WatchdogAction.Debug: _messages.WriteLine("watchdog: timer fired"); break;
            case WatchdogAction.InjectNmi: InjectNmi(); break;
            case WatchdogAction.None: break;
        }
    });
}
