using System.Text.Json.Serialization;
using Qkvm.Core.Machine;

namespace Qkvm.Control;

/// <summary>The data of all events: a new one is one line here.</summary>
[JsonSerializable(typeof(StopEvent))]
[JsonSerializable(typeof(ResumeEvent))]
[JsonSerializable(typeof(PowerDownEvent))]
[JsonSerializable(typeof(ResetEvent))]
[JsonSerializable(typeof(ShutdownEvent))]
[JsonSerializable(typeof(GuestPanickedEvent))]
[JsonSerializable(typeof(DeviceDeletedEvent))]
[JsonSerializable(typeof(BalloonChangeEvent))]
sealed partial class EventJson : JsonSerializerContext;
