using Qkvm.Core.Files;

namespace Qkvm.Hw.NineP;

/// <summary>A client's number for a file.</summary>
/// <param name="user">Whose files are made by it.</param>
sealed class Fid(Place place, uint user)
{
    public Place Place { get; private set; } = place;
    public uint User => user;

    /// <summary>It was opened.</summary>
    public OpenPlace? Open { get; set; }

    /// <summary>It is an extended attribute's.</summary>
    public AttributeValue? Attribute { get; set; }

    // Of a folder that is read in 9P2000: where the next read begins, for the client and on the host

    public ulong NextOffset { get; set; }
    public long Position { get; set; }

    /// <summary>It stands for another from now on, whose use is counted already.</summary>
    public void MoveTo(Place place)
    {
        Place.Release();
        Place = place;
    }
}

/// <summary>An extended attribute that is read, or is written and set when the fid goes.</summary>
/// <param name="name">Ending in NUL; null: it is read.</param>
/// <param name="flags">XATTR_CREATE and XATTR_REPLACE.</param>
sealed class AttributeValue(byte[]? name, byte[] value, int flags)
{
    public byte[]? Name => name;
    public byte[] Value => value;
    public int Flags => flags;
    public int Written { get; set; }
}
