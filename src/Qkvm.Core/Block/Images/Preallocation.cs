namespace Qkvm.Core.Block.Images;

/// <summary>What is taken from the host before data is written: nothing, the format's tables, room, room that was
/// written to.</summary>
public enum Preallocation { Off, Metadata, Falloc, Full }
