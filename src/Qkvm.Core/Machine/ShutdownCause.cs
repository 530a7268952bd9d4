using System.Text.Json.Serialization;

namespace Qkvm.Core.Machine;

/// <summary>Why a machine is reset or ends; the names are those of QMP's events.</summary>
[JsonConverter(typeof(NamedEnum<ShutdownCause>))]
public enum ShutdownCause
{
    GuestShutdown, GuestReset, GuestPanic,
    [JsonStringEnumMemberName("host-qmp-quit")] HostQuit,
    [JsonStringEnumMemberName("host-qmp-system-reset")] HostReset,
    HostSignal, HostError,
}

public static class ShutdownCauses
{
    public static bool IsGuest(this ShutdownCause cause) => cause <= ShutdownCause.GuestPanic;
}
