using System.Text.Json.Serialization;

namespace Qkvm.Core.Machine;

[JsonConverter(typeof(NamedEnum<RebootAction>))]
public enum RebootAction { Reset, Shutdown }

[JsonConverter(typeof(NamedEnum<ShutdownAction>))]
public enum ShutdownAction { Poweroff, Pause }

[JsonConverter(typeof(NamedEnum<PanicAction>))]
public enum PanicAction { Shutdown, Pause, ExitFailure, None }

[JsonConverter(typeof(NamedEnum<WatchdogAction>))]
public enum WatchdogAction { Reset, Shutdown, Poweroff, Pause, Debug, None, InjectNmi }

/// <summary>What the machine does when the guest reboots, switches itself off, panics, or a watchdog fires: -action
/// and set-action.</summary>
public sealed record GuestActions(RebootAction Reboot = default, ShutdownAction Shutdown = default,
    PanicAction Panic = default, WatchdogAction Watchdog = default);
