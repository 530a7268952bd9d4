using System.Diagnostics.CodeAnalysis;

namespace Qkvm.Core.Files;

/// <summary>The places that a client of a shared folder names. One thread at a time.</summary>
public sealed class PlaceTree
{
    /// <param name="most">Places at once.</param>
    public PlaceTree(int most)
    {
        Most = most;
        Root = new Place(this, null, ".\0"u8.ToArray());
        Root.Hold();
    }

    public Place Root { get; }
    internal int Most { get; }

    /// <summary>Beside the root.</summary>
    public int Count { get; internal set; }

    /// <summary>A name in a folder, in use until <see cref="Place.Release"/>; null: there are too many.</summary>
    /// <param name="name">Ending in NUL.</param>
    public static Place? Child(Place folder, ReadOnlySpan<byte> name) => folder.Child(name);

    /// <summary>That which somebody uses, or null; its use is not counted.</summary>
    public static Place? Known(Place folder, ReadOnlySpan<byte> name) => folder.Known(name);

    /// <summary>What stood there was removed.</summary>
    public static void Remove(Place folder, ReadOnlySpan<byte> name) => folder.Known(name)?.Detach();

    /// <summary>What stood there is elsewhere now, and what stood at its new place is gone.</summary>
    public static void Rename(Place folder, ReadOnlySpan<byte> name, Place newFolder, ReadOnlySpan<byte> newName)
    {
        Place? moved = folder.Known(name), covered = newFolder.Known(newName);
        if (moved == covered && moved != null) return;
        covered?.Detach();
        if (moved == null || newFolder.IsWithin(moved)) return;
        newFolder.Hold();                                          // it may be below what is let go
        moved.Detach();
        moved.Attach(newFolder, newName);
        newFolder.Release();
    }
}

/// <summary>Compares names by their bytes.</summary>
sealed class NameComparer : IEqualityComparer<byte[]>, IAlternateEqualityComparer<ReadOnlySpan<byte>, byte[]>
{
    public static readonly NameComparer Instance = new();

    public bool Equals(byte[]? x, byte[]? y) => x.AsSpan().SequenceEqual(y);
    public int GetHashCode(byte[] name) => GetHashCode((ReadOnlySpan<byte>)name);
    public bool Equals(ReadOnlySpan<byte> alternate, [NotNull] byte[] other) => alternate.SequenceEqual(other);
    public byte[] Create(ReadOnlySpan<byte> alternate) => alternate.ToArray();

    public int GetHashCode(ReadOnlySpan<byte> name)
    {
        var hash = new HashCode();                                 // seeded: nobody can choose colliding names
        hash.AddBytes(name);
        return hash.ToHashCode();
    }
}
