namespace Qkvm.Core.Block.Throttling;

/// <summary>A request that limits may hold back.</summary>
interface IThrottled
{
    /// <summary>What the whole of it is about.</summary>
    long Bytes { get; }

    /// <summary>Its time has come. Within the group's lock: it must not wait for anything.</summary>
    void GoOn();
}
