namespace Qkvm.Core.Block.Images;

/// <summary>A driver whose image lies over another.</summary>
public interface IOverlay
{
    /// <summary>Writes another name into the image; the nodes stay as they are.</summary>
    /// <param name="file">Null for none.</param>
    ValueTask ChangeBackingAsync(string? file, string? format);

    /// <summary>All that it holds goes: what lies below shines through. Snapshots stay.</summary>
    ValueTask MakeEmptyAsync();
}
