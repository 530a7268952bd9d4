namespace Qkvm.Core.Pci;

/// <summary>Tells the guest of functions that come to a bus and are to go from it.</summary>
public interface IPciHotPlug
{
    /// <summary>Also of those that are there from the start, before the first reset.</summary>
    void Inserted(PciDevice device);

    /// <summary>Asks the guest to let go; the answer comes by <see cref="Machine.IBoard.Eject"/>.</summary>
    void RequestRemoval(PciDevice device);

    void Removed(PciDevice device);
}
