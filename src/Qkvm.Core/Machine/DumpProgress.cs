using System.Text.Json.Serialization;

namespace Qkvm.Core.Machine;

[JsonConverter(typeof(NamedEnum<DumpStatus>))]
public enum DumpStatus { None, Active, Completed, Failed }

/// <summary>How far a dump of the guest's memory is, in bytes.</summary>
public sealed record DumpProgress(long Total, DumpStatus Status, long Completed);

/// <param name="Error">What went wrong, or null.</param>
public sealed record DumpCompletedEvent(DumpProgress Result, string? Error = null) : MachineEvent;
