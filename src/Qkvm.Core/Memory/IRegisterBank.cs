namespace Qkvm.Core.Memory;

/// <summary>What a device implements: registers at offsets inside its region. Called under the machine lock.</summary>
public interface IRegisterBank
{
    /// <summary>Reads <paramref name="size"/> bytes (within the declared <see cref="AccessSizes"/>), little
    /// endian.</summary>
    ulong Read(ulong offset, int size);

    /// <summary>Writes the low <paramref name="size"/> bytes of <paramref name="value"/>.</summary>
    void Write(ulong offset, int size, ulong value);
}
