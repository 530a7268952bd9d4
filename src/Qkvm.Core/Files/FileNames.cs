using Qkvm.Host;

namespace Qkvm.Core.Files;

/// <summary>Names that strangers give.</summary>
public static class FileNames
{
    /// <summary>NAME_MAX of all file systems of Linux.</summary>
    public const int Longest = 255;

    /// <returns>0 for a name that means one file in a folder; else minus an errno: it is empty or too long, leads up
    /// or stays, or has a slash or a NUL.</returns>
    /// <param name="name">Without a NUL at its end.</param>
    public static int Refuse(ReadOnlySpan<byte> name) =>
        name.Length > Longest ? -Errno.NameTooLong
        : name.Length == 0 || name.ContainsAny((byte)'/', (byte)0) ? -Errno.NoEntry
        : name.SequenceEqual("."u8) || name.SequenceEqual(".."u8) ? -Errno.Exists
        : 0;
}
