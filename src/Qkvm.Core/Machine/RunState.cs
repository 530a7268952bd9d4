using System.Text.Json.Serialization;

namespace Qkvm.Core.Machine;

/// <summary>What the machine is doing, with QEMU's distinctions.</summary>
[JsonConverter(typeof(NamedEnum<RunState>))]
public enum RunState
{
    /// <summary>Built, never started (-S).</summary>
    [JsonStringEnumMemberName("prelaunch")] PreLaunch, Running, Paused,
    /// <summary>The guest switched itself off under -no-shutdown, or reset under -no-reboot with it.</summary>
    Shutdown,
    IoError, InternalError, GuestPanicked, Watchdog, Debug, Suspended,
    [JsonStringEnumMemberName("inmigrate")] InMigrate,
    [JsonStringEnumMemberName("postmigrate")] PostMigrate,
    FinishMigrate, SaveVm, RestoreVm,
}

public static class RunStates
{
    static readonly string[] Names =
    [
        "prelaunch", "running", "paused", "shutdown", "io-error", "internal-error", "guest-panicked", "watchdog",
            "debug",
        "suspended", "inmigrate", "postmigrate", "finish-migrate", "save-vm", "restore-vm",
    ];

    /// <summary>As QMP's query-status and HMP's `info status` print it.</summary>
    public static string Text(this RunState state) => Names[(int)state];

    /// <summary>The state of this name; <see cref="RunState.Paused"/> for any other.</summary>
    public static RunState Parse(string text) => Array.IndexOf(Names, text) is >= 0 and var index ? (RunState)index
        : RunState.Paused;
}
