using System.Text.Json.Serialization;

namespace Qkvm.Core.Machine;

/// <summary>Something that happened to the machine. A record's other members are the event's data, as QMP names
/// them.</summary>
/// <param name="Name">QMP's name: "SHUTDOWN", "DEVICE_DELETED".</param>
public abstract record MachineEvent([property: JsonIgnore] string Name);

public sealed record StopEvent() : MachineEvent("STOP");
public sealed record ResumeEvent() : MachineEvent("RESUME");
public sealed record PowerDownEvent() : MachineEvent("POWERDOWN");

/// <param name="Guest">Asked for by the guest; otherwise by somebody outside.</param>
public sealed record ResetEvent(bool Guest, ShutdownCause Reason) : MachineEvent("RESET")
{
    public ResetEvent(ShutdownCause reason) : this(reason.IsGuest(), reason) { }
}

/// <param name="Guest">Asked for by the guest; otherwise by somebody outside.</param>
public sealed record ShutdownEvent(bool Guest, ShutdownCause Reason) : MachineEvent("SHUTDOWN")
{
    public ShutdownEvent(ShutdownCause reason) : this(reason.IsGuest(), reason) { }
}

/// <param name="Action">What follows: "poweroff", "pause" or "run".</param>
public sealed record GuestPanickedEvent(string Action) : MachineEvent("GUEST_PANICKED");

/// <param name="Device">Null for a device without an id.</param>
/// <param name="Path">"/machine/peripheral/disk1".</param>
public sealed record DeviceDeletedEvent(string? Device, string Path) : MachineEvent("DEVICE_DELETED");

/// <param name="Actual">Bytes that the guest has left.</param>
public sealed record BalloonChangeEvent(ulong Actual) : MachineEvent("BALLOON_CHANGE");

/// <summary>The one place that hears of all events and tells all who listen. Under the machine lock.</summary>
public sealed class EventBus
{
    /// <summary>After the state changed.</summary>
    public event Action<MachineEvent>? Raised;

    public void Raise(MachineEvent happened) => Raised?.Invoke(happened);
}
