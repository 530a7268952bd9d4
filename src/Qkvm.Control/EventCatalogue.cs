using System.Text.Json.Serialization;
using Qkvm.Core.Block.Jobs;
using Qkvm.Core.Machine;

namespace Qkvm.Control;

/// <param name="Name">QMP's: "SHUTDOWN".</param>
/// <param name="Interval">Milliseconds between two of them at least: of those that come faster the last counts. 0: all
/// are told.</param>
public sealed record EventInfo(Type Type, string Name, int Interval = 0);

/// <summary>All events, and the descriptions of their data: a new one is a line in each.</summary>
[JsonSerializable(typeof(StopEvent))]
[JsonSerializable(typeof(ResumeEvent))]
[JsonSerializable(typeof(SuspendEvent))]
[JsonSerializable(typeof(SuspendDiskEvent))]
[JsonSerializable(typeof(WakeUpEvent))]
[JsonSerializable(typeof(PowerDownEvent))]
[JsonSerializable(typeof(ResetEvent))]
[JsonSerializable(typeof(ShutdownEvent))]
[JsonSerializable(typeof(GuestPanickedEvent))]
[JsonSerializable(typeof(WatchdogEvent))]
[JsonSerializable(typeof(DeviceDeletedEvent))]
[JsonSerializable(typeof(AcpiDeviceOstEvent))]
[JsonSerializable(typeof(DeviceTrayMovedEvent))]
[JsonSerializable(typeof(BlockIoErrorEvent))]
[JsonSerializable(typeof(BalloonChangeEvent))]
[JsonSerializable(typeof(MemoryDeviceSizeChangeEvent))]
[JsonSerializable(typeof(ReceiveFilterChangedEvent))]
[JsonSerializable(typeof(DumpCompletedEvent))]
[JsonSerializable(typeof(SerialPortChangeEvent))]
[JsonSerializable(typeof(BlockExportDeletedEvent))]
[JsonSerializable(typeof(JobStatusChangeEvent))]
[JsonSerializable(typeof(BlockJobCompletedEvent))]
[JsonSerializable(typeof(BlockJobCancelledEvent))]
[JsonSerializable(typeof(BlockJobReadyEvent))]
[JsonSerializable(typeof(BlockJobPendingEvent))]
[JsonSerializable(typeof(BlockJobErrorEvent))]
[JsonSerializable(typeof(VncConnectedEvent))]
[JsonSerializable(typeof(VncInitializedEvent))]
[JsonSerializable(typeof(VncDisconnectedEvent))]
sealed partial class EventJson : JsonSerializerContext;

public static class EventCatalogue
{
    const int Slow = 1000;

    public static readonly EventInfo[] All =
    [
        new(typeof(StopEvent), "STOP"),
        new(typeof(ResumeEvent), "RESUME"),
        new(typeof(SuspendEvent), "SUSPEND"),
        new(typeof(SuspendDiskEvent), "SUSPEND_DISK"),
        new(typeof(WakeUpEvent), "WAKEUP"),
        new(typeof(PowerDownEvent), "POWERDOWN"),
        new(typeof(ResetEvent), "RESET"),
        new(typeof(ShutdownEvent), "SHUTDOWN"),
        new(typeof(GuestPanickedEvent), "GUEST_PANICKED"),
        new(typeof(WatchdogEvent), "WATCHDOG", Slow),
        new(typeof(DeviceDeletedEvent), "DEVICE_DELETED"),
        new(typeof(AcpiDeviceOstEvent), "ACPI_DEVICE_OST"),
        new(typeof(DeviceTrayMovedEvent), "DEVICE_TRAY_MOVED"),
        new(typeof(BlockIoErrorEvent), "BLOCK_IO_ERROR"),
        new(typeof(BalloonChangeEvent), "BALLOON_CHANGE", Slow),
        new(typeof(MemoryDeviceSizeChangeEvent), "MEMORY_DEVICE_SIZE_CHANGE", Slow),
        new(typeof(ReceiveFilterChangedEvent), "NIC_RX_FILTER_CHANGED"),
        new(typeof(DumpCompletedEvent), "DUMP_COMPLETED"),
        new(typeof(SerialPortChangeEvent), "VSERPORT_CHANGE", Slow),
        new(typeof(BlockExportDeletedEvent), "BLOCK_EXPORT_DELETED"),
        new(typeof(JobStatusChangeEvent), "JOB_STATUS_CHANGE"),
        new(typeof(BlockJobCompletedEvent), "BLOCK_JOB_COMPLETED"),
        new(typeof(BlockJobCancelledEvent), "BLOCK_JOB_CANCELLED"),
        new(typeof(BlockJobReadyEvent), "BLOCK_JOB_READY"),
        new(typeof(BlockJobPendingEvent), "BLOCK_JOB_PENDING"),
        new(typeof(BlockJobErrorEvent), "BLOCK_JOB_ERROR"),
        new(typeof(VncConnectedEvent), "VNC_CONNECTED"),
        new(typeof(VncInitializedEvent), "VNC_INITIALIZED"),
        new(typeof(VncDisconnectedEvent), "VNC_DISCONNECTED"),
    ];

    static readonly Dictionary<Type, EventInfo> s_byType = All.ToDictionary(e => e.Type);

    public static EventInfo Of(MachineEvent happened) => s_byType[happened.GetType()];
}
