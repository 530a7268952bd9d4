namespace Qkvm.Core.Block.Images;

/// <summary>A driver whose image lies over another.</summary>
public interface IOverlay
{
    /// <summary>Writes another name into the image; the nodes stay as they are.</summary>
    /// <param name="file">Null for none.</param>
    ValueTask ChangeBackingAsync(string? file, string? format);

    /// <summary>Lies over another node from now on; what the image says of itself stays. No request is in
    /// flight. The node before stays open.</summary>
    void SetBacking(BlockDriver? node);

    /// <summary>Takes bytes that it has not itself from what it lies over, whoever writes meanwhile.</summary>
    ValueTask PullAsync(long offset, long length);

    /// <summary>Makes a range read as zeros also when the image comes to lie over something else.</summary>
    ValueTask WriteLastingZeroesAsync(long offset, long length);

    /// <summary>All that it holds goes: what lies below shines through. Snapshots stay.</summary>
    ValueTask MakeEmptyAsync();
}
