namespace Qkvm.Core.Block.Images;

/// <summary>A driver whose image lies over another.</summary>
public interface IOverlay
{
    /// <summary>Writes another name into the image; the nodes stay as they are.</summary>
    /// <param name="file">Null for none.</param>
    ValueTask ChangeBackingAsync(string? file, string? format);

    /// <summary>Makes a range read as zeros also when the image comes to lie over something else.</summary>
    ValueTask WriteLastingZeroesAsync(long offset, long length);

    /// <summary>All that it holds goes: what lies below shines through. Snapshots stay.</summary>
    ValueTask MakeEmptyAsync();
}
