using System.Text.Json.Serialization;
using Qkvm.Core.Block;
using Qkvm.Host;

namespace Qkvm.Core.Machine;

/// <summary>Something that happened to the machine. A record's members are the event's data, as QMP names
/// them; monitors know its name.</summary>
public abstract record MachineEvent
{
    /// <summary>What it is about, where events of one kind are about several things; monitors tell them
    /// apart.</summary>
    [JsonIgnore] public virtual string Subject => "";
}

public sealed record StopEvent() : MachineEvent;
public sealed record ResumeEvent() : MachineEvent;
public sealed record SuspendEvent() : MachineEvent;
public sealed record SuspendDiskEvent() : MachineEvent;
public sealed record WakeUpEvent() : MachineEvent;
public sealed record PowerDownEvent() : MachineEvent;

/// <param name="Guest">Asked for by the guest; otherwise by somebody outside.</param>
public sealed record ResetEvent(bool Guest, ShutdownCause Reason) : MachineEvent
{
    public ResetEvent(ShutdownCause reason) : this(reason.IsGuest(), reason) { }
}

/// <param name="Guest">Asked for by the guest; otherwise by somebody outside.</param>
public sealed record ShutdownEvent(bool Guest, ShutdownCause Reason) : MachineEvent
{
    public ShutdownEvent(ShutdownCause reason) : this(reason.IsGuest(), reason) { }
}

/// <param name="Action">What follows: "poweroff", "pause" or "run".</param>
public sealed record GuestPanickedEvent(string Action) : MachineEvent;

/// <param name="Action">What follows.</param>
public sealed record WatchdogEvent(WatchdogAction Action) : MachineEvent;

/// <param name="Device">Null for a device without an id.</param>
/// <param name="Path">"/machine/peripheral/disk1".</param>
public sealed record DeviceDeletedEvent(string? Device, string Path) : MachineEvent;

/// <param name="Device">The drive's id; empty where it is a node's.</param>
/// <param name="Id">The device's, or its path.</param>
public sealed record DeviceTrayMovedEvent([property: JsonIgnore] ITray Tray, bool TrayOpen, string Device = "",
    string Id = "") : MachineEvent;

/// <summary>The host's disk failed a request.</summary>
/// <param name="Device">The drive's id; empty where it is a node's.</param>
/// <param name="Operation">"read", or "write" for all else.</param>
/// <param name="Nospace">The host's disk is full.</param>
/// <param name="Reason">The host's words for the errno.</param>
public sealed record BlockIoErrorEvent([property: JsonIgnore] BlockBackend Drive, string Device, string? NodeName,
    string Operation, ErrorAction Action, bool Nospace, string Reason) : MachineEvent
{
    public BlockIoErrorEvent(BlockBackend drive, BlockOperation operation, ErrorAction action, int errno)
        : this(drive, drive.Id, drive.Root?.NodeName, operation == BlockOperation.Read ? "read" : "write", action,
            BlockErrors.IsNoSpace(errno), Libc.Message(errno)) { }
}

/// <summary>The guest said what came of a request.</summary>
public sealed record AcpiDeviceOstEvent(AcpiOst Info) : MachineEvent;

/// <param name="Actual">Bytes that the guest has left.</param>
public sealed record BalloonChangeEvent(ulong Actual) : MachineEvent;

/// <param name="Id">The device's, or null.</param>
/// <param name="Size">Bytes that are plugged.</param>
public sealed record MemoryDeviceSizeChangeEvent(string? Id, ulong Size,
    [property: JsonPropertyName("qom-path")] string QomPath) : MachineEvent
{
    [JsonIgnore] public override string Subject => QomPath;
}

/// <param name="Name">The card's id, or null.</param>
/// <param name="Path">"/machine/peripheral/net0/virtio-backend".</param>
public sealed record ReceiveFilterChangedEvent(string? Name, string Path) : MachineEvent;

/// <summary>The guest has opened or closed a port of a virtio-serial device.</summary>
/// <param name="Id">The port's device.</param>
public sealed record SerialPortChangeEvent(bool Open, string Id) : MachineEvent
{
    [JsonIgnore] public override string Subject => Id;
}

/// <param name="Auth">"none", "vnc", "vencrypt+x509+none" …</param>
public sealed record EventServer(string Host, string Service, string Family, bool Websocket, string Auth);

/// <param name="Service">The port, or a UNIX socket's path.</param>
public sealed record EventClient(string Host, string Service, string Family, bool Websocket);

/// <summary>A viewer has come.</summary>
public sealed record VncConnectedEvent(EventServer Server, EventClient Client) : MachineEvent;

/// <summary>It has shown that it may watch.</summary>
public sealed record VncInitializedEvent(EventServer Server, EventClient Client) : MachineEvent;

/// <summary>It has gone.</summary>
public sealed record VncDisconnectedEvent(EventServer Server, EventClient Client) : MachineEvent;

/// <summary>The one place that hears of all events and tells all who listen. Under the machine lock.</summary>
public sealed class EventBus
{
    /// <summary>After the state changed.</summary>
    public event Action<MachineEvent>? Raised;

    public void Raise(MachineEvent happened) => Raised?.Invoke(happened);
}
