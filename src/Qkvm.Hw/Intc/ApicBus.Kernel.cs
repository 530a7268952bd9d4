using Qkvm.Core.Accel;

namespace Qkvm.Hw.Intc;

/// <remarks>Where the local APICs are the kernel's, messages go there, and the ends of level triggered interrupts come
/// back.</remarks>
public sealed partial class ApicBus
{
    const int DestinationShift = 12, DeliveryModeShift = 8, WideShift = 32;
    const uint LowDestination = 0xFF;
    const ulong ToAll = MsiWindow | LowDestination << DestinationShift | 0xFFFFFF00UL << WideShift;

    IKernelApics? _kernel;

    /// <summary>Before I/O APICs are attached.</summary>
    public void Use(IKernelApics kernel)
    {
        _kernel = kernel;
        kernel.AcknowledgeIntr = AcknowledgePic;
        kernel.Ended = EndOfInterrupt;
    }

    /// <summary>The local APICs are not ours.</summary>
    public bool HasKernelApics => _kernel != null;

    /// <summary>What an input of an I/O APIC sends from now on.</summary>
    /// <param name="isLevel">And whether it waits for ends.</param>
    internal void Watch(int input, bool isLevel, ulong address, uint data)
    {
        // Behind a remapper the vector alone is known: Intel VT-d, section 5.1.5.1, wants it to be the entry's.
        if (isLevel) _kernel?.Watch(input, Remapper == null ? address : ToAll, data);
        else _kernel?.Unwatch(input);
    }

    static ulong AddressOf(in InterruptMessage message) => MsiWindow
        | (message.Destination & LowDestination) << DestinationShift
        | (ulong)(message.Destination & ~LowDestination) << WideShift
        | (message.IsLogical ? LogicalDestination : 0);

    static uint DataOf(in InterruptMessage message) =>
        message.Vector | (uint)message.Mode << DeliveryModeShift | (message.IsLevel ? TriggerLevel : 0);
}
