using System.Text.Json.Serialization;
using Qkvm.Core.Machine;

namespace Qkvm.Core.Block.Jobs;

public sealed record JobStatusChangeEvent(string Id, JobStatus Status) : MachineEvent;

/// <summary>What events of block jobs tell.</summary>
/// <param name="Device">The job's id.</param>
/// <param name="Len">Bytes in all.</param>
/// <param name="Offset">Bytes that are done.</param>
/// <param name="Speed">Bytes a second at most; 0: no limit.</param>
public abstract record BlockJobEvent(JobType Type, string Device, long Len, long Offset, long Speed) : MachineEvent;

/// <param name="Error">Null: it succeeded.</param>
public sealed record BlockJobCompletedEvent(JobType Type, string Device, long Len, long Offset, long Speed,
    string? Error) : BlockJobEvent(Type, Device, Len, Offset, Speed);

public sealed record BlockJobCancelledEvent(JobType Type, string Device, long Len, long Offset, long Speed)
    : BlockJobEvent(Type, Device, Len, Offset, Speed);

/// <summary>Its copy is up to date, and stays so.</summary>
public sealed record BlockJobReadyEvent(JobType Type, string Device, long Len, long Offset, long Speed)
    : BlockJobEvent(Type, Device, Len, Offset, Speed);

/// <summary>It waits to be finalized.</summary>
public sealed record BlockJobPendingEvent(JobType Type, string Id) : MachineEvent;

/// <param name="Operation">"read" or "write".</param>
public sealed record BlockJobErrorEvent(string Device, string Operation, ErrorAction Action) : MachineEvent;
