using Qkvm.Core.Devices;

namespace Qkvm.Core.Machine;

/// <summary>A device by which the guest's kernel tells where its note for dumps lies.</summary>
public interface IGuestNoteSource : IDevice
{
    /// <summary>Guest physical address and bytes of an ELF note, as the guest says, unchecked; no bytes: it has told of
    /// none.</summary>
    (ulong Address, uint Length) Note { get; }
}
