namespace Qkvm.Core.Memory;

/// <summary>Which access sizes (bytes) a region accepts, and which its bank implements; the region splits or
/// widens.</summary>
/// <remarks>An access outside the valid sizes reads as all ones and writes nothing.</remarks>
public readonly record struct AccessSizes(int ValidMin, int ValidMax, int ImplMin, int ImplMax)
{
    /// <summary>Byte-wide registers: wider accesses become consecutive bytes.</summary>
    public static readonly AccessSizes Bytes = new(1, 8, 1, 1);
    public static readonly AccessSizes ByteOnly = new(1, 1, 1, 1);
    public static readonly AccessSizes UpToWord = new(1, 2, 1, 2);
    public static readonly AccessSizes UpToDword = new(1, 4, 1, 4);
    public static readonly AccessSizes UpToQword = new(1, 8, 1, 8);
    /// <summary>32-bit registers: narrower reads take their part of the register; narrower writes are extended with
    /// zeros.</summary>
    public static readonly AccessSizes Dwords = new(1, 8, 4, 4);
}
