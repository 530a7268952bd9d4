namespace Qkvm.Core.Block;

/// <summary>Is told of whatever changes bytes of a node: a job that copies it. From any thread.</summary>
public interface IWriteObserver
{
    /// <summary>Bytes are about to change; they do so when this completes.</summary>
    ValueTask BeforeAsync(long offset, long length);

    /// <summary>They have changed, or may have; whoever wrote them is told when this completes.</summary>
    ValueTask AfterAsync(long offset, long length);
}
