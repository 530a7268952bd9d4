namespace Qkvm.Core.Machine;

/// <summary>An export has gone, and its node is free.</summary>
public sealed record BlockExportDeletedEvent(string Id) : MachineEvent;
